package journal

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"testing"
)

// requestTable is a table for some purges by requests.
func requestTable(limit int) *table {
	j := New(Options{Prefix: "cache", MaxRequestMarks: limit, MaxMarks: 1000})
	return j.newTable()
}

func subjectOn(host, path string) *Subject {
	s := subjectAt(Position{})
	s.URL = "https://" + host + path
	return s
}

func at(ms int) ID { return ID{uint64(ms), 0} }

func wantFrom(t *testing.T, table *table, s *Subject, after ID, want Verdict) {
	t.Helper()
	if got := table.check(s, after); got != want {
		t.Errorf("%s from %v: %s, want %s", s.URL, after, got, want)
	}
}

// What requests purge means the same whichever part of the table holds it.
func TestRequestsMeanWhatOperatorsMean(t *testing.T) {
	long := "tag" + string(make([]byte, 2*maxValue))
	records := []*Subject{
		subjectAt(Position{}), subjectOn("shop.test", "/a"), subjectOn("shop.test:8443", "/a?x=1"), subjectOn("[::1]:80", "/"),
		{Namespace: "n", Identifier: "i", Key: "cache:n:i", BaseKey: "cache:n:base", Tags: []string{long, "https://shop.test#g"}},
	}
	for _, selector := range []Selector{
		{KindURL, "https://shop.test/a"},
		{KindURL, "https://shop.test:8443/a?x=1"},
		{KindURL, "https://shop.test:8443/a"},
		{KindHost, "shop.test"},
		{KindHost, "shop.test:443"},
		{KindHost, "shop.test:8443"},
		{KindHost, "[::1]"},
		{KindPrefix, "https://shop.test/"},
		{KindPrefix, "https://shop"},
		{KindNamespace, "pickup"},
		{KindKey, "pickup:item:7"},
		{KindKey, "n:base"},
		{KindTag, "pickup-7"},
		{KindTag, digest(long)},
		{KindTag, "https://shop.test#g"},
		{KindUser, someUser},
		{KindPattern, "pickup:item:*"},
		{KindPattern, "*:i"},
		{KindAll, ""},
	} {
		selector, err := selector.Normalize("cache")
		if err != nil {
			t.Fatal(err)
		}
		byOperator, byRequest := requestTable(100), requestTable(100)
		byOperator.apply([]Selector{selector}, false, at(10))
		byRequest.applyRequest([]Selector{selector}, at(10))
		covers := false
		for _, s := range records {
			for _, after := range []ID{{}, at(9), at(10), at(11)} {
				want := byOperator.check(s, after)
				wantFrom(t, byRequest, s, after, want)
				covers = covers || want == Covered
			}
		}
		if !covers {
			t.Errorf("%s covers nothing", selector)
		}
		if byRequest.units > 0 {
			t.Errorf("%s takes room of what operators purge", selector)
		}
		// Once it is forgotten, what it covered is absent, and what it did not cover of
		// another room is as it was.
		byRequest.foldRequests(math.MaxUint64)
		byRequest.forget(byRequest.requests.everything())
		for _, s := range records {
			if byOperator.check(s, at(9)) == Covered {
				wantFrom(t, byRequest, s, at(9), Absent)
			}
			wantFrom(t, byRequest, s, at(10), Valid)
		}
		if byRequest.floor != (ID{}) {
			t.Errorf("%s raises the floor of everything", selector)
		}
	}
}

// Whoever floods one host loses what is remembered of that host.
func TestFloodOfOneHost(t *testing.T) {
	const limit = 1000
	table := requestTable(limit)
	table.apply([]Selector{{KindTag, "by an operator"}}, false, at(1))
	table.applyRequest([]Selector{{KindURL, "https://quiet.test/a"}}, at(2))
	const n = 20 * limit
	for i := range n {
		table.applyRequest([]Selector{{KindURL, fmt.Sprintf("https://busy.test/%d", i)}}, at(10+i))
		if table.requests.used > limit {
			t.Fatalf("%d marks, limit %d", table.requests.used, limit)
		}
	}
	tagged := subjectOn("other.test", "/")
	tagged.Tags = []string{"by an operator"}
	wantFrom(t, table, tagged, ID{}, Covered)
	wantFrom(t, table, tagged, at(1), Valid)
	wantFrom(t, table, subjectOn("quiet.test", "/a"), at(1), Covered)
	wantFrom(t, table, subjectOn("quiet.test", "/b"), ID{}, Valid)
	wantFrom(t, table, subjectOn("busy.test", "/never"), at(9), Absent)
	wantFrom(t, table, subjectOn("busy.test", "/0"), at(9), Absent)
	wantFrom(t, table, subjectOn("busy.test", fmt.Sprint("/", n-1)), at(9+n-1), Covered)
	wantFrom(t, table, subjectOn("busy.test", "/never"), at(9+n-limit/2), Valid)
	if table.floor != (ID{}) || table.units != 1 {
		t.Errorf("the floor is %v, %d units", table.floor, table.units)
	}
}

// Hosts that clients make up leave an equal share to those that are.
func TestFloodOfManyHosts(t *testing.T) {
	const limit, few = 10_000, 100
	table := requestTable(limit)
	for i := range few {
		table.applyRequest([]Selector{{KindURL, fmt.Sprintf("https://real.test/%d", i)}}, at(1+i))
	}
	for i := range 3 * limit {
		table.applyRequest([]Selector{{KindURL, fmt.Sprintf("https://made-up-%d.test/%d", i%50, i)}}, at(1000+i))
		if table.requests.used > limit {
			t.Fatalf("%d marks, limit %d", table.requests.used, limit)
		}
	}
	for i := range few {
		wantFrom(t, table, subjectOn("real.test", fmt.Sprint("/", i)), at(i), Covered)
	}
	wantFrom(t, table, subjectOn("real.test", "/other"), ID{}, Valid)
	for i := range 200 * limit {
		table.applyRequest([]Selector{{KindHost, fmt.Sprintf("h%d.test", i)}}, at(100_000+i))
	}
	if used, floors := table.requests.used, len(table.requests.floors); used > limit || floors > numRooms {
		t.Errorf("%d marks, %d floors", used, floors)
	}
	if v := table.check(subjectOn("real.test", "/0"), ID{}); v < Covered {
		t.Errorf("what was purged is %s", v)
	}
}

// Patterns and prefixes of requests are bounded, in all groups together.
func TestFloodOfPrefixes(t *testing.T) {
	table := requestTable(1000)
	for i := range 2 * maxRequestRanges {
		table.applyRequest([]Selector{{KindPrefix, fmt.Sprintf("https://h%d.test/", i)}, {KindPattern, fmt.Sprintf("n%d:*", i)}}, at(1+i))
	}
	ranges := 0
	for _, list := range table.ranges {
		for i := range list {
			ranges += list[i].units()
		}
	}
	if ranges != table.requests.ranges || ranges > maxRequestRanges+100 {
		t.Errorf("%d units, %d counted", ranges, table.requests.ranges)
	}
	for _, i := range []int{0, 1, maxRequestRanges, 2*maxRequestRanges - 1} {
		if v := table.check(subjectOn(fmt.Sprintf("h%d.test", i), "/x"), at(i)); v < Covered {
			t.Errorf("the purge %d is forgotten: %s", i, v)
		}
	}
	if table.units > 0 || table.floor != (ID{}) {
		t.Errorf("%d units of operators, the floor is %v", table.units, table.floor)
	}
}

// No ID is remembered as an earlier one.
func TestShortIDsCoverMore(t *testing.T) {
	for _, id := range []ID{
		{1, 0},
		{0, 1},
		{1, 65535},
		{1, 65536},
		{1, 1 << 40},
		{1<<48 - 1, 0},
		{1<<48 - 1, 65535},
		{1<<48 - 1, 65536},
		{1 << 48, 0},
		{1<<63 + 7, 3},
		maxID,
		{math.MaxUint64, 0},
	} {
		short, ok := shorten(id)
		switch fits := id.Ms < 1<<48 && (id.Seq < 1<<16 || id.Ms < 1<<48-1); {
		case ok != fits:
			t.Errorf("%v: fits %t, want %t", id, ok, fits)
		case ok && short.id().Before(id):
			t.Errorf("%v becomes %v", id, short.id())
		case ok && id.Seq < 1<<16 && short.id() != id:
			t.Errorf("%v becomes %v, want it exact", id, short.id())
		}
		table := requestTable(10)
		table.applyRequest([]Selector{{KindURL, "https://shop.test/a"}}, id)
		before := id
		if before.Seq--; id.Seq == 0 {
			before = ID{id.Ms - 1, math.MaxUint64}
		}
		wantFrom(t, table, subjectOn("shop.test", "/a"), before, Covered)
		wantFrom(t, table, subjectOn("shop.test", "/b"), before, Valid)
	}
}

func TestOldRequestMarksExpire(t *testing.T) {
	table := requestTable(100)
	table.applyRequest([]Selector{{KindURL, "https://shop.test/old"}, {KindPrefix, "https://shop.test/x"}}, at(10))
	table.applyRequest([]Selector{{KindURL, "https://shop.test/new"}}, at(30))
	table.expire(20)
	table.expire(20) // a prefix takes two
	if n := table.requests.used; n != 1 || table.floor != (ID{}) || table.requests.ranges != 0 {
		t.Errorf("%d marks above %v, want the new one", n, table.floor)
	}
	wantFrom(t, table, subjectOn("shop.test", "/y"), at(9), Absent)
	wantFrom(t, table, subjectOn("shop.test", "/new"), at(10), Covered)
	wantFrom(t, table, subjectOn("shop.test", "/y"), at(10), Valid)
}

func TestFairShare(t *testing.T) {
	for _, tt := range []struct {
		counts      []int
		want        int
		share, over int
	}{
		{[]int{0, 0, 1000}, 750, 750, 1000},
		{[]int{10, 500, 500}, 750, 370, 1000},
		{[]int{5, 5, 5}, 3, 1, 15},
		{[]int{5, 5, 5}, 2, 0, 15},
		{[]int{1, 2, 3}, 100, 3, 0},
	} {
		share, over := fairShare(slices.Clone(tt.counts), tt.want)
		if share != tt.share || over != tt.over {
			t.Errorf("%v for %d: %d each, %d in rooms with more, want %d and %d", tt.counts, tt.want, share, over, tt.share, tt.over)
		}
	}
}

// A pattern that becomes a purge of its namespace leaves a later one as it is.
func TestOldPatternBesideNewerNamespace(t *testing.T) {
	table := requestTable(1000)
	table.applyRequest([]Selector{{KindPattern, "pickup:old*"}}, at(1))
	table.applyRequest([]Selector{{KindNamespace, "pickup"}}, at(10))
	for i := range maxRanges {
		table.applyRequest([]Selector{{KindPattern, fmt.Sprintf("pickup:%d*", i)}}, at(20+i))
	}
	wantFrom(t, table, subjectAt(Position{}), at(5), Covered)
	wantFrom(t, table, subjectAt(Position{}), at(10), Valid)
}

// Three million purges by requests take 64 MiB.
func TestRequestMarksMemory(t *testing.T) {
	before := heap()
	table := requestTable(maxRequestMarks)
	table.requests.slots = make([]requestMark, 1<<21)
	for i := range 3 << 19 {
		table.requests.put(uint64(i)*0x9e3779b97f4a7c15, shortID(i+1))
	}
	if used := heap() - before; used > 33<<20 || len(table.requests.slots) != 1<<21 {
		t.Errorf("%d MiB for half of what may be", used>>20)
	}
	runtime.KeepAlive(table)
}

// BenchmarkFlood applies two million purges by requests of distinct URLs to a table
// that keeps them with those of operators, as once, and to one that keeps them apart.
// It reports what a mark takes, and of a response that was stored before whether it is
// still valid, and of one that an operator had purged whether that is still known.
func BenchmarkFlood(b *testing.B) {
	const posts = 2_000_000
	var took [2]float64
	for i, name := range []string{"together", "apart"} {
		b.Run(name, func(b *testing.B) {
			before := heap()
			var table *table
			for b.Loop() {
				table = New(Options{Prefix: "cache"}).newTable()
				table.apply([]Selector{{KindTag, "pickup-7"}}, false, at(1))
				for n := range posts {
					selectors := []Selector{{KindURL, "https://flooded.test/comments/" + strconv.Itoa(n)}}
					if i == 0 {
						table.apply(selectors, false, at(10+n))
						table.bound()
					} else {
						table.applyRequest(selectors, at(10+n))
					}
				}
			}
			took[i] = b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
			b.ReportMetric(1e9*took[i]/posts, "ns/purge")
			stored, purged := subjectOn("shop.test", "/"), subjectOn("shop.test", "/")
			stored.Tags = nil
			b.ReportMetric(oneIf(table.check(stored, at(2)) == Valid), "stored-is-valid")
			b.ReportMetric(oneIf(table.check(purged, ID{}) == Covered), "purge-is-known")
			if i == 1 {
				b.ReportMetric(took[1]/took[0], "times-as-long")
			}
			runtime.KeepAlive(table)
		})
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
