package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A cursor holds the master and its SCAN cursor, or in memory the last key. A page
// ends with a step of SCAN: in the middle of one it would have to be repeated, and
// while Redis resizes its table the repeated step is another one.

// ErrCursor is a cursor that no page has returned.
var ErrCursor = errors.New("the cursor is not one of an earlier answer")

// maxPageCount bounds the count of SCAN, which is how many keys a step looks at. It
// follows from what a page still wants: where steps find nothing it doubles, and
// where they find much it shrinks.
const maxPageCount = 250

type cursor struct {
	master string // address, in a cluster
	scan   uint64
	after  string
}

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.master + "\n" + strconv.FormatUint(c.scan, 10) + "\n" + c.after))
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.SplitN(string(data), "\n", 3)
	if err != nil || len(parts) != 3 {
		return c, ErrCursor
	}
	c.master, c.after = parts[0], parts[2]
	if c.scan, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return c, ErrCursor
	}
	return c, nil
}

// Page calls f with the metadata and the stored size of the records behind a
// cursor until f has taken limit of them, or a few more, or Redis gives no
// answer any more. It returns the cursor behind the last one; "" at the end. The
// first cursor is "". What is stored all the while is seen at least once.
func (r *Redis) Page(ctx context.Context, from string, limit int, f func(*Record, int64) bool) (string, error) {
	at, err := parseCursor(from)
	if err != nil {
		return "", err
	}
	masters, err := r.masters(ctx)
	if err != nil {
		return "", err
	}
	stepped, count := false, nextCount(limit, 1, 1)
	for _, m := range masters {
		if m.addr < at.master {
			continue
		}
		if m.addr != at.master { // the next one, or the one in place of a master that has gone
			at = cursor{master: m.addr}
		}
		for {
			found, err := r.pageStep(ctx, m.client, &at, count, f)
			switch {
			case err != nil && stepped:
				return at.String(), nil // to begin with the step that failed
			case err != nil:
				return "", err
			}
			stepped = true
			limit -= found
			count = nextCount(count, limit, found)
			if at.scan == 0 {
				break
			}
			if limit <= 0 {
				return at.String(), nil
			}
		}
		at = cursor{master: m.addr + "\x00"}
		if limit <= 0 && m.addr != masters[len(masters)-1].addr {
			return at.String(), nil
		}
	}
	return "", nil
}

// nextCount is how much the next step asks for, where one that asked for count has found
// so many, and limit are left to be found.
func nextCount(count, limit, found int) int {
	if found == 0 {
		count *= 2
	} else {
		count = min(2*count, count*limit/found)
	}
	return min(max(count, 1), maxPageCount)
}

// pageStep takes the records of one step, and leaves at behind it; after an error
// it has taken none.
func (r *Redis) pageStep(ctx context.Context, client redis.Cmdable, at *cursor, count int, f func(*Record, int64) bool) (found int, err error) {
	names, next, err := client.Scan(ctx, at.scan, escapeGlob(r.prefix)+"*", int64(count)).Result()
	if err != nil {
		return 0, fmt.Errorf("scan: %w", err)
	}
	slices.Sort(names)
	step, err := r.heads(ctx, slices.Compact(names))
	if err != nil {
		return 0, fmt.Errorf("read heads: %w", err)
	}
	for _, e := range step {
		if e.head != nil && f(e.head, e.size) {
			found++
		}
	}
	at.scan = next
	return found, nil
}

type master struct {
	addr   string // "" without a cluster
	client redis.Cmdable
}

// masters are the nodes that hold keys, by address.
func (r *Redis) masters(ctx context.Context) ([]master, error) {
	cluster, ok := r.walker.(*redis.ClusterClient)
	if !ok {
		return []master{{client: r.walker}}, nil
	}
	var mu sync.Mutex // guards list
	var list []master
	err := cluster.ForEachMaster(ctx, func(_ context.Context, client *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, master{client.Options().Addr, client})
		return nil
	})
	slices.SortFunc(list, func(a, b master) int { return cmp.Compare(a.addr, b.addr) })
	return list, err
}

// Page is Redis.Page for memory, by key.
func (m *Memory) Page(from string, limit int, f func(*Record, int64) bool) (string, error) {
	at, err := parseCursor(from)
	if err != nil {
		return "", err
	}
	var keys []string
	for key := range m.cache.All() {
		if key > at.after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	now := time.Now()
	for i, key := range keys {
		r := m.peek(key, now)
		if r == nil || !f(r, r.Weight()) {
			continue
		}
		if limit--; limit == 0 && i+1 < len(keys) {
			return cursor{after: key}.String(), nil
		}
	}
	return "", nil
}

// Has reports whether a record lies in memory, whatever purges say about it.
func (m *Memory) Has(key string) bool { return m.peek(key, time.Now()) != nil }
