package rediscache

// advice is about an explained request.
func (x *exchange) advice(what act) string {
	because := x.reason
	if what == actFetch {
		switch never := x.unstored(); {
		case because != ReasonAbsent && because != ReasonVariant && because != never:
		case never == ReasonMethod:
			return "Ask with GET: its response is stored, and answers HEAD, too."
		case never != ReasonNone:
			because = never
		case x.why != ReasonNone:
			because = x.why
		}
	}
	switch {
	case because == ReasonDisabled && !x.h.app.enabled:
		return "Leave out what switches the cache off in the configuration: the global option enabled, or REDIS_CACHE_ENABLED."
	case because == ReasonUnproven && x.h.app.Consistency == consistencyStrict:
		return because.Advice() + " With consistency available it answers from memory meanwhile."
	case because == ReasonExpired && x.soft:
		return "Nothing: a soft purge made it stale, and the next answer makes it fresh."
	}
	return because.Advice()
}
