package redis

import (
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

func TestDoctor(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t, "--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru")
	node := harness.StartCaddy(t, harness.Layout{Redis: rds})
	ok, checks := node.Doctor(t)
	if !ok {
		t.Errorf("a healthy Redis: %v", checks)
	}
	for name, want := range map[string]string{
		"redis": "ok ", "rights": "ok ", "version": "ok ", "eviction": "ok ", "memory": "ok ", "persistence": "warn ",
		"lifetimes": "ok ", "foreign keys": "ok ", "configuration": "ok ",
	} {
		if !strings.HasPrefix(checks[name], want) {
			t.Errorf("%s: %q, want %s", name, checks[name], want)
		}
	}
	if keys := rds.Keys(t, "cache::doctor*"); len(keys) > 0 {
		t.Errorf("left behind: %v", keys)
	}
	if out, err := harness.Command(t, "redis-cache", "doctor", "--address", node.Admin); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := harness.Command(t, "redis-cache", "doctor", "--strict", "--address", node.Admin); err == nil {
		t.Errorf("a warning passes --strict:\n%s", out)
	}

	rds.Do(t, "REPLICAOF", "127.0.0.1", "1") // it takes no writes then
	if ok, checks = node.Doctor(t); ok || !strings.HasPrefix(checks["rights"], "fail ") || !strings.Contains(checks["rights"], "READONLY") {
		t.Errorf("ok %t, rights of a replica: %q", ok, checks["rights"])
	}
	rds.Do(t, "REPLICAOF", "NO", "ONE")

	rds.Do(t, "SET", "cache:general:mine", "no record")
	_, checks = node.Doctor(t)
	for _, name := range []string{"lifetimes", "foreign keys"} {
		if !strings.HasPrefix(checks[name], "warn ") || !strings.Contains(checks[name], "cache:general:mine") {
			t.Errorf("%s: %q", name, checks[name])
		}
	}

	rds.Do(t, "CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
	if ok, checks = node.Doctor(t); ok || !strings.HasPrefix(checks["eviction"], "fail ") {
		t.Errorf("ok %t, eviction: %q", ok, checks["eviction"])
	}
	if out, err := harness.Command(t, "redis-cache", "doctor", "--address", node.Admin); err == nil || !strings.Contains(out, "allkeys-lru") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDoctorRights has the user of the documentation, and takes one right from it.
func TestDoctorRights(t *testing.T) {
	t.Parallel()
	rds := harness.StartRedis(t, harness.UserArgs(t)...)
	node := harness.StartCaddy(t, harness.Layout{Redis: rds, Connect: rds.URL() + harness.BlockOf("username cache", "password "+harness.AclPassword)})
	ok, checks := node.Doctor(t)
	if !ok || !strings.HasPrefix(checks["rights"], "ok ") {
		t.Errorf("ok %t, rights: %q", ok, checks["rights"])
	}
	for name, right := range map[string]string{"version": "+info", "eviction": "+info", "clock": "+time"} {
		if !strings.HasPrefix(checks[name], "skip ") || !strings.Contains(checks[name], right) {
			t.Errorf("%s: %q, want a skip that says %s", name, checks[name], right)
		}
	}
	for _, rule := range harness.AclRules(t, "caddy redis-cache doctor") {
		rds.Do(t, "ACL", "SETUSER", "cache", rule)
	}
	_, checks = node.Doctor(t)
	for _, name := range []string{"version", "memory", "clock"} {
		if strings.HasPrefix(checks[name], "skip ") {
			t.Errorf("%s: %q with the documented rights", name, checks[name])
		}
	}
	for _, right := range []string{"getrange", "publish", "subscribe", "multi", "watch", "unwatch", "evalsha", "wait"} {
		rds.Do(t, "ACL", "SETUSER", "cache", "-"+right)
		ok, checks = node.Doctor(t)
		if ok || !strings.HasPrefix(checks["rights"], "fail ") || !strings.Contains(checks["rights"], right) {
			t.Errorf("without %s: ok %t, %q", right, ok, checks["rights"])
		}
		rds.Do(t, "ACL", "SETUSER", "cache", "+"+right)
	}
	several := []string{"set", "hset", "hincrby", "xadd", "pttl", "watch", "unwatch", "multi"}
	for _, right := range several {
		rds.Do(t, "ACL", "SETUSER", "cache", "-"+right)
	}
	_, checks = node.Doctor(t)
	for _, right := range several {
		if !strings.Contains(checks["rights"], " +"+right) {
			t.Errorf("without several: %q, want %s", checks["rights"], right)
		}
		rds.Do(t, "ACL", "SETUSER", "cache", "+"+right)
	}
	rds.Do(t, "ACL", "SETUSER", "cache", "resetkeys", "~other:*")
	if ok, checks = node.Doctor(t); ok || !strings.Contains(checks["rights"], "~cache:*") {
		t.Errorf("without keys: ok %t, %q", ok, checks["rights"])
	}
}

func TestDoctorFindings(t *testing.T) {
	t.Parallel()
	node := harness.StartCaddy(t, harness.Layout{Cache: "namespace unused", Site: "route {\nredis_cache {\nttl 1m\n}\nencode\n}\nrespond ok"})
	for range 10 {
		node.Want(t, "BYPASS", "/", "Cookie: session=hidden")
	}
	ok, checks := node.Doctor(t)
	if !ok || !strings.HasPrefix(checks["redis"], "skip ") || !strings.Contains(checks["configuration"], "encode runs behind") ||
		!strings.Contains(checks["configuration"], "namespace unused") || strings.Contains(checks["configuration"], "hidden") ||
		!strings.Contains(checks["configuration"], `ttl does not hold for 10 of 10 requests, which carried credentials such as "cookie session"`) {
		t.Errorf("ok %t, %v", ok, checks)
	}
	rds := harness.StartRedis(t)
	node = harness.StartCaddy(t, harness.Layout{Redis: rds})
	rds.Kill()
	if ok, checks := node.Doctor(t); ok || !strings.HasPrefix(checks["redis"], "fail ") {
		t.Errorf("ok %t, %v", ok, checks)
	}
	if out, err := harness.Command(t, "redis-cache", "doctor", "--address", "127.0.0.1:1"); err == nil {
		t.Errorf("nobody answers: %s", out)
	}
}
