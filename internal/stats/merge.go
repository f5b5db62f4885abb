package stats

import (
	"maps"
	"slices"
	"time"
)

// table holds something of each node by the number of a bucket.
type table[T any] map[int64]map[string]T

func (t table[T]) put(number int64, node string, value T) {
	if t[number] == nil {
		t[number] = make(map[string]T)
	}
	t[number][node] = value
}

// with returns a table that has what another one has as well, which wins.
func (t table[T]) with(other table[T]) table[T] {
	both := make(table[T], len(t))
	for number, nodes := range t {
		both[number] = maps.Clone(nodes)
	}
	for number, nodes := range other {
		for node, value := range nodes {
			both.put(number, node, value)
		}
	}
	return both
}

// buckets are those of several nodes. They are not changed any more.
type buckets struct {
	minutes, tens table[*Bucket]
	endpoints     table[map[string]Endpoint]
}

func newBuckets() *buckets {
	return &buckets{make(table[*Bucket]), make(table[*Bucket]), make(table[map[string]Endpoint])}
}

func (b *buckets) with(other *buckets) *buckets {
	return &buckets{b.minutes.with(other.minutes), b.tens.with(other.tens), b.endpoints.with(other.endpoints)}
}

// report sums up a window. That of the purges ends with the newest one: the clock of
// the journal may be ahead. Of the purges in a bucket the highest count is right:
// a node that was not there all the time has seen fewer. A node that is gone has no
// state.
func report(t table[*Bucket], s *series, now time.Time) *Report {
	r := &Report{Nodes: make(map[string]*Bucket)}
	current := s.number(now)
	newest := max(current, newestPurge(t))
	for _, number := range slices.Sorted(maps.Keys(t)) { // the latest state holds
		if number <= current-s.window {
			continue
		}
		var purges uint64
		for node, b := range t[number] {
			if r.Nodes[node] == nil {
				r.Nodes[node] = new(Bucket)
			}
			if number <= current+1 {
				r.Nodes[node].add(b)
				r.Total.add(b)
			}
			if number > newest-s.window {
				r.Nodes[node].Purges += b.Purges
				purges = max(purges, b.Purges)
			}
		}
		r.Total.Purges += purges
	}
	r.Total.State = nil
	for node, b := range r.Nodes {
		if !hasState(t[current][node]) && !hasState(t[current-1][node]) && !hasState(t[current+1][node]) {
			b.State = nil
		}
	}
	return r
}

// hasState reports whether a node has collected anything in a bucket; one that only
// saw a purge of that time may have done so long before.
func hasState(b *Bucket) bool { return b != nil && b.State != nil }

// newestPurge is the number of the newest bucket with a purge; 0 without any.
func newestPurge(t table[*Bucket]) (newest int64) {
	for number, nodes := range t {
		for _, b := range nodes {
			if b.Purges > 0 {
				newest = max(newest, number)
			}
		}
	}
	return newest
}

// sumEndpoints sums up the newest buckets.
func sumEndpoints(t table[map[string]Endpoint], now time.Time, window int64) map[string]Endpoint {
	sum := make(map[string]Endpoint)
	current := ofEndpoint.number(now)
	for number := current - window + 1; number <= current+1; number++ {
		for _, endpoints := range t[number] {
			for template, counts := range endpoints {
				all := sum[template]
				all.Add(counts)
				sum[template] = all
			}
		}
	}
	return sum
}
