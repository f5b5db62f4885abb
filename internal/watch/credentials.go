package watch

import (
	"strings"
	"sync/atomic"

	"github.com/gplus-recycling/caddy-redis-cache/internal/engine"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// credentialed counts the requests of a handler, and those of them that credentials
// kept from a stored response, or whose response they kept from being stored. It is
// for the doctor, and lasts as long as the handler.
type credentialed struct {
	requests, kept atomic.Uint64
	name           atomic.Pointer[string] // of a credential that did, the latest
}

func (c *credentialed) count(name string, out *engine.Outcome) {
	c.requests.Add(1)
	if name == "" || out.Reason != reason.Credentials && out.Forward != reason.Credentials {
		return
	}
	c.kept.Add(1)
	name = name[:min(len(name), maxShownName)]
	if latest := c.name.Load(); latest == nil || *latest != name {
		c.setName(name)
	}
}

// setName is apart, so that counting alone allocates nothing.
func (c *credentialed) setName(name string) {
	name = strings.Clone(name) // it is a part of the request's header
	c.name.Store(&name)
}

func (c *credentialed) counts() (requests, kept uint64, name string) {
	requests, kept = c.requests.Load(), c.kept.Load()
	if latest := c.name.Load(); latest != nil {
		name = *latest
	}
	return requests, kept, name
}
