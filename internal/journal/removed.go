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
	*shared

	mu     sync.Mutex
	counts map[ID]int64
}

// coveredBy is CoveredBy.
func (v *view) coveredBy(s *Subject) (Verdict, ID) {
	st := v.state.Load()
	if s.Position.Epoch != st.position.Epoch {
		return Absent, ID{}
	}
	verdict, by := st.table.find(s, s.Position.ID)
	for newer := by; !newer.IsZero(); _, newer = st.table.find(s, by) {
		by = newer
	}
	return verdict, by
}

// add is AddRemoved.
func (r *removals) add(ctx context.Context, counts map[ID]int64) error {
	if r.client == nil {
		r.addLocal(counts)
		return nil
	}
	ids := slices.Collect(maps.Keys(counts))
	// The newest last, so that the bound never costs one that was just written.
	slices.SortFunc(ids, ID.Compare)
	for chunk := range slices.Chunk(ids, maxPage) {
		if err := r.addChunk(ctx, chunk, counts); err != nil {
			return err
		}
	}
	return nil
}

func (r *removals) addChunk(ctx context.Context, ids []ID, counts map[ID]int64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*callTimeout) // there is no hurry, and an answer that is lost counts twice
	defer cancel()
	var size *redis.IntCmd
	_, err := r.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, id := range ids {
			pipe.HIncrBy(ctx, r.keys.removed, id.String(), counts[id])
		}
		pipe.Expire(ctx, r.keys.removed, r.epochTTL())
		size = pipe.HLen(ctx, r.keys.removed)
		return nil
	})
	if err != nil || size.Val() <= maxRemoved {
		return err
	}
	return r.forget(ctx)
}

// forgetRemoved forgets the oldest counts, some more than it must.
func (r *removals) forget(ctx context.Context) error {
	names, err := r.client.HKeys(ctx, r.keys.removed).Result()
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
	return r.client.HDel(ctx, r.keys.removed, names[:surplus]...).Err()
}

func (r *removals) addLocal(counts map[ID]int64) {
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
func (r *removals) fill(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if r.client == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range entries {
			if n, known := r.counts[entries[i].ID]; known {
				entries[i].Removed = &n
			}
		}
		return nil
	}
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].ID.String()
	}
	values, err := r.client.HMGet(ctx, r.keys.removed, names...).Result()
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
