package store

import (
	"runtime/debug"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		percent, want int
		stored, live  int64
	}{
		{100, 100, 0, 0},
		{100, 100, 0, 50 * mib},
		{100, 65, 50 * mib, 100 * mib},
		{100, 30, 100 * mib, 100 * mib},
		{100, 30, 200 * mib, 100 * mib}, // the collector has not seen them yet
		{200, 115, 50 * mib, 100 * mib},
	} {
		if got := percentFor(c.percent, c.stored, c.live); got != c.want {
			t.Errorf("%d percent, %d of %d bytes stored: %d, want %d", c.percent, c.stored, c.live, got, c.want)
		}
	}
}

// gcPercent is the setting of the process.
func gcPercent() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

// The setting follows what is stored, and is what it was at the end.
func TestCollectorIsTuned(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	first, second := NewMemory(1<<30, nil), NewMemory(1<<30, nil)
	defer first.Close()
	defer second.Close()
	var own tuner
	own.join(first)
	own.join(second)
	if err := second.Put(t.Context(), &Record{
		Key: Key{Full: "k", Name: "k"}, Status: 200, Expires: time.Now().Add(time.Hour), Body: make([]byte, 256<<20),
	}); err != nil {
		t.Fatal(err)
	}
	own.adjust()
	if got := gcPercent(); got >= 60 || got < storedPercent {
		t.Errorf("%d percent with a heap of stored responses", got)
	}
	own.leave(first)
	if got := gcPercent(); got >= 60 {
		t.Errorf("%d percent while a tier is left", got)
	}
	own.leave(second)
	if got := gcPercent(); got != 100 {
		t.Errorf("%d percent at the end", got)
	}
}

// What the operator has set stays.
func TestCollectorKeepsGOGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(150))
	t.Setenv("GOGC", "150")
	m := NewMemory(1<<30, nil)
	defer m.Close()
	var own tuner
	own.join(m)
	if err := m.Put(t.Context(), &Record{
		Key: Key{Full: "k", Name: "k"}, Status: 200, Expires: time.Now().Add(time.Hour), Body: make([]byte, 64<<20),
	}); err != nil {
		t.Fatal(err)
	}
	own.adjust()
	own.leave(m)
	if got := gcPercent(); got != 150 {
		t.Errorf("%d percent, want those of GOGC", got)
	}
}
