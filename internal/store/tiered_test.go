package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

// diary notes the changes of health.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(up bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf("%v %v", up, err))
}

func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.EqualFunc(d.lines, lines, strings.HasPrefix) {
		t.Errorf("changes of health %q, want %q", d.lines, lines)
	}
}

// inBubble runs test with a started store whose Redis is fake.
func inBubble(t *testing.T, fake *fakeRedis, opts store.Options, test func(*testing.T, *store.Tiered, *diary)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		opts.OnHealth = d.note
		s := store.NewTiered(store.NewMemory(ample, nil), fake.tier(t), opts)
		s.Start()
		t.Cleanup(s.Close)
		synctest.Wait()
		test(t, s, d)
	})
}

func wantTier(t *testing.T, s *store.Tiered, key store.Key, want store.TierName) {
	t.Helper()
	r, tier, _ := s.Lookup(t.Context(), key, time.Now())
	if tier != want || (r == nil) != (want == store.TierNone) {
		t.Errorf("found %v in %q, want it in %q", r, tier, want)
	}
}

func TestTieredCopiesFromRedis(t *testing.T) {
	r, _ := newRedis(t)
	m := newMemory(t)
	s := newTiered(t, m, r, store.Options{})
	rec := storetest.Response("shop", "1")
	if err := r.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	wantTier(t, s, storetest.Response("shop", "2").Key, store.TierNone)
	wantTier(t, s, rec.Key, store.TierRedis)
	wantTier(t, s, rec.Key, store.TierMemory)
	if got, _, _ := s.Lookup(t.Context(), rec.Key, rec.Expires); got != nil {
		t.Error("found at its end")
	}
}

func TestTieredDoesNothingBeforeStart(t *testing.T) {
	fake := newFake(map[string]string{"GET": null})
	s := store.NewTiered(store.NewMemory(ample, nil), fake.tier(t), store.Options{})
	rec := storetest.Response("shop", "1")
	s.Put(rec)
	wantTier(t, s, rec.Key, store.TierMemory)
	wantTier(t, s, storetest.Response("shop", "2").Key, store.TierNone)
	if n := fake.dials.Load(); n != 0 {
		t.Errorf("%d dials", n)
	}
	if stats := s.Stats(); stats.DroppedWrites != 1 {
		t.Errorf("%+v", stats)
	}
	s.Close()
}

// Nobody could answer from a record that is written before the node has found the
// journal, and the good one of another node would be lost.
func TestTieredWithoutEpoch(t *testing.T) {
	r, _ := newRedis(t)
	s := newTiered(t, store.NewMemory(ample, nil), r, store.Options{})
	rec := storetest.Response("shop", "1")
	rec.Position = journal.Position{}
	s.Put(rec)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTier(t, s, rec.Key, store.TierMemory)
	if got, err := r.Get(t.Context(), rec.Key); got != nil || err != nil {
		t.Errorf("in Redis: %+v, %v", got, err)
	}
	if stats := s.Stats(); stats.DroppedWrites != 1 {
		t.Errorf("%+v", stats)
	}
}

// A hanging Redis costs one read timeout, an absent one nothing.
func TestTieredHangingRedis(t *testing.T) {
	fake := newFake(map[string]string{"GET": null})
	inBubble(t, fake, store.Options{Failures: 1}, func(t *testing.T, s *store.Tiered, d *diary) {
		time.Sleep(time.Minute)
		fake.set("GET", hang)
		key := storetest.Response("shop", "1").Key
		start := time.Now()
		wantTier(t, s, key, store.TierNone)
		if waited := time.Since(start); waited != 50*time.Millisecond {
			t.Errorf("first request waited %v", waited)
		}
		for range 3 {
			start = time.Now()
			wantTier(t, s, key, store.TierNone)
			if waited := time.Since(start); waited != 0 {
				t.Errorf("request during the outage waited %v", waited)
			}
			time.Sleep(3 * time.Second)
		}
		d.want(t, "true", "false")
		if stats := s.Stats(); stats.RedisErrors != 1 {
			t.Errorf("%+v", stats)
		}

		rec := storetest.Response("shop", "1")
		fake.set("GET", bulk(store.Encode(nil, rec)))
		time.Sleep(time.Minute)
		wantTier(t, s, key, store.TierRedis)
		d.want(t, "true", "false", "true")
	})
}

func TestTieredErrorReplies(t *testing.T) {
	for _, c := range []struct {
		command, reply string
		down           bool
	}{
		{"GET", "-NOAUTH Authentication required.", true},
		{"GET", "-WRONGPASS invalid username-password pair or user is disabled.", true},
		{"GET", "-NOPERM User default has no permissions to run the 'get' command", true},
		{"GET", "-LOADING Redis is loading the dataset in memory", true},
		{"GET", "-MASTERDOWN Link with MASTER is down", true},
		{"GET", "garbage", true},
		{"GET", "-WRONGTYPE Operation against a key holding the wrong kind of value", false},
		{"GET", "-ERR unknown", false},
		{"SET", "-OOM command not allowed when used memory > 'maxmemory'.", false},
		{"SET", "-READONLY You can't write against a read only replica.", false},
		{"SET", "-MISCONF Redis is configured to save RDB snapshots", false},
		{"SET", "-NOPERM User default has no permissions to run the 'set' command", false},
		{"SET", "garbage", true},
		{"SET", hang, true},
	} {
		t.Run(c.command+" "+c.reply, func(t *testing.T) {
			fake := newFake(map[string]string{"GET": null, "SET": ok})
			inBubble(t, fake, store.Options{Failures: 1}, func(t *testing.T, s *store.Tiered, d *diary) {
				if c.reply != hang {
					c.reply += "\r\n"
				}
				fake.set(c.command, c.reply)
				if c.down && c.command != "GET" {
					fake.set("GET", hang) // the probe's; or Redis may be up again before the write is retried
				}
				rec := storetest.Response("shop", "1")
				if c.command == "GET" {
					wantTier(t, s, rec.Key, store.TierNone)
				} else {
					s.Put(rec)
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				if stats := s.Stats(); stats.RedisErrors != 1 {
					t.Errorf("%+v", stats)
				}
				if !c.down {
					d.want(t, "true")
					return
				}
				if d.mu.Lock(); len(d.lines) < 2 || !strings.HasPrefix(d.lines[1], "false") {
					t.Errorf("changes %q", d.lines)
				}
				d.mu.Unlock()
			})
		})
	}
}

// Writes that succeed say nothing about reads.
func TestTieredReadsRefusedWhileWritesSucceed(t *testing.T) {
	fake := newFake(map[string]string{"GET": null, "SET": ok})
	inBubble(t, fake, store.Options{}, func(t *testing.T, s *store.Tiered, d *diary) {
		time.Sleep(time.Minute)
		fake.set("GET", "-NOPERM User default has no permissions to run the 'get' command\r\n")
		for i := range 5 {
			if !s.Up() {
				t.Errorf("down after %d reads", i)
			}
			rec := storetest.Response("shop", fmt.Sprint(i))
			wantTier(t, s, rec.Key, store.TierNone)
			s.Put(rec)
			synctest.Wait()
		}
		d.want(t, "true", "false NOPERM")
	})
}

// Whichever writer is slow or fails: what was put last is what Redis has.
func TestTieredWritesInOrder(t *testing.T) {
	for name, reply := range map[string]string{"slow": "", "refused": "-ERR try again\r\n", "broken": "garbage\r\n"} {
		t.Run(name, func(t *testing.T) {
			fake := newFake(map[string]string{"GET": null, "SET": keep})
			var calls atomic.Int32
			fake.before = func(args []string) string {
				if !strings.EqualFold(args[0], "set") || calls.Add(1) > 1 {
					return ""
				}
				time.Sleep(300 * time.Millisecond)
				return reply
			}
			inBubble(t, fake, store.Options{}, func(t *testing.T, s *store.Tiered, _ *diary) {
				older, newer := storetest.Response("shop", "1"), storetest.Response("shop", "1")
				newer.Status = 201
				other := storetest.Response("shop", "2")
				s.Put(older)
				time.Sleep(100 * time.Millisecond)
				s.Put(newer)
				s.Put(older, other)
				s.Put(newer)
				time.Sleep(time.Second)
				for _, want := range []*store.Record{newer, other} {
					_, got, err := s.Inspect(t.Context(), want.Key, time.Now())
					if err != nil || got == nil || got.Status != want.Status {
						t.Errorf("Redis has %v, %v; want status %d", got != nil, err, want.Status)
					}
				}
				if stats := s.Stats(); stats.QueuedRecords != 0 || stats.QueuedBytes != 0 || stats.DroppedWrites != 0 {
					t.Errorf("%+v", stats)
				}
			})
		})
	}
}

// A client that leaves says nothing about Redis.
func TestTieredCanceledRequest(t *testing.T) {
	rec := storetest.Response("shop", "1")
	fake := newFake(map[string]string{"GET": bulk(store.Encode(nil, rec)), "SCAN": hang})
	inBubble(t, fake, store.Options{Failures: 1}, func(t *testing.T, s *store.Tiered, d *diary) {
		rec := storetest.Response("shop", "1") // of the bubble's time
		fake.set("GET", bulk(store.Encode(nil, rec)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, tier, _ := s.Lookup(ctx, rec.Key, time.Now()); tier != store.TierRedis {
			t.Errorf("found in %q", tier)
		}
		d.want(t, "true")
	})
}

func TestTieredQueueOverflow(t *testing.T) {
	fake := newFake(map[string]string{"GET": null, "SET": hang})
	opts := store.Options{QueueRecords: 4, Writers: 1, WriteTimeout: time.Hour}
	inBubble(t, fake, opts, func(t *testing.T, s *store.Tiered, _ *diary) {
		start := time.Now()
		for i := range 10 {
			s.Put(storetest.Response("shop", fmt.Sprint(i)))
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("Put waited %v", waited)
		}
		if stats := s.Stats(); stats.QueuedRecords != 4 || stats.DroppedWrites != 6 || stats.QueuedBytes == 0 {
			t.Errorf("%+v", stats)
		}
		for i := range 10 {
			wantTier(t, s, storetest.Response("shop", fmt.Sprint(i)).Key, store.TierMemory)
		}
		s.Close()
		if stats := s.Stats(); stats.QueuedRecords != 0 || stats.DroppedWrites != 10 {
			t.Errorf("after Close: %+v", stats)
		}
	})
}

func TestTieredSweepsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := store.NewMemory(ample, nil)
		s := store.NewTiered(m, nil, store.Options{})
		s.Start()
		defer s.Close()
		s.Put(storetest.Response("shop", "1"))
		time.Sleep(storetest.Response("shop", "1").Freshness.Lifetime)
		if m.Len() != 1 {
			t.Error("removed too early")
		}
		time.Sleep(2 * time.Hour)
		if m.Len() != 0 {
			t.Error("expired and still there")
		}
	})
}

// Redis goes and comes back under load: no request fails, and the race detector
// has something to look at.
func TestTieredOutageUnderLoad(t *testing.T) {
	r, server := newRedis(t)
	changes := make(chan bool, 64)
	s := newTiered(t, newMemory(t), r, store.Options{
		ProbeInterval: time.Millisecond,
		OnHealth:      func(up bool, _ error) { changes <- up },
	})
	<-changes
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				rec := storetest.Response("shop", fmt.Sprint(i, j))
				s.Lookup(ctx, rec.Key, time.Now())
				s.Put(rec)
			}
		})
	}
	for range 3 {
		server.Close()
		for <-changes {
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		for !<-changes {
		}
	}
	cancel()
	wg.Wait()
	if !s.Up() {
		t.Error("down at the end")
	}
}

// purges is a set of purged namespaces with the position of each purge.
type purges struct {
	mu         sync.Mutex
	namespaces map[string]uint64
	soft       bool
	newest     uint64
	asked      int
}

func (p *purges) purge(namespace string, id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.namespaces[namespace], p.newest = id, id
}

func (p *purges) check(r *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	newest := journal.ID{Ms: p.newest}
	if !upTo.ID.Before(newest) {
		return journal.Valid, upTo
	}
	p.asked++
	switch {
	case p.namespaces[r.Namespace] <= r.Position.ID.Ms:
		return journal.Valid, journal.Checked{ID: newest}
	case p.soft:
		return journal.SoftCovered, upTo
	}
	return journal.Covered, upTo
}

func positioned(namespace, id string, ms uint64) *store.Record {
	r := storetest.Response(namespace, id)
	r.Position = journal.Position{Epoch: 1, ID: journal.ID{Ms: ms}}
	return r
}

// Whatever a purge covers is not found in either tier, and is born covered when
// its fetch began before.
func TestTieredChecks(t *testing.T) {
	for _, withMemory := range []bool{true, false} {
		p := &purges{namespaces: map[string]uint64{}}
		r, _ := newRedis(t)
		var m *store.Memory
		if withMemory {
			m = store.NewMemory(ample, p.check)
			t.Cleanup(m.Close)
		}
		s := newTiered(t, m, r, store.Options{Check: p.check})
		shop, blog := positioned("shop", "1", 10), positioned("blog", "1", 10)
		s.Put(shop, blog)
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.purge("shop", 20)
		for key, want := range map[store.Key]bool{shop.Key: false, blog.Key: true} {
			if got, _, soft := s.Lookup(t.Context(), key, time.Now()); (got != nil) != want || soft {
				t.Errorf("memory %v: %s found: %v", withMemory, key.Full, got != nil)
			}
		}
		s.Put(positioned("shop", "2", 19), positioned("shop", "3", 20))
		wantTier(t, s, positioned("shop", "2", 19).Key, store.TierNone)
		if got, _, _ := s.Lookup(t.Context(), positioned("shop", "3", 20).Key, time.Now()); withMemory && got == nil {
			t.Error("a response fetched after the purge is not found")
		}
		p.soft = true
		p.purge("blog", 30)
		if got, _, soft := s.Lookup(t.Context(), blog.Key, time.Now()); got == nil || !soft {
			t.Errorf("memory %v: after a soft purge found %v, soft %v", withMemory, got != nil, soft)
		}
	}
}

// A record in memory is searched once for each purge, not at each lookup.
func TestMemoryRemembersChecks(t *testing.T) {
	p := &purges{namespaces: map[string]uint64{}}
	m := store.NewMemory(ample, p.check)
	t.Cleanup(m.Close)
	rec := positioned("shop", "1", 10)
	if err := m.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	p.purge("blog", 20)
	for range 5 {
		if r, _ := m.Lookup(rec.Key.Full, time.Now()); r == nil {
			t.Fatal("not found")
		}
	}
	if p.asked != 1 {
		t.Errorf("searched %d times", p.asked)
	}
}

// A fetch that began earlier and ends later must not replace what has seen more.
func TestMemoryKeepsTheLaterPosition(t *testing.T) {
	m := newMemory(t)
	later, earlier := positioned("shop", "1", 20), positioned("shop", "1", 10)
	later.Status = 201
	otherEpoch := positioned("shop", "1", 5)
	otherEpoch.Position.Epoch, otherEpoch.Status = 2, 202
	for _, c := range []struct {
		put  *store.Record
		want int
	}{{later, 201}, {earlier, 201}, {otherEpoch, 202}} {
		if err := m.Put(t.Context(), c.put); err != nil {
			t.Fatal(err)
		}
		if r, _ := m.Lookup(later.Key.Full, time.Now()); r == nil || r.Status != c.want {
			t.Errorf("found %+v, want status %d", r, c.want)
		}
	}
}

// What Redis has is taken for older than all that waits at this node, until it has
// been searched for; from then on it displaces what this node fetched before.
func TestRecordFromRedisIsPlacedBehindWhatWaits(t *testing.T) {
	r, _ := newRedis(t)
	var searched []uint64 // from which count on
	m := newMemory(t)
	s := newTiered(t, m, r, store.Options{Check: func(r *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
		searched = append(searched, r.Position.Local)
		return journal.Valid, journal.Checked{ID: r.Position.ID, Local: 7}
	}})
	rec := positioned("shop", "1", 10)
	rec.Position.Local = 3
	s.Put(rec)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Clear()
	if got, tier, _ := s.Lookup(t.Context(), rec.Key, time.Now()); tier != store.TierRedis || got.Position.Local != 7 {
		t.Errorf("from %s at %+v", tier, got.Position)
	}
	if !slices.Equal(searched, []uint64{3, 0}) {
		t.Errorf("searched from %d", searched)
	}
	s.Put(rec)
	if got, tier, _ := s.Lookup(t.Context(), rec.Key, time.Now()); tier != store.TierMemory || got.Position.Local != 7 {
		t.Errorf("what began before has displaced it: from %s at %+v", tier, got.Position)
	}
}

// Without memory, what waits to be written is found all the same.
func TestTieredFindsQueuedWrites(t *testing.T) {
	r, _ := newRedis(t)
	s := newTiered(t, nil, r, store.Options{})
	for i := range 200 {
		rec := storetest.Response("shop", fmt.Sprint(i))
		s.Put(rec)
		wantTier(t, s, rec.Key, store.TierRedis)
	}
}

// slowParts is a fake that keeps what it is given, and takes a time for each part.
func slowParts(each time.Duration) *fakeRedis {
	fake := newFake(map[string]string{"GET": null, "SET": keep})
	fake.readTimeout = 50 * time.Millisecond // as it is by default in production
	fake.before = func(args []string) string {
		if len(args) == 2 && strings.Contains(args[1], "::part:") {
			time.Sleep(each)
		}
		return ""
	}
	return fake
}

// What Start and requests have launched ends with Close, also what a request did not
// wait for; the client stays open.
func TestTieredCloseWaits(t *testing.T) {
	fake := newFake(map[string]string{"GET": null, "SET": ok})
	synctest.Test(t, func(t *testing.T) {
		r := fake.tier(t)
		s := store.NewTiered(nil, r, store.Options{})
		s.Start()
		synctest.Wait()
		key := storetest.Response("shop", "1").Key
		wantTier(t, s, key, store.TierNone)
		fake.set("GET", hang)
		wantTier(t, s, key, store.TierNone)
		start := time.Now()
		s.Close()
		if waited := time.Since(start); waited < 400*time.Millisecond || waited > time.Second {
			t.Errorf("waited %v, want what is left of the client's timeout of 500 ms", waited)
		}
		wantTier(t, s, key, store.TierNone) // a request that outlives the store
		if _, err := r.Get(t.Context(), key); err == nil {
			t.Error("a tier that is closed reads")
		}
		s.Close()
	})
}

// A large body takes longer than a read timeout on a link of 1 Gbit/s.
func TestTieredLargeBody(t *testing.T) {
	fake := slowParts(4200 * time.Microsecond) // 512 KiB
	synctest.Test(t, func(t *testing.T) {
		s := store.NewTiered(nil, fake.tier(t), store.Options{})
		s.Start()
		t.Cleanup(s.Close)
		synctest.Wait()
		rec := large("1", 8<<20, 1)
		s.Put(rec)
		time.Sleep(time.Second)
		for range 6 {
			wantTier(t, s, rec.Key, store.TierRedis)
		}
		if stats := s.Stats(); stats.RedisErrors != 0 || !s.Up() {
			t.Errorf("up %v, %+v", s.Up(), stats)
		}
	})
}

// A link that is too slow for large bodies is no outage, and nobody waits for long.
func TestTieredPartsTakeTooLong(t *testing.T) {
	fake := slowParts(time.Second)
	synctest.Test(t, func(t *testing.T) {
		s := store.NewTiered(nil, fake.tier(t), store.Options{})
		s.Start()
		t.Cleanup(s.Close)
		synctest.Wait()
		rec, small := large("1", 8<<20, 1), storetest.Response("shop", "2")
		s.Put(rec, small)
		time.Sleep(time.Second)
		for range 10 {
			start := time.Now()
			wantTier(t, s, rec.Key, store.TierNone)
			if waited := time.Since(start); waited > 2*50*time.Millisecond {
				t.Errorf("waited %v", waited)
			}
		}
		wantTier(t, s, small.Key, store.TierRedis)
		if stats := s.Stats(); stats.RedisErrors != 10 || !s.Up() || !s.Answers() {
			t.Errorf("up %v, %+v", s.Up(), stats)
		}
		time.Sleep(time.Minute) // what the server still does
	})
}

// A link on which each round trip is in time, but not the whole.
func TestTieredPartsAreBoundedTogether(t *testing.T) {
	fake := slowParts(20 * time.Millisecond)
	synctest.Test(t, func(t *testing.T) {
		s := store.NewTiered(nil, fake.tier(t), store.Options{})
		s.Start()
		t.Cleanup(s.Close)
		synctest.Wait()
		rec := large("1", 8<<20, 1)
		s.Put(rec)
		time.Sleep(time.Second)
		start := time.Now()
		wantTier(t, s, rec.Key, store.TierNone)
		if waited := time.Since(start); waited < 150*time.Millisecond || waited > 200*time.Millisecond {
			t.Errorf("waited %v, want 50 ms and a second for each 64 MiB", waited)
		}
		time.Sleep(time.Minute) // what the server still does
	})
}
