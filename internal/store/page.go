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

// A cursor holds the master, its SCAN cursor and the last name that was taken of
// that step, "" for none. Redis returns a step again for the same cursor and
// count, so that a page may end in the middle of one. What is stored or removed
// meanwhile may or may not be seen.

// ErrCursor is a cursor that no page has returned.
var ErrCursor = errors.New("the cursor is not one of an earlier answer")

// pageCount is the count of SCAN; the same for all pages, since cursors rely on
// it.
const pageCount = 250

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
// cursor until f has taken limit of them or ctx has ended, and returns the cursor
// behind the last one; "" at the end. The first cursor is "".
func (r *Redis) Page(ctx context.Context, from string, limit int, f func(*Record, int64) bool) (string, error) {
	at, err := parseCursor(from)
	if err != nil {
		return "", err
	}
	masters, err := r.masters(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range masters {
		if m.addr < at.master {
			continue
		}
		if m.addr != at.master { // the next one, or the one in place of a master that has gone
			at = cursor{master: m.addr}
		}
		for {
			more, err := r.pageStep(ctx, m.client, &at, &limit, f)
			if err != nil {
				return "", err
			}
			if more {
				return at.String(), nil
			}
			if at.scan == 0 {
				break
			}
			if ctx.Err() != nil {
				return at.String(), nil
			}
		}
		at = cursor{master: m.addr + "\x00"}
	}
	return "", nil
}

// pageStep takes the records of one step. It reports whether the page is full,
// and leaves at behind what it has taken.
func (r *Redis) pageStep(ctx context.Context, client redis.Cmdable, at *cursor, limit *int, f func(*Record, int64) bool) (full bool, err error) {
	names, next, err := client.Scan(ctx, at.scan, escapeGlob(r.prefix)+"*", pageCount).Result()
	if err != nil {
		return false, fmt.Errorf("scan: %w", err)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name <= at.after })
	step, err := r.heads(ctx, names)
	if err != nil {
		return false, fmt.Errorf("read heads: %w", err)
	}
	for _, e := range step {
		if *limit == 0 {
			return true, nil
		}
		if e.head != nil && f(e.head, e.size) {
			*limit--
		}
		at.after = e.name
	}
	at.scan, at.after = next, ""
	return *limit == 0 && next != 0, nil
}

type master struct {
	addr   string // "" without a cluster
	client redis.Cmdable
}

// masters are the nodes that hold keys, by address.
func (r *Redis) masters(ctx context.Context) ([]master, error) {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return []master{{client: r.client}}, nil
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
