package coalesce

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestBuffer(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, reserved := range []int64{-1, 0, 1, 100, 5000, 3 << 20} {
		var b Buffer
		b.Reserve(reserved)
		var want, read []byte
		var at place
		var kept [][]byte
		for b.Len() < 3<<20 {
			p := make([]byte, rng.IntN(200_000))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			want = append(want, p...)
			if n, err := b.Write(p); n != len(p) || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			for rng.IntN(3) > 0 {
				piece := b.next(&at)
				kept = append(kept, piece)
				read = append(read, piece...)
			}
		}
		for piece := b.next(&at); len(piece) > 0; piece = b.next(&at) {
			read = append(read, piece...)
		}
		if got := b.Bytes(); !bytes.Equal(got, want) || !bytes.Equal(read, want) || cap(got) > len(got)+len(got)/8 {
			t.Errorf("reserved %d: %d bytes of capacity %d, read %d, want %d", reserved, len(got), cap(got), len(read), len(want))
		}
		// What was read stays as it is while the body grows.
		if again := bytes.Join(kept, nil); !bytes.Equal(again, want[:len(again)]) {
			t.Errorf("reserved %d: what was read has changed", reserved)
		}
	}
}
