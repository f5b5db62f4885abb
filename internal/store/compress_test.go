package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

// minEncode is the default of the option encode.
const minEncode = 1 << 10

// document is a stored response as an API has it: JSON of about size bytes.
func document(random *rand.Rand, namespace string, i, size int) *store.Record {
	r := storetest.Response(namespace, fmt.Sprintf("company:%d", i))
	key := fmt.Sprintf("%s:%s:company:%d:%016x%016x", storetest.Prefix, namespace, i, random.Uint64(), random.Uint64())
	r.Key = store.Key{Full: key, Name: key}
	r.BaseKey = key
	r.URL = fmt.Sprintf("https://api.example.com/api/v1/companies/%d?page=1", i)
	r.Tags = []string{fmt.Sprintf("company-%d", i)}
	r.Position.Epoch, r.Position.ID.Ms = 1, uint64(r.Freshness.ResponseTime.UnixMilli())
	r.Fields[2].Values = []string{fmt.Sprintf("\"%016x\"", random.Uint64())}
	cities := []string{"Berlin", "Hamburg", "Wien", "Zürich", "København", "Warszawa"}
	var body bytes.Buffer
	body.WriteString(`{"count":3,"results":[`)
	for body.Len() < size-160 {
		fmt.Fprintf(&body, `{"id":%d,"name":"Company %d GmbH","city":%q,"active":%t,"created_at":"2025-%02d-%02dT%02d:%02d:00Z","points":%d},`,
			random.IntN(1e6), random.IntN(1e4), cities[random.IntN(len(cities))], random.IntN(2) == 0,
			1+random.IntN(12), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(5000))
	}
	fmt.Fprintf(&body, `{"id":%d}],"next":"https://api.example.com/api/v1/companies/%d?page=2"}`, i, i)
	r.Body = body.Bytes()
	r.MinEncode = minEncode
	return r
}

// stored is the record as a tier returns it.
func stored(r *store.Record) *store.Record {
	c := *r
	c.MinEncode, c.Private = 0, false
	return &c
}

func putAndGet(t *testing.T, r *store.Redis, rec *store.Record) {
	t.Helper()
	if err := r.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	got, err := r.Get(t.Context(), rec.Key)
	if err != nil || !reflect.DeepEqual(got, stored(rec)) {
		t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, stored(rec))
	}
}

func value(t *testing.T, server *miniredis.Miniredis, name string) string {
	t.Helper()
	text, err := server.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCompression(t *testing.T) {
	text := func(size int) []byte { return []byte(strings.Repeat("0123456789 abcdefghij ", size/22+1)[:size]) }
	noise := make([]byte, 64<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for _, c := range []struct {
		name        string
		body        []byte
		min         int
		field       store.Field
		wantVersion byte
	}{
		{"large", text(64 << 10), minEncode, store.Field{}, 2},
		{"medium", text(8 << 10), minEncode, store.Field{}, 2},
		{"at the limit", text(minEncode), minEncode, store.Field{}, 2},
		{"below the limit", text(minEncode - 1), minEncode, store.Field{}, 1},
		{"off", text(64 << 10), 0, store.Field{}, 1},
		{"noise", noise, minEncode, store.Field{}, 1},
		{"some noise", noise[:4<<10], minEncode, store.Field{}, 1},
		{"encoded", text(64 << 10), minEncode, store.Field{Name: "Content-Encoding", Values: []string{"br"}}, 1},
		{"image", text(64 << 10), minEncode, store.Field{Name: "Content-Type", Values: []string{"image/png"}}, 1},
		{"vector image", text(64 << 10), minEncode, store.Field{Name: "Content-Type", Values: []string{"image/svg+xml"}}, 2},
		{"font", text(64 << 10), minEncode, store.Field{Name: "Content-Type", Values: []string{"Font/WOFF2; x=y"}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, server := newRedis(t)
			rec := storetest.Response("shop", "1")
			rec.Body, rec.MinEncode = c.body, c.min
			if c.field.Name != "" {
				rec.Fields = append(rec.Fields[1:], c.field)
			}
			putAndGet(t, r, rec)
			data := value(t, server, rec.Key.Name)
			if data[3] != c.wantVersion {
				t.Errorf("version %d, want %d", data[3], c.wantVersion)
			}
			raw, encoded := r.Written()
			if want := len(store.Encode(nil, rec)); raw != uint64(want) || encoded != uint64(len(data)) {
				t.Errorf("counted %d raw, %d encoded; want %d, %d", raw, encoded, want, len(data))
			}
			// Metadata are found without the body, or with all of a small record.
			found := 0
			err := r.Walk(t.Context(), func(_ string, head *store.Record, size int64) bool {
				want := stored(rec)
				want.Body = nil
				if !reflect.DeepEqual(head, want) || size != int64(len(data)) {
					t.Errorf("size %d of %d, head %+v", size, len(data), head)
				}
				found++
				return true
			})
			if err != nil || found != 1 {
				t.Errorf("walked %d, %v", found, err)
			}
		})
	}
}

// newTrained returns a tier whose namespace shop has a dictionary.
func newTrained(t *testing.T, server *miniredis.Miniredis) *store.Redis {
	t.Helper()
	r := store.NewRedis(newClient(t, server.Addr()), storetest.Prefix)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 2 * store.TrainSamples {
		if err := r.Put(t.Context(), document(random, "shop", i, 1<<10)); err != nil {
			t.Fatal(err)
		}
		r.Train(t.Context())
	}
	return r
}

func dictionaryOf(t *testing.T, data string) uint64 {
	t.Helper()
	if data[3] != 2 {
		t.Fatalf("a record of version %d is not compressed", data[3])
	}
	return binary.LittleEndian.Uint64([]byte(data[32:]))
}

func TestDictionary(t *testing.T) {
	server := miniredis.RunT(t)
	r := newTrained(t, server)
	rec := document(rand.New(rand.NewPCG(5, 6)), "shop", 1000, 800)
	putAndGet(t, r, rec)
	data := value(t, server, rec.Key.Name)
	hash := dictionaryOf(t, data)
	content := value(t, server, fmt.Sprintf("cache::dict:%x", hash))
	if hash == 0 || xxhash.Sum64String(content) != hash {
		t.Fatalf("dictionary %x is not the hash of what is stored", hash)
	}
	for _, key := range server.Keys() {
		if server.TTL(key) <= 0 {
			t.Errorf("%s has no TTL", key)
		}
		if strings.HasPrefix(key, "cache::") && server.TTL(key) < 39*24*time.Hour {
			t.Errorf("%s ends before the records that need it", key)
		}
	}

	t.Run("another node reads", func(t *testing.T) {
		other := store.NewRedis(newClient(t, server.Addr()), storetest.Prefix)
		got, err := other.Get(t.Context(), rec.Key)
		if err != nil || !reflect.DeepEqual(got, stored(rec)) {
			t.Errorf("%v, %+v", err, got)
		}
		n, err := other.Delete(t.Context(), func(r *store.Record) bool { return r.Identifier == "company:7" })
		if n != 1 || err != nil {
			t.Errorf("Delete = %d, %v; want 1", n, err)
		}
	})
	t.Run("another node uses it from its first records", func(t *testing.T) {
		other := store.NewRedis(newClient(t, server.Addr()), storetest.Prefix)
		for i := range 2 {
			rec := document(rand.New(rand.NewPCG(7, 8)), "shop", 2000+i, 800)
			putAndGet(t, other, rec)
			other.Train(t.Context())
			if data := value(t, server, rec.Key.Name); i > 0 && dictionaryOf(t, data) != hash {
				t.Error("it has one of its own")
			}
		}
	})
	t.Run("other namespace", func(t *testing.T) {
		rec := document(rand.New(rand.NewPCG(7, 8)), "blog", 1, 800)
		putAndGet(t, r, rec)
		if data := value(t, server, rec.Key.Name); data[3] != 1 {
			t.Errorf("version %d, want 1", data[3])
		}
	})
	t.Run("record that outlives it", func(t *testing.T) {
		rec := document(rand.New(rand.NewPCG(9, 1)), "shop", 3000, 800)
		rec.Expires = time.Now().Add(41 * 24 * time.Hour).UTC().Truncate(time.Millisecond)
		putAndGet(t, r, rec)
		if data := value(t, server, rec.Key.Name); data[3] != 1 {
			t.Errorf("version %d, want 1", data[3])
		}
	})
}

// Without its dictionary a record is absent, and no mistake of anybody.
func TestDictionaryMissing(t *testing.T) {
	server := miniredis.RunT(t)
	newTrained(t, server)
	rec := document(rand.New(rand.NewPCG(3, 4)), "shop", 1, 1<<10)
	var name string
	for _, key := range server.Keys() {
		if strings.Contains(key, "company:200:") {
			name = key
		}
	}
	rec.Key = store.Key{Full: name, Name: name}
	dictionary := fmt.Sprintf("cache::dict:%x", dictionaryOf(t, value(t, server, name)))
	content := value(t, server, dictionary)
	for _, broken := range []string{"", "garbage", content + "x", strings.Repeat("x", 1<<20)} {
		server.Del(dictionary)
		if broken != "" {
			if err := server.Set(dictionary, broken); err != nil {
				t.Fatal(err)
			}
		}
		other := store.NewRedis(newClient(t, server.Addr()), storetest.Prefix)
		for range 2 {
			if got, err := other.Get(t.Context(), rec.Key); got != nil || err != nil {
				t.Errorf("Get = %v, %v; want a miss", got, err)
			}
		}
		if other.DictionaryMisses() != 2 || other.Corrupt() != 0 {
			t.Errorf("%d misses for want of a dictionary, %d corrupt", other.DictionaryMisses(), other.Corrupt())
		}
		if err := other.Walk(t.Context(), func(string, *store.Record, int64) bool { return true }); err != nil {
			t.Error(err)
		}
	}
}

// A dictionary that could not be read is not missing: nobody waits to ask again, and
// a reader that gives up takes nobody along.
func TestDictionaryReadFails(t *testing.T) {
	server := miniredis.RunT(t)
	newTrained(t, server)
	replies := make(map[string]string)
	var key store.Key
	var dictionary string
	for _, name := range server.Keys() {
		replies["GET "+name] = bulk([]byte(value(t, server, name)))
		if strings.Contains(name, "company:200:") {
			key = store.Key{Full: name, Name: name}
			dictionary = fmt.Sprintf("GET cache::dict:%x", dictionaryOf(t, value(t, server, name)))
		}
	}
	fake := newFake(replies)
	content := replies[dictionary]
	get := func(r *store.Redis, patience time.Duration) (bool, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		rec, err := r.Get(ctx, key)
		return rec != nil, err
	}
	t.Run("refused once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := fake.tier(t)
			fake.set(dictionary, "-LOADING Redis is loading the dataset in memory\r\n")
			if found, err := get(r, time.Second); found || err == nil {
				t.Errorf("found %v, %v", found, err)
			}
			fake.set(dictionary, content)
			if found, err := get(r, time.Second); !found || err != nil {
				t.Errorf("found %v, %v right after", found, err)
			}
		})
	})
	t.Run("given up", func(t *testing.T) {
		fake.before = func(args []string) string {
			if len(args) > 1 && "GET "+args[1] == dictionary {
				time.Sleep(70 * time.Millisecond)
			}
			return ""
		}
		synctest.Test(t, func(t *testing.T) {
			r := fake.tier(t)
			go func() { _, _ = get(r, 50*time.Millisecond) }()
			time.Sleep(40 * time.Millisecond)
			if found, err := get(r, 50*time.Millisecond); !found || err != nil {
				t.Errorf("found %v, %v", found, err)
			}
		})
	})
}

// Whatever Redis lost is put again before the next record needs it.
func TestDictionaryIsPutAgain(t *testing.T) {
	server := miniredis.RunT(t)
	r := newTrained(t, server)
	server.FlushAll()
	r.Later()
	rec := document(rand.New(rand.NewPCG(5, 6)), "shop", 1000, 800)
	putAndGet(t, r, rec)
	hash := dictionaryOf(t, value(t, server, rec.Key.Name))
	for _, key := range []string{fmt.Sprintf("cache::dict:%x", hash), "cache::dict-of:shop"} {
		if server.TTL(key) < 39*24*time.Hour {
			t.Errorf("%s: TTL %v", key, server.TTL(key))
		}
	}

	t.Run("not used while it cannot be", func(t *testing.T) {
		client := newClient(t, server.Addr())
		client.AddHook(&refuse{command: fmt.Sprintf("set cache::dict:%x", hash)})
		failing := store.NewRedis(client, storetest.Prefix)
		for i := range 2 {
			rec := document(rand.New(rand.NewPCG(5, 6)), "shop", i, 800)
			putAndGet(t, failing, rec)
			failing.Train(t.Context())
		}
		server.FlushAll()
		failing.Later()
		putAndGet(t, failing, rec)
		if data := value(t, server, rec.Key.Name); data[3] != 1 {
			t.Errorf("version %d, want 1", data[3])
		}
	})
}

// A dictionary that Redis did not take costs a minute, not what was collected for it.
func TestDictionaryIsPublishedLater(t *testing.T) {
	server := miniredis.RunT(t)
	client := newClient(t, server.Addr())
	hook := &refuse{command: "set cache::dict"}
	client.AddHook(hook)
	r := store.NewRedis(client, storetest.Prefix)
	random := rand.New(rand.NewPCG(3, 4))
	put := func() string {
		rec := document(random, "shop", random.IntN(1e6), 800)
		putAndGet(t, r, rec)
		r.Train(t.Context())
		return value(t, server, rec.Key.Name)
	}
	for range 2 * store.TrainSamples {
		if data := put(); data[3] != 1 {
			t.Fatal("compressed with a dictionary that Redis does not have")
		}
	}
	asked := hook.refused.Load()
	for range 3 {
		put()
	}
	if n := hook.refused.Load(); asked == 0 || n != asked {
		t.Errorf("asked %d times in vain, and %d more at once", asked, n-asked)
	}
	hook.off.Store(true)
	r.Later()
	put()
	if data := put(); data[3] != 2 {
		t.Errorf("version %d, want 2", data[3])
	}
}

// refuse makes the commands fail that begin so.
type refuse struct {
	command string
	off     atomic.Bool
	refused atomic.Int32
}

func (h *refuse) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *refuse) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *refuse) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !h.off.Load() && strings.HasPrefix(cmd.String(), h.command) {
			h.refused.Add(1)
			cmd.SetErr(errors.New("refused"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

// A dictionary holds pieces of what it was trained from, so nobody's own
// response is a sample.
func TestDictionaryOfSharedResponsesOnly(t *testing.T) {
	for name, private := range map[string]func(*store.Record){
		"by_user":     func(r *store.Record) { r.User = "u" },
		"credentials": func(r *store.Record) { r.Private = true },
		"off":         func(r *store.Record) { r.MinEncode = 0 },
		"too large":   func(r *store.Record) { r.Body = bytes.Repeat(r.Body, 20) },
	} {
		t.Run(name, func(t *testing.T) {
			r, server := newRedis(t)
			random := rand.New(rand.NewPCG(3, 4))
			for i := range 3 * store.TrainSamples {
				rec := document(random, "shop", i, 800)
				private(rec)
				if err := r.Put(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				r.Train(t.Context())
			}
			for _, key := range server.Keys() {
				if strings.HasPrefix(key, "cache::") {
					t.Errorf("%s is there", key)
				}
			}
		})
	}
}

// Samples of which no good dictionary can be made do no harm.
func TestDictionaryOfOddSamples(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, body := range map[string]func() []byte{
		"empty": func() []byte { return nil },
		"noise": func() []byte {
			noise := make([]byte, 6<<10)
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			return noise
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRedis(t)
			for i := range 2 * store.TrainSamples {
				rec := document(random, "shop", i, 800)
				rec.Body = body()
				putAndGet(t, r, rec)
				r.Train(t.Context())
			}
		})
	}
}

func TestDictionariesAreBounded(t *testing.T) {
	r, _ := newRedis(t)
	for i := range 2000 {
		rec := document(rand.New(rand.NewPCG(1, 2)), fmt.Sprintf("n%d", i), i, 800)
		if err := r.Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		r.LoadDictionary(t.Context(), uint64(i))
	}
	if vocabularies, loaded := r.Dictionaries(); vocabularies > 32 || loaded > 64 {
		t.Errorf("%d vocabularies, %d dictionaries in memory", vocabularies, loaded)
	}
}
