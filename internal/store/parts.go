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
	// partsTogether is how many of them share a round trip: few, because the
	// timeouts of the client hold for all of it.
	partsTogether = 2
	// partsRate is what a link should carry in a second. Who waits for parts waits
	// no longer than that takes, and a read timeout.
	partsRate = 64 << 20
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
		if pipe.Len() < partsTogether && len(rest) > 0 {
			continue
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, err
		}
	}
	return data[:h.inline()], nil
}

// missing is how many bytes of the record are in parts; zero, if data is not the
// beginning of one.
func missing(data []byte) int {
	h, err := decodeHead(data)
	if err != nil || len(data) != h.inline() {
		return 0 // to decode it tells what is wrong
	}
	return h.size() - len(data)
}

// join reads the parts of a record of which its key held the beginning. It
// returns nil if they are not all there.
func (r *Redis) join(ctx context.Context, name string, data []byte) ([]byte, error) {
	size := len(data) + missing(data)
	if size == len(data) {
		return data, nil
	}
	h, err := decodeHead(data)
	if err != nil {
		return nil, err
	}
	whole := append(make([]byte, 0, size), data...)
	pipe := r.client.Pipeline()
	for number := 0; len(whole) < size; {
		for missing := size - len(whole); missing > 0 && pipe.Len() < partsTogether; missing -= partSize {
			pipe.Get(ctx, r.partName(name, number))
			number++
		}
		cmds, err := pipe.Exec(ctx)
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		for _, cmd := range cmds {
			part, err := cmd.(*redis.StringCmd).Bytes()
			if err != nil || len(part) <= partHead || binary.LittleEndian.Uint64(part) != h.metaSum {
				return nil, nil //nolint:nilerr // it is absent
			}
			whole = append(whole, part[partHead:]...)
		}
	}
	if len(whole) != size {
		return nil, nil
	}
	return whole, nil
}
