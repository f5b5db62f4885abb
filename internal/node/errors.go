package node

import (
	"maps"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// The kinds of errors that are not the store's.
const (
	errorMalformed = "malformed_entry"
	errorGap       = "journal_gap"
)

// ErrorKinds are what goes wrong behind the answers, by kind, for metrics and statistics.
var ErrorKinds = []struct {
	Name, Help string
	Count      func(*store.Stats, *journal.Stats) uint64
}{
	{string(store.ErrorRedis), "operations of Redis that failed", func(s *store.Stats, _ *journal.Stats) uint64 { return s.RedisErrors }},
	{string(store.ErrorDroppedWrite), "responses not written to Redis", func(s *store.Stats, _ *journal.Stats) uint64 { return s.DroppedWrites }},
	{string(store.ErrorCorrupt), "values in Redis that are no responses", func(s *store.Stats, _ *journal.Stats) uint64 { return s.Corrupt }},
	{string(store.ErrorOtherVersion), "responses stored by another version", func(s *store.Stats, _ *journal.Stats) uint64 { return s.OtherVersion }},
	{string(store.ErrorDictionaryMiss), "responses whose dictionary was not there", func(s *store.Stats, _ *journal.Stats) uint64 { return s.DictionaryMisses }},
	{errorMalformed, "entries of the journal that were skipped", func(_ *store.Stats, j *journal.Stats) uint64 { return j.Malformed }},
	{errorGap, "times at which purges may have been missed", func(_ *store.Stats, j *journal.Stats) uint64 { return j.Gaps }},
}

// ErrorCounts are the counts since the start, by kind.
func (n *Node) ErrorCounts() map[string]uint64 {
	s, j := n.Store.Stats(), n.Journal.Stats()
	counts := make(map[string]uint64, len(ErrorKinds))
	for _, kind := range ErrorKinds {
		counts[kind.Name] = kind.Count(&s, &j)
	}
	return counts
}

// LatestErrors are the latest errors, by kind.
func (n *Node) LatestErrors() map[string]stats.Error { return n.errors.all() }

const (
	// maxErrorText bounds the text of an error in bytes.
	maxErrorText = 200
	// toldEvery is the shortest time between two lines of the log about a kind.
	toldEvery = time.Minute
)

// latestErrors are the latest error of each kind, for statistics, doctor and log.
// secrets is set before it is used; mu guards the rest.
type latestErrors struct {
	secrets []string // no text holds any of them

	mu     sync.Mutex
	latest map[string]stats.Error
	told   map[string]time.Time // when the log told of a kind
	untold map[string]uint64    // how many it has not told of since
}

// note keeps an error as the latest of its kind.
func (l *latestErrors) note(kind, text string) stats.Error {
	e := stats.Error{Text: l.clean(text), At: time.Now().UTC().Truncate(time.Second)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest == nil {
		l.latest = make(map[string]stats.Error)
	}
	l.latest[kind] = e
	return e
}

// tell reports whether the log is to tell of a kind now, and of how many it has not
// told since it did so last.
func (l *latestErrors) tell(kind string, now time.Time) (untold uint64, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told == nil {
		l.told, l.untold = make(map[string]time.Time), make(map[string]uint64)
	}
	if last, told := l.told[kind]; told && now.Sub(last) < toldEvery {
		l.untold[kind]++
		return 0, false
	}
	untold = l.untold[kind]
	l.told[kind], l.untold[kind] = now, 0
	return untold, true
}

func (l *latestErrors) all() map[string]stats.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.latest)
}

// clean is the text in one line of bounded length, without secrets: a server that does
// not know a command repeats its arguments, which may be a password.
func (l *latestErrors) clean(text string) string {
	text, _, _ = strings.Cut(text, ", with args beginning with")
	for _, secret := range l.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	text = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, text)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	return text
}

// onError keeps an error of the store, and tells of its kind once a minute.
func (n *Node) onError(kind store.ErrorKind, err error) {
	e := n.errors.note(string(kind), err.Error())
	if untold, now := n.errors.tell(string(kind), e.At); now {
		n.Log().Warn("errors of the kind "+string(kind), "error", e.Text, "untold", untold)
	}
}
