package explain

import (
	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// advice is about an explained request.
func (x *explainer) advice() string {
	plan := &x.was.Plan
	because := plan.Reason
	if plan.Act == engine.ActFetch {
		switch never := x.was.NeverStored(); {
		case because != reason.Absent && because != reason.Variant && because != never:
		case never == reason.Method:
			return "Ask with GET: its response is stored, and answers HEAD, too."
		case never != reason.None:
			because = never
		case x.earlier != reason.None:
			because = x.earlier
		}
	}
	switch {
	case because == reason.Disabled && x.site.Off:
		return "Leave out what switches the cache off in the configuration: the global option enabled, or REDIS_CACHE_ENABLED."
	case because == reason.Unproven && x.rt.Strict:
		return because.Advice() + " With consistency available it answers from memory meanwhile."
	case because == reason.Expired && x.was.Found.Soft:
		return "Nothing: a soft purge made it stale, and the next answer makes it fresh."
	}
	return because.Advice()
}
