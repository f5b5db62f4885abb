package rediscache

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
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
	// recentError is how long ago an error was that the doctor warns of.
	recentError = time.Hour
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

// errorAdvice is what to do about errors, by kind.
var errorAdvice = map[string]string{
	string(store.ErrorRedis):          "see the text: Redis, its limits or the network have to be mended; timeouts need a nearer Redis or a longer read_timeout",
	string(store.ErrorDroppedWrite):   "see the text: what Redis was away for, refused or was too slow for is stored when it is fetched again",
	string(store.ErrorCorrupt):        "look for what else writes below the prefix: such values are not answered from",
	string(store.ErrorOtherVersion):   "nothing during a rolling deploy; else bring all nodes to one version",
	string(store.ErrorDictionaryMiss): "give Redis more memory: it has evicted a dictionary, and what was compressed with it is fetched again",
	errorMalformed:                    "look in the listing of the journal who appends what is no purge",
	errorGap:                          "have Redis keep its data, and the journal, over restarts: what was stored before a gap is dropped",
}

// checkErrors tells of the errors of this node, the latest of each kind.
func (n *node) checkErrors(now time.Time) []api.Check {
	counts, latest := n.errorCounts(), n.errors.all()
	var checks []api.Check
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if counts[kind] == 0 {
			continue
		}
		c := api.Check{Name: "errors", Status: api.OK, Detail: fmt.Sprintf("%s: %d since the start", kind, counts[kind]), Advice: errorAdvice[kind]}
		if e, known := latest[kind]; known {
			c.Detail += fmt.Sprintf(", the last at %s: %s", e.At.Format(time.RFC3339), e.Text)
			if now.Sub(e.At) < recentError {
				c.Status = api.Warn
			}
		}
		checks = append(checks, c)
	}
	if len(checks) == 0 {
		checks = append(checks, api.Check{Name: "errors", Status: api.OK, Detail: "none since the start"})
	}
	return checks
}
