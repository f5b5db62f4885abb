package store

// queue holds the writes that wait for Redis. mu guards everything below it. A
// job is pending, then busy, then done, or is dropped while pending; records and
// bytes cover those that are pending or busy, so that they bound what the queue
// keeps alive.
//
// Redis ends up with what was pushed last under a key: no two writers write the same
// key at a time, and before each attempt current leaves out what is not the latest.

import (
	"slices"
	"sync"
)

// job is a group of records that are written in one round trip. done is called
// once, without mu, after they have been written or dropped.
type job struct {
	records []*Record
	done    func()
}

// latest is what was pushed last under a key. One record may be in several jobs.
type latest struct {
	job    *job
	record *Record
}

// queue is bounded in records and in their weight.
type queue struct {
	maxRecords int
	maxBytes   int64

	mu      sync.Mutex
	ready   *sync.Cond // pending or closed has changed
	pending []*job
	busy    map[string]bool   // the full keys of the jobs that are busy
	latest  map[string]latest // what is pending or busy, by full key
	records int
	bytes   int64
	closed  bool
}

func newQueue(maxRecords int, maxBytes int64) *queue {
	q := &queue{maxRecords: maxRecords, maxBytes: maxBytes, busy: make(map[string]bool), latest: make(map[string]latest)}
	q.ready = sync.NewCond(&q.mu)
	return q
}

// weight returns what records cost in memory.
func weight(records []*Record) (n int64) {
	for _, r := range records {
		n += r.Weight()
	}
	return n
}

// push reports whether there was room for a job.
func (q *queue) push(j *job) bool {
	records := j.records
	bytes := weight(records)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.records+len(records) > q.maxRecords || q.bytes+bytes > q.maxBytes {
		return false
	}
	q.pending = append(q.pending, j)
	for _, r := range records {
		q.latest[r.Key.Full] = latest{j, r}
	}
	q.records += len(records)
	q.bytes += bytes
	q.ready.Signal()
	return true
}

const (
	// What one round trip carries at the most, unless a single job is larger.
	batchJobs  = 64
	batchBytes = 256 << 10
)

// batch waits for jobs, makes as many busy as one round trip should carry, and
// returns them. It returns nil when the queue is closed.
func (q *queue) batch() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed {
		if jobs := q.take(); len(jobs) > 0 {
			return jobs
		}
		q.ready.Wait()
	}
	return nil
}

// take makes jobs busy, but for those with a key of a busy one. mu is held.
func (q *queue) take() (jobs []*job) {
	bytes, full := int64(0), false
	q.pending = slices.DeleteFunc(q.pending, func(j *job) bool {
		if full || slices.ContainsFunc(j.records, func(r *Record) bool { return q.busy[r.Key.Full] }) {
			return false
		}
		bytes += weight(j.records)
		if full = len(jobs) > 0 && (len(jobs) == batchJobs || bytes > batchBytes); full {
			return false
		}
		jobs = append(jobs, j)
		for _, r := range j.records {
			q.busy[r.Key.Full] = true
		}
		return true
	})
	return jobs
}

// current returns those records of busy jobs that are the latest of their keys.
func (q *queue) current(jobs ...*job) (records []*Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range jobs {
		for _, r := range j.records {
			if q.latest[r.Key.Full].job == j {
				records = append(records, r)
			}
		}
	}
	return records
}

// find returns the record that will be written last under a full key, or nil.
func (q *queue) find(key string) *Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.latest[key].record
}

// finish ends a busy job.
func (q *queue) finish(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range j.records {
		delete(q.busy, r.Key.Full)
	}
	q.release(j)
	if len(q.pending) > 0 {
		q.ready.Signal() // it may have waited for a key
	}
}

// release gives back the room of a job. mu is held.
func (q *queue) release(j *job) {
	for _, r := range j.records {
		if q.latest[r.Key.Full].job == j {
			delete(q.latest, r.Key.Full)
		}
	}
	q.records -= len(j.records)
	q.bytes -= weight(j.records)
}

// close drops what is pending, makes batch return nil, and returns the number of
// records dropped.
func (q *queue) close() int {
	dropped := q.shut()
	n := 0
	for _, j := range dropped {
		n += len(j.records)
		j.done()
	}
	return n
}

func (q *queue) shut() (dropped []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.pending {
		q.release(j)
	}
	dropped, q.pending = q.pending, nil
	q.closed = true
	q.ready.Broadcast()
	return dropped
}

// size returns what is pending and busy.
func (q *queue) size() (records int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.records, q.bytes
}
