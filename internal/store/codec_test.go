package store_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

// golden is a record of version 1 as the first release writes it.
const golden = "ca524301d8fdfaa322b62e4e5200000005000000a36d9f887d82c726" +
	"10633a73686f703a6974656d3a303066662100090209071268747470733a2f2f652e636f6d2f6974656d" +
	"0180a0abfef96200c0a9070000c0c9b2fef962c801010001020002743101044c696e6b02016101626865" +
	"6c6c6f"

func goldenRecord() *store.Record {
	return &store.Record{
		Key:        store.Key{Full: "c:shop:item:00ff", Name: "c:shop:item:00ff"},
		Namespace:  "shop",
		Identifier: "item",
		URL:        "https://e.com/item",
		Tags:       []string{"t1"},
		Freshness: rfc9111.Freshness{
			ResponseTime: time.UnixMilli(1_700_000_000_000).UTC(), Lifetime: time.Minute, NoCache: true,
		},
		Expires: time.UnixMilli(1_700_000_060_000).UTC(),
		Status:  200,
		Fields:  []store.Field{{Op: store.FieldAdd, Name: "Link", Values: []string{"a", "b"}}},
		Body:    []byte("hello"),
	}
}

// TestGolden keeps this version reading what it has always read.
func TestGolden(t *testing.T) {
	data, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Decode(data)
	if err != nil {
		t.Fatalf("%v; the record encodes as %x", err, store.Encode(nil, goldenRecord()))
	}
	if want := goldenRecord(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// goldenPositioned is the same record with the fields that came later.
const goldenPositioned = "ca524301331a42ec66168e555e00000005000000a36d9f887d82c72610633a73686f703a6974656d3a30" +
	"3066662100090209071268747470733a2f2f652e636f6d2f6974656d0180a0abfef96200c0a9070000c0" +
	"c9b2fef962c801010001020002743101044c696e6b0201610162210001750780d095ffbc310368656c6c" +
	"6f"

// goldenFetchTime is that record with the time that its fetch took.
const goldenFetchTime = "ca524301b6f5cad3f8bf1d4c6000000005000000a36d9f887d82c72610633a73686f703a6974656d3a30" +
	"3066662100090209071268747470733a2f2f652e636f6d2f6974656d0180a0abfef96200c0a9070000c0" +
	"c9b2fef962c801010001020002743101044c696e6b0201610162210001750780d095ffbc3103a4136865" +
	"6c6c6f"

// goldenMarked is that record with its mark.
const goldenMarked = "ca5243019acc04b11ebb9e1c6100000005000000a36d9f887d82c72610633a73686f703a6974656d3a303066" +
	"662100090209071268747470733a2f2f652e636f6d2f6974656d0180a0abfef96200c0a9070000c0c9b2" +
	"fef962c801010001020002743101044c696e6b0201610162210001750780d095ffbc3103a4130168656c6c6f"

func TestGoldenLater(t *testing.T) {
	want := goldenRecord()
	want.BaseKey, want.User = want.Key.Full, "u"
	want.Position.Epoch, want.Position.ID.Ms, want.Position.ID.Seq = 7, 1_700_000_000_000, 3
	for _, c := range []struct {
		golden    string
		fetchTime time.Duration
		anyOrigin bool
	}{{goldenPositioned, 0, false}, {goldenFetchTime, 1234 * time.Millisecond, false}, {goldenMarked, 1234 * time.Millisecond, true}} {
		want.FetchTime, want.AnyOrigin = c.fetchTime, c.anyOrigin
		data, err := hex.DecodeString(c.golden)
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Decode(data)
		if err != nil {
			t.Fatalf("%v; the record encodes as %x", err, store.Encode(nil, want))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

// randomRecord returns any record that a caller could build.
func randomRecord(r *rand.Rand) *store.Record {
	text := func() string {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	}
	texts := func() []string {
		var list []string
		for range r.IntN(4) {
			list = append(list, text())
		}
		return list
	}
	moment := func() time.Time {
		if r.IntN(5) == 0 {
			return time.Time{}
		}
		return time.UnixMilli(r.Int64N(1<<43) - 1<<42).UTC()
	}
	duration := func() time.Duration { return time.Duration(r.Int64N(1<<32)-1<<20) * time.Millisecond }
	flag := func() bool { return r.IntN(2) == 0 }

	rec := &store.Record{
		Key:        store.Key{Full: text() + "ns" + text(), Name: text()},
		Namespace:  "ns",
		Identifier: text(),
		URL:        text(),
		Tags:       texts(),
		Freshness: rfc9111.Freshness{
			ResponseTime: moment(), InitialAge: duration(), Lifetime: duration(),
			StaleWhileRevalidate: duration(), StaleIfError: duration(),
			NoCache: flag(), MustRevalidate: flag(), ForAuthorization: flag(), ForCredentials: flag(),
		},
		Expires: moment(), FetchTime: duration(),
		Status:  r.IntN(1000),
		Vary:    texts(),
		User:    text(),
		BaseKey: text(), AnyOrigin: flag(),
	}
	rec.Position.Epoch, rec.Position.ID.Ms, rec.Position.ID.Seq = r.Uint64(), r.Uint64(), r.Uint64()
	for range r.IntN(5) {
		rec.Fields = append(rec.Fields, store.Field{Op: store.FieldOp(r.IntN(3)), Name: text(), Values: texts()})
	}
	for range r.IntN(3) {
		rec.Variants = append(rec.Variants, store.Variant{Hash: text(), Expires: moment()})
	}
	if body := text(); body != "" {
		rec.Body = []byte(body)
	}
	return rec
}

func TestCodecRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		want := randomRecord(random)
		prefix := []byte("before")
		data := store.Encode(prefix, want)[len(prefix):]
		got, err := store.Decode(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, want)
		}
		want.Body = nil
		head, err := store.DecodeHead(data)
		if err != nil || !reflect.DeepEqual(head, want) {
			t.Fatalf("head: %v\ngot  %+v\nwant %+v", err, head, want)
		}
	}
}

func TestCodecKeepsMilliseconds(t *testing.T) {
	r := storetest.Response("shop", "1")
	r.Expires = time.Unix(1_700_000_000, 123_456_789)
	r.Freshness.Lifetime = 1500*time.Microsecond + time.Second
	got, err := store.Decode(store.Encode(nil, r))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(1_700_000_000, 123_000_000); !got.Expires.Equal(want) {
		t.Errorf("Expires %v, want %v", got.Expires, want)
	}
	if want := 1001 * time.Millisecond; got.Freshness.Lifetime != want {
		t.Errorf("Lifetime %v, want %v", got.Freshness.Lifetime, want)
	}
}

func TestDecodeRejectsEveryChange(t *testing.T) {
	good := store.Encode(nil, storetest.Response("shop", "1"))
	for i := range good {
		if _, err := store.Decode(good[:i]); err == nil {
			t.Errorf("cut at %d: no error", i)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			_, err := store.Decode(bad)
			if err == nil {
				t.Errorf("bit %d of byte %d flipped: no error", bit, i)
			}
			if i == 3 && !errors.Is(err, store.ErrVersion) {
				t.Errorf("other version: %v", err)
			}
		}
	}
	if _, err := store.Decode(append(good, 0)); !errors.Is(err, store.ErrLength) {
		t.Errorf("byte appended: %v", err)
	}
}

// sealed returns an envelope of this version with correct lengths and checksums.
func sealed(meta, body []byte) []byte {
	data := make([]byte, 28, 28+len(meta)+len(body))
	copy(data, "\xcaRC\x01")
	binary.LittleEndian.PutUint32(data[12:], uint32(len(meta)))
	binary.LittleEndian.PutUint32(data[16:], uint32(len(body)))
	binary.LittleEndian.PutUint64(data[20:], xxhash.Sum64(body))
	data = append(data, meta...)
	binary.LittleEndian.PutUint64(data[4:], xxhash.Sum64(data[12:]))
	return append(data, body...)
}

// sealedCompressed is sealed for a compressed record of the given lengths.
func sealedCompressed(metaLen, bodyLen int, flags byte, payload []byte) []byte {
	data := make([]byte, 41, 41+len(payload))
	copy(data, "\xcaRC\x02")
	binary.LittleEndian.PutUint32(data[12:], uint32(metaLen))
	binary.LittleEndian.PutUint32(data[16:], uint32(bodyLen))
	binary.LittleEndian.PutUint32(data[28:], uint32(len(payload)))
	data[40] = flags
	binary.LittleEndian.PutUint64(data[4:], xxhash.Sum64(data[12:]))
	return append(data, payload...)
}

// What a compressed record says of itself is not believed beyond a bound, and
// what comes out of it must be what it says.
func TestDecodeCompressed(t *testing.T) {
	rec := storetest.Response("shop", "1")
	good := store.EncodeCompressed(rec)
	if got, err := store.Decode(good); err != nil || !reflect.DeepEqual(got, rec) {
		t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, rec)
	}
	for i := range good {
		if _, err := store.Decode(good[:i]); err == nil {
			t.Errorf("cut at %d: no error", i)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			got, err := store.Decode(bad)
			if err == nil && !reflect.DeepEqual(got, rec) {
				t.Errorf("bit %d of byte %d flipped: another record", bit, i)
			}
		}
	}
	if _, err := store.Decode(append(bytes.Clone(good), 0)); !errors.Is(err, store.ErrLength) {
		t.Errorf("byte appended: %v", err)
	}
	frame := good[41:]
	metaLen := int(binary.LittleEndian.Uint32(good[12:]))
	bodyLen := int(binary.LittleEndian.Uint32(good[16:]))
	for _, c := range []struct {
		name             string
		metaLen, bodyLen int
		flags            byte
		payload          []byte
		want             error
	}{
		{"checksum of the content", metaLen, bodyLen, 1, frame, store.ErrChecksum},
		{"longer than said", metaLen, bodyLen - 1, 1, frame, store.ErrFormat},
		{"shorter than said", metaLen, bodyLen + 1, 1, frame, store.ErrFormat},
		{"two frames", metaLen, bodyLen, 1, append(bytes.Clone(frame), frame...), store.ErrFormat},
		{"no frame", metaLen, bodyLen, 1, []byte("garbage"), store.ErrFormat},
		{"whole and large", metaLen, 1 << 20, 1, frame, store.ErrFormat},
		{"huge", metaLen, 65 << 20, 0, frame, store.ErrFormat},
		{"huge metadata", 3 << 20, bodyLen, 0, frame, store.ErrFormat},
		{"flag of a newer program", metaLen, bodyLen, 1 << 7, frame, store.ErrVersion},
	} {
		if _, err := store.Decode(sealedCompressed(c.metaLen, c.bodyLen, c.flags, c.payload)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// goldenCompressed is the golden record of the codec, with a longer body, as it
// was first compressed.
const goldenCompressed = "ca52430262dcdf1f753bdac75800000064000000c10ddd7af66e6d6d6f00000000000000000000000128b52f" +
	"fd0000350300d40510633a73686f703a6974656d3a303066662100090209071268747470733a2f2f652e" +
	"636f6d2f6974656d0180a0abfef96200c0a9070000c0c9b2fef962c801010001020002743101044c696e" +
	"6b020161016201000000000068656c6c6f01541903291d23"

func TestGoldenCompressed(t *testing.T) {
	want := goldenRecord()
	want.Body = bytes.Repeat(want.Body, 20)
	data, err := hex.DecodeString(goldenCompressed)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Decode(data)
	if err != nil {
		t.Fatalf("%v; the record encodes as %x", err, store.EncodeCompressed(want))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Metadata that only an attacker or a newer program writes.
func TestDecodeMetadata(t *testing.T) {
	encoded := store.Encode(nil, storetest.Base("shop", "1"))
	good := encoded[28:] // a base record has no body
	if _, err := store.Decode(sealed(append(bytes.Clone(good), "a newer field"...), nil)); err != nil {
		t.Errorf("field of a newer program: %v", err)
	}
	earlier := []int{len(good) - 8, len(good) - 2, len(good) - 1} // without the fields that were added
	for i := range good {
		if slices.Contains(earlier, i) {
			continue
		}
		if _, err := store.Decode(sealed(good[:i], nil)); !errors.Is(err, store.ErrFormat) {
			t.Errorf("metadata cut at %d: %v", i, err)
		}
	}

	fixed := func(flags, status, tags uint64) []byte {
		meta := []byte{1, 'k', 3, 0, 0, 0, 0} // the name is the key; no namespace, identifier and URL
		meta = binary.AppendUvarint(meta, flags)
		meta = append(meta, 0, 0, 0, 0, 0, 0) // times
		meta = binary.AppendUvarint(meta, status)
		meta = binary.AppendUvarint(meta, tags)
		return append(meta, 0, 0, 0, 0)
	}
	for _, c := range []struct {
		name string
		meta []byte
		want error
	}{
		{"nothing", nil, store.ErrFormat},
		{"plain", fixed(0, 200, 0), nil},
		{"unknown flag", fixed(1<<4, 200, 0), store.ErrVersion},
		{"status 1000", fixed(0, 1000, 0), store.ErrFormat},
		{"more tags than bytes", fixed(0, 200, 1<<62), store.ErrFormat},
		{"string longer than the rest", append([]byte{0xff, 0xff, 0xff, 0xff, 0x7f}, "k"...), store.ErrFormat},
		{"part outside the key", []byte{1, 'k', 1<<1 | 1, 9, 0, 0, 0, 0, 0, 0}, store.ErrFormat},
	} {
		if _, err := store.Decode(sealed(c.meta, nil)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestDecodeHeadOfAPrefix(t *testing.T) {
	r := storetest.Response("shop", strings.Repeat("x", 1000))
	data := store.Encode(nil, r)
	prefix := 0
	for range 3 {
		head, err := store.DecodeHead(data[:prefix])
		if err == nil {
			if head.Identifier != r.Identifier || head.Body != nil {
				t.Errorf("got %+v", head)
			}
			return
		}
		var short *store.ShortError
		if !errors.Is(err, store.ErrShort) || !errors.As(err, &short) || short.Need <= prefix {
			t.Fatalf("%d bytes: %v", prefix, err)
		}
		prefix = short.Need
	}
	t.Errorf("still too short with %d bytes", prefix)
}

func FuzzDecode(f *testing.F) {
	f.Add(store.Encode(nil, storetest.Response("shop", "1")), false)
	f.Add(store.Encode(nil, storetest.Base("shop", "1")), false)
	f.Add(store.Encode(nil, storetest.Base("shop", "1"))[28:], true)
	f.Add(store.EncodeCompressed(storetest.Response("shop", "1")), false)
	large := storetest.Response("shop", "1")
	large.Body = bytes.Repeat(large.Body, 200)
	f.Add(store.EncodeCompressed(large), false)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal { // so that the metadata are reached
			data = sealed(data, nil)
		}
		r, err := store.Decode(data)
		if err != nil {
			return
		}
		head, err := store.DecodeHead(data)
		if err != nil || head.Key != r.Key {
			t.Errorf("head: %v, %v", head, err)
		}
		again, err := store.Decode(store.Encode(nil, r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%v\ngot  %+v\nwant %+v", err, again, r)
		}
		if r.Weight() < int64(len(r.Body)) {
			t.Errorf("weight %d", r.Weight())
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := sized(1, 1<<10)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = store.Encode(dst[:0], r)
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkDecode(b *testing.B) {
	data := store.Encode(nil, sized(1, 1<<10))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
