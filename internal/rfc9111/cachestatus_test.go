package rfc9111

import (
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

func TestCacheStatusAppend(t *testing.T) {
	for _, c := range []struct {
		section string
		status  CacheStatus
		want    string
	}{
		{"9211 2", CacheStatus{}, `redis_cache`},
		{"9211 2.1", CacheStatus{Hit: true, HasTTL: true, TTL: 299 * time.Second, Detail: "memory"}, `redis_cache; hit; ttl=299; detail=memory`},
		{"9211 2.1", CacheStatus{Hit: true, Fwd: "stale", FwdStatus: 304, Stored: true, Collapsed: true}, `redis_cache; hit`},
		{"9211 2.2", CacheStatus{Fwd: "uri-miss", FwdStatus: 200, Stored: true, HasTTL: true, TTL: 300 * time.Second}, `redis_cache; fwd=uri-miss; fwd-status=200; stored; ttl=300`},
		{"9211 2.2", CacheStatus{Fwd: "bypass", Detail: "credentials"}, `redis_cache; fwd=bypass; detail=credentials`},
		{"9211 2.2", CacheStatus{FwdStatus: 200, Stored: true, Collapsed: true}, `redis_cache`},
		{"9211 2.6", CacheStatus{Fwd: "stale", Collapsed: true}, `redis_cache; fwd=stale; collapsed`},
		{"9211 2.4", CacheStatus{Hit: true, HasTTL: true}, `redis_cache; hit; ttl=0`},
		{"9211 2.4", CacheStatus{Hit: true, TTL: time.Second}, `redis_cache; hit`},
		{"9211 2.4 rounded down", CacheStatus{Hit: true, HasTTL: true, TTL: 1999 * time.Millisecond}, `redis_cache; hit; ttl=1`},
		{"9211 2.4 stale", CacheStatus{Hit: true, HasTTL: true, TTL: -412 * time.Second}, `redis_cache; hit; ttl=-412`},
		{"9211 2.4 stale, rounded down", CacheStatus{Hit: true, HasTTL: true, TTL: -time.Millisecond}, `redis_cache; hit; ttl=-1`},
		{"9211 2.7", CacheStatus{Hit: true, Key: "cache:GET:/a"}, `redis_cache; hit; key="cache:GET:/a"`},
		{"9651 3.3.3 escapes", CacheStatus{Key: `a"b\c`}, `redis_cache; key="a\"b\\c"`},
		{"9651 3.3.3 replaced bytes", CacheStatus{Key: "a\x00\r\n\x7f\xff ~"}, `redis_cache; key="a????? ~"`},
		{"9651 3.3.4", CacheStatus{Detail: "*a:b/c!#$%&'*+-.^_`|~9Z"}, "redis_cache; detail=*a:b/c!#$%&'*+-.^_`|~9Z"},
		{"9651 3.3.4 digit first", CacheStatus{Detail: "9a"}, `redis_cache; detail="9a"`},
		{"9651 3.3.4 space", CacheStatus{Detail: "too large"}, `redis_cache; detail="too large"`},
		{"9651 3.3.4 non-ASCII", CacheStatus{Detail: "fü"}, `redis_cache; detail="f??"`},
		{"9651 3.3.4", CacheStatus{Fwd: "no token"}, `redis_cache; fwd="no token"`},
	} {
		if got := string(c.status.Append([]byte("x, "))); got != "x, "+c.want {
			t.Errorf("RFC %s: got %s, want %s", c.section, got, c.want)
		}
	}
}

func TestCacheStatusAppendAllocates(t *testing.T) {
	c := CacheStatus{
		Fwd: "uri-miss", FwdStatus: 200, Stored: true, Collapsed: true, HasTTL: true, TTL: -time.Hour,
		Key: `cache:"x"`, Detail: "too large",
	}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = c.Append(buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCacheStatus(f *testing.F) {
	f.Add(true, "", uint16(0), int64(299e9), "cache:/", "memory")
	f.Add(false, "uri-miss", uint16(200), int64(-1), `"\`, "two words")
	f.Add(false, "", uint16(0), int64(-1<<63), "\x00\xff", "é")
	f.Fuzz(func(t *testing.T, hit bool, fwd string, status uint16, ttl int64, key, detail string) {
		c := CacheStatus{
			Hit: hit, Fwd: fwd, FwdStatus: int(status), Stored: true, Collapsed: hit,
			TTL: time.Duration(ttl), HasTTL: true, Key: key, Detail: detail,
		}
		field := string(c.Append(nil))
		list, err := httpsfv.UnmarshalList([]string{field})
		if err != nil || len(list) != 1 {
			t.Fatalf("%s: %d members, %v", field, len(list), err)
		}
		params := list[0].(httpsfv.Item).Params
		if _, got := params.Get("hit"); got != hit {
			t.Errorf("%s: hit is %v", field, got)
		}
		if got, _ := params.Get("key"); key != "" && len(got.(string)) != len(key) {
			t.Errorf("%s: key %q reads %q", field, key, got)
		}
		if _, got := params.Get("detail"); got != (detail != "") {
			t.Errorf("%s: detail is %v", field, got)
		}
	})
}
