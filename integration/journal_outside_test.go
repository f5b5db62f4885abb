package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// xadd appends an entry as any Redis client does, and returns when it holds everywhere.
func (f *fleet) xadd(t *testing.T, fields ...any) {
	t.Helper()
	next := f.current.Add(1)
	if err := f.redis.client.XAdd(t.Context(), &redis.XAddArgs{Stream: journalKey, Values: fields}).Err(); err != nil {
		t.Fatal(err)
	}
	f.fence(t, f.nodes[next%int64(len(f.nodes))])
}

// gone expects a new response from every node, all being asked at once.
func (f *fleet) gone(t *testing.T, p string) {
	t.Helper()
	f.final.Store(f.current.Load())
	f.check(t, p, f.nodes...)
	f.final.Store(0)
}

// kept expects every node to have what was stored.
func (f *fleet) kept(t *testing.T, p string) {
	t.Helper()
	for _, n := range f.nodes {
		n.want(t, "HIT", p)
	}
}

// TestOutsideEntries has strangers write into the journal.
func TestOutsideEntries(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	t.Run("purges", f.testOutside)
	t.Run("malformed", f.testMalformed)
	t.Run("epochs", f.testForeignEpochs)
	t.Run("last ID", f.testLastID)
}

// testOutside purges with XADD alone. An entry in the journal holds for everybody
// from the next purge on that is answered 200, as that one comes after it.
func (f *fleet) testOutside(t *testing.T) {
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
			f.fill(t, pickup, user, points)
			var fields []any
			for field := range strings.FieldsSeq(tt.fields) {
				fields = append(fields, field)
			}
			f.xadd(t, fields...)
			for _, p := range tt.kept {
				f.kept(t, p)
			}
			for _, p := range tt.gone {
				f.gone(t, p)
			}
		})
	}
	t.Run("soft", func(t *testing.T) {
		f.fill(t, pickup)
		f.xadd(t, "op", "soft_purge", "namespace", "pickup")
		f.failing.Store(true)
		for i, n := range f.nodes {
			if r := n.get(t, pickup); r.outcome() != "STALE" {
				t.Errorf("node %d: %d %s, want STALE while the origin fails", i, r.status, r.outcome())
			}
		}
		f.failing.Store(false)
	})
	t.Run("listed", func(t *testing.T) {
		f.xadd(t, "op", "purge", "tag", "seen", "by", "cron job", "reason", "nightly")
		list, _ := json.Marshal(f.nodes[0].json(t, http.StatusOK, http.MethodGet, "/redis_cache/journal", ""))
		if !strings.Contains(string(list), `"by":"cron job"`) || !strings.Contains(string(list), `{"tag":"seen"}`) {
			t.Errorf("the entry is not listed: %s", list)
		}
	})
}

// testMalformed writes into the journal what nobody can mean, and what would take
// too long to read. It is skipped; what comes after it is not.
func (f *fleet) testMalformed(t *testing.T) {
	const p = "/api/v1/pickups/1"
	f.fill(t, p)
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
		f.xadd(t, fields...)
	}
	f.kept(t, p)
	for i, n := range f.nodes {
		if log := n.proc.log.String(); !strings.Contains(log, "malformed") {
			t.Errorf("node %d logs nothing of a malformed entry:\n%s", i, tail(log, 20))
		}
		if r := n.api(t, http.MethodGet, "/redis_cache/journal?limit=1000", ""); r.status != http.StatusOK {
			t.Errorf("the listing is answered %d %s", r.status, r.body)
		}
	}
	f.xadd(t, "op", "purge", "namespace", "pickup")
	f.gone(t, p)
	f.fill(t, p)
	f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
	f.gone(t, p)

	// Patterns that make a naive matcher run for ever.
	f.xadd(t, "op", "purge", "pattern", strings.Repeat("*a", 300)+"b")
	p2 := "/api/v1/pickups/" + strings.Repeat("a", 1000)
	f.nodes[0].want(t, "MISS", p2)
	f.nodes[0].want(t, "HIT", p2)
}

// testForeignEpochs has somebody write entries of the kind that only nodes write. Responses
// may be dropped, never brought back.
func (f *fleet) testForeignEpochs(t *testing.T) {
	epoch := f.redis.client.Get(t.Context(), epochKey).Val()
	for i, fields := range [][]any{
		{"op", "epoch", "epoch", "0123456789abcdef"},
		{"op", "epoch", "epoch", epoch},
		{"op", "epoch", "epoch", "ffffffffffffffff", "all", "1"},
	} {
		paths := pickupSeries(fmt.Sprint("foreign-", i), 3)
		f.fill(t, paths...)
		f.purge(t, f.nodes[0], `{"namespace":"pickup"}`)
		f.redis.do(t, append([]any{"XADD", journalKey, "*"}, fields...)...)
		f.check(t, paths[0], f.nodes...)
		f.fence(t, f.nodes[1])
		f.check(t, paths[1], f.nodes...)
		f.redis.do(t, "SET", epochKey, fields[3])
		f.check(t, paths[2], f.nodes...)
		f.fence(t, f.nodes[2])
	}
	f.fill(t, "/api/v1/pickups/after")
}

// testLastID has an entry from outside end the stream: nothing can be appended behind it. Purges
// say so until somebody deletes the journal.
func (f *fleet) testLastID(t *testing.T) {
	paths := pickupSeries("last", 4)
	f.fill(t, paths...)
	// Tomorrow is no problem.
	tomorrow := fmt.Sprint(f.redis.client.Time(t.Context()).Val().AddDate(0, 0, 1).UnixMilli()) + "-0"
	f.redis.do(t, "XADD", journalKey, tomorrow, "op", "purge", "tag", "nobody")
	f.fence(t, f.nodes[0])
	f.kept(t, paths[0])
	f.purge(t, f.nodes[0], `{"key":"pickup:shop.test`+paths[0]+`"}`)
	f.check(t, paths[0], f.nodes...)
	f.final.Store(0)

	f.current.Add(1)
	f.redis.do(t, "XADD", journalKey, "18446744073709551615-18446744073709551615", "op", "purge", "tag", "nobody")
	for i, n := range f.nodes {
		if cause := n.purgeWaits(t, `{"namespace":"pickup"}`)["waits_for"].(string); !strings.Contains(cause, "last possible ID") {
			t.Errorf("node %d says %q", i, cause)
		}
		if r := n.get(t, paths[1]); r.status != http.StatusOK {
			t.Errorf("node %d does not answer any more: %d", i, r.status)
		}
	}
	if _, checks := f.nodes[0].askDoctor(t); !strings.HasPrefix(checks["journal"], "fail ") || !strings.Contains(checks["journal"], "DEL "+journalKey) {
		t.Errorf("the doctor says %q of the journal", checks["journal"])
	}
	f.redis.do(t, "DEL", journalKey)
	f.purge(t, f.nodes[1], `{"namespace":"pickup"}`)
	f.check(t, paths[2], f.nodes...)
	f.fill(t, paths[3])
}
