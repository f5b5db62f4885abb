package store

// Small responses of a namespace resemble each other, and a dictionary trained
// from some of them compresses the others. Dictionaries are shared by all nodes
// of a prefix:
//
//	<prefix>::dict:<hash>         the content
//	<prefix>::dict-of:<namespace> the hash of the one in use, for nodes that start
//
// A dictionary is stored, and Redis has said so, before a record is compressed
// with it. Both keys live longer than any record that is: a write now and then
// prolongs them, and puts them again when they are lost. So a dictionary that
// nobody writes with ends after its last record.
//
// mu guards the maps, and the fields of their values that say so. Training runs
// on one goroutine; requests and writers never wait for it.

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/dict"
	"github.com/klauspost/compress/zstd"
	"github.com/redis/go-redis/v9"
)

const (
	// dictionaryTTL is how long a dictionary lives after its last use. A record
	// that would outlive it is compressed without.
	dictionaryTTL = 40 * 24 * time.Hour
	// prolongEvery is how often a use prolongs it, and finds out about a loss.
	prolongEvery = 10 * time.Second

	trainSamples      = 128      // responses of which a dictionary is trained
	maxSample         = 8 << 10  // larger ones gain little from a dictionary
	dictionarySize    = 16 << 10 // more is rarely better
	maxDictionarySize = 64 << 10 // of those that are read

	// A dictionary is trained anew after so many responses, and so long.
	retrainAfter = 100_000
	retrainEvery = time.Hour
	// publishAgain is when to try anew with a dictionary that Redis did not take.
	publishAgain = time.Minute
	// paysShare is the share of the size without it, in percent, that what a new
	// dictionary compresses may have at most.
	paysShare = 90

	maxVocabularies = 32 // namespaces that get a dictionary
	maxLoaded       = 64 // dictionaries in memory, those that only old records need included

	dictionaryTimeout = time.Second // of a call that no request waits for
	missingFor        = time.Second // a dictionary that was missing is not asked for again
)

// dictionaries are those of one prefix.
type dictionaries struct {
	client redis.UniversalClient
	prefix string // with the colon
	reads  *reads
	misses atomic.Uint64
	ready  chan *vocabulary // those that wait for training; there is room for all

	mu           sync.Mutex
	vocabularies map[string]*vocabulary // by namespace
	loaded       map[uint64]*loading    // by hash
}

// vocabulary is what is known about the responses of a namespace.
type vocabulary struct {
	namespace string

	// Guarded by mu of dictionaries:
	inUse     *dictionary // nil: none yet
	kept      time.Time   // when Redis last said that it has it; zero: it may be lost
	prolonged time.Time   // when Redis was last asked
	samples   [][]byte
	skip      int // responses to let pass before the next sample
	notBefore time.Time
	training  bool
	asked     bool // whether another node has left a dictionary
}

// loading is a dictionary that is being read, was read, or is missing.
type loading struct {
	done       chan struct{} // closed when dictionary and err are known
	dictionary *dictionary   // nil: missing
	err        error         // of the read; whoever comes later reads again

	// Guarded by mu of dictionaries:
	used time.Time
	read time.Time // zero while it is being read
}

func newDictionaries(client redis.UniversalClient, prefix string, rs *reads) *dictionaries {
	return &dictionaries{
		client: client, prefix: prefix, reads: rs,
		ready:        make(chan *vocabulary, maxVocabularies),
		vocabularies: make(map[string]*vocabulary),
		loaded:       make(map[uint64]*loading),
	}
}

func (ds *dictionaries) key(hash uint64) string {
	return ds.prefix + ":dict:" + strconv.FormatUint(hash, 16)
}

func (ds *dictionaries) nameKey(namespace string) string { return ds.prefix + ":dict-of:" + namespace }

// forRecord returns the dictionary to compress a record with, or nil.
func (ds *dictionaries) forRecord(r *Record) *dictionary {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	v := ds.vocabularies[r.Namespace]
	if v == nil || !r.Expires.Before(v.kept.Add(dictionaryTTL)) {
		return nil
	}
	return v.inUse
}

// sample takes a record as a sample if one is wanted and it may be one. content
// are its metadata and body.
func (ds *dictionaries) sample(r *Record, content []byte) {
	if r.Private || r.User != "" || len(content) > maxSample {
		return
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	v := ds.vocabularies[r.Namespace]
	if v == nil {
		if len(ds.vocabularies) >= maxVocabularies {
			return
		}
		v = &vocabulary{namespace: r.Namespace}
		ds.vocabularies[r.Namespace] = v
	}
	switch {
	case v.training:
		return
	case !v.asked:
		v.asked = true
		ds.enqueue(v)
		return
	case v.skip > 0:
		v.skip--
		return
	case time.Now().Before(v.notBefore):
		return
	}
	if len(v.samples) < trainSamples { // or they are those of a dictionary that Redis did not take
		v.samples = append(v.samples, slices.Clone(content))
	}
	if len(v.samples) >= trainSamples {
		ds.enqueue(v)
	}
}

// enqueue hands a vocabulary to the trainer. mu is held.
func (ds *dictionaries) enqueue(v *vocabulary) {
	v.training = true
	ds.ready <- v
}

// run trains until ctx ends.
func (ds *dictionaries) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-ds.ready:
			ds.train(ctx, v)
		}
	}
}

// train looks for the dictionary that another node uses, and otherwise makes
// one. It becomes the one in use if it pays. If Redis does not take it, the
// samples are kept for another time.
func (ds *dictionaries) train(ctx context.Context, v *vocabulary) {
	old, samples := ds.used(v)
	chosen := ds.choose(ctx, v.namespace, samples, old)
	kept := time.Now()
	var err error
	if chosen != nil {
		err = ds.publish(ctx, v.namespace, chosen)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	v.training = false
	if err != nil {
		v.notBefore = kept.Add(publishAgain)
		return
	}
	if chosen != nil {
		v.inUse, v.kept, v.prolonged = chosen, kept, kept
		ds.loaded[chosen.hash] = loadedNow(chosen, kept)
		ds.evict()
	}
	if chosen != nil || len(samples) > 0 {
		v.samples, v.skip, v.notBefore = nil, retrainAfter, kept.Add(retrainEvery)
	}
}

// choose returns the dictionary that shall be used from now on, or nil if there
// is none that is better than what is used.
func (ds *dictionaries) choose(ctx context.Context, namespace string, samples [][]byte, old *dictionary) *dictionary {
	other := ds.ofOthers(ctx, namespace)
	if len(samples) == 0 {
		return other
	}
	// What a dictionary is trained from says little about what it is good for.
	training, probe := samples[:len(samples)*3/4], samples[len(samples)*3/4:]
	limit := probeSize(old, probe) * paysShare / 100
	if other != nil && (old == nil || other.hash != old.hash) && probeSize(other, probe) <= limit {
		return other
	}
	if own := trained(training); own != nil && probeSize(own, probe) <= limit {
		return own
	}
	return nil
}

// ofOthers returns the dictionary that another node uses for the namespace, or
// nil.
func (ds *dictionaries) ofOthers(ctx context.Context, namespace string) *dictionary {
	ctx, cancel := context.WithTimeout(ctx, dictionaryTimeout)
	defer cancel()
	text, err := ds.client.Get(ctx, ds.nameKey(namespace)).Result()
	if err != nil {
		return nil
	}
	hash, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return nil
	}
	d, _ := ds.load(ctx, hash)
	return d
}

// probeSize is what samples take when compressed with d; nil: as they would be
// without a dictionary.
func probeSize(d *dictionary, samples [][]byte) int {
	size := 0
	var buf []byte
	for _, s := range samples {
		best := len(s)
		with := d
		if d == nil {
			with = plain
		}
		if compressed, err := with.compress(buf[:0], s); err == nil {
			buf = compressed
			best = min(best, len(compressed))
		}
		size += best
	}
	return size
}

// trained returns a dictionary of samples, or nil if none can be made. The
// builder panics on some samples that have nothing in common.
func trained(samples [][]byte) (d *dictionary) {
	defer func() {
		if recover() != nil {
			d = nil
		}
	}()
	content, err := dict.BuildZstdDict(samples, dict.Options{
		MaxDictSize: dictionarySize, HashBytes: 5, ZstdDictID: 1, ZstdLevel: zstd.SpeedFastest,
	})
	if err != nil || len(content) > maxDictionarySize {
		return nil
	}
	return newDictionary(content)
}

// publish stores a dictionary, and that it is the one of the namespace.
func (ds *dictionaries) publish(ctx context.Context, namespace string, d *dictionary) error {
	ctx, cancel := context.WithTimeout(ctx, dictionaryTimeout)
	defer cancel()
	if err := ds.client.Set(ctx, ds.key(d.hash), d.content, dictionaryTTL).Err(); err != nil {
		return err
	}
	return ds.client.Set(ctx, ds.nameKey(namespace), strconv.FormatUint(d.hash, 16), dictionaryTTL).Err()
}

// prolong keeps the dictionaries alive with which the records may be compressed.
// One that is lost is put again. It is not used until Redis has it.
func (ds *dictionaries) prolong(ctx context.Context, records []*Record, now time.Time) {
	for _, v := range ds.due(records, now) {
		d, _ := ds.used(v)
		kept := now
		if there, err := ds.touch(ctx, v.namespace, d); err != nil || (!there && ds.publish(ctx, v.namespace, d) != nil) {
			kept = time.Time{}
		}
		ds.mu.Lock()
		if v.inUse == d {
			v.kept = kept
		}
		ds.mu.Unlock()
	}
}

// due returns the vocabularies of the records whose dictionaries are to be
// prolonged by the caller.
func (ds *dictionaries) due(records []*Record, now time.Time) (due []*vocabulary) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, r := range records {
		v := ds.vocabularies[r.Namespace]
		if v != nil && v.inUse != nil && now.Sub(v.prolonged) >= prolongEvery {
			v.prolonged = now
			due = append(due, v)
		}
	}
	return due
}

// used returns the dictionary in use and the samples for the next.
func (ds *dictionaries) used(v *vocabulary) (*dictionary, [][]byte) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return v.inUse, v.samples
}

// touch prolongs the keys of a dictionary and reports whether they are there.
func (ds *dictionaries) touch(ctx context.Context, namespace string, d *dictionary) (bool, error) {
	for _, key := range []string{ds.key(d.hash), ds.nameKey(namespace)} {
		if there, err := ds.client.Expire(ctx, key, dictionaryTTL).Result(); err != nil || !there {
			return false, err
		}
	}
	return true, nil
}

// find returns a dictionary that is in memory, or nil.
func (ds *dictionaries) find(hash uint64) *dictionary {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	l := ds.loaded[hash]
	if l == nil || l.read.IsZero() {
		return nil
	}
	l.used = time.Now()
	return l.dictionary
}

// load returns the dictionary of a hash, which those who ask for it at the same
// time read once from Redis; nil if it is missing. The read does not end with ctx:
// the next record needs the dictionary as well.
func (ds *dictionaries) load(ctx context.Context, hash uint64) (*dictionary, error) {
	now := time.Now()
	ds.mu.Lock()
	l := ds.loaded[hash]
	if l != nil && l.dictionary == nil && !l.read.IsZero() && now.Sub(l.read) >= missingFor {
		l = nil // it may be there by now
	}
	if l == nil {
		l = &loading{done: make(chan struct{})}
		if err := ds.reads.start(func() { ds.fill(context.WithoutCancel(ctx), hash, l) }); err != nil {
			ds.mu.Unlock()
			return nil, err
		}
		ds.loaded[hash] = l
		ds.evict()
	}
	l.used = now
	ds.mu.Unlock()
	select {
	case <-l.done:
		return l.dictionary, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fill reads a dictionary. An error is not remembered.
func (ds *dictionaries) fill(ctx context.Context, hash uint64, l *loading) {
	ctx, cancel := context.WithTimeout(ctx, dictionaryTimeout)
	defer cancel()
	d, err := ds.read(ctx, hash)
	ds.mu.Lock()
	defer ds.mu.Unlock()
	l.dictionary, l.err, l.read = d, err, time.Now()
	if err != nil && ds.loaded[hash] == l {
		delete(ds.loaded, hash)
	}
	close(l.done)
}

func (ds *dictionaries) read(ctx context.Context, hash uint64) (*dictionary, error) {
	content, err := ds.client.Get(ctx, ds.key(hash)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(content) > maxDictionarySize || xxhash.Sum64(content) != hash {
		return nil, nil
	}
	d := newDictionary(content)
	if _, err := d.decoder(); err != nil {
		return nil, nil
	}
	return d, nil
}

func loadedNow(d *dictionary, now time.Time) *loading {
	l := &loading{done: make(chan struct{}), dictionary: d, used: now, read: now}
	close(l.done)
	return l
}

// evict forgets the dictionary that was not used for the longest time if there
// are too many. mu is held.
func (ds *dictionaries) evict() {
	if len(ds.loaded) <= maxLoaded {
		return
	}
	var oldest uint64
	var used time.Time
	for hash, l := range ds.loaded {
		if !l.read.IsZero() && (used.IsZero() || l.used.Before(used)) {
			oldest, used = hash, l.used
		}
	}
	delete(ds.loaded, oldest)
}
