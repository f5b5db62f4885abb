package fleet

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// TestJournalLost takes the journal away after a purge was answered 200, while
// what it covers is still in memory everywhere and, but for two cases, in Redis.
// Without its journal the purge must hold all the same: before anybody can have
// noticed, after the next purge, and for a node that has just started.
func TestJournalLost(t *testing.T) {
	t.Parallel()
	f, all := harness.StartFleet(t), t
	for name, lose := range map[string]func(){
		"restarted empty": func() { f.Redis.Kill(); f.Redis.Start(all) },
		"FLUSHALL":        func() { f.Redis.Do(t, "FLUSHALL") },
		"journal deleted": func() { f.Redis.Do(t, "DEL", harness.JournalKey) },
		"epoch deleted":   func() { f.Redis.Do(t, "DEL", harness.EpochKey) },
		"both deleted":    func() { f.Redis.Do(t, "DEL", harness.JournalKey, harness.EpochKey) },
		"all but records": func() { f.Redis.Do(t, "DEL", harness.JournalKey, harness.EpochKey, harness.NodesKey) },
		"registry gone":   func() { f.Redis.Do(t, "DEL", harness.NodesKey) },
		"trimmed to none": func() { f.Redis.Do(t, "XTRIM", harness.JournalKey, "MAXLEN", 0) },
		"trimmed to one":  func() { f.Redis.Do(t, "XTRIM", harness.JournalKey, "MAXLEN", 1) },
		"wrong type":      func() { f.Redis.Do(t, "DEL", harness.JournalKey); f.Redis.Do(t, "SET", harness.EpochKey, "nonsense") },
		// Somebody purges at once, so that there is a journal again which nobody has followed.
		"deleted and begun anew": func() {
			pipe := f.Redis.Client.TxPipeline()
			pipe.Del(t.Context(), harness.JournalKey)
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: harness.JournalKey, Values: []any{"op", "purge", "tag", "nobody"}})
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			paths := harness.PickupSeries(strings.ReplaceAll(name, " ", "-"), 6)
			f.Fill(t, paths...)
			f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
			lose()
			f.Check(t, paths[0], f.Nodes...)
			harness.Eventually(t, "a purge on another node is answered 200", func() bool {
				r := f.Nodes[1].API(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
				return r.Status == http.StatusOK
			})
			f.Check(t, paths[1], f.Nodes...)
			f.Nodes[2].Restart(all) // not ended with the subtest
			f.Check(t, paths[2], f.Nodes...)
			f.Fence(t, f.Nodes[0])
			f.Check(t, paths[3], f.Nodes...)
			f.Fill(t, paths[4:]...) // and life goes on
		})
	}
}

// testFlush has the purge as the first thing that is in the journal after everything was
// lost.
func testFlush(t *testing.T, f *harness.Fleet) {
	for i := range 5 {
		paths := harness.PickupSeries(fmt.Sprintf("flush-%d", i), 2)
		f.Fill(t, paths...)
		stop := f.Watch(t, paths[0])
		f.Redis.Do(t, "FLUSHALL")
		f.Purge(t, f.Nodes[i%3], `{"namespace":"pickup"}`)
		f.Check(t, paths[1], f.Nodes...)
		stop()
	}
}

// TestFailover lets a replica take over that lacks the last purges, while it has all
// responses that they cover.
func TestFailover(t *testing.T) {
	t.Parallel()
	f := harness.StartFleet(t)
	link := harness.NewLink(t, f.Redis.Addr)
	linkHost, linkPort, _ := net.SplitHostPort(link.Addr)
	replica := harness.StartRedis(t, "--replicaof", linkHost, linkPort, "--repl-diskless-sync-delay", "0")
	paths := harness.PickupSeries("failover", 5)
	f.Fill(t, paths...)
	harness.Eventually(t, "the replica is up to date", func() bool {
		n, err := f.Redis.Client.Wait(t.Context(), 1, harness.Patience).Result()
		return err == nil && n == 1 && replica.Client.Exists(t.Context(), harness.JournalKey).Val() == 1 &&
			strings.Contains(replica.Client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	entries := replica.Client.XLen(t.Context(), harness.JournalKey).Val()
	link.Set(harness.LinkHangs)
	f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
	f.Redis.Kill()
	f.Check(t, paths[0], f.Nodes...)

	link.Set(harness.LinkCut)
	replica.Do(t, "REPLICAOF", "NO", "ONE")
	if got := replica.Client.XLen(t.Context(), harness.JournalKey).Val(); got != entries {
		t.Fatalf("the replica has %d entries, want %d: it was to lack the purge", got, entries)
	}
	// It moves to the address that the nodes know; connections that are there stay.
	_, port, _ := net.SplitHostPort(f.Redis.Addr)
	replica.Do(t, "CONFIG", "SET", "port", port)
	f.Redis.Proc = replica.Proc
	for _, p := range paths[1:3] {
		f.Check(t, p, f.Nodes...)
	}
	harness.Eventually(t, "a purge is answered 200", func() bool {
		r := f.Nodes[1].API(t, http.MethodPost, "/redis_cache/purge", `{"key":"none:at-all","wait":"10s"}`)
		return r.Status == http.StatusOK
	})
	f.Check(t, paths[3], f.Nodes...)
	f.Nodes[2].Restart(t)
	f.Check(t, paths[4], f.Nodes...)
	f.Purge(t, f.Nodes[2], `{"all":true}`)
	f.Check(t, paths[4], f.Nodes...)
}

// testAsleep stops a node through a purge that was answered 200 without it. Requests wait
// for it in its sockets when it wakes up, and find an old response in its memory.
func testAsleep(t *testing.T, f *harness.Fleet) {
	wantNames(t, f.Fence(t, f.Nodes[0]), "confirmed", nodeIDs(t, f.Nodes...)...)
	sleeper, rest := f.Nodes[2], f.Nodes[:2]
	id := sleeper.ID(t)
	for name, meanwhile := range map[string]func(t *testing.T){
		"nothing else":    func(*testing.T) {},
		"trimmed to none": func(t *testing.T) { f.Redis.Do(t, "XTRIM", harness.JournalKey, "MAXLEN", 0) },
		"trimmed to one": func(t *testing.T) {
			f.Fence(t, f.Nodes[1]) // the purge is not the one that stays
			f.Redis.Do(t, "XTRIM", harness.JournalKey, "MAXLEN", 1)
		},
		"FLUSHALL": func(t *testing.T) { f.Redis.Do(t, "FLUSHALL") },
	} {
		t.Run(name, func(t *testing.T) {
			paths := harness.PickupSeries("asleep-"+strings.ReplaceAll(name, " ", "-"), 4)
			f.Fill(t, paths...)
			sleeper.Proc.Freeze(t)
			defer sleeper.Proc.Thaw()
			answer := f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
			wantNames(t, answer, "confirmed", nodeIDs(t, rest...)...)
			wantNames(t, answer, "lapsed", id)
			wantNames(t, answer, "pending")
			meanwhile(t)
			f.Check(t, paths[0], rest...)

			answers := make(chan error, len(paths))
			written := make(chan struct{}, len(paths))
			for _, p := range paths {
				go func() {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
						WroteRequest: func(httptrace.WroteRequestInfo) { written <- struct{}{} },
					})
					r, err := sleeper.Try(ctx, http.MethodGet, p, "")
					answers <- harness.StaleReply(r, err, f.Final.Load())
				}()
			}
			for range paths {
				<-written
			}
			sleeper.Proc.Thaw()
			for range paths {
				if err := <-answers; err != nil {
					t.Errorf("after waking up: %v", err)
				}
			}
			harness.Eventually(t, "the node takes part again", func() bool {
				return len(f.Fence(t, f.Nodes[0])["confirmed"].([]any)) == len(f.Nodes)
			})
		})
	}
}

// TestPausedNode stops one of three nodes, for moments and for long.
func TestPausedNode(t *testing.T) {
	t.Parallel()
	f := harness.StartFleet(t)
	t.Run("awaited", func(t *testing.T) { testAwaited(t, f) })
	t.Run("asleep", func(t *testing.T) { testAsleep(t, f) })
}

// testAwaited pauses a node for less than its lease: the purge waits for
// it, and says so when it may wait no longer.
func testAwaited(t *testing.T, f *harness.Fleet) {
	everybody := nodeIDs(t, f.Nodes...)
	paths := harness.PickupSeries("awaited", 2)
	defer f.Nodes[2].Proc.Thaw()
	var status int
	var answer map[string]any
	harness.Eventually(t, "the purge ends before the node lapses", func() bool {
		f.Nodes[2].Proc.Thaw()
		if len(f.Fence(t, f.Nodes[0])["confirmed"].([]any)) != len(everybody) {
			return false
		}
		f.Fill(t, paths...)
		f.Nodes[2].Proc.Freeze(t)
		f.Current.Add(1)
		r := f.Nodes[0].API(t, http.MethodPost, "/redis_cache/purge", `{"namespace":"pickup","wait":"1s"}`)
		status, answer = r.Status, nil
		if err := json.Unmarshal([]byte(r.Body), &answer); err != nil {
			t.Fatalf("%v in %q", err, r.Body)
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
	if ms := harness.Number(t, answer, "duration_ms"); ms < 1000 {
		t.Errorf("waited %v ms, want 1000", ms)
	}
	f.Final.Store(f.Current.Load())
	f.Check(t, paths[0], f.Nodes[:2]...) // those have confirmed

	// Others that purge are not held up by one that waits.
	waiting := make(chan int, 1)
	go func() { waiting <- tryPurge(t, f, f.Nodes[1], `{"namespace":"pickup","wait":"20s"}`) }()
	f.Nodes[0].JSON(t, http.StatusAccepted, http.MethodPost, "/redis_cache/purge", `{"namespace":"user","wait":"0s"}`)
	f.Nodes[2].Proc.Thaw()
	if status := <-waiting; status != http.StatusOK {
		t.Errorf("the purge that waited for the node is answered %d", status)
	}
	f.Check(t, paths[1], f.Nodes...)
}
