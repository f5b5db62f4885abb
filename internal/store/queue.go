package store

// queue holds the writes that wait for Redis. mu guards everything below it. A
// job is pending, then busy, then done, or is dropped while pending; records and
// bytes cover those that are pending or busy, so that they bound what the queue
// keeps alive.

import "sync"

// job is a group of records that are written in one round trip. done is called
// once, without mu, after they have been written or dropped.
type job struct {
	records []*Record
	done    func()
}

// queue is bounded in records and in their weight.
type queue struct {
	maxRecords int
	maxBytes   int64

	mu      sync.Mutex
	ready   *sync.Cond // pending or closed has changed
	pending []*job
	latest  map[string]*Record // what is pending or busy, by full key
	records int
	bytes   int64
	closed  bool
}

func newQueue(maxRecords int, maxBytes int64) *queue {
	q := &queue{maxRecords: maxRecords, maxBytes: maxBytes, latest: make(map[string]*Record)}
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
		q.latest[r.Key.Full] = r
	}
	q.records += len(records)
	q.bytes += bytes
	q.ready.Signal()
	return true
}

// next waits for a job and makes it busy. It returns nil when the queue is closed.
func (q *queue) next() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.pending) == 0 && !q.closed {
		q.ready.Wait()
	}
	if q.closed {
		return nil
	}
	j := q.pending[0]
	q.pending[0] = nil
	q.pending = q.pending[1:]
	return j
}

const (
	// What one round trip carries at the most, unless a single job is larger.
	batchJobs  = 64
	batchBytes = 256 << 10
)

// batch waits for jobs as next does, and returns as many as one round trip should
// carry.
func (q *queue) batch() []*job {
	first := q.next()
	if first == nil {
		return nil
	}
	jobs, bytes := []*job{first}, weight(first.records)
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.pending) > 0 && len(jobs) < batchJobs {
		j := q.pending[0]
		if bytes += weight(j.records); bytes > batchBytes {
			break
		}
		jobs = append(jobs, j)
		q.pending[0] = nil
		q.pending = q.pending[1:]
	}
	return jobs
}

// find returns the record that will be written last under a full key, or nil.
func (q *queue) find(key string) *Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.latest[key]
}

// finish ends a busy job.
func (q *queue) finish(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(j.records)
}

// release gives back the room of records. mu is held.
func (q *queue) release(records []*Record) {
	for _, r := range records {
		if q.latest[r.Key.Full] == r {
			delete(q.latest, r.Key.Full)
		}
	}
	q.records -= len(records)
	q.bytes -= weight(records)
}

// close drops what is pending, makes next return nil, and returns the number of
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
		q.release(j.records)
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
