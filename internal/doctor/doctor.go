// Package doctor examines the cache of one process: whether Redis is reachable, fast
// and configured for it, whether it grants what the cache needs, what lies under its
// prefix, and which errors there were. It writes nothing but keys of a few seconds.
// The configuration of the server is examined by package lint.
//
// Begin with Subject.Examine.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// Timeout bounds all checks together.
	Timeout = 5 * time.Second
	// maxKeys bounds how many keys are looked at.
	maxKeys = 10_000
	// pings is how many round trips are measured.
	pings = 20

	clockWarn = time.Second
	clockFail = 30 * time.Second

	oldestRedis = 7 // major version
)

// Subject is the cache of one process, as far as the doctor examines it. It is set
// once and never changed.
type Subject struct {
	Prefix     string
	Client     redis.UniversalClient // of the journal, whose timeouts are longer than a request's; nil with `redis off`
	Lookups    redis.UniversalClient // of requests; nil with `redis off`
	Replicated bool                  // replicas may take over
	Store      *store.Tiered
	Redis      *store.Redis // nil with `redis off`
	Journal    *journal.Journal

	IsNamespace func(name string) bool // whether a namespace may have the name
}

// Examine checks Redis, or says that there is none.
func (s *Subject) Examine(ctx context.Context) []api.Check {
	if s.Client == nil {
		return []api.Check{{Name: "redis", Status: api.Skip, Detail: "redis off: the cache is in memory only"}}
	}
	checks := []api.Check{s.checkLookup(ctx)}
	if count, since := s.Journal.Waiting(); count > 0 {
		checks = append(checks, api.Check{
			Name: "purges", Status: api.Warn, Detail: fmt.Sprintf("waiting to be recorded: %d, the first since %s; other nodes do not know of them", count, since.UTC().Format(time.RFC3339)),
			Advice: "make redis reachable and writable before this process ends; what waits is lost with it",
		})
	}
	if s.isCluster() {
		checks = append(checks, s.checkCluster(ctx))
	}
	if checks[0].Status == api.Fail {
		return checks
	}
	checks = append(checks, s.checkRights(ctx), s.checkLatency(ctx))
	infos, err := s.infos(ctx)
	ofInfo := []infoCheck{{"version", checkVersion}, {"eviction", checkEviction}, {"memory", checkMemory}, {"persistence", checkPersistence}}
	if s.Replicated {
		ofInfo = append(ofInfo, infoCheck{"replicas", checkReplicas})
	}
	for _, c := range ofInfo {
		if err != nil {
			checks = append(checks, skipped(c.name, err, "+info"))
			continue
		}
		checks = append(checks, worst(infos, c.check))
	}
	return append(checks, s.checkJournal(), s.checkClock(ctx), s.checkTTL(ctx), s.checkForeign(ctx))
}

// infoCheck is a check of what INFO says about a server.
type infoCheck struct {
	name  string
	check func(info map[string]string) api.Check
}

// checkLookup asks as a lookup does. What is merely not allowed is said by
// checkRights.
func (s *Subject) checkLookup(ctx context.Context) api.Check {
	if err := s.Client.Get(ctx, s.Prefix+"::doctor").Err(); err != nil && !errors.Is(err, redis.Nil) && !denied(err) {
		return api.Check{Name: "redis", Status: api.Fail, Detail: "no lookup succeeds: " + err.Error(), Advice: "check address, credentials, TLS and the network; the cache goes on in memory"}
	}
	if !s.Store.Up() {
		return api.Check{Name: "redis", Status: api.Warn, Detail: "redis answers, but the circuit breaker is open", Advice: "it closes by itself when reads succeed; see the log for what has failed"}
	}
	return api.Check{Name: "redis", Status: api.OK, Detail: "redis answers"}
}

// denied reports whether Redis has refused a command, a key or a channel.
func denied(err error) bool { return redis.HasErrorPrefix(err, "NOPERM") }

// skipped is a check that could not be made.
func skipped(name string, err error, right string) api.Check {
	if denied(err) {
		return api.Check{Name: name, Status: api.Skip, Detail: "not allowed to ask", Advice: "grant " + right}
	}
	return api.Check{Name: name, Status: api.Skip, Detail: err.Error()}
}

// worst is the worst of what the servers show.
func worst(infos []map[string]string, f func(map[string]string) api.Check) (found api.Check) {
	for _, info := range infos {
		if c := f(info); slices.Index(api.Statuses, c.Status) > slices.Index(api.Statuses, found.Status) {
			found = c
		}
	}
	return found
}

// eachMaster calls f with every server that holds keys, one at a time. It returns
// the first error of f, and one when no server is known.
func (s *Subject) eachMaster(ctx context.Context, f func(*redis.Client) error) error {
	cluster, ok := s.Client.(*redis.ClusterClient)
	if !ok {
		return f(s.Client.(*redis.Client))
	}
	var mu sync.Mutex // held while f runs
	called := false
	err := cluster.ForEachMaster(ctx, func(_ context.Context, client *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		called = true
		return f(client)
	})
	if err == nil && !called {
		err = errors.New("no master is known")
	}
	return err
}

// infos are the fields of INFO of each server.
func (s *Subject) infos(ctx context.Context) (infos []map[string]string, err error) {
	err = s.eachMaster(ctx, func(client *redis.Client) error {
		text, err := client.Info(ctx).Result()
		if err != nil {
			return err
		}
		infos = append(infos, fieldsOfInfo(text))
		return nil
	})
	return infos, err
}

// fieldsOfInfo reads the answer to INFO and CLUSTER INFO.
func fieldsOfInfo(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func checkVersion(info map[string]string) api.Check {
	version := info["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	if number, err := strconv.Atoi(major); err != nil || number < oldestRedis {
		return api.Check{Name: "version", Status: api.Fail, Detail: "redis has version " + version, Advice: "the cache needs version 7.0 or later"}
	}
	return api.Check{Name: "version", Status: api.OK, Detail: version}
}

// checkJournal looks for an entry behind which none can be appended: by a client
// that has chosen its ID.
func (s *Subject) checkJournal() api.Check {
	if s.Journal.Position().ID.Ms == math.MaxUint64 {
		return api.Check{
			Name: "journal", Status: api.Fail, Detail: "its last entry has the last possible ID, so that no purge can be recorded",
			Advice: "DEL " + s.Prefix + "::journal: every node drops what it stored, and a new journal begins",
		}
	}
	return checkMarks(s.Journal.Stats())
}

// checkMarks looks for clients who use up what is remembered of their purges.
func checkMarks(s journal.Stats) api.Check {
	const advice = "unsafe_invalidates off on routes where strangers may POST and nothing that is stored depends on it"
	switch used := 100 * s.RequestMarks / max(1, s.MaxRequestMarks); {
	case s.Forgotten > 0:
		return api.Check{
			Name: "journal", Status: api.Warn,
			Detail: fmt.Sprintf("requests have purged more than can be remembered, %d times: what was stored before was dropped for the hosts with the most of it", s.Forgotten),
			Advice: advice,
		}
	case used >= 50:
		return api.Check{
			Name: "journal", Status: api.Warn,
			Detail: fmt.Sprintf("requests have purged %d URLs and the like, %d %% of what can be remembered", s.RequestMarks, used), Advice: advice,
		}
	}
	return api.Check{Name: "journal", Status: api.OK, Detail: "IDs are left for further entries"}
}

// checkEviction looks for policies that may evict the journal, which has no
// lifetime.
func checkEviction(info map[string]string) api.Check {
	policy := info["maxmemory_policy"]
	detail := "maxmemory " + cmp.Or(info["maxmemory_human"], info["maxmemory"]) + ", maxmemory-policy " + policy
	switch {
	case strings.HasPrefix(policy, "allkeys-"):
		return api.Check{Name: "eviction", Status: api.Fail, Detail: detail, Advice: "set maxmemory-policy volatile-lru: Redis may evict the journal, which loses purges and makes every node drop what it stored"}
	case info["maxmemory"] == "0":
		return api.Check{Name: "eviction", Status: api.Warn, Detail: detail, Advice: "set maxmemory and maxmemory-policy volatile-lru, so that the cache cannot fill the machine"}
	case policy == "noeviction":
		return api.Check{Name: "eviction", Status: api.Warn, Detail: detail, Advice: "set maxmemory-policy volatile-lru: once Redis is full nothing is stored, and purges are refused"}
	}
	return api.Check{Name: "eviction", Status: api.OK, Detail: detail}
}

func checkMemory(info map[string]string) api.Check {
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	limit, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	detail := cmp.Or(info["used_memory_human"], info["used_memory"]) + " used"
	if limit > 0 {
		detail += fmt.Sprintf(", %.0f%% of maxmemory", 100*float64(used)/float64(limit))
	}
	if limit > 0 && float64(used) > 0.9*float64(limit) {
		return api.Check{Name: "memory", Status: api.Warn, Detail: detail, Advice: "raise maxmemory, or store less: shorter lifetimes, smaller max_body"}
	}
	return api.Check{Name: "memory", Status: api.OK, Detail: detail}
}

func checkPersistence(info map[string]string) api.Check {
	if info["aof_enabled"] == "1" {
		return api.Check{Name: "persistence", Status: api.OK, Detail: "append-only file"}
	}
	// INFO does not tell whether snapshots are configured, but when one was made.
	if saved, _ := strconv.ParseInt(info["rdb_last_save_time"], 10, 64); info["rdb_saves"] != "" && info["rdb_saves"] != "0" {
		return api.Check{Name: "persistence", Status: api.OK, Detail: "last snapshot " + time.Unix(saved, 0).UTC().Format(time.RFC3339)}
	}
	return api.Check{
		Name: "persistence", Status: api.Warn, Detail: "no append-only file, no snapshot since Redis was started",
		Advice: "a restart of Redis empties the cache, and the nodes drop what they stored; purges stay final. Set appendonly yes to keep it",
	}
}

// checkReplicas looks for masters whose purges no replica would have.
func checkReplicas(info map[string]string) api.Check {
	switch count, err := strconv.Atoi(info["connected_slaves"]); {
	case info["role"] != "master":
		return api.Check{Name: "replicas", Status: api.Fail, Detail: "no master: role " + info["role"], Advice: "see what Sentinel or CLUSTER NODES says; the next failover may mend it"}
	case err != nil || count == 0:
		return api.Check{Name: "replicas", Status: api.Warn, Detail: "no replica follows the master", Advice: "start a replica: until then purges are answered 202, and a failover loses what is stored"}
	}
	return api.Check{Name: "replicas", Status: api.OK, Detail: "following the master: " + info["connected_slaves"]}
}

// checkLatency measures the server that is farthest away.
func (s *Subject) checkLatency(ctx context.Context) api.Check {
	var median, limit time.Duration
	err := s.eachMaster(ctx, func(client *redis.Client) error {
		var times []time.Duration
		for range pings {
			began := time.Now()
			if err := client.Ping(ctx).Err(); err != nil {
				return err
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		median = max(median, times[len(times)/2])
		return nil
	})
	if err != nil {
		return skipped("latency", err, "+ping")
	}
	switch client := s.Lookups.(type) {
	case *redis.Client:
		limit = client.Options().ReadTimeout
	case *redis.ClusterClient:
		limit = client.Options().ReadTimeout
	}
	detail := fmt.Sprintf("median of %d PINGs %s, read_timeout %s", pings, median.Round(time.Microsecond), limit)
	if median > limit/2 {
		return api.Check{Name: "latency", Status: api.Warn, Detail: detail, Advice: "bring Redis nearer to Caddy, or raise read_timeout: lookups that take longer count as failures"}
	}
	return api.Check{Name: "latency", Status: api.OK, Detail: detail}
}

func (s *Subject) checkClock(ctx context.Context) api.Check {
	var difference time.Duration // at least, and the largest
	err := s.eachMaster(ctx, func(client *redis.Client) error {
		began := time.Now()
		theirs, err := client.Time(ctx).Result()
		took := time.Since(began)
		difference = max(difference, began.Add(took/2).Sub(theirs).Abs()-took/2)
		return err
	})
	if err != nil {
		return skipped("clock", err, "+time")
	}
	return clockCheck(difference)
}

// clockCheck judges by how much the clocks differ at least.
func clockCheck(difference time.Duration) api.Check {
	c := api.Check{Name: "clock", Status: api.OK, Detail: fmt.Sprintf("differs from that of Redis by %s", difference.Round(time.Millisecond))}
	switch {
	case difference > clockFail:
		c.Status = api.Fail
	case difference > clockWarn:
		c.Status = api.Warn
	}
	if c.Status != api.OK {
		c.Advice = "synchronise the clocks, for example by NTP: age and freshness of what other nodes stored are wrong by as much"
	}
	return c
}

// checkCluster asks every master, since each has a view of its own.
func (s *Subject) checkCluster(ctx context.Context) api.Check {
	c := api.Check{Name: "cluster", Status: api.OK, Detail: "every slot is covered"}
	err := s.eachMaster(ctx, func(client *redis.Client) error {
		text, err := client.ClusterInfo(ctx).Result()
		if err != nil {
			return fmt.Errorf("%s: %w", client.Options().Addr, err)
		}
		info := fieldsOfInfo(text)
		if info["cluster_state"] != "ok" || info["cluster_slots_ok"] != "16384" {
			c = api.Check{
				Name: "cluster", Status: api.Fail,
				Detail: fmt.Sprintf("%s says that the cluster is in state %s, and %s of 16384 slots are ok", client.Options().Addr, info["cluster_state"], info["cluster_slots_ok"]),
				Advice: clusterAdvice,
			}
		}
		return nil
	})
	switch {
	case c.Status == api.Fail || err == nil:
		return c
	case denied(err):
		return skipped("cluster", err, "+cluster|info")
	}
	return api.Check{Name: "cluster", Status: api.Fail, Detail: "a master does not answer: " + err.Error(), Advice: clusterAdvice}
}

const clusterAdvice = "see CLUSTER INFO and CLUSTER NODES: a slot without a server has no stored responses, and that of the journal no purges"
