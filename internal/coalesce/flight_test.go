package coalesce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// follower is a request that follows a flight and writes down what it got.
type follower struct {
	header *string
	how    Ending
	body   strings.Builder
	err    error
	took   time.Duration
}

func startFollower(t *testing.T, ctx context.Context, g *Group[string], id ID) *follower {
	t.Helper()
	f, leads := g.Join(id, true)
	if leads {
		t.Fatal("it leads, want it to follow")
	}
	fo := new(follower)
	go func() {
		defer f.Leave()
		start := time.Now()
		fo.header, fo.how, fo.err = f.Header(ctx, time.Minute)
		fo.took = time.Since(start)
		if fo.header == nil {
			return
		}
		for r := f.Reader(); ; {
			body, _, how, err := r.Next(ctx, 0)
			fo.body.Write(body)
			if fo.how, fo.err = how, err; how != Flying || err != nil {
				return
			}
		}
	}()
	return fo
}

func (f *follower) String() string {
	header := "none"
	if f.header != nil {
		header = *f.header
	}
	return fmt.Sprintf("header %s, ending %d, body %q, error %v, after %s", header, f.how, f.body.String(), f.err, f.took)
}

var someID = IDOf("some key")

func TestFollowersReadWhileTheBodyArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		f, leads := g.Join(someID, true)
		if !leads {
			t.Fatal("the first one does not lead")
		}
		early := startFollower(t, t.Context(), &g, someID)
		time.Sleep(time.Second)
		header := "h"
		f.Share(&header, -1)
		synctest.Wait()
		if early.header == nil || early.took != time.Second || early.how != Flying {
			t.Errorf("%s: want the header after a second", early)
		}
		f.Write([]byte("one "))
		synctest.Wait()
		late := startFollower(t, t.Context(), &g, someID)
		synctest.Wait()
		for _, fo := range []*follower{early, late} {
			if fo.body.String() != "one " {
				t.Errorf("%s: want what there is", fo)
			}
		}
		f.Write([]byte("two"))
		if f.Followers() != 2 || g.Len() != 1 {
			t.Errorf("%d followers, %d flights", f.Followers(), g.Len())
		}
		f.End(Complete)
		synctest.Wait()
		for _, fo := range []*follower{early, late} {
			if fo.body.String() != "one two" || fo.how != Complete {
				t.Errorf("%s: want all of it", fo)
			}
		}
		if f.Followers() != 0 || g.Len() != 0 || g.followers != 0 || g.Ended() != 1 {
			t.Errorf("%d followers of %d, %d flights, %d ended", f.Followers(), g.followers, g.Len(), g.Ended())
		}
	})
}

func TestEndings(t *testing.T) {
	for _, how := range []Ending{Alone, Again} {
		synctest.Test(t, func(t *testing.T) {
			var g Group[string]
			f, _ := g.Join(someID, true)
			fo := startFollower(t, t.Context(), &g, someID)
			synctest.Wait()
			f.End(how)
			synctest.Wait()
			if fo.header != nil || fo.how != how || fo.err != nil {
				t.Errorf("%s: want ending %d and no header", fo, how)
			}
			if f.End(Complete); f.ending != how {
				t.Error("a flight ended twice")
			}
			if _, leads := g.Join(someID, true); !leads {
				t.Error("an ended flight is still there")
			}
		})
	}
	for _, how := range []Ending{Broken, TooLarge} {
		synctest.Test(t, func(t *testing.T) {
			var g Group[string]
			f, _ := g.Join(someID, true)
			fo := startFollower(t, t.Context(), &g, someID)
			header := "h"
			f.Share(&header, 10)
			f.Write([]byte("half"))
			f.End(how)
			synctest.Wait()
			if fo.body.String() != "half" || fo.how != how {
				t.Errorf("%s: want half of it and ending %d", fo, how)
			}
		})
	}
}

func TestFollowerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		f, _ := g.Join(someID, true)
		defer f.End(Again)
		ctx, cancel := context.WithCancel(t.Context())
		slow := startFollower(t, t.Context(), &g, someID)
		gone := startFollower(t, ctx, &g, someID)
		time.Sleep(time.Second)
		cancel()
		time.Sleep(time.Hour)
		synctest.Wait()
		if !errors.Is(slow.err, ErrTooSlow) || slow.took != time.Minute {
			t.Errorf("%s: want it to give up after a minute", slow)
		}
		if !errors.Is(gone.err, context.Canceled) || gone.took != time.Second {
			t.Errorf("%s: want it to leave with its client", gone)
		}
		if f.Followers() != 0 {
			t.Errorf("%d followers left", f.Followers())
		}
	})
}

func TestRetired(t *testing.T) {
	var g Group[string]
	old, _ := g.Join(someID, true)
	old.Retire()
	newer, leads := g.Join(someID, true)
	if !leads {
		t.Fatal("a retired flight takes followers")
	}
	old.End(Complete)
	if f, leads := g.Join(someID, true); leads || f != newer {
		t.Error("the end of a retired flight took the newer one with it")
	}
	newer.End(Complete)
}

func TestWhoMayJoin(t *testing.T) {
	var g Group[string]
	if f, leads := g.Join(someID, false); f != nil || leads {
		t.Error("who may not lead leads")
	}
	f, _ := g.Join(someID, true)
	g.followers = maxFollowers
	if other, leads := g.Join(someID, true); other != nil || leads {
		t.Error("there is no bound for followers")
	}
	f.End(Again)
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		f, _ := g.Join(someID, true)
		header := "h"
		f.Share(&header, -1)
		r := f.Reader()
		f.Flush() // of the header alone
		if body, flush, _, _ := r.Next(t.Context(), 0); len(body) > 0 || !flush {
			t.Errorf("%q, flush %t: want a flush", body, flush)
		}
		f.Write([]byte("a"))
		if body, flush, _, _ := r.Next(t.Context(), 0); string(body) != "a" || flush {
			t.Errorf("%q, flush %t: want a and no flush", body, flush)
		}
		f.Write([]byte("b"))
		f.Flush()
		if body, flush, _, _ := r.Next(t.Context(), 0); string(body) != "b" || flush {
			t.Errorf("%q, flush %t: want b first", body, flush)
		}
		if body, flush, _, _ := r.Next(t.Context(), 0); len(body) > 0 || !flush {
			t.Errorf("%q, flush %t: want a flush", body, flush)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if body, _, _, err := r.Next(ctx, 0); err == nil {
			t.Errorf("%q: want it to wait", body)
		}
		f.End(Complete)
	})
}

// Everybody joins, leads, follows, ends and leaves at random; each body comes
// whole, and nothing is left.
func TestFlightsAtRandom(t *testing.T) {
	var g Group[int]
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 500 {
				f, leads := g.Join(IDOf(fmt.Sprint(rng.IntN(4))), rng.IntN(8) > 0)
				switch {
				case leads:
					leadAtRandom(f, rng)
				case f != nil:
					followAtRandom(t, f, rng)
				}
			}
		})
	}
	wg.Wait()
	if g.Len() != 0 || g.followers != 0 {
		t.Errorf("%d flights and %d followers left", g.Len(), g.followers)
	}
}

func leadAtRandom(f *Flight[int], rng *rand.Rand) {
	if rng.IntN(4) == 0 {
		f.End(Again)
		return
	}
	size := rng.IntN(1000)
	f.Share(&size, int64(rng.IntN(2)*size))
	for n := 0; n < size; {
		k := min(1+rng.IntN(100), size-n)
		f.Write(make([]byte, k))
		n += k
	}
	f.End(Complete)
}

func followAtRandom(t *testing.T, f *Flight[int], rng *rand.Rand) {
	defer f.Leave()
	size, _, err := f.Header(t.Context(), time.Minute)
	if err != nil || size == nil || rng.IntN(4) == 0 {
		return
	}
	read := 0
	for r := f.Reader(); ; {
		body, _, how, err := r.Next(t.Context(), 0)
		read += len(body)
		if err != nil || how != Flying {
			break
		}
	}
	if read != *size {
		t.Errorf("read %d bytes of %d", read, *size)
	}
}

// What bodies take is given back when neither leader nor followers read them.
func TestRoom(t *testing.T) {
	var g Group[int]
	want := func(held int64) {
		t.Helper()
		if got := g.Held(); got != held {
			t.Errorf("%d bytes are held, want %d", got, held)
		}
	}
	id := IDOf("a")
	f, _ := g.Join(id, true)
	f.Share(new(int), 0)
	follower, leads := g.Join(id, true)
	if leads || follower != f || !f.Room(60, 100) {
		t.Fatal("no follower, or no room")
	}
	f.Write(make([]byte, 50))
	if !f.Room(10, 100) || f.Room(51, 100) {
		t.Error("what was taken counts twice, or more than there is was given")
	}
	want(60)
	other, _ := g.Join(IDOf("b"), true)
	if other.Room(41, 100) || !other.Room(40, 100) {
		t.Error("flights are not bounded together")
	}
	other.End(Again)
	other.Land()
	want(60)
	f.End(Complete)
	f.Land()
	want(60)
	follower.Leave()
	want(0)
}
