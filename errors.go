package rediscache

import (
	"maps"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/stats"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

// The kinds of errors that are not the store's.
const (
	errorMalformed = "malformed_entry"
	errorGap       = "journal_gap"
)

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
func (n *node) onError(kind store.ErrorKind, err error) {
	e := n.errors.note(string(kind), err.Error())
	if untold, now := n.errors.tell(string(kind), e.At); now {
		n.logger().Warn("errors of the kind "+string(kind), zap.String("error", e.Text), zap.Uint64("untold", untold))
	}
}
