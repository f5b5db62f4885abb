package journal

// Each scenario forces one interleaving, with the protocol and with a mutant of
// it: the mutant must be caught, and nothing else.

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
)

// caught runs a scenario as it is, and with the mutant.
func caught(t *testing.T, scenario func(w *cacheWorld, mutant bool)) {
	t.Helper()
	t.Parallel()
	for name, mutant := range map[string]bool{"protocol": false, "mutant": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newCacheWorld(t)
			scenario(w, mutant)
			want := porcupine.Ok
			if mutant {
				want = porcupine.Illegal
			}
			w.want(t, want)
		})
	}
}

// first is the resource that the scenarios are about.
const first = 0

var ofFirst = target{Selector{KindNamespace, "pickup"}, []int{first, 1}, false}

// running returns a node that can confirm purges.
func (w *cacheWorld) running(change ...func(*Options)) *cacheNode {
	n := w.newNode(change...)
	w.t.Cleanup(func() { n.Close(context.Background()) })
	n.Start()
	n.waitFor(w.t, Leased)
	n.settled(w.t)
	return n
}

// byHand returns a node that holds a lease and sleeps but for what the test does.
func (w *cacheWorld) byHand(change ...func(*Options)) *cacheNode {
	n := w.newNode(change...)
	w.t.Cleanup(func() { n.Close(context.Background()) })
	n.turnUntilLeased(func() { n.tail.turn(w.t.Context(), callTimeout) })
	return n
}

func (n *cacheNode) turnUntilLeased(turn func()) {
	n.w.t.Helper()
	eventually(n.w.t, n.opts.NodeID+" holds a lease", func() bool {
		turn()
		return n.lease.holds()
	})
}

func (n *cacheNode) purgeFinally(tgt target, soft bool) {
	n.w.t.Helper()
	if n.purgeAll(tgt, soft, 10*time.Second) != toAll {
		n.w.t.Errorf("the purge of %s was not final", tgt.selector)
	}
}

// A node sleeps through a purge and the loss of the journal. What is appended
// from then on has lower IDs than what it has applied, because somebody's clock
// was ahead: XREAD waits for ever, as if there were nothing to read.
func TestMutantPlainXREAD(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		ahead := ID{Ms: uint64(time.Now().Add(time.Hour).UnixMilli())}
		w.s.do("xadd", a.keys.stream, ahead.String(), "op", "purge", "tag", "nobody")
		b := w.byHand()
		b.read(first, false)

		w.s.do("flushall")
		a.purgeFinally(ofFirst, false)
		if mutant {
			b.turnUntilLeased(func() { b.plainTurn(t) })
		} else {
			b.turnUntilLeased(func() { b.tail.turn(t.Context(), callTimeout) })
		}
		b.read(first, false)
	})
}

// plainTurn is a cycle that believes XREAD.
func (n *cacheNode) plainTurn(t *testing.T) {
	n.cycle.Lock()
	defer n.cycle.Unlock()
	sent := time.Now()
	args := redis.XReadArgs{Streams: []string{n.keys.stream, n.tail.anchor.ID}, Block: -1}
	streams, err := n.client.XRead(t.Context(), &args).Result()
	if err != nil && err != redis.Nil {
		t.Error(err)
	}
	for _, s := range streams {
		n.applier.settle(&n.tail.progress, n.applier.apply(&n.tail.progress, s.Messages))
	}
	if err := n.tail.beat(t.Context(), sent); err != nil {
		t.Error(err)
	}
}

// A node sleeps through a purge. When it wakes, its heartbeat is the first to
// run.
func TestMutantHeartbeatBesideTheTail(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a, b := w.running(), w.byHand()
		b.read(first, false)
		a.purgeFinally(ofFirst, false)
		if mutant {
			b.beatBeside(t)
		}
		b.read(first, false)
		b.turnUntilLeased(func() { b.tail.turn(t.Context(), callTimeout) })
		b.read(first, false)
	})
}

// beatBeside renews the lease because Redis answers.
func (n *cacheNode) beatBeside(t *testing.T) {
	n.cycle.Lock()
	defer n.cycle.Unlock()
	sent := time.Now()
	if err := n.presence.sendLine(t.Context(), stateLive, sent); err != nil {
		t.Error(err)
	}
	n.lease.grant(sent)
}

// A request that begins after a purge finds a fetch that began before it.
func TestMutantFollowerWithoutCheck(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		a.followsBlindly = mutant
		a.followAcross(func() { a.purgeFinally(ofFirst, false) })
	})
}

// A request that begins after a purge that waits finds a fetch that began before it.
func TestMutantFollowerWithoutCheckOfWhatWaits(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		w.away(a)
		a.followsBlindly = mutant
		a.followAcross(func() { a.purgeThatWaits(ofFirst, false) })
	})
}

// followAcross purges during a fetch, and lets a request follow that from then on.
func (n *cacheNode) followAcross(purge func()) {
	asked, answered := make(chan struct{}), make(chan struct{})
	n.w.onAsk = func(_, number int) bool {
		if number == 1 {
			close(asked)
			<-answered
		}
		return false
	}
	leader := start(func() { n.read(first, false) })
	<-asked
	purge()
	n.mu.Lock()
	f := n.flights[first]
	n.mu.Unlock()
	follower := start(func() { n.read(first, false) })
	eventually(n.w.t, "a request follows", func() bool { return f.waiting.Load() == 1 })
	close(answered)
	<-leader
	<-follower
}

// start runs f beside the test. The channel is closed when it has ended.
func start(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

// A soft purge follows a hard one. The origin would confirm what must be gone.
func TestMutantSoftOverridesHard(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		if mutant {
			a.check = a.newestWins
		}
		a.read(first, false)
		a.purgeFinally(ofFirst, false)
		a.purgeFinally(target{Selector{KindTag, "red"}, []int{first, 2}, false}, true)
		a.read(first, false)
	})
}

// newestWins lets the newest purge of a record decide alone.
func (n *cacheNode) newestWins(s *Subject, upTo Checked) (Verdict, Checked) {
	verdict := Valid
	for _, e := range n.entries() {
		covers, err := n.Matcher(Purge{Selectors: e.Selectors})
		if err != nil || !covers(s) || !s.Position.ID.Before(e.ID) {
			continue
		}
		verdict = Covered
		if e.Soft() {
			verdict = SoftCovered
		}
	}
	return verdict, upTo
}

// A purge comes between the lookup of a stale response and its revalidation.
func TestMutantPositionAfterLookup(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		a.notesLate = mutant
		a.read(first, false)
		a.afterLookup = func() {
			a.afterLookup = func() {}
			a.purgeFinally(ofFirst, false)
		}
		a.read(first, true)
		a.read(first, false)
	})
}

// A node joins just before a purge, and is slow to read it.
func TestMutantRegistryReadBeforeXADD(t *testing.T) {
	// Here the joiner must act within its lease.
	long := func(o *Options) { o.Lease = 4 * testLease }
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running(long)
		peers := a.peersNow(t)
		b := w.byHand(long)
		b.read(first, false)
		b.tail.turn(t.Context(), callTimeout)

		before := a.Position()
		purge := start(func() {
			if mutant {
				a.purgeBy(ofFirst, false, func(p Purge) promise {
					if a.confirmedBy(t, p, peers) {
						return toAll
					}
					return toNobody
				})
			} else {
				a.purgeFinally(ofFirst, false)
			}
		})
		eventually(t, "the purge is appended", func() bool { return a.Position() != before })
		if mutant {
			<-purge
		}
		b.read(first, false)
		b.tail.turn(t.Context(), callTimeout)
		<-purge
		b.read(first, false)
	})
}

// peersNow returns the peers that a purge has to wait for.
func (n *cacheNode) peersNow(t *testing.T) []string {
	if err := n.registry.readAfter(t.Context()); err != nil {
		t.Error(err)
	}
	return n.registry.tally(Position{ID: maxID}).pending
}

// confirmedBy appends a purge and waits for this node and for peers that were
// known before.
func (n *cacheNode) confirmedBy(t *testing.T, p Purge, peers []string) bool {
	items, err := n.newItems(p)
	if err != nil {
		t.Error(err)
		return false
	}
	seen := n.appender.sights.expect(items)
	defer n.appender.sights.forget(items)
	id, err := n.appender.appendOn(t.Context(), n.client, items, false)
	if err != nil {
		t.Error(err)
		return false
	}
	<-seen.done
	pending := func() []string { return n.registry.tally(Position{Epoch: seen.epoch, ID: id}).pending }
	for slices.ContainsFunc(pending(), func(id string) bool { return slices.Contains(peers, id) }) {
		if err := n.registry.readAfter(t.Context()); err != nil {
			t.Error(err)
			return false
		}
	}
	return true
}

// away lets Redis refuse what the node appends.
func (w *cacheWorld) away(n *cacheNode) {
	w.s.do("config", "set", "maxmemory", "1")
	eventually(w.t, n.opts.NodeID+" is cut off", func() bool { return n.Trust(w.t.Context()) == CutOff })
}

func (n *cacheNode) purgeThatWaits(tgt target, soft bool) {
	n.w.t.Helper()
	if n.purgeAll(tgt, soft, time.Second) != toThisNode {
		n.w.t.Errorf("the purge of %s does not wait", tgt.selector)
	}
}

// Redis takes nothing, and the node goes on from its memory. It knows of its own
// purge.
func TestMutantNoLocalCount(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		if mutant {
			a.check = a.afterAllThatWaits
		}
		a.read(first, false)
		w.away(a)
		a.read(first, false)
		a.purgeThatWaits(ofFirst, false)
		a.read(first, false)
	})
}

// afterAllThatWaits takes a record for one that was fetched by now.
func (n *cacheNode) afterAllThatWaits(s *Subject, upTo Checked) (Verdict, Checked) {
	later := *s
	later.Position.Local = n.Position().Local
	return n.Check(&later, upTo)
}

// A purge that waits comes between the lookup of a stale response and its
// revalidation.
func TestMutantLocalCountAfterLookup(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		a.notesLate = mutant
		a.read(first, false)
		w.away(a)
		a.afterLookup = func() {
			a.afterLookup = func() {}
			a.purgeThatWaits(ofFirst, false)
		}
		a.read(first, true)
		a.read(first, false)
	})
}

// A node that Redis has refused may write again. What waits there is in the journal
// before anything that it has confirmed from then on.
func TestMutantTrustBeforeTheQueueIsDrained(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a, b := w.byHand(), w.byHand()
		turn := func(n *cacheNode) { n.tail.turn(t.Context(), callTimeout) }
		ofA := turn
		if mutant {
			ofA = func(n *cacheNode) { n.turnUndrained(t) }
		}
		eventually(t, "a has observed for a lease", func() bool {
			turn(a)
			turn(b)
			return !a.registry.tally(Position{}).young
		})
		b.read(first, false)
		w.s.do("config", "set", "maxmemory", "1")
		a.purgeThatWaits(ofFirst, false)
		eventually(t, "a is cut off", func() bool {
			turn(a)
			return a.Trust(t.Context()) == CutOff
		})
		a.read(3, false)
		w.s.do("config", "set", "maxmemory", "0")
		eventually(t, "both trust Redis", func() bool {
			ofA(a)
			turn(b)
			return a.lease.holds() && b.lease.holds()
		})
		later := start(func() { a.purgeFinally(target{Selector{KindPattern, "menu:c*"}, []int{3}, false}, false) })
		eventually(t, "a later purge is confirmed", func() bool {
			ofA(a)
			turn(b)
			select {
			case <-later:
				return true
			default:
				return false
			}
		})
		b.read(first, false)
	})
}

// turnUndrained is a cycle that leaves alone what waits.
func (n *cacheNode) turnUndrained(t *testing.T) {
	n.cycle.Lock()
	defer n.cycle.Unlock()
	n.cycle.limit = callTimeout
	proof, err := n.tail.readOn(t.Context())
	if err == nil {
		err = n.presence.sendLine(t.Context(), stateLive, proof)
	}
	if err != nil {
		t.Error(err)
		return
	}
	n.presence.lineWritten(proof)
	n.lease.grant(proof)
}

// ofFirstByRequest is what a POST purges.
var ofFirstByRequest = target{Selector{KindURL, "https://example.com/pickup/item:1"}, []int{first}, true}

// writeNow lets a node write a checkpoint of what it has applied, changed by lose.
func (n *cacheNode) writeNow(t *testing.T, lose func(*table)) {
	t.Helper()
	n.cycle.Lock()
	c := capture{n.tail.position, n.tail.anchor, n.tail.table, n.tail.name, nil, 0}
	n.cycle.Unlock()
	copied := c.table.reread(t, c.table.chunks(t))
	lose(copied)
	c.table = copied
	if _, err := n.saved.write(t.Context(), c, maxID); err != nil {
		t.Error(err)
	}
}

func nothing(*table) {}

// A node joins after a POST was trimmed away that its checkpoint reaches.
func TestMutantCheckpointWithoutRequests(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		a.read(first, false)
		a.purgeFinally(ofFirstByRequest, false)
		a.writeNow(t, func(table *table) {
			if mutant {
				table.requests = requestMarks{limit: 1000, overflows: table.requests.overflows}
			}
		})
		w.s.do("xtrim", a.keys.stream, "maxlen", 1)
		b := w.running()
		if n := b.Stats().Loaded; n != 1 {
			t.Errorf("%d checkpoints were loaded", n)
		}
		b.read(first, false)
	})
}

// The stream was lost behind the checkpoint, and nobody is there who noticed.
func TestMutantCheckpointWithoutAnchor(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		a.read(first, false)
		a.writeNow(t, nothing)
		a.purgeFinally(ofFirst, false)
		a.Close(t.Context())
		w.s.do("del", a.keys.stream)
		w.s.xadd("op", "purge", "tag", "nobody")

		b := w.newNode()
		if mutant {
			b.saved.believes = func(h *checkpointHeader, epoch uint64, _ redis.XMessage) bool { return h.position().Epoch == epoch }
		}
		b.start(t)
		b.read(first, false)
	})
}

// start starts a node that a scenario has changed.
func (n *cacheNode) start(t *testing.T) {
	t.Cleanup(func() { n.Close(context.Background()) })
	n.Start()
	n.waitFor(t, Leased)
}

// Somebody copies the checkpoint of a journal that is gone to another one in which
// the same entry stands.
func TestMutantCheckpointOfAnotherEpoch(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		ahead := ID{Ms: uint64(time.Now().Add(time.Hour).UnixMilli())}
		add := func() { w.s.do("xadd", "cache::journal", ahead.String(), "op", "purge", "tag", "nobody") }
		a := w.running()
		add()
		a.reaches(t, ahead)
		a.writeNow(t, nothing)
		var dumps []any
		copied := []string{a.keys.checkpoint, a.keys.halves[0], a.keys.halves[1]}
		for _, key := range copied {
			dumps = append(dumps, w.s.do("dump", key))
		}
		a.Close(t.Context())
		w.s.do("flushall")

		b := w.running()
		b.read(first, false)
		b.purgeFinally(ofFirst, false)
		add()
		b.reaches(t, ahead)
		for i, key := range copied {
			if dumps[i] != nil {
				w.s.do("restore", key, 0, dumps[i])
			}
		}
		c := w.newNode()
		if mutant {
			c.saved.believes = func(h *checkpointHeader, _ uint64, entry redis.XMessage) bool { return hashEntry(entry) == h.Entry }
		}
		c.start(t)
		c.read(first, false)
	})
}

// So many entries have one millisecond that the sequence does not fit.
func TestMutantIDRoundedDown(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running()
		ahead := ID{uint64(time.Now().Add(time.Hour).UnixMilli()), 70_000}
		w.s.do("xadd", a.keys.stream, ahead.String(), "op", "purge", "tag", "nobody")
		a.reaches(t, ahead)
		a.read(first, false)
		a.purgeFinally(ofFirstByRequest, false)
		if mutant {
			requests := &a.view.state.Load().table.requests
			for i := range requests.slots {
				if at := &requests.slots[i].at; *at != 0 {
					*at--
				}
			}
		}
		a.read(first, false)
	})
}

// What a POST purged is forgotten.
func TestMutantOverflowWithoutFloor(t *testing.T) {
	caught(t, func(w *cacheWorld, mutant bool) {
		a := w.running(func(o *Options) { o.MaxRequestMarks = 8 })
		a.read(first, false)
		a.purgeFinally(ofFirstByRequest, false)
		for i := range 20 {
			if err := a.AppendAsync(Purge{Selectors: []Selector{{KindURL, fmt.Sprint("https://example.com/", i)}}, Request: true}); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "it is full", func() bool { return a.Stats().Forgotten > 0 && a.Stats().Queue == 0 })
		if mutant {
			a.view.state.Load().table.requests.floors = nil
		}
		a.read(first, false)
	})
}
