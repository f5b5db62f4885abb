package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	journalKey = "cache::journal"
	epochKey   = "cache::epoch:{cache::journal}"
	nodesKey   = "cache::nodes:{cache::journal}"
)

// TestJournalLost takes the journal away after a purge was answered 200, while
// what it covers is still in memory everywhere and, but for two cases, in Redis.
// Without its journal the purge must hold all the same: before anybody can have
// noticed, after the next purge, and for a node that has just started.
func TestJournalLost(t *testing.T) {
	t.Parallel()
	f, all := startFleet(t), t
	for name, lose := range map[string]func(){
		"restarted empty": func() { f.redis.kill(); f.redis.start(all) },
		"FLUSHALL":        func() { f.redis.do(t, "FLUSHALL") },
		"journal deleted": func() { f.redis.do(t, "DEL", journalKey) },
		"epoch deleted":   func() { f.redis.do(t, "DEL", epochKey) },
		"both deleted":    func() { f.redis.do(t, "DEL", journalKey, epochKey) },
		"all but records": func() { f.redis.do(t, "DEL", journalKey, epochKey, nodesKey) },
		"registry gone":   func() { f.redis.do(t, "DEL", nodesKey) },
		"trimmed to none": func() { f.redis.do(t, "XTRIM", journalKey, "MAXLEN", 0) },
		"trimmed to one":  func() { f.redis.do(t, "XTRIM", journalKey, "MAXLEN", 1) },
		"wrong type":      func() { f.redis.do(t, "DEL", journalKey); f.redis.do(t, "SET", epochKey, "nonsense") },
		// Somebody purges at once, so that there is a journal again which nobody has followed.
		"deleted and begun anew": func() {
			pipe := f.redis.client.TxPipeline()
			pipe.Del(t.Context(), journalKey)
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: journalKey, Values: []any{"op", "purge", "tag", "nobody"}})
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			paths := pickupSeries(strings.ReplaceAll(name, " ", "-"), 6)
			f.fill(t, paths...)
			f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
			lose()
			f.check(t, paths[0], f.nodes...)
			eventually(t, "a purge on another node is answered 200", func() bool {
				r := f.nodes[1].api(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
				return r.status == http.StatusOK
			})
			f.check(t, paths[1], f.nodes...)
			f.nodes[2].restart(all) // not ended with the subtest
			f.check(t, paths[2], f.nodes...)
			f.fence(t, f.nodes[0])
			f.check(t, paths[3], f.nodes...)
			f.fill(t, paths[4:]...) // and life goes on
		})
	}
}

// testFlush has the purge as the first thing that is in the journal after everything was
// lost.
func (f *fleet) testFlush(t *testing.T) {
	for i := range 5 {
		paths := pickupSeries(fmt.Sprintf("flush-%d", i), 2)
		f.fill(t, paths...)
		stop := f.watch(t, paths[0])
		f.redis.do(t, "FLUSHALL")
		f.purge(t, f.nodes[i%3], `{"namespace":"pickup"}`)
		f.check(t, paths[1], f.nodes...)
		stop()
	}
}

// TestFailover lets a replica take over that lacks the last purges, while it has all
// responses that they cover.
func TestFailover(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	link := newLink(t, f.redis.addr)
	linkHost, linkPort, _ := net.SplitHostPort(link.addr)
	replica := startRedis(t, "--replicaof", linkHost, linkPort, "--repl-diskless-sync-delay", "0")
	paths := pickupSeries("failover", 5)
	f.fill(t, paths...)
	eventually(t, "the replica is up to date", func() bool {
		n, err := f.redis.client.Wait(t.Context(), 1, patience).Result()
		return err == nil && n == 1 && replica.client.Exists(t.Context(), journalKey).Val() == 1 &&
			strings.Contains(replica.client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	entries := replica.client.XLen(t.Context(), journalKey).Val()
	link.set(linkHangs)
	f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
	f.redis.kill()
	f.check(t, paths[0], f.nodes...)

	link.set(linkCut)
	replica.do(t, "REPLICAOF", "NO", "ONE")
	if got := replica.client.XLen(t.Context(), journalKey).Val(); got != entries {
		t.Fatalf("the replica has %d entries, want %d: it was to lack the purge", got, entries)
	}
	// It moves to the address that the nodes know; connections that are there stay.
	_, port, _ := net.SplitHostPort(f.redis.addr)
	replica.do(t, "CONFIG", "SET", "port", port)
	f.redis.proc = replica.proc
	for _, p := range paths[1:3] {
		f.check(t, p, f.nodes...)
	}
	eventually(t, "a purge is answered 200", func() bool {
		r := f.nodes[1].api(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
		return r.status == http.StatusOK
	})
	f.check(t, paths[3], f.nodes...)
	f.nodes[2].restart(t)
	f.check(t, paths[4], f.nodes...)
	f.purge(t, f.nodes[2], `{"all":true}`)
	f.check(t, paths[4], f.nodes...)
}

// testAsleep stops a node through a purge that was answered 200 without it. Requests wait
// for it in its sockets when it wakes up, and find an old response in its memory.
func (f *fleet) testAsleep(t *testing.T) {
	wantNames(t, f.fence(t, f.nodes[0]), "confirmed", nodeIDs(t, f.nodes...)...)
	sleeper, rest := f.nodes[2], f.nodes[:2]
	id := sleeper.id(t)
	for name, meanwhile := range map[string]func(t *testing.T){
		"nothing else":    func(*testing.T) {},
		"trimmed to none": func(t *testing.T) { f.redis.do(t, "XTRIM", journalKey, "MAXLEN", 0) },
		"trimmed to one": func(t *testing.T) {
			f.fence(t, f.nodes[1]) // the purge is not the one that stays
			f.redis.do(t, "XTRIM", journalKey, "MAXLEN", 1)
		},
		"FLUSHALL": func(t *testing.T) { f.redis.do(t, "FLUSHALL") },
	} {
		t.Run(name, func(t *testing.T) {
			paths := pickupSeries("asleep-"+strings.ReplaceAll(name, " ", "-"), 4)
			f.fill(t, paths...)
			sleeper.proc.freeze(t)
			defer sleeper.proc.thaw()
			answer := f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
			wantNames(t, answer, "confirmed", nodeIDs(t, rest...)...)
			wantNames(t, answer, "lapsed", id)
			wantNames(t, answer, "pending")
			meanwhile(t)
			f.check(t, paths[0], rest...)

			answers := make(chan error, len(paths))
			written := make(chan struct{}, len(paths))
			for _, p := range paths {
				go func() {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
						WroteRequest: func(httptrace.WroteRequestInfo) { written <- struct{}{} },
					})
					r, err := sleeper.try(ctx, http.MethodGet, p, "")
					answers <- staleReply(r, err, f.final.Load())
				}()
			}
			for range paths {
				<-written
			}
			sleeper.proc.thaw()
			for range paths {
				if err := <-answers; err != nil {
					t.Errorf("after waking up: %v", err)
				}
			}
			eventually(t, "the node takes part again", func() bool {
				return len(f.fence(t, f.nodes[0])["confirmed"].([]any)) == len(f.nodes)
			})
		})
	}
}

// TestPausedNode stops one of three nodes, for moments and for long.
func TestPausedNode(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	t.Run("awaited", f.testAwaited)
	t.Run("asleep", f.testAsleep)
}

// testAwaited pauses a node for less than its lease: the purge waits for
// it, and says so when it may wait no longer.
func (f *fleet) testAwaited(t *testing.T) {
	everybody := nodeIDs(t, f.nodes...)
	paths := pickupSeries("awaited", 2)
	defer f.nodes[2].proc.thaw()
	var status int
	var answer map[string]any
	eventually(t, "the purge ends before the node lapses", func() bool {
		f.nodes[2].proc.thaw()
		if len(f.fence(t, f.nodes[0])["confirmed"].([]any)) != len(everybody) {
			return false
		}
		f.fill(t, paths...)
		f.nodes[2].proc.freeze(t)
		f.current.Add(1)
		r := f.nodes[0].api(t, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","wait":"1s"}`)
		status, answer = r.status, nil
		if err := json.Unmarshal([]byte(r.body), &answer); err != nil {
			t.Fatalf("%v in %q", err, r.body)
		}
		lapsed, _ := answer["lapsed"].([]any)
		return len(lapsed) == 0
	})
	if status != http.StatusAccepted {
		t.Errorf("a purge that waits no longer is answered %d", status)
	}
	wantNames(t, answer, "confirmed", everybody[:2]...)
	wantNames(t, answer, "pending", everybody[2])
	wantNames(t, answer, "lapsed")
	if ms := number(t, answer, "duration_ms"); ms < 1000 {
		t.Errorf("waited %v ms, want 1000", ms)
	}
	f.final.Store(f.current.Load())
	f.check(t, paths[0], f.nodes[:2]...) // those have confirmed

	// Others that purge are not held up by one that waits.
	waiting := make(chan int, 1)
	go func() { waiting <- f.tryPurge(t, f.nodes[1], `{"namespace":"pickup","wait":"20s"}`) }()
	f.nodes[0].json(t, http.StatusAccepted, http.MethodPost, "/redis_cache/purge", `{"namespace":"user","wait":"0s"}`)
	f.nodes[2].proc.thaw()
	if status := <-waiting; status != http.StatusOK {
		t.Errorf("the purge that waited for the node is answered %d", status)
	}
	f.check(t, paths[1], f.nodes...)
}
