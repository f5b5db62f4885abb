package store

import (
	"context"
	"runtime"
)

// Flush waits until what is queued is written.
func (t *Tiered) Flush(ctx context.Context) error {
	for ctx.Err() == nil {
		if records, _ := t.queue.size(); records == 0 {
			return nil
		}
		runtime.Gosched()
	}
	return ctx.Err()
}

// Unpack unpacks the record of a full key, whether or not that was done before.
func (m *Memory) Unpack(key string) bool {
	e, ok := m.cache.GetIfPresent(key)
	if !ok {
		return false
	}
	e.seen.Store(nil)
	return e.view() != nil
}

// TrainSamples is how many responses a dictionary is trained from.
const TrainSamples = trainSamples

// Train does the training that is due.
func (r *Redis) Train(ctx context.Context) {
	for len(r.dictionaries.ready) > 0 {
		r.dictionaries.train(ctx, <-r.dictionaries.ready)
	}
}

// Later lets the time pass after which dictionaries are prolonged, or published
// again.
func (r *Redis) Later() {
	r.dictionaries.mu.Lock()
	defer r.dictionaries.mu.Unlock()
	for _, v := range r.dictionaries.vocabularies {
		v.prolonged, v.notBefore = v.prolonged.Add(-prolongEvery), v.notBefore.Add(-publishAgain)
	}
}

// LoadDictionary asks Redis for a dictionary.
func (r *Redis) LoadDictionary(ctx context.Context, hash uint64) {
	_, _ = r.dictionaries.load(ctx, hash)
}

// Dictionaries returns how many namespaces have one, or will, and how many are
// in memory.
func (r *Redis) Dictionaries() (vocabularies, loaded int) {
	r.dictionaries.mu.Lock()
	defer r.dictionaries.mu.Unlock()
	return len(r.dictionaries.vocabularies), len(r.dictionaries.loaded)
}

// EncodeCompressed returns the compressed form of a record.
func EncodeCompressed(r *Record) []byte { return encodeCompressed(Encode(nil, r), plain) }
