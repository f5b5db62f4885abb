package stats

// In Redis a bucket is a hash with one field for each node, which writes only its
// own and writes all of it: a write that is repeated, or whose answer was lost,
// counts nothing twice, and what could not be written is written later. A node
// that is started again is another node, and what the old one counted stays.
//
// Keys carry the version of the format: another one has other keys.

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// Lifetimes of keys: a window and some more.
	minuteTTL = 2 * time.Hour
	tenTTL    = 25 * time.Hour
	// chunk is how many keys are read or written in one batch.
	chunk = 64
	// peersAge is how long what other nodes wrote is good enough.
	peersAge = time.Second
	// peersKept is how long it stands in when Redis does not answer.
	peersKept = time.Minute
)

// Fleet shares the History of a node with others through Redis. It may be used
// from any goroutine.
type Fleet struct {
	client redis.UniversalClient // nil: there are no others
	prefix string
	node   string
	local  *History

	reading sync.Mutex // held while Redis is read; guards peers
	peers   map[Window]*peers
}

// peers is what was in Redis.
type peers struct {
	at      time.Time
	buckets *buckets
}

// NewFleet returns the fleet under a prefix; node is the name of this one. Without
// a client it is alone.
func NewFleet(client redis.UniversalClient, prefix, node string, history *History) *Fleet {
	return &Fleet{client: client, prefix: prefix, node: node, local: history, peers: make(map[Window]*peers)}
}

// writeScript sets a field and the lifetime of its key at once: no key is ever
// without one.
const writeScript = `redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('EXPIRE', KEYS[1], ARGV[3])`

// Flush writes what Redis does not have yet. What fails is written by a later
// call.
func (f *Fleet) Flush(ctx context.Context) error {
	if f.client == nil {
		return nil
	}
	for blobs := range slices.Chunk(f.local.unwritten(), chunk) {
		_, err := f.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, b := range blobs {
				key, ttl := b.series.key(f.prefix, b.number), tenTTL
				if b.series == &byMinute {
					ttl = minuteTTL
				}
				pipe.Eval(ctx, writeScript, []string{key}, f.node, b.text, int(ttl/time.Second))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, b := range blobs {
			b.done()
		}
	}
	return nil
}

// Window is the time that a Report is about.
type Window string

// The windows, up to now.
const (
	Hour Window = "1h"
	Day  Window = "24h"
)

// Report is what the nodes of a fleet counted in a window. A purge counts once.
type Report struct {
	Alone     bool // there are other nodes perhaps, of which nothing is known
	Total     Bucket
	Nodes     map[string]*Bucket
	Endpoints map[string]Endpoint
}

// Report returns what was counted in both windows, with the endpoints of one of
// them. When Redis is not to be asked, or gives no answer, what the other nodes had
// written stands in for a while, and then it is what this node counted. err is why
// Redis gave none.
func (f *Fleet) Report(ctx context.Context, now time.Time, window Window, ask bool) (hour, day *Report, err error) {
	all := f.local.own(f.node)
	alone := false
	if f.client != nil {
		var others *buckets
		if others, err = f.others(ctx, now, window, ask); others != nil {
			all = others.with(all) // what this node knows of itself is newer
		}
		alone = others == nil
	}
	hour, day = report(all.minutes, &byMinute, now), report(all.tens, &byTen, now)
	hour.Alone, day.Alone = alone, alone
	of := hour
	if window == Day {
		of = day
	}
	of.Endpoints = sumEndpoints(all.endpoints, now, endpointsOf(window))
	return hour, day, err
}

// endpointsOf is how many buckets of endpoints a window has.
func endpointsOf(window Window) int64 {
	if window == Hour {
		return 6
	}
	return ofEndpoint.window
}

// others returns what Redis has, or had a moment ago; without an answer, what it had
// lately, or nil.
func (f *Fleet) others(ctx context.Context, now time.Time, window Window, ask bool) (b *buckets, err error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	had := func(window Window, within time.Duration) bool {
		p := f.peers[window]
		return p != nil && now.Sub(p.at).Abs() < within
	}
	if had(window, peersAge) {
		return f.peers[window].buckets, nil
	}
	if ask {
		if b, err = f.read(ctx, now, window); err == nil {
			f.peers[window] = &peers{now, b}
			return b, nil
		}
	}
	for _, w := range []Window{window, Day} { // a day has what an hour has
		if had(w, peersKept) {
			return f.peers[w].buckets, err
		}
	}
	return nil, err
}

// read returns what Redis has.
func (f *Fleet) read(ctx context.Context, now time.Time, window Window) (*buckets, error) {
	b := newBuckets()
	if err := readSeries(ctx, f, &byMinute, now, byMinute.window, b.minutes.put); err != nil {
		return nil, err
	}
	if err := readSeries(ctx, f, &byTen, now, byTen.window, b.tens.put); err != nil {
		return nil, err
	}
	putEndpoints := func(number int64, node string, e *map[string]Endpoint) { b.endpoints.put(number, node, *e) }
	if err := readSeries(ctx, f, &ofEndpoint, now, endpointsOf(window), putEndpoints); err != nil {
		return nil, err
	}
	return b, nil
}

// readSeries reads the buckets of a window, and the next one: another node's clock
// may be ahead. What is no bucket is left out.
func readSeries[T any](ctx context.Context, f *Fleet, s *series, now time.Time, window int64, into func(int64, string, *T)) error {
	current := s.number(now)
	for from := current - window + 1; from <= current+1; from += chunk {
		answers := make(map[int64]*redis.MapStringStringCmd, chunk)
		_, err := f.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for number := from; number <= min(current+1, from+chunk-1); number++ {
				answers[number] = pipe.HGetAll(ctx, s.key(f.prefix, number))
			}
			return nil
		})
		if err != nil {
			return err
		}
		for number, answer := range answers {
			for node, text := range answer.Val() {
				value := new(T)
				if json.Unmarshal([]byte(text), value) == nil {
					into(number, node, value)
				}
			}
		}
	}
	return nil
}
