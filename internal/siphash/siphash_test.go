package siphash

import (
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// The vectors of the reference implementation: the key is 00 01 .. 0f, and the
// text 00 01 .. in each length.
func TestVectors(t *testing.T) {
	var key [16]byte
	text := make([]byte, 64)
	for i := range text {
		text[i] = byte(i)
	}
	copy(key[:], text)
	for length, want := range map[int]string{
		0: "a3817f04ba25a8e66df67214c7550293",
		1: "da87c1d86b99af44347659119b22fc45",
		2: "8177228da4a45dc7fca38bdef60affe4",
		3: "9c70b60c5267a94e5f33b6b02985ed51",
	} {
		first, second := Sum(KeyOf(key), string(text[:length]))
		got := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, first), second)
		if hex.EncodeToString(got) != want {
			t.Errorf("%d bytes: %x, want %s", length, got, want)
		}
	}
}

// Every byte counts, and so do the length and the key.
func TestEveryByteCounts(t *testing.T) {
	key := Key{1, 2}
	seen := make(map[[2]uint64]string)
	add := func(name string, key Key, text string) {
		first, second := Sum(key, text)
		if other, twice := seen[[2]uint64{first, second}]; twice {
			t.Errorf("%s and %s are the same", name, other)
		}
		seen[[2]uint64{first, second}] = name
	}
	for n := range 40 {
		text := make([]byte, n)
		add("zeros", key, string(text))
		add("another key", Key{1, 3}, string(text))
		for i := range text {
			text[i] = 1
			add("a one", key, string(text))
			text[i] = 0
		}
	}
}

func BenchmarkSum(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Sum(Key{1, 2}, "https://www.example.com/shop/products/a-word-in-the-middle-of-it")
	}
}
