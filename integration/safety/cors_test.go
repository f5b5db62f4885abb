package safety

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

const (
	appOrigin   = "Origin: https://app.test"
	otherOrigin = "Origin: https://other.test"
	ownOrigin   = "Origin: http://" + harness.SiteHost
)

// corsSite caches what says nothing, and lets a handler in front allow an origin.
const corsSite = `
	redis_cache /vary/* {
		ttl 10m
		vary_header Origin
	}
	header /front/* Access-Control-Allow-Origin https://app.test
	redis_cache {
		ttl 10m
		methods GET HEAD POST
		vary_body
	}`

// allow answers as CORS handlers do. which is what they allow for an Origin, "" for nothing.
func allow(o *harness.Origin, path string, which func(origin string) (allowed, vary string)) {
	o.Handle(path, func(w http.ResponseWriter, r *http.Request) {
		allowed, vary := which(r.Header.Get("Origin"))
		if allowed != "" {
			w.Header().Set("Access-Control-Allow-Origin", allowed)
		}
		if vary != "" {
			w.Header().Set("Vary", vary)
		}
		w.Header().Set("Etag", `"1"`)
		fmt.Fprintf(w, "%d for %q", o.Requests(), r.Header.Get("Origin"))
	})
}

// TestCrossOrigin asks for the same URL without an Origin, and with several, in both orders.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]harness.Layout{"memory": {}, "redis": {Redis: harness.StartRedis(t), Cache: "\tmemory off"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l.Origin, l.Site = harness.NewOrigin(t), corsSite
			n := &crossOrigin{harness.StartCaddy(t, l), make(map[string]string)}
			n.testCrossOrigin(t)
		})
	}
}

func (n *crossOrigin) testCrossOrigin(t *testing.T) {
	echo := func(origin string) (string, string) { return origin, "" }
	answers := map[string]func(string) (string, string){
		"none": func(string) (string, string) { return "", "" },
		"all":  func(string) (string, string) { return "*", "" },
		"asked": func(origin string) (string, string) { // as Express and Starlette do for everybody
			if origin == "" {
				return "", ""
			}
			return "*", ""
		},
		"echo": echo,
		"varied": func(origin string) (string, string) { // Starlette with a list
			if origin == "" {
				return "", ""
			}
			return origin, "Origin"
		},
		"fixed": func(string) (string, string) { return "https://app.test", "" },
		"listed": func(origin string) (string, string) {
			if origin != "https://app.test" {
				return "", "Origin"
			}
			return origin, "Origin"
		},
	}
	asks := []string{"", appOrigin, otherOrigin, "Origin: null", "Origin: https://" + harness.SiteHost, ownOrigin, "Origin: http://" + harness.SiteHost + ":8080", ""}
	for name, answer := range answers {
		for order, fields := range [][]string{asks, reversed(asks)} {
			path := fmt.Sprint("/cors/", name, order)
			allow(n.Layout.Origin, path, answer)
			for range 2 {
				for _, field := range fields {
					n.checkCrossOrigin(t, path, field, answer)
				}
			}
			before := n.Layout.Origin.Count(path)
			for _, field := range fields {
				n.checkCrossOrigin(t, path, field, answer)
			}
			if asked := n.Layout.Origin.Count(path) - before; asked != 0 {
				t.Errorf("%s: origin was asked %d times more", path, asked)
			}
			total := n.Layout.Origin.Count(path)
			if most := map[string]int{"none": 2, "all": 1, "asked": 2}[name]; most > 0 && total > most {
				t.Errorf("%s: origin was asked %d times, want %d at most", path, total, most)
			}
		}
	}
	n.testOriginMark(t)
}

// checkCrossOrigin wants of a stored response what the origin would answer, where a browser looks.
func (n *crossOrigin) checkCrossOrigin(t *testing.T, path, field string, answer func(string) (string, string)) {
	t.Helper()
	var fields []string
	_, origin, _ := strings.Cut(field, ": ")
	if field != "" {
		fields = append(fields, field)
	}
	want, _ := answer(origin)
	r := n.Get(t, path, fields...)
	got := r.Header.Get("Access-Control-Allow-Origin")
	if foreign := field != "" && field != ownOrigin; got != want && (foreign || got != "*") {
		t.Errorf("%s %q is %s with %q, want %q (%s)", path, field, r.Outcome(), got, want, r.Body)
	}
	n.settled(t, r)
}

// crossOrigin is a node that pages of several origins ask.
type crossOrigin struct {
	*harness.Node
	written map[string]string // what Redis had under a key when it was looked at last
}

// settled waits until Redis has what was stored.
func (n *crossOrigin) settled(t *testing.T, r harness.Reply) {
	t.Helper()
	if n.Layout.Redis == nil {
		return
	}
	value := func() string { return n.Layout.Redis.Client.Get(t.Context(), r.Key()).Val() }
	if r.CacheStatus(t)["stored"] != "" {
		harness.Eventually(t, "Redis has "+r.Key(), func() bool { return value() != n.written[r.Key()] })
	}
	n.written[r.Key()] = value()
}

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// testOriginMark follows the mark of a URL that does not care for Origin.
func (n *crossOrigin) testOriginMark(t *testing.T) {
	t.Helper()
	none := func(string) (string, string) { return "", "" }
	allow(n.Layout.Origin, "/mark", none)
	n.settled(t, n.Want(t, "MISS", "/mark"))
	n.settled(t, n.Want(t, "HIT", "/mark", ownOrigin))
	first := n.Want(t, "MISS", "/mark", appOrigin)
	if cs := first.CacheStatus(t); cs["fwd"] != "vary-miss" || cs["detail"] != "variant" {
		t.Errorf("%v", cs)
	}
	harness.Eventually(t, "the mark is stored", func() bool { return n.Get(t, "/mark", appOrigin).Outcome() == "HIT" })
	before := n.OriginRequests()
	for i := range 20 {
		n.Want(t, "HIT", "/mark", fmt.Sprintf("Origin: https://%d.test", i))
	}
	n.Want(t, "HIT", "HEAD /mark", otherOrigin)
	n.Want(t, "HIT", "/mark")
	if n.OriginRequests() != before {
		t.Error("origin was asked again")
	}

	// A 304 keeps it.
	fresh := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=1000")
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, n.OriginRequests())
	}
	n.Layout.Origin.With("/mark/304", "Cache-Control: max-age=0", `Etag: "1"`)
	n.settled(t, n.Want(t, "MISS", "/mark/304", appOrigin))
	n.Layout.Origin.Handle("/mark/304", fresh)
	harness.Eventually(t, "it is revalidated", func() bool { return n.Get(t, "/mark/304").Outcome() == "REVALIDATED" })
	harness.Eventually(t, "it is fresh", func() bool { return n.Get(t, "/mark/304").Outcome() == "HIT" })
	n.Want(t, "HIT", "/mark/304", otherOrigin)

	// POST, keys with Origin, and handlers in front.
	allow(n.Layout.Origin, "/post", func(origin string) (string, string) { return origin, "" })
	for _, outcome := range []string{"MISS", "HIT"} {
		for _, field := range []string{ownOrigin, appOrigin, otherOrigin} {
			r := n.Do(t, http.MethodPost, "/post", "{}", field)
			if got := r.Header.Get("Access-Control-Allow-Origin"); r.Outcome() != outcome || "Origin: "+got != field {
				t.Errorf("POST %s is %s with %q", field, r.Outcome(), got)
			}
			n.settled(t, r)
		}
	}
	for _, outcome := range []string{"MISS", "HIT"} {
		n.settled(t, n.Want(t, outcome, "/vary/x", appOrigin))
		n.settled(t, n.Want(t, outcome, "/vary/x", otherOrigin))
	}
	n.settled(t, n.Want(t, "MISS", "/front/x"))
	n.settled(t, n.Want(t, "MISS", "/front/x", appOrigin))
	harness.Eventually(t, "the mark is stored", func() bool { return n.Get(t, "/front/x", appOrigin).Outcome() == "HIT" })
	if r := n.Want(t, "HIT", "/front/x", appOrigin); r.Header.Get("Access-Control-Allow-Origin") != "https://app.test" {
		t.Errorf("in front: %v", r.Header)
	}
}

// TestCrossOriginTogether asks with and without an Origin at the same time.
func TestCrossOriginTogether(t *testing.T) {
	t.Parallel()
	n := harness.StartCaddy(t, harness.Layout{Origin: harness.NewOrigin(t), Site: corsSite})
	for _, name := range []string{"echo", "none"} {
		path := "/together/" + name
		started, release := make(chan struct{}, 64), make(chan struct{})
		n.Layout.Origin.Handle(path, func(w http.ResponseWriter, r *http.Request) {
			started <- struct{}{}
			if name == "echo" && r.Header.Get("Origin") != "" {
				w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			}
			fmt.Fprintf(w, "for %q", r.Header.Get("Origin"))
			http.NewResponseController(w).Flush()
			<-release
		})
		var group sync.WaitGroup
		ask := func(fields ...string) {
			group.Go(func() {
				r, err := n.Try(t.Context(), http.MethodGet, path, "", fields...)
				want := strings.TrimPrefix(strings.Join(fields, ""), "Origin: ")
				if got := r.Header.Get("Access-Control-Allow-Origin"); err != nil || name == "echo" && got != want {
					t.Errorf("%s %q: %q %v", path, fields, got, err)
				}
			})
		}
		ask()
		<-started
		for range 5 {
			ask(appOrigin)
			ask(otherOrigin)
		}
		<-started
		close(release)
		group.Wait()
		if asked := n.Layout.Origin.Count(path); name == "none" && asked > 3 {
			t.Errorf("%s: origin was asked %d times", path, asked)
		}
	}
}

// TestCrossOriginFleet: what one node has found out another one knows.
func TestCrossOriginFleet(t *testing.T) {
	t.Parallel()
	l := harness.Layout{Redis: harness.StartRedis(t), Origin: harness.NewOrigin(t), Site: corsSite}
	one, two := &crossOrigin{harness.StartCaddy(t, l), make(map[string]string)}, harness.StartCaddy(t, l)
	one.settled(t, one.Want(t, "MISS", "/fleet"))
	two.Want(t, "HIT", "/fleet")
	one.Want(t, "MISS", "/fleet", appOrigin)
	harness.Eventually(t, "the other node learns of it", func() bool { return two.Get(t, "/fleet", otherOrigin).Outcome() == "HIT" })
	if asked := l.Origin.Count("/fleet"); asked > 3 {
		t.Errorf("origin was asked %d times", asked)
	}
}
