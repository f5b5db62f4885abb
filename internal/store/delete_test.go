package store

import "context"

// Delete removes every record that matches.
func (m *Memory) Delete(ctx context.Context, match func(*Record) bool) (int, error) {
	n := 0
	for _, e := range m.cache.All() {
		if r := e.record(); r != nil && match(r) && m.remove(e) {
			n++
		}
		if ctx.Err() != nil {
			break
		}
	}
	return n, ctx.Err()
}

// Delete removes every record that matches, by walking all of them: its time
// grows with what is stored. Values that are no records stay until they expire.
func (r *Redis) Delete(ctx context.Context, match func(*Record) bool) (int, error) {
	n := 0
	err := r.steps(ctx, func(step []entry) (bool, error) {
		return true, r.unlink(ctx, step, match, func(*Record) { n++ })
	})
	return n, err
}
