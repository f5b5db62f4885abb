package fleet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// xadd appends an entry as any Redis client does, and returns when it holds everywhere.
func xadd(t *testing.T, f *harness.Fleet, fields ...any) {
	t.Helper()
	next := f.Current.Add(1)
	if err := f.Redis.Client.XAdd(t.Context(), &redis.XAddArgs{Stream: harness.JournalKey, Values: fields}).Err(); err != nil {
		t.Fatal(err)
	}
	f.Fence(t, f.Nodes[next%int64(len(f.Nodes))])
}

// gone expects a new response from every node, all being asked at once.
func gone(t *testing.T, f *harness.Fleet, p string) {
	t.Helper()
	f.Final.Store(f.Current.Load())
	f.Check(t, p, f.Nodes...)
	f.Final.Store(0)
}

// kept expects every node to have what was stored.
func kept(t *testing.T, f *harness.Fleet, p string) {
	t.Helper()
	for _, n := range f.Nodes {
		n.Want(t, "HIT", p)
	}
}

// TestOutsideEntries has strangers write into the journal.
func TestOutsideEntries(t *testing.T) {
	t.Parallel()
	f := harness.StartFleet(t)
	t.Run("purges", func(t *testing.T) { testOutside(t, f) })
	t.Run("malformed", func(t *testing.T) { testMalformed(t, f) })
	t.Run("epochs", func(t *testing.T) { testForeignEpochs(t, f) })
	t.Run("last ID", func(t *testing.T) { testLastID(t, f) })
}

// testOutside purges with XADD alone. An entry in the journal holds for everybody
// from the next purge on that is answered 200, as that one comes after it.
func testOutside(t *testing.T, f *harness.Fleet) {
	const pickup, user, points = "/api/v1/pickups/1", "/api/v1/users/1", "/api/v1/points/2"
	for _, tt := range []struct {
		fields     string
		gone, kept []string
	}{
		{"op purge namespace pickup", []string{pickup}, []string{user, points}},
		{"op purge tag t-1", []string{pickup, user}, []string{points}},
		{"op purge key user:shop.test/api/v1/users/1", []string{user}, []string{pickup, points}},
		{"op purge key cache:user:shop.test/api/v1/users/1 by cron reason nightly", []string{user}, []string{pickup, points}},
		{"op purge pattern p*:shop.test/*", []string{pickup, points}, []string{user}},
		{"op purge url http://shop.test/api/v1/points/2", []string{points}, []string{pickup, user}},
		{"op purge prefix http://shop.test/api/v1/u", []string{user}, []string{pickup, points}},
		{"op purge host shop.test", []string{pickup, user, points}, nil},
		{"op purge all 1", []string{pickup, user, points}, nil},
		{`op purge selectors {"namespaces":["pickup","points"]}`, []string{pickup, points}, []string{user}},
		{`op purge selectors {"namespace":"pickup","tag":"t-2"}`, []string{pickup, points}, []string{user}},
		{"op purge namespace pickup tag t-2", []string{pickup, points}, []string{user}}, // a union, too
	} {
		t.Run(tt.fields, func(t *testing.T) {
			f.Fill(t, pickup, user, points)
			var fields []any
			for field := range strings.FieldsSeq(tt.fields) {
				fields = append(fields, field)
			}
			xadd(t, f, fields...)
			for _, p := range tt.kept {
				kept(t, f, p)
			}
			for _, p := range tt.gone {
				gone(t, f, p)
			}
		})
	}
	t.Run("soft", func(t *testing.T) {
		f.Fill(t, pickup)
		xadd(t, f, "op", "soft_purge", "namespace", "pickup")
		f.Failing.Store(true)
		for i, n := range f.Nodes {
			if r := n.Get(t, pickup); r.Outcome() != "STALE" {
				t.Errorf("node %d: %d %s, want STALE while the origin fails", i, r.Status, r.Outcome())
			}
		}
		f.Failing.Store(false)
	})
	t.Run("listed", func(t *testing.T) {
		xadd(t, f, "op", "purge", "tag", "seen", "by", "cron job", "reason", "nightly")
		list, _ := json.Marshal(f.Nodes[0].JSON(t, http.StatusOK, http.MethodGet, "/redis_cache/journal", ""))
		if !strings.Contains(string(list), `"by":"cron job"`) || !strings.Contains(string(list), `{"tag":"seen"}`) {
			t.Errorf("the entry is not listed: %s", list)
		}
	})
}

// testMalformed writes into the journal what nobody can mean, and what would take
// too long to read. It is skipped; what comes after it is not.
func testMalformed(t *testing.T, f *harness.Fleet) {
	const p = "/api/v1/pickups/1"
	f.Fill(t, p)
	long := strings.Repeat("x", 5000)
	for _, fields := range [][]any{
		{"hello", "world"},
		{"op", ""},
		{"op", "flush", "all", "1"},
		{"op", "PURGE", "all", "1"},
		{"op", "purge"},
		{"op", "purge", "all", "0"},
		{"op", "purge", "all", ""},
		{"op", "purge", "namespace", ""},
		{"op", "purge", "selectors", "{"},
		{"op", "purge", "selectors", "null"},
		{"op", "purge", "selectors", "{}"},
		{"op", "purge", "selectors", `["all"]`},
		{"op", "purge", "selectors", `{"all":true,"colour":"red"}`},
		{"op", "purge", "selectors", `{"namespace":7}`},
		{"op", "purge", "url", "/api/v1/pickups/1"},
		{"op", "purge", "prefix", "ftp://shop.test"},
		{"op", "purge", "user", "alice"}, // for the admin API only
		{"op", "purge", "namespace", "pickup", "reason", long},
		{"op", "purge", "all", "1", long, ""},
		{"op", "purge", "selectors", `{"namespace":"pickup","tags":["` + long + `"]}`},
		{"op", "event"},
		{"op", "event", "event", "nobody_knows", "data", `{"a":1}`},
		{"op", "event", "event", "x", "data", "[]"},
		{"op", "event", "event", "x", "data", "{"},
		{"op", "epoch"},
		{"op", "epoch", "epoch", "zzz"},
		{"op", "enable"},
		{"op", "disable", "tag", "x"},
		{"op\x00", "\xff\xfe", "\n", "\r\n"},
	} {
		xadd(t, f, fields...)
	}
	kept(t, f, p)
	for i, n := range f.Nodes {
		if log := n.Proc.Log.String(); !strings.Contains(log, "malformed") {
			t.Errorf("node %d logs nothing of a malformed entry:\n%s", i, harness.Tail(log, 20))
		}
		if r := n.API(t, http.MethodGet, "/redis_cache/journal?limit=1000", ""); r.Status != http.StatusOK {
			t.Errorf("the listing is answered %d %s", r.Status, r.Body)
		}
	}
	xadd(t, f, "op", "purge", "namespace", "pickup")
	gone(t, f, p)
	f.Fill(t, p)
	f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
	gone(t, f, p)

	// Patterns that make a naive matcher run for ever.
	xadd(t, f, "op", "purge", "pattern", strings.Repeat("*a", 300)+"b")
	p2 := "/api/v1/pickups/" + strings.Repeat("a", 1000)
	f.Nodes[0].Want(t, "MISS", p2)
	f.Nodes[0].Want(t, "HIT", p2)
}

// testForeignEpochs has somebody write entries of the kind that only nodes write. Responses
// may be dropped, never brought back.
func testForeignEpochs(t *testing.T, f *harness.Fleet) {
	epoch := f.Redis.Client.Get(t.Context(), harness.EpochKey).Val()
	for i, fields := range [][]any{
		{"op", "epoch", "epoch", "0123456789abcdef"},
		{"op", "epoch", "epoch", epoch},
		{"op", "epoch", "epoch", "ffffffffffffffff", "all", "1"},
	} {
		paths := harness.PickupSeries(fmt.Sprint("foreign-", i), 3)
		f.Fill(t, paths...)
		f.Purge(t, f.Nodes[0], `{"namespace":"pickup"}`)
		f.Redis.Do(t, append([]any{"XADD", harness.JournalKey, "*"}, fields...)...)
		f.Check(t, paths[0], f.Nodes...)
		f.Fence(t, f.Nodes[1])
		f.Check(t, paths[1], f.Nodes...)
		f.Redis.Do(t, "SET", harness.EpochKey, fields[3])
		f.Check(t, paths[2], f.Nodes...)
		f.Fence(t, f.Nodes[2])
	}
	f.Fill(t, "/api/v1/pickups/after")
}

// testLastID has an entry from outside end the stream: nothing can be appended behind it. Purges
// say so until somebody deletes the journal.
func testLastID(t *testing.T, f *harness.Fleet) {
	paths := harness.PickupSeries("last", 4)
	f.Fill(t, paths...)
	// Tomorrow is no problem.
	tomorrow := fmt.Sprint(f.Redis.Client.Time(t.Context()).Val().AddDate(0, 0, 1).UnixMilli()) + "-0"
	f.Redis.Do(t, "XADD", harness.JournalKey, tomorrow, "op", "purge", "tag", "nobody")
	f.Fence(t, f.Nodes[0])
	kept(t, f, paths[0])
	f.Purge(t, f.Nodes[0], `{"key":"pickup:shop.test`+paths[0]+`"}`)
	f.Check(t, paths[0], f.Nodes...)
	f.Final.Store(0)

	f.Current.Add(1)
	f.Redis.Do(t, "XADD", harness.JournalKey, "18446744073709551615-18446744073709551615", "op", "purge", "tag", "nobody")
	for i, n := range f.Nodes {
		if cause := n.PurgeWaits(t, `{"namespace":"pickup"}`)["waits_for"].(string); !strings.Contains(cause, "last possible ID") {
			t.Errorf("node %d says %q", i, cause)
		}
		if r := n.Get(t, paths[1]); r.Status != http.StatusOK {
			t.Errorf("node %d does not answer any more: %d", i, r.Status)
		}
	}
	if _, checks := f.Nodes[0].AskDoctor(t); !strings.HasPrefix(checks["journal"], "fail ") || !strings.Contains(checks["journal"], "DEL "+harness.JournalKey) {
		t.Errorf("the doctor says %q of the journal", checks["journal"])
	}
	f.Redis.Do(t, "DEL", harness.JournalKey)
	f.Purge(t, f.Nodes[1], `{"namespace":"pickup"}`)
	f.Check(t, paths[2], f.Nodes...)
	f.Fill(t, paths[3])
}
