package store

// A request reads memory and at most once Redis; it never writes to Redis, and
// never touches it while it is down (health.go). Writes pass through a queue
// (queue.go) that writers empty.
//
// Purges do not reach into the store. Every record that is found is checked
// against them, and one that was fetched before a purge that covers it is never
// found, wherever it lies and whenever it arrives.

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
)

// sweepEvery is how often memory is searched for expired records.
const sweepEvery = time.Minute

// TierName says where a record was found.
type TierName uint8

const (
	TierNone TierName = iota
	TierMemory
	TierRedis
)

func (t TierName) String() string {
	switch t {
	case TierMemory:
		return "memory"
	case TierRedis:
		return "redis"
	case TierNone:
	}
	return ""
}

// Options of a Tiered. A zero value means the default.
type Options struct {
	ReadTimeout   time.Duration // longest wait of a request for an answer of Redis; 50 ms
	WriteTimeout  time.Duration // longest write, and as long again as the size of bodies allows; 1 s
	Failures      int           // in a row, after which Redis counts as down; 5
	Recovery      time.Duration // longest time between pings while Redis is down; 30 s
	ProbeInterval time.Duration // between the first of these pings; 1 s
	ProbeTimeout  time.Duration // longest ping, dial included; 1 s
	QueueRecords  int           // records waiting to be written; 1024
	QueueBytes    int64         // their weight; 64 MiB
	Writers       int           // concurrent writes; 2

	Check Check // what purges say about records; nil: nothing

	// OnHealth is called once for each change, in order and never concurrently:
	// with true when Redis is up, with false and the reason when it is down. Redis
	// counts as down until the first ping; if that one fails, this is reported too.
	OnHealth func(up bool, err error)

	// OnRefused is called when Redis answers a write with an error, such as one that
	// it is out of memory; at most once a minute. Responses are not stored then.
	OnRefused func(error)

	// OnError is called with each error that a kind counts. It may be called by a
	// request, and by several at a time.
	OnError func(ErrorKind, error)

	// OnSwept is called with each record that was removed from memory because it
	// has expired or is covered. It may be nil.
	OnSwept func(*Record)
}

func (o Options) withDefaults() Options {
	setDefault(&o.ReadTimeout, 50*time.Millisecond)
	setDefault(&o.WriteTimeout, time.Second)
	setDefault(&o.Failures, defaultFailures)
	setDefault(&o.Recovery, defaultRecovery)
	setDefault(&o.ProbeInterval, time.Second)
	setDefault(&o.ProbeTimeout, time.Second)
	setDefault(&o.QueueRecords, 1024)
	setDefault(&o.QueueBytes, 64<<20)
	setDefault(&o.Writers, 2)
	o.Check = o.Check.orValid()
	if o.OnHealth == nil {
		o.OnHealth = func(bool, error) {}
	}
	if o.OnRefused == nil {
		o.OnRefused = func(error) {}
	}
	if o.OnError == nil {
		o.OnError = func(ErrorKind, error) {}
	}
	return o
}

func setDefault[T ~int | ~int64](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Tiered is memory in front of Redis, or one of them alone.
type Tiered struct {
	memory *Memory // may be nil
	redis  *Redis  // may be nil
	opts   Options
	health health
	queue  *queue

	running sync.WaitGroup
	stop    context.CancelFunc

	lastRefused   atomic.Int64 // when OnRefused was called; Unix time in nanoseconds
	redisErrors   atomic.Uint64
	droppedWrites atomic.Uint64
}

// NewTiered returns a store of one or two tiers; it owns m but not r's client.
// It does nothing by itself before Start.
func NewTiered(m *Memory, r *Redis, opts Options) *Tiered {
	if m == nil && r == nil {
		panic("store: a tiered store needs a tier")
	}
	opts = opts.withDefaults()
	t := &Tiered{
		memory: m,
		redis:  r,
		opts:   opts,
		queue:  newQueue(opts.QueueRecords, opts.QueueBytes),
		stop:   func() {},
	}
	if r != nil {
		r.onError = opts.OnError
		t.health = health{
			down:     make(chan error, 1),
			nudged:   make(chan struct{}, 1),
			ping:     r.Ping,
			interval: opts.ProbeInterval,
			timeout:  opts.ProbeTimeout,
			notify:   opts.OnHealth,
		}
		t.health.tune(opts.Failures, opts.Recovery)
	}
	return t
}

// SetBreaker changes after how many failures in a row Redis counts as down, and
// the longest time between two attempts to reach it again.
func (t *Tiered) SetBreaker(failures int, recovery time.Duration) { t.health.tune(failures, recovery) }

// TuneCollector says whether what memory holds bounds how much the heap of the process
// grows between two collections, see collector.go. It does not unless it is told to.
func (t *Tiered) TuneCollector(on bool) {
	switch {
	case t.memory == nil:
	case on:
		collector.join(t.memory)
	default:
		collector.leave(t.memory)
	}
}

// Probe finds out at once whether Redis is up again.
func (t *Tiered) Probe() { t.health.nudge() }

// Start launches the probe, the writers, the sweeper, and what tunes the collector
// and trains dictionaries. It is called once.
func (t *Tiered) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	if t.memory != nil {
		t.running.Go(func() { t.sweep(ctx) })
		t.running.Go(func() { t.tune(ctx) })
	}
	if t.redis == nil {
		return
	}
	t.redis.start()
	t.running.Go(func() { t.health.run(ctx) })
	t.running.Go(func() { t.redis.dictionaries.run(ctx) })
	for range t.opts.Writers {
		t.running.Go(func() { t.write(ctx) })
	}
}

// Close stops what Start and reads launched, waits for it, and empties memory.
// Writes that are still queued are dropped. On a Redis that hangs it takes as long
// as the timeouts of the client.
func (t *Tiered) Close() {
	t.stop()
	t.droppedWrites.Add(uint64(t.queue.close()))
	t.running.Wait()
	if t.redis != nil {
		t.redis.close()
	}
	if t.memory != nil {
		t.memory.Close()
	}
}

// Up reports whether requests use Redis.
func (t *Tiered) Up() bool {
	_, up := t.health.period()
	return up
}

// Answers is Up, and that Redis has answered the last operation: where it has not,
// a request that has waited for it once need not wait again.
func (t *Tiered) Answers() bool { return t.Up() && t.health.failures() == 0 }

// Lookup returns the record of key that has not expired at now and that no purge
// covers, and the tier it came from. It reports whether a soft purge made it
// stale. A problem with Redis is a miss. The end of ctx does not cut the read
// short: a client that leaves says nothing about Redis.
func (t *Tiered) Lookup(ctx context.Context, key Key, now time.Time) (r *Record, tier TierName, soft bool) {
	if t.memory != nil {
		if r, soft = t.memory.Lookup(key.Full, now); r != nil {
			return r, TierMemory, soft
		}
	}
	return t.lookupRedis(ctx, key, now, nil)
}

// Local is what this node itself has under a key: in memory, or without it on its way to
// Redis. What has expired at now or a purge covers is not found.
func (t *Tiered) Local(key Key, now time.Time) *Record {
	if t.memory != nil {
		r, _ := t.memory.Lookup(key.Full, now)
		return r
	}
	r := t.queue.find(key.Full)
	if r == nil || !now.Before(r.Expires) {
		return nil
	}
	if verdict, _ := t.opts.Check(r, journal.Checked{}); verdict >= journal.Covered {
		return nil
	}
	return r
}

// Recheck is the second lookup of a caller that is about to fetch. Memory has
// what this process has stored meanwhile. With fleet, Redis is asked as well,
// whatever memory has, and the newer response wins.
func (t *Tiered) Recheck(ctx context.Context, key Key, now time.Time, fleet bool) (r *Record, tier TierName, soft bool) {
	if t.memory == nil {
		return t.lookupRedis(ctx, key, now, nil)
	}
	if r, soft = t.memory.Lookup(key.Full, now); r != nil {
		tier = TierMemory
	}
	if !fleet || (r != nil && r.IsBase()) {
		return r, tier, soft
	}
	if newer, _, isSoft := t.lookupRedis(ctx, key, now, r); newer != nil {
		return newer, TierRedis, isSoft
	}
	return r, tier, soft
}

// Peek is Lookup, or with fleet Recheck, without an effect: nothing is kept in
// memory, removed from it or counted, and a failure of Redis is not held against
// it.
func (t *Tiered) Peek(ctx context.Context, key Key, now time.Time, fleet bool) (r *Record, tier TierName, soft bool) {
	memory, inRedis, _ := t.Inspect(ctx, key, now)
	for _, found := range []struct {
		r    *Record
		tier TierName
	}{{memory, TierMemory}, {inRedis, TierRedis}} {
		if found.r == nil || (r != nil && !found.r.Freshness.ResponseTime.After(r.Freshness.ResponseTime)) {
			continue
		}
		if verdict, _ := t.opts.Check(found.r, journal.Checked{}); verdict < journal.Covered {
			r, tier, soft = found.r, found.tier, verdict == journal.SoftCovered
		}
		if r != nil && (!fleet || r.IsBase()) {
			break
		}
	}
	return r, tier, soft
}

// ErrDown tells that Redis is left out.
var ErrDown = errDown

// Inspect returns what each tier holds, whatever purges say about it. Like Peek it
// has no effect.
func (t *Tiered) Inspect(ctx context.Context, key Key, now time.Time) (memory, inRedis *Record, err error) {
	if t.memory != nil {
		memory = t.memory.peek(key.Full, now)
	}
	if t.redis == nil {
		return memory, nil, nil
	}
	if !t.Up() {
		return memory, nil, ErrDown
	}
	if t.memory == nil {
		inRedis = t.queue.find(key.Full)
	}
	if inRedis == nil {
		inRedis, _, err = t.read(ctx, key)
	}
	if inRedis != nil && !now.Before(inRedis.Expires) {
		inRedis = nil
	}
	return memory, inRedis, err
}

// lookupRedis looks for a record that is newer than the one in memory, if there
// is one.
func (t *Tiered) lookupRedis(ctx context.Context, key Key, now time.Time, than *Record) (r *Record, tier TierName, soft bool) {
	period, up := t.health.period()
	if !up {
		return nil, TierNone, false
	}
	var p packed
	if t.memory == nil {
		r = t.queue.find(key.Full) // who has stored it must find it
	}
	if r == nil {
		var err error
		r, p, err = t.read(ctx, key)
		t.note(period, err, true)
	}
	if r == nil || !now.Before(r.Expires) || (than != nil && !r.Freshness.ResponseTime.After(than.Freshness.ResponseTime)) {
		return nil, TierNone, false
	}
	verdict, proved := t.opts.Check(r, journal.Checked{})
	if verdict >= journal.Covered {
		return nil, TierNone, false
	}
	if t.memory != nil {
		// What waits at this node does not cover it, so that it need not be taken for
		// older than that. Nobody else has the record yet.
		r.Position.Local = max(r.Position.Local, proved.Local)
		t.memory.putDecoded(r, p)
	}
	return r, TierRedis, verdict == journal.SoftCovered
}

func (t *Tiered) read(ctx context.Context, key Key) (*Record, packed, error) {
	return t.redis.get(context.WithoutCancel(ctx), key, t.opts.ReadTimeout)
}

// Put stores the records in memory at once and in Redis soon, in one round
// trip. What a purge covers by now is not stored. Where Redis is down or behind, or
// the node has yet to find the journal, that write is dropped and counted: no node
// could ever answer from a record without an epoch, and it could replace a good one.
func (t *Tiered) Put(records ...*Record) { t.PutThen(func() {}, records...) }

// PutThen is Put, and calls done once the records are in Redis or will not be.
func (t *Tiered) PutThen(done func(), records ...*Record) {
	records = slices.DeleteFunc(slices.Clone(records), func(r *Record) bool {
		verdict, _ := t.opts.Check(r, journal.Checked{})
		return verdict >= journal.Covered
	})
	if len(records) > 0 && t.memory != nil {
		_ = t.memory.Put(context.Background(), records...) // it never fails
	}
	if len(records) == 0 || t.redis == nil {
		done()
		return
	}
	if err := t.enqueue(&job{records, done}); err != nil {
		t.drop(records, err)
		done()
	}
}

func (t *Tiered) enqueue(j *job) error {
	switch {
	case !t.Up():
		return errDown
	case j.records[0].Position.Epoch == 0:
		return errNoJournal
	case !t.queue.push(j):
		return errBehind
	}
	return nil
}

// drop counts records that are not written to Redis.
func (t *Tiered) drop(records []*Record, err error) {
	t.droppedWrites.Add(uint64(len(records)))
	t.opts.OnError(ErrorDroppedWrite, err)
}

func (t *Tiered) write(ctx context.Context) {
	for jobs := t.queue.batch(); jobs != nil; jobs = t.queue.batch() {
		if err := t.writeRecords(ctx, t.queue.current(jobs...)); err != nil {
			t.writeAgain(ctx, jobs, err)
		}
		for _, j := range jobs {
			t.queue.finish(j)
			j.done()
		}
	}
}

// writeAgain tries the jobs of a failed write one by one: one may be what Redis
// cannot hold, and a connection that broke says little about the next one. What a
// job alone was refused is not asked for twice.
func (t *Tiered) writeAgain(ctx context.Context, jobs []*job, err error) {
	_, refused := errors.AsType[redis.Error](err)
	for _, j := range jobs {
		records := t.queue.current(j)
		if len(jobs) > 1 || !refused {
			err = t.writeRecords(ctx, records)
		}
		if err != nil && len(records) > 0 {
			t.drop(records, err)
		}
	}
}

// writeRate is how many bytes a second a slow link, or a busy machine that
// compresses them, should manage. No request waits for that.
const writeRate = 4 << 20

// Errors of writes that are not tried.
var (
	errDown      = errors.New("store: redis is down")
	errNoJournal = errors.New("store: the journal has not been found yet")
	errBehind    = errors.New("store: redis does not keep up with writes")
)

func (t *Tiered) writeRecords(ctx context.Context, records []*Record) error {
	if len(records) == 0 {
		return nil
	}
	period, up := t.health.period()
	if !up {
		return errDown
	}
	size := 0
	for _, rec := range records {
		size += len(rec.Body)
	}
	ctx, cancel := context.WithTimeout(ctx, t.opts.WriteTimeout+time.Duration(size)*time.Second/writeRate)
	defer cancel()
	err := t.redis.Put(ctx, records...)
	if _, refused := errors.AsType[redis.Error](err); refused {
		t.refused(err)
	}
	t.note(period, err, false)
	return err
}

// refusedEvery is the shortest time between two calls of OnRefused.
const refusedEvery = time.Minute

func (t *Tiered) refused(err error) {
	now := time.Now().UnixNano()
	last := t.lastRefused.Load()
	if (last == 0 || now-last >= int64(refusedEvery)) && t.lastRefused.CompareAndSwap(last, now) {
		t.opts.OnRefused(err)
	}
}

// note tells the breaker how a read or a write of a period ended.
func (t *Tiered) note(period uint64, err error, read bool) {
	if err == nil {
		t.health.succeed(period, read)
		return
	}
	if errors.Is(err, ErrForeignKey) || errors.Is(err, ErrTooLarge) {
		return // Redis was not asked
	}
	t.redisErrors.Add(1)
	t.opts.OnError(ErrorRedis, err)
	if errors.Is(err, errIncomplete) {
		t.health.succeed(period, read) // large bodies take long on a slow link
		return
	}
	if broken(err, read) {
		t.health.fail(period, err, read)
	}
}

// broken reports whether after err the next operation is likely to fail as well.
// Most error replies concern one command: Redis is out of memory, or a replica.
func broken(err error, read bool) bool {
	if _, ok := errors.AsType[redis.Error](err); !ok {
		return true // network, timeout, or something that does not speak RESP
	}
	return read && (redis.IsAuthError(err) || redis.IsPermissionError(err) || redis.IsLoadingError(err) ||
		redis.IsMasterDownError(err) || redis.IsClusterDownError(err))
}

// sweep removes expired records from memory now and then.
func (t *Tiered) sweep(ctx context.Context) {
	for sleep(ctx, sweepEvery) {
		t.memory.Sweep(time.Now(), t.opts.OnSwept)
	}
}

// tune keeps the collector in line with what memory holds.
func (t *Tiered) tune(ctx context.Context) {
	defer collector.leave(t.memory)
	for sleep(ctx, tuneEvery) {
		collector.adjust()
	}
}

// ErrorKind is what has gone wrong, as Stats counts it.
type ErrorKind string

// The kinds.
const (
	ErrorRedis          ErrorKind = "redis"           // RedisErrors
	ErrorDroppedWrite   ErrorKind = "dropped_write"   // DroppedWrites
	ErrorCorrupt        ErrorKind = "corrupt"         // Corrupt
	ErrorOtherVersion   ErrorKind = "other_version"   // OtherVersion
	ErrorDictionaryMiss ErrorKind = "dictionary_miss" // DictionaryMisses
)

// Stats are counters since the start, but for the queue, which is as it is.
type Stats struct {
	RedisErrors   uint64 // operations that failed
	DroppedWrites uint64 // records not written to Redis
	Corrupt       uint64 // values read that are no records
	OtherVersion  uint64 // records read that another version wrote
	Evictions     uint64 // records that made room in memory

	// Records that were absent because the dictionary they need was.
	DictionaryMisses uint64
	// Bytes of the records written to Redis, before and after compression.
	RawBytes, EncodedBytes uint64

	QueuedRecords int
	QueuedBytes   int64
}

// Stats returns the counters of the store and its tiers.
func (t *Tiered) Stats() Stats {
	s := Stats{RedisErrors: t.redisErrors.Load(), DroppedWrites: t.droppedWrites.Load()}
	s.QueuedRecords, s.QueuedBytes = t.queue.size()
	if t.redis != nil {
		s.Corrupt, s.OtherVersion = t.redis.Corrupt(), t.redis.OtherVersion()
		s.DictionaryMisses = t.redis.DictionaryMisses()
		s.RawBytes, s.EncodedBytes = t.redis.Written()
	}
	if t.memory != nil {
		s.Evictions = t.memory.Evictions()
	}
	return s
}
