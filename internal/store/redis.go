package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	scanCount = 500     // keys asked for in a step of a walk
	headGuess = 2 << 10 // covers the metadata of nearly all records

	// maxTTL keeps the expiry far from the overflow that Redis refuses.
	maxTTL = 10 * 365 * 24 * time.Hour
)

// ErrForeignKey is a key outside the prefix, which is never read or written.
var ErrForeignKey = errors.New("store: key outside the prefix")

// ErrTooLarge is a record that a string in Redis cannot hold.
var ErrTooLarge = errors.New("store: record too large for Redis")

// errIncomplete is the error of a read whose key was answered, and not what else the
// record needs: its parts or its dictionary.
var errIncomplete = errors.New("store: redis did not answer what the record needs")

// Redis is the tier in Redis: one string for each record, under "<prefix>:".
// Keys under "<prefix>::" are not stored responses and are left alone, as is
// every other key. It holds no state but counters and dictionaries, and is safe
// for concurrent use.
type Redis struct {
	client  redis.UniversalClient
	walker  redis.UniversalClient // see WalkWith
	prefix  string                // with the colon
	corrupt atomic.Uint64
	version atomic.Uint64

	dictionaries *dictionaries
	raw, encoded atomic.Uint64
	onError      func(ErrorKind, error) // see Options

	// Set by start: puts reads of different requests into one round trip.
	pipeline *redis.AutoPipeliner
	reads    *reads
}

// reads are those that may outlive the request that began them. They end by the
// timeouts of the client.
type reads struct {
	mu      sync.Mutex // guards closed, and keeps running from growing after it
	closed  bool
	running sync.WaitGroup
}

// start launches a read, unless the tier is closed.
func (rs *reads) start(read func()) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.closed {
		return redis.ErrClosed
	}
	rs.running.Go(read)
	return nil
}

// close waits for the reads that go on, and lets none begin.
func (rs *reads) close() {
	rs.mu.Lock()
	rs.closed = true
	rs.mu.Unlock()
	rs.running.Wait()
}

// NewRedis returns the tier of all keys that begin with prefix and a colon. The
// client stays the caller's, who must have set ContextTimeoutEnabled: without
// it no deadline holds.
func NewRedis(client redis.UniversalClient, prefix string) *Redis {
	prefix += ":"
	rs := new(reads)
	return &Redis{client: client, walker: client, prefix: prefix, dictionaries: newDictionaries(client, prefix, rs), reads: rs, onError: Options{}.withDefaults().OnError}
}

// WalkWith has walks, pages and sweeps use a client that waits longer than requests
// may, but for dictionaries that are not in memory. It is called before the tier is
// used.
func (r *Redis) WalkWith(client redis.UniversalClient) { r.walker = client }

// Corrupt returns how many values were read that are no records of any version.
func (r *Redis) Corrupt() uint64 { return r.corrupt.Load() }

// OtherVersion returns how many records of another version of this program were
// read; during a rolling deploy there are some.
func (r *Redis) OtherVersion() uint64 { return r.version.Load() }

// DictionaryMisses returns how many records were absent because the dictionary
// they were compressed with was.
func (r *Redis) DictionaryMisses() uint64 { return r.dictionaries.misses.Load() }

// Written returns the bytes of all records that were written: as they would be
// without compression, and as they are.
func (r *Redis) Written() (raw, encoded uint64) { return r.raw.Load(), r.encoded.Load() }

// owns reports whether name is the key of a stored response.
func (r *Redis) owns(name string) bool {
	rest, ok := strings.CutPrefix(name, r.prefix)
	return ok && rest != "" && rest[0] != ':'
}

// Ping reads a key that nobody writes: it succeeds if a lookup would, which a
// PING does not tell of a client that may not read or a replica without master.
func (r *Redis) Ping(ctx context.Context) error {
	err := r.client.Get(ctx, r.prefix+":ping").Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// maxReads bounds the reads that wait for their turn in the pipeline.
const maxReads = 1 << 13

// start begins to put reads into pipelines. Without it each has a round trip of
// its own.
func (r *Redis) start() {
	client, ok := r.client.(interface {
		AutoPipelineWithOptions(*redis.AutoPipelineOptions) (*redis.AutoPipeliner, error)
	})
	if !ok {
		return
	}
	opts := redis.DefaultBlockingAutoPipelineOptions()
	opts.MaxQueuedCommands = maxReads
	if pipeline, err := client.AutoPipelineWithOptions(opts); err == nil {
		r.pipeline = pipeline
	}
}

// close ends what start began and the reads that nobody waits for any more. On a
// Redis that hangs it takes as long as the timeouts of the client.
func (r *Redis) close() {
	if r.pipeline != nil {
		_ = r.pipeline.Close() // reads that it could not end have errors
	}
	r.reads.close()
}

// read reads a value. The pipeline knows no deadlines, so that nobody waits for
// it beyond that of ctx; it gives up by the timeouts of the client.
func (r *Redis) read(ctx context.Context, name string) ([]byte, error) {
	if r.pipeline == nil {
		return r.client.Get(ctx, name).Bytes()
	}
	type answer struct {
		data []byte
		err  error
	}
	answered := make(chan answer, 1)
	err := r.reads.start(func() {
		data, err := r.pipeline.Get(ctx, name).Bytes()
		answered <- answer{data, err}
	})
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answered:
		return a.data, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Get returns the record of key. What cannot be decoded is absent and counted.
func (r *Redis) Get(ctx context.Context, key Key) (*Record, error) {
	rec, _, err := r.get(ctx, key, maxRead)
	return rec, err
}

// maxRead bounds a read whose context has no deadline.
const maxRead = time.Minute

// get is Get, with the record as memory keeps it. It waits for an answer as long as
// timeout, and for parts, once there is one, as long again and as their size allows.
func (r *Redis) get(ctx context.Context, key Key, timeout time.Duration) (*Record, packed, error) {
	if !r.owns(key.Name) {
		return nil, packed{}, ErrForeignKey
	}
	first, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	data, err := r.read(first, key.Name)
	if errors.Is(err, redis.Nil) {
		return nil, packed{}, nil
	}
	if err != nil {
		return nil, packed{}, err
	}
	if n := missing(data); n > 0 {
		ctx, cancel := context.WithTimeout(ctx, timeout+time.Duration(n)*time.Second/partsRate)
		defer cancel()
		if data, err = r.join(ctx, key.Name, data); data == nil {
			return nil, packed{}, incomplete(err)
		}
	}
	find, err := r.finderFor(first, data)
	if err != nil {
		return nil, packed{}, incomplete(err)
	}
	rec, p, err := decode(data, find)
	if err != nil {
		r.count(err)
		return nil, packed{}, nil
	}
	if rec.Key.Full != key.Full || !time.Now().Before(rec.Expires) {
		return nil, packed{}, nil
	}
	return rec, p, nil
}

func incomplete(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errIncomplete, err)
}

// finderFor returns what finds the dictionary of a record, which is read if it
// is not in memory. data may be a prefix.
func (r *Redis) finderFor(ctx context.Context, data []byte) (finder, error) {
	h, err := decodeHead(data)
	if err != nil || h.dictionary == 0 {
		return noDictionary, nil
	}
	d := r.dictionaries.find(h.dictionary)
	if d == nil {
		d, err = r.dictionaries.load(ctx, h.dictionary)
	}
	return func(uint64) *dictionary { return d }, err
}

func (r *Redis) count(err error) {
	kind := ErrorCorrupt
	switch {
	case errors.Is(err, ErrVersion):
		kind = ErrorOtherVersion
		r.version.Add(1)
	case errors.Is(err, ErrDictionary):
		kind = ErrorDictionaryMiss
		r.dictionaries.misses.Add(1)
	default:
		r.corrupt.Add(1)
	}
	r.onError(kind, err)
}

// Put stores the records in one round trip, but for large ones. Those that are
// about to expire are left out.
func (r *Redis) Put(ctx context.Context, records ...*Record) error {
	now := time.Now()
	r.dictionaries.prolong(ctx, records, now)
	pipe := r.client.Pipeline()
	for _, rec := range records {
		ttl := min(rec.Expires.Sub(now), maxTTL).Truncate(time.Millisecond)
		if ttl <= 0 {
			continue
		}
		data, err := r.encode(rec)
		if err != nil {
			return err
		}
		if data, err = r.split(ctx, rec.Key.Name, data, ttl); err != nil {
			return err
		}
		pipe.Set(ctx, rec.Key.Name, data, ttl)
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return err
}

// slack keeps Encode from growing its buffer where metaSize is a little short.
const slack = 64

func (r *Redis) encode(rec *Record) ([]byte, error) {
	if !r.owns(rec.Key.Name) {
		return nil, ErrForeignKey
	}
	size := headSize + metaSize(rec) + len(rec.Body)
	if size > maxValue {
		return nil, ErrTooLarge
	}
	data := Encode(make([]byte, 0, size+slack), rec)
	if len(data) > maxValue || len(data)-headSize-len(rec.Body) > maxMeta {
		return nil, ErrTooLarge
	}
	raw := len(data)
	if rec.compressible() {
		data = r.compress(rec, data)
	}
	r.raw.Add(uint64(raw))
	r.encoded.Add(uint64(len(data)))
	return data, nil
}

// compress returns the record, of which raw is the form of Encode, in the form
// in which it is stored.
func (r *Redis) compress(rec *Record, raw []byte) []byte {
	d := plain
	if content := raw[headSize:]; len(content) <= maxWhole {
		r.dictionaries.sample(rec, content)
		if trained := r.dictionaries.forRecord(rec); trained != nil {
			d = trained
		}
	}
	if d == plain && len(rec.Body) < rec.MinEncode {
		return raw
	}
	return encodeCompressed(raw, d)
}

// Sweep removes every record that matches, by walking all of them at leisure: it rests
// after each step as long as that step took, so that Redis has time for others. Values that
// are no records stay until they expire. It calls removed with the metadata of each record
// that is gone by its doing.
func (r *Redis) Sweep(ctx context.Context, match func(*Record) bool, removed func(*Record)) error {
	begun := time.Now()
	return r.steps(ctx, func(step []entry) (bool, error) {
		err := r.unlink(ctx, step, match, removed)
		sleep(ctx, time.Since(begun))
		begun = time.Now()
		return true, err
	})
}

// unlinkScript removes a value that begins with an argument, so that what has
// replaced it meanwhile stays.
const unlinkScript = `if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end return redis.call('UNLINK', KEYS[1])`

// unlink removes the matching entries of a step. Each key has a command of its
// own, since those of one step may lie in different slots of a cluster.
func (r *Redis) unlink(ctx context.Context, step []entry, match func(*Record) bool, removed func(*Record)) error {
	pipe := r.walker.Pipeline()
	asked := make(map[*Record]*redis.Cmd)
	for _, e := range step {
		if e.head == nil || !match(e.head) {
			continue
		}
		asked[e.head] = pipe.Eval(ctx, unlinkScript, []string{e.name}, e.begins[:])
		for number := range partsFor(e.size) {
			pipe.Eval(ctx, unlinkScript, []string{r.partName(e.name, number)}, e.begins[metaSumAt:metaSumAt+partHead])
		}
	}
	if len(asked) == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	for head, cmd := range asked {
		if n, _ := cmd.Int(); n > 0 {
			removed(head)
		}
	}
	return err
}

// Walk calls f with the metadata and the stored size of every record until f
// returns false. A value that is no record comes with a nil head and the bytes
// of it that were read. A record that comes or goes meanwhile may or may not be
// seen; while Redis resizes its table, one may be seen twice.
func (r *Redis) Walk(ctx context.Context, f func(name string, head *Record, size int64) bool) error {
	return r.steps(ctx, func(step []entry) (bool, error) {
		for _, e := range step {
			if !f(e.name, e.head, e.size) {
				return false, nil
			}
		}
		return true, nil
	})
}

// entry is what a walk knows of one key.
type entry struct {
	name string
	head *Record // nil: not a record
	size int64
	// begins is what the value begins with: the checksums in it tell one record
	// from another.
	begins [headSize]byte
	need   int  // bytes to read before head is known
	gone   bool // expired or removed since SCAN named it
}

// errStop ends the walks of all nodes once f wants no more.
var errStop = errors.New("stop")

// steps calls f with the entries of one SCAN step after the other, never
// concurrently, until f returns false or an error. On a cluster the masters are
// scanned side by side.
func (r *Redis) steps(ctx context.Context, f func([]entry) (bool, error)) error {
	var (
		mu      sync.Mutex // serializes f, guards stopped and result
		stopped bool
		result  error
	)
	serial := func(step []entry) error {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			var more bool
			more, result = f(step)
			stopped = !more || result != nil
		}
		if stopped {
			return errStop
		}
		return nil
	}
	err := r.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		return r.scan(ctx, node, serial)
	})
	if stopped {
		return result
	}
	return err
}

// eachMaster calls f with every node that holds keys, concurrently.
func (r *Redis) eachMaster(ctx context.Context, f func(context.Context, redis.Cmdable) error) error {
	if cluster, ok := r.walker.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return f(ctx, node) })
	}
	return f(ctx, r.walker)
}

// scan walks the keys of one node.
func (r *Redis) scan(ctx context.Context, node redis.Cmdable, f func([]entry) error) error {
	pattern := escapeGlob(r.prefix) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, pattern, scanCount).Result()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		step, err := r.heads(ctx, keys)
		if err != nil {
			return fmt.Errorf("read heads: %w", err)
		}
		if err := f(step); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// heads reads the metadata of the stored responses among keys. The commands go
// through the client, not to the scanned node: a slot may have moved.
func (r *Redis) heads(ctx context.Context, keys []string) ([]entry, error) {
	step := make([]entry, 0, len(keys))
	for _, name := range keys {
		if r.owns(name) {
			step = append(step, entry{name: name, need: headGuess})
		}
	}
	if err := r.readHeads(ctx, step); err != nil {
		return nil, err
	}
	if err := r.readHeads(ctx, step); err != nil { // those whose guess was too short
		return nil, err
	}
	return slices.DeleteFunc(step, func(e entry) bool { return e.gone }), nil
}

// readHeads reads the entries of which bytes are needed.
func (r *Redis) readHeads(ctx context.Context, step []entry) error {
	pipe := r.walker.Pipeline()
	var asked []*entry
	for i := range step {
		if e := &step[i]; e.need > 0 {
			pipe.GetRange(ctx, e.name, 0, int64(e.need)-1)
			asked = append(asked, e)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !redis.HasErrorPrefix(err, wrongType) {
		return err
	}
	for i, cmd := range cmds {
		if err := r.readHead(ctx, asked[i], cmd.(*redis.StringCmd)); err != nil {
			return err
		}
	}
	return nil
}

// wrongType begins the reply for a key that holds no string, hence no record.
const wrongType = "WRONGTYPE"

// readHead takes what the value of an entry begins with.
func (r *Redis) readHead(ctx context.Context, e *entry, cmd *redis.StringCmd) error {
	need := e.need
	e.need = 0
	data, err := cmd.Bytes()
	if redis.HasErrorPrefix(err, wrongType) {
		return nil
	}
	if err != nil {
		return err
	}
	e.gone = len(data) == 0
	e.size = int64(len(data))

	find, err := r.finderFor(ctx, data)
	if err != nil {
		return err
	}
	head, size, err := decodePrefix(data, find)
	var short *ShortError
	switch {
	case err == nil:
		e.head, e.size = head, int64(size)
		copy(e.begins[:], data)
	case errors.As(err, &short) && len(data) == need && short.Need > need:
		e.need = short.Need
	}
	return nil
}

// escapeGlob returns a pattern that matches s only.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
