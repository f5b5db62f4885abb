package store_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

func TestMemoryLookupDoesNotAllocate(t *testing.T) {
	m := newMemory(t)
	r := storetest.Response("shop", "1")
	if err := m.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	allocs := testing.AllocsPerRun(10_000, func() {
		if found, _ := m.Lookup(r.Key.Full, now); found == nil {
			t.Fatal("wrong record")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestMemoryRemovesExpired(t *testing.T) {
	m := newMemory(t)
	now := time.Now()
	for i := range 10 {
		r := storetest.Response("shop", fmt.Sprint(i))
		r.Expires = now.Add(time.Duration(i) * time.Minute)
		if err := m.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	last := storetest.Response("shop", "9").Key.Full
	if r, _ := m.Lookup(last, now.Add(9*time.Minute)); r != nil {
		t.Error("found after its end")
	}
	if n := m.Len(); n != 9 {
		t.Errorf("%d records after the lookup of an expired one, want 9", n)
	}
	told := 0
	if n := m.Sweep(now.Add(4*time.Minute), func(*store.Record) { told++ }); n != 5 || told != 5 || m.Len() != 4 {
		t.Errorf("swept %d, told of %d, %d left; want 5, 5 and 4", n, told, m.Len())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	weight := storetest.Response("shop", "1000").Weight()
	m := store.NewMemory(100*weight, nil)
	t.Cleanup(m.Close)
	fill := func() {
		for i := range 1000 {
			if err := m.Put(t.Context(), storetest.Response("shop", fmt.Sprint(1000+i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if m.Bytes() > m.Max() || m.Len() < 80 || m.Len() > 110 || m.Evictions() < 800 {
		t.Errorf("%d bytes of %d, %d records, %d evictions", m.Bytes(), m.Max(), m.Len(), m.Evictions())
	}

	m.SetMax(10 * weight)
	if m.Max() != 10*weight || m.Bytes() > m.Max() || m.Len() == 0 {
		t.Errorf("after SetMax: %d bytes of %d, %d records", m.Bytes(), m.Max(), m.Len())
	}
	huge := storetest.Response("shop", "huge")
	huge.Body = make([]byte, 11*weight)
	if err := m.Put(t.Context(), huge); err != nil {
		t.Fatal(err)
	}
	if m.Bytes() > m.Max() || m.Len() < 5 {
		t.Errorf("after a record above the maximum: %d bytes, %d records", m.Bytes(), m.Len())
	}
	m.Clear()
	if m.Bytes() != 0 || m.Len() != 0 {
		t.Errorf("after Clear: %d bytes, %d records", m.Bytes(), m.Len())
	}
	m.SetMax(0)
	fill()
	if m.Bytes() > 1 {
		t.Errorf("a maximum of 0 holds %d bytes", m.Bytes())
	}
}

// A stored response must not keep alive the buffers that it was cut from.
func TestMemoryKeepsNothingElseAlive(t *testing.T) {
	m := newMemory(t)
	before := heap()
	for i := range 20 {
		r := storetest.Response("shop", fmt.Sprint(i))
		r.Fields[0].Values[0] = strings.Repeat("x", 1<<20)[:10]
		r.Body = make([]byte, 10, 1<<20)
		if err := m.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 5<<20 {
		t.Errorf("20 small records keep %d bytes alive", grown)
	}
	runtime.KeepAlive(m)
}

// TestWeight compares what records weigh with what they cost.
func TestWeight(t *testing.T) {
	for _, c := range []struct {
		name  string
		count int
		make  func(i int) *store.Record
	}{
		{"1 KiB", 5_000, func(i int) *store.Record { return sized(i, 1<<10) }},
		{"16 KiB", 1000, func(i int) *store.Record { return sized(i, 16<<10) }},
		{"no body", 5_000, func(i int) *store.Record { return sized(i, 0) }},
		{"base", 5_000, func(i int) *store.Record { return storetest.Base("shop", fmt.Sprint(i)) }},
		{"decoded", 5_000, func(i int) *store.Record {
			r, err := store.Decode(store.Encode(nil, sized(i, 1<<10)))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := store.NewMemory(1<<30, nil)
			t.Cleanup(m.Close)
			before := heap()
			for i := range c.count {
				if err := m.Put(t.Context(), c.make(i)); err != nil {
					t.Fatal(err)
				}
			}
			weight, grown := m.Bytes(), heap()-before
			ratio := float64(weight) / float64(grown)
			t.Logf("%d bytes a record, weighed as %d", grown/int64(c.count), weight/int64(c.count))
			if ratio < 0.85 || ratio > 1.15 {
				t.Errorf("weight is %.2f of the heap", ratio)
			}
		})
	}
}

func sized(i, body int) *store.Record {
	r := storetest.Response("shop", fmt.Sprintf("product:%d", i))
	r.Body = make([]byte, body)
	return r
}

// heap is what is alive. What the last test has left behind may take a while to go.
func heap() int64 {
	least := int64(math.MaxInt64)
	for calm := 0; calm < 5; calm++ {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		if alive := int64(s.HeapAlloc); alive < least {
			if alive < least-least>>8 {
				calm = 0
			}
			least = alive
		}
		time.Sleep(5 * time.Millisecond)
	}
	return least
}

func BenchmarkMemoryLookup(b *testing.B) {
	m := store.NewMemory(ample, nil)
	defer m.Close()
	const n = 1024
	var keys [n]string
	for i := range n {
		r := sized(i, 1<<10)
		keys[i] = r.Key.Full
		if err := m.Put(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if r, _ := m.Lookup(keys[i%n], now); r == nil {
				b.Error("absent")
			}
		}
	})
}

func BenchmarkMemoryPut(b *testing.B) {
	m := store.NewMemory(1<<20, nil)
	defer m.Close()
	records := make([]*store.Record, 4096) // more than fit
	for i := range records {
		records[i] = sized(i, 1<<10)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := m.Put(b.Context(), records[i%len(records)]); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkMemoryUnpack is the first lookup of a record after the collector has
// taken what the last one unpacked.
func BenchmarkMemoryUnpack(b *testing.B) {
	m := store.NewMemory(ample, nil)
	defer m.Close()
	r := sized(1, 1<<10)
	if err := m.Put(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !m.Unpack(r.Key.Full) {
			b.Fatal("absent")
		}
	}
}

// What this process alone can tell of a record's position survives that memory
// packs it, and decides between two of one journal ID.
func TestMemoryKeepsLocalPositions(t *testing.T) {
	m := newMemory(t)
	r := positioned("pickup", "1", 3)
	r.Position.Local = 5
	if err := m.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	older := positioned("pickup", "1", 3)
	older.Position.Local = 4
	for range 2 {
		runtime.GC()
		if found, _ := m.Lookup(r.Key.Full, time.Now()); found == nil || found.Position != r.Position {
			t.Errorf("found %+v, want position %+v", found, r.Position)
		}
		if err := m.Put(t.Context(), older); err != nil {
			t.Fatal(err)
		}
	}
}
