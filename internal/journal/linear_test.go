package journal

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"
)

var (
	linearRounds = flag.Int("linear.rounds", 2, "how many histories TestG1IsLinearizable checks")
	linearSeed   = flag.Uint64("linear.seed", 1, "seed of the first of them; each other has the next one")
)

// TestG1IsLinearizable lets a small fleet read and purge at random while nodes
// join, leave and sleep and while Redis stops or loses everything. Whatever
// happens, what was answered must be something that G1 allows.
func TestG1IsLinearizable(t *testing.T) {
	t.Parallel()
	for i := range *linearRounds {
		seed := *linearSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			f := newLinearFleet(t, seed)
			f.run()
			f.want(t, porcupine.Ok)
			t.Logf("%d purges were final, %d waited, %d reads were cached, %d checkpoints loaded", f.final.Load(), f.waited.Load(), f.cached.Load(), f.loaded.Load())
			if f.final.Load() == 0 || f.waited.Load() == 0 || f.cached.Load() == 0 {
				t.Errorf("%d purges were final, %d waited and %d reads were answered from a store, want some of each", f.final.Load(), f.waited.Load(), f.cached.Load())
			}
		})
	}
}

const (
	linearNodes   = 3
	linearReaders = 5
	linearPurgers = 2
)

// linearFleet is a fleet on which everything happens at random. Nodes are
// replaced when they leave.
type linearFleet struct {
	*cacheWorld
	client *redis.Client
	nodes  [linearNodes]atomic.Pointer[cacheNode]
	over   chan struct{}

	final, waited, cached atomic.Int64
	loaded                atomic.Int64 // checkpoints

	diceMu sync.Mutex
	dice   *rand.Rand
}

func newLinearFleet(t testing.TB, seed uint64) *linearFleet {
	f := &linearFleet{cacheWorld: newCacheWorld(t), over: make(chan struct{})}
	f.client = f.s.Client()
	f.dice = rand.New(rand.NewPCG(seed, 0))
	f.onAsk = func(int, int) bool {
		f.pause(12)
		return f.roll(3) > 0
	}
	for i := range f.nodes {
		f.join(i)
	}
	for i := range f.nodes {
		f.nodes[i].Load().waitFor(t, Leased)
	}
	f.nodes[0].Load().settled(t)
	return f
}

func (f *linearFleet) roll(n int) int {
	f.diceMu.Lock()
	defer f.diceMu.Unlock()
	return f.dice.IntN(n)
}

// pause waits for some milliseconds, mostly few.
func (f *linearFleet) pause(limit int) {
	pause(f.t.Context(), time.Duration(f.roll(1+f.roll(limit*1000)))*time.Microsecond)
}

func (f *linearFleet) join(i int) {
	// So little that it overflows now and then, and checkpoints are frequent.
	n := f.newNode(every(5), func(o *Options) { o.MaxRequestMarks = 8 })
	f.t.Cleanup(func() { n.Close(context.Background()) })
	n.Start()
	f.nodes[i].Store(n)
}

func (f *linearFleet) node() *cacheNode { return f.nodes[f.roll(linearNodes)].Load() }

func (f *linearFleet) run() {
	var clients sync.WaitGroup
	for range linearReaders {
		clients.Go(func() { f.until(f.readOnce) })
	}
	for range linearPurgers {
		clients.Go(func() { f.until(f.purgeOnce) })
	}
	f.disturb()
	close(f.over)
	clients.Wait()
}

func (f *linearFleet) until(do func()) {
	for {
		select {
		case <-f.over:
			return
		default:
			do()
		}
	}
}

func (f *linearFleet) readOnce() {
	f.pause(30)
	n, resource := f.node(), f.roll(len(resources))
	if f.roll(40) == 0 {
		n.purgeHere(f.target(), f.roll(2) == 0)
		return
	}
	if f.roll(20) == 0 { // what nobody reads takes room
		n.AppendAsync(Purge{Selectors: []Selector{{KindURL, fmt.Sprint("https://example.com/flood/", f.roll(1000))}}, Request: true})
		return
	}
	f.mu.Lock()
	before := f.asked[resource]
	f.mu.Unlock()
	if n.read(resource, f.roll(5) == 0).confirmed <= before {
		f.cached.Add(1)
	}
}

func (f *linearFleet) purgeOnce() {
	f.pause(150)
	switch f.node().purgeAll(f.target(), f.roll(5) < 2, 2*time.Second) {
	case toAll:
		f.final.Add(1)
	case toThisNode:
		f.waited.Add(1)
	case toNobody:
	}
}

func (f *linearFleet) target() target { return targets[f.roll(len(targets))] }

// disturb does each of its evils once, in a random order. Whether a command of
// it reaches Redis is not asked: no answer depends on it.
func (f *linearFleet) disturb() {
	ctx, stream := f.t.Context(), f.nodes[0].Load().keys.stream
	evils := []func(){
		func() { f.asleep(func() { pause(ctx, testLease+f.upTo(200)) }) },
		func() { // Redis loses everything while a node sleeps
			f.asleep(func() {
				f.node().purgeAll(f.target(), false, 2*time.Second)
				f.client.FlushAll(ctx)
				f.node().purgeAll(f.target(), false, time.Second)
			})
		},
		func() { f.asleep(f.fallBack) },
		func() { // the node that joins sees only what Redis has fallen back to
			i := f.roll(linearNodes)
			f.nodes[i].Load().Close(context.Background())
			f.fallBack()
			f.join(i)
		},
		func() {
			f.client.FlushAll(ctx)
			f.node().purgeAll(f.target(), false, time.Second)
		},
		func() { f.client.Del(ctx, stream) },
		func() { f.client.XTrimMaxLen(ctx, stream, 1) },
		func() { f.toCheckpoint(func() {}) },
		func() { // some of the checkpoint is lost
			f.toCheckpoint(func() {
				for _, half := range f.nodes[0].Load().keys.halves {
					f.client.HSet(ctx, half, "0", "f"+string(make([]byte, 16)))
				}
			})
		},
		func() { f.toCheckpoint(func() { f.client.Del(ctx, f.nodes[0].Load().keys.checkpoint) }) },
		func() { // what Redis has fallen back to is older than the checkpoint
			dump := f.client.Dump(ctx, stream).Val()
			f.toCheckpoint(func() { f.client.RestoreReplace(ctx, stream, 0, dump) })
		},
		func() { // a node leaves, another one joins
			i := f.roll(linearNodes)
			f.nodes[i].Load().Close(context.Background())
			f.pause(100)
			f.join(i)
		},
		func() { // a node joins, and the one before it leaves later
			i := f.roll(linearNodes)
			old := f.nodes[i].Load()
			f.join(i)
			f.pause(300)
			old.Close(context.Background())
		},
		func() { // Redis stops
			f.signal(syscall.SIGSTOP)
			pause(ctx, f.upTo(700))
			f.signal(syscall.SIGCONT)
		},
		func() { // Redis stops, and two nodes purge before it goes on
			f.signal(syscall.SIGSTOP)
			f.purgeOnTwo()
			f.signal(syscall.SIGCONT)
		},
		func() { // Redis takes nothing, and two nodes purge
			f.client.ConfigSet(ctx, "maxmemory", "1")
			f.purgeOnTwo()
			pause(ctx, f.upTo(1000))
			f.client.ConfigSet(ctx, "maxmemory", "0")
		},
	}
	for len(evils) > 0 {
		f.pause(400)
		i := f.roll(len(evils))
		evils[i]()
		evils = slices.Delete(evils, i, i+1)
	}
	f.pause(400)
}

// purgeOnTwo lets two nodes purge at a time.
func (f *linearFleet) purgeOnTwo() {
	first := f.roll(linearNodes)
	var both sync.WaitGroup
	for _, i := range []int{first, (first + 1) % linearNodes} {
		both.Go(func() {
			if f.nodes[i].Load().purgeAll(f.target(), f.roll(3) == 0, 2*time.Second) == toThisNode {
				f.waited.Add(1)
			}
		})
	}
	both.Wait()
}

// toCheckpoint trims the stream to the checkpoint, if there is one, and lets a node
// join after something has happened.
func (f *linearFleet) toCheckpoint(happens func()) {
	ctx, i := f.t.Context(), f.roll(linearNodes)
	if h, err := f.nodes[i].Load().saved.header(ctx); err == nil && h.Version > 0 {
		f.client.XTrimMinID(ctx, f.nodes[i].Load().keys.stream, h.ID)
	}
	f.nodes[i].Load().Close(context.Background())
	happens()
	f.join(i)
	f.pause(300)
	f.loaded.Add(int64(f.nodes[i].Load().Stats().Loaded))
}

// asleep lets a node do nothing meanwhile. It wakes at once when that has ended.
func (f *linearFleet) asleep(meanwhile func()) {
	n := f.node()
	n.cycle.Lock()
	defer n.cycle.Unlock()
	meanwhile()
}

// fallBack lets Redis lose a purge that was answered, as if a replica took over
// that lagged behind.
func (f *linearFleet) fallBack() {
	ctx, stream := f.t.Context(), f.nodes[0].Load().keys.stream
	dump := f.client.Dump(ctx, stream).Val()
	f.node().purgeAll(f.target(), false, 2*time.Second)
	f.client.RestoreReplace(ctx, stream, 0, dump)
}

func (f *linearFleet) upTo(ms int) time.Duration { return time.Duration(f.roll(ms)) * time.Millisecond }

func (f *linearFleet) signal(s syscall.Signal) {
	if err := f.s.Signal(s); err != nil {
		f.t.Error(err)
	}
}

// A node sleeps through a purge and returns just when Redis has lost it. The
// other node that has applied it is live, but will notice the loss only later.
func TestReturningNodeWaitsForThoseWhoNotice(t *testing.T) {
	t.Parallel()
	w := newCacheWorld(t)
	long := func(o *Options) { o.Lease = 2 * testLease }
	a, b := w.running(long), w.byHand(long)
	b.read(first, false)
	before := w.s.do("dump", a.keys.stream)
	a.purgeFinally(ofFirst, false)

	a.cycle.Lock()
	w.s.do("restore", a.keys.stream, 0, before, "replace")
	b.tail.turn(t.Context(), callTimeout)
	pause(t.Context(), testHeartbeat)
	b.tail.turn(t.Context(), callTimeout)
	b.read(first, false)
	a.cycle.Unlock()
	b.turnUntilLeased(func() { b.tail.turn(t.Context(), callTimeout) })
	b.read(first, false)
	w.want(t, porcupine.Ok)
}
