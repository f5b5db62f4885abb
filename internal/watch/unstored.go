package watch

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gplus-recycling/caddy-redis-cache/internal/config"
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/lint"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// unstored counts the requests of a handler, and by reason those whose response was
// neither found in the cache nor kept by it, or is kept without a lifetime. It is for the
// doctor and one line of the log, and lasts as long as the handler.
type unstored struct {
	requests atomic.Uint64
	by       [256]atomic.Uint64 // by Reason

	// Those without a lifetime whose status plain `ttl` leaves out, and the latest one.
	otherStatus atomic.Uint64
	status      atomic.Int32
	revalidated atomic.Uint64 // those without a lifetime that are kept

	told atomic.Bool
}

func (u *unstored) count(out *engine.Outcome) (tell bool) {
	u.requests.Add(1)
	why, status := out.Reason, out.Status
	switch {
	case out.Unstated && out.Result == engine.Revalidated:
		why, status = reason.NoLifetime, out.StoredStatus
		u.revalidated.Add(1)
	case out.Unstated && out.Result == engine.Miss:
		why = reason.NoLifetime
		u.revalidated.Add(1)
	case out.Stored || out.Result != engine.Miss && out.Result != engine.Bypass || why.Is(reason.FetchMends):
		return false
	}
	if why == reason.NoLifetime && !slices.Contains(config.DefaultStatuses, status) {
		u.otherStatus.Add(1)
		u.status.Store(int32(status))
	}
	return u.by[why].Add(1) == lint.EnoughKept && !why.Is(reason.Passes)
}

// kept is the reason that keeps most responses out of the cache.
type kept struct {
	reason    reason.Reason
	count, of uint64
	status    int // of most of them, where plain `ttl` leaves it out; else 0

	revalidated bool // most of them are kept, and revalidated each time
}

// most finds the reason of more than half of the requests. Requests with methods that
// are not cached count only where they are nearly all.
func (u *unstored) most() (k kept, found bool) {
	all := u.requests.Load()
	others := u.by[reason.Method].Load() + u.by[reason.Upgrade].Load()
	for why := range u.by {
		f := kept{reason: reason.Reason(why), count: u.by[why].Load(), of: all}
		if f.reason != reason.Method && f.reason != reason.Upgrade {
			f.of -= min(others, all)
		} else if !f.mostly() {
			continue
		}
		if f.count >= lint.EnoughKept && 2*f.count > f.of && f.count > k.count {
			k, found = f, true
		}
	}
	if other := u.otherStatus.Load(); k.reason == reason.NoLifetime && 2*other > k.count {
		k.status = int(u.status.Load())
	}
	k.revalidated = k.reason == reason.NoLifetime && 2*u.revalidated.Load() > k.count
	return k, found
}

// mostly reports whether nine of ten requests at least have the reason.
func (k *kept) mostly() bool { return 10*k.count >= 9*k.of }

func (k *kept) detail() string {
	if k.revalidated {
		return fmt.Sprintf("%d%% of %d requests went to the origin, which states no lifetime for what is stored: %s", 100*k.count/max(k.of, 1), k.of, k.reason)
	}
	return fmt.Sprintf("the responses to %d%% of %d requests are not stored: %s", 100*k.count/max(k.of, 1), k.of, k.reason)
}

// advice says what to do, and the line of redis_cache that does it, if one does.
func (k *kept) advice(credential string) string {
	text := k.reason.Advice()
	switch line := k.reason.Line(); {
	case k.status != 0:
		return fmt.Sprintf("%s The line: ttl status %d 1m", text, k.status)
	case k.reason == reason.Credentials:
		return text + " The line, for one stored response each: by_user " + identityIn(credential)
	case line != "":
		return text + " The line: " + line
	}
	return text
}

// identityIn is the placeholder of what a credential holds, by its name in reasons.
func identityIn(name string) string {
	cookie, isCookie := strings.CutPrefix(name, "cookie ")
	switch {
	case isCookie && rfc9111.IsToken(cookie):
		return "{http.request.cookie." + cookie + "}"
	case name == "client certificate":
		return "{http.request.tls.client.fingerprint}"
	case strings.HasPrefix(name, "vars "):
		return "{http.vars." + strings.TrimPrefix(name, "vars ") + "}"
	case !isCookie && rfc9111.IsToken(name) && !strings.HasPrefix(name, "http."):
		return "{http.request.header." + name + "}"
	}
	return "{http.auth.user.id}"
}
