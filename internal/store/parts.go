package store

// A value of Redis is read and written in one go, and while that lasts Redis does
// nothing else. So a large record is split: its key holds the beginning, with all
// the metadata, and further keys hold the parts that follow:
//
//	<prefix>::part:<number>:<key name>   the checksum of the record's metadata, the part
//
// The head says how long the whole is. The checksum, which covers position and
// times, keeps parts of different responses apart: a part that is missing, or of
// another response, makes the record absent. Parts are written before the
// beginning, live as long, and are removed with it; those of a response that was
// replaced by a smaller one last until they expire.
//
// An older binary takes a split record for one that was cut: it is absent.

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// inlineSize is how much of a record its key holds, or all the metadata if
	// these are larger.
	inlineSize = 256 << 10
	// partSize is how much of it each further key holds.
	partSize = 512 << 10
	// partHead is what a part begins with.
	partHead = 8
)

// inline is how much of the record its key holds.
func (h *head) inline() int { return min(h.size(), max(inlineSize, h.plainEnd())) }

// partsFor is how many further keys a record of a size may have.
func partsFor(size int64) int {
	if size <= inlineSize {
		return 0
	}
	return int((size - inlineSize + partSize - 1) / partSize)
}

func (r *Redis) partName(name string, number int) string {
	return r.prefix + ":part:" + strconv.Itoa(number) + ":" + name
}

// split writes the parts of an encoded record, if it has any, and returns what
// its key holds.
func (r *Redis) split(ctx context.Context, name string, data []byte, ttl time.Duration) ([]byte, error) {
	if len(data) <= inlineSize {
		return data, nil
	}
	h, err := decodeHead(data)
	if err != nil {
		return nil, err
	}
	pipe := r.client.Pipeline()
	rest := data[h.inline():]
	for number := 0; len(rest) > 0; number++ {
		n := min(len(rest), partSize)
		part := binary.LittleEndian.AppendUint64(make([]byte, 0, partHead+n), h.metaSum)
		pipe.Set(ctx, r.partName(name, number), append(part, rest[:n]...), ttl)
		rest = rest[n:]
	}
	if pipe.Len() > 0 {
		_, err = pipe.Exec(ctx)
	}
	return data[:h.inline()], err
}

// join reads the parts of a record of which its key held the beginning. It
// returns nil if they are not all there.
func (r *Redis) join(ctx context.Context, name string, data []byte) ([]byte, error) {
	h, err := decodeHead(data)
	if err != nil || len(data) == h.size() || len(data) != h.inline() {
		return data, nil //nolint:nilerr // to decode it tells what is wrong
	}
	pipe := r.client.Pipeline()
	missing := h.size() - len(data)
	for number := range (missing + partSize - 1) / partSize {
		pipe.Get(ctx, r.partName(name, number))
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	whole := append(make([]byte, 0, h.size()), data...)
	for _, cmd := range cmds {
		part, err := cmd.(*redis.StringCmd).Bytes()
		if err != nil || len(part) < partHead || binary.LittleEndian.Uint64(part) != h.metaSum {
			return nil, nil //nolint:nilerr // it is absent
		}
		whole = append(whole, part[partHead:]...)
	}
	if len(whole) != h.size() {
		return nil, nil
	}
	return whole, nil
}
