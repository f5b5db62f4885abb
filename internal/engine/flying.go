package engine

import (
	"context"
	"slices"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// pump writes a flight to the client of its leader.
type pump struct {
	done     chan struct{}
	err      error
	panicked any
}

func startPump(a *Answer, f *flight) *pump {
	p := &pump{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer func() {
			p.panicked = recover()
			logPanic(a.Request.Route.Log, "a handler in front that writes to the client", p.panicked) // wait has another stack
		}()
		_, _, p.err = copyBody(context.Background(), a.w, f.Reader(), 0)
	}()
	return p
}

// wait returns when everything has been written, or the client is gone. It throws what the
// writer threw.
func (p *pump) wait() error {
	<-p.done
	if p.panicked != nil {
		panic(p.panicked)
	}
	return p.err
}

// takeOff shares the header and starts to serve the client from the flight. The header is
// passed on here, not by the pump; but a handler in front, such as encode, may keep it until
// there is a body. What it reads of the request then is left alone until the pump has
// ended. No header is sent before the body, so that no client holds this up.
func (c *capture) takeOff() {
	c.phase = phaseFlying
	rec := *c.rec
	rec.Fields = slices.Clip(rec.Fields)
	c.f.name(&rec, c.place)
	size := c.declared
	if size > 0 && !c.flight.Room(int(size), c.f.q.Route.maxHeld(int(size))) {
		size = 0
	}
	c.flight.Share(&share{rec: &rec, names: c.place.names, length: c.declared, result: Miss}, size)
	c.sendHeader()
	c.pump = startPump(c.f.a, c.flight)
}

// fly takes a piece of the body into the flight. When it grows too large to be kept, the
// flight ends: what is left goes to the client as it comes.
func (c *capture) fly(p []byte) (int, error) {
	switch {
	case int64(c.flight.Len()+len(p)) > c.f.q.Route.MaxBody:
		c.drop(reason.TooLarge)
	case !c.flight.Room(len(p), c.f.q.Route.maxHeld(c.flight.Len()+len(p))):
		c.drop(reason.Overload)
	default:
		c.flight.Write(p)
		return len(p), nil
	}
	if err := c.leave(); err != nil {
		return 0, err
	}
	return c.ResponseWriter.Write(p)
}

// leave ends a flight that has taken off, and returns when its client has what is in it:
// the rest is for this client alone. Followers fetch for themselves.
func (c *capture) leave() error {
	c.flight.End(coalesce.TooLarge)
	c.ground()
	pump := c.pump
	c.phase, c.pump = phasePassed, nil
	return pump.wait()
}

// ground ties the fetch to its client again.
func (c *capture) ground() {
	c.flight = nil
	c.f.attach()
}

// stayGrounded lets a response go to its client only. In the air already, it leaves the
// flight, so that nobody else writes to the client any more.
func (c *capture) stayGrounded() {
	if c.phase == phasePending {
		c.pass()
	}
	c.f.releaseLease(nil)
	switch {
	case c.phase == phaseFlying:
		c.drop(reason.Upgrade)
		_ = c.leave() // who takes the connection finds out that the client has left
	case c.flight != nil:
		c.flight.End(coalesce.Alone)
		c.ground()
	}
	if c.phase == phaseReady {
		c.sendHeader()
	}
}

// land ends a flight that has taken off, and waits for the client.
func (c *capture) land(how coalesce.Ending) {
	if pump := c.endFlight(how); pump != nil {
		_ = pump.wait() // a client that has left is no error
	}
}

// crash is land where something else has been thrown, or nothing is in the air any more.
func (c *capture) crash() {
	if pump := c.endFlight(coalesce.Broken); pump != nil {
		<-pump.done
	}
}

func (c *capture) endFlight(how coalesce.Ending) *pump {
	if c.phase != phaseFlying {
		return nil
	}
	pump := c.pump
	c.phase, c.pump = phasePassed, nil
	c.flight.End(how)
	return pump
}
