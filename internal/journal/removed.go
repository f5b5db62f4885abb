package journal

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// maxRemoved is of how many purges Redis keeps what they removed; the oldest
// are forgotten first.
const maxRemoved = 10_000

// removals is what purges removed, in a journal without Redis. mu guards counts.
type removals struct {
	mu     sync.Mutex
	counts map[ID]int64
}

// CoveredBy tells whether a record may be removed, and which hard purge covers
// it, the newest if several do; for an Absent record the ID says nothing. A purge
// that is not in the journal yet covers nothing here: it has no ID.
func (j *Journal) CoveredBy(s *Subject) (Verdict, ID) {
	st := j.state.Load()
	if s.Position.Epoch != st.position.Epoch {
		return Absent, ID{}
	}
	verdict, by := st.table.find(s, s.Position.ID)
	for newer := by; !newer.IsZero(); _, newer = st.table.find(s, by) {
		by = newer
	}
	return verdict, by
}

// AddRemoved adds to what purges removed. A count of zero makes known that
// nothing was.
func (j *Journal) AddRemoved(ctx context.Context, counts map[ID]int64) error {
	if j.client == nil {
		j.addLocal(counts)
		return nil
	}
	ids := slices.Collect(maps.Keys(counts))
	// The newest last, so that the bound never costs one that was just written.
	slices.SortFunc(ids, ID.Compare)
	for chunk := range slices.Chunk(ids, maxPage) {
		if err := j.addChunk(ctx, chunk, counts); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) addChunk(ctx context.Context, ids []ID, counts map[ID]int64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*callTimeout) // there is no hurry, and an answer that is lost counts twice
	defer cancel()
	var size *redis.IntCmd
	_, err := j.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, id := range ids {
			pipe.HIncrBy(ctx, j.keys.removed, id.String(), counts[id])
		}
		pipe.Expire(ctx, j.keys.removed, j.epochTTL())
		size = pipe.HLen(ctx, j.keys.removed)
		return nil
	})
	if err != nil || size.Val() <= maxRemoved {
		return err
	}
	return j.forgetRemoved(ctx)
}

// forgetRemoved forgets the oldest counts, some more than it must.
func (j *Journal) forgetRemoved(ctx context.Context) error {
	names, err := j.client.HKeys(ctx, j.keys.removed).Result()
	if err != nil {
		return err
	}
	slices.SortFunc(names, func(a, b string) int {
		idA, _ := ParseID(a)
		idB, _ := ParseID(b)
		return idA.Compare(idB)
	})
	surplus := len(names) - maxRemoved + maxRemoved/10
	if surplus <= 0 {
		return nil
	}
	return j.client.HDel(ctx, j.keys.removed, names[:surplus]...).Err()
}

func (j *Journal) addLocal(counts map[ID]int64) {
	r := &j.removals
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[ID]int64)
	}
	for id, n := range counts {
		r.counts[id] += n
	}
	if len(r.counts) <= maxListed {
		return
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.counts), ID.Compare)[:len(r.counts)-maxListed] {
		delete(r.counts, id)
	}
}

// fillRemoved sets Removed where it is known.
func (j *Journal) fillRemoved(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if j.client == nil {
		j.removals.mu.Lock()
		defer j.removals.mu.Unlock()
		for i := range entries {
			if n, known := j.removals.counts[entries[i].ID]; known {
				entries[i].Removed = &n
			}
		}
		return nil
	}
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].ID.String()
	}
	values, err := j.client.HMGet(ctx, j.keys.removed, names...).Result()
	if err != nil {
		return err
	}
	for i, value := range values {
		text, _ := value.(string)
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			entries[i].Removed = &n
		}
	}
	return nil
}
