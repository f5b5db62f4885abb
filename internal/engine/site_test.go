package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a cache in front of a scripted origin, in memory only.
type site struct {
	t       testing.TB
	route   *Route
	memory  *store.Memory
	options policy
	origin  http.HandlerFunc
	err     error // of the handlers behind, in place of the origin
	// errAfter is what they return after the origin has answered.
	errAfter  error
	fetches   atomic.Int32
	collapsed atomic.Int32

	mu       sync.Mutex
	outcomes []string // with the tiers that answered
}

// newSite makes a cache of its own with the options of a policy, as users name them; only
// those that the tests here need, and no matchers.
func newSite(t testing.TB, options string, origin http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, origin: origin}
	var j *journal.Journal
	check := func(rec *store.Record, upTo journal.Checked) (journal.Verdict, journal.Checked) {
		return Check(j, rec, upTo)
	}
	s.memory = store.NewMemory(64<<20, check)
	tiered := store.NewTiered(s.memory, nil, store.Options{Check: check})
	j = journal.New(journal.Options{
		Prefix: "cache", MaxAge: MaxLifetime,
		URLForms: func(url string) []string {
			base, query, _ := strings.Cut(url, "?")
			return []string{url, s.route.Key.Query.URL(base, query)}
		},
	})
	decoder := json.NewDecoder(strings.NewReader(options))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s.options); err != nil {
		t.Fatal(err)
	}
	s.route = s.options.route(NewCache(tiered, j, nil))
	tiered.Start()
	j.Start()
	t.Cleanup(s.close)
	return s
}

// close ends the cache.
func (s *site) close() {
	s.route.Cache.Journal.Close(context.Background())
	s.route.Cache.Store.Close()
}

// policy holds options as config does.
type policy struct {
	TTL                  *ttl           `json:"ttl"`
	TTLStatus            []statusTTL    `json:"ttl_status"`
	Jitter               *float64       `json:"jitter"`
	StaleWhileRevalidate time.Duration  `json:"stale_while_revalidate"`
	StaleIfError         *time.Duration `json:"stale_if_error"`
	MaxBody              int64          `json:"max_body"`
	VaryBody             int64          `json:"vary_body"`
	Methods              []string       `json:"methods"`
	ClientCacheControl   string         `json:"client_cache_control"`
	Coalesce             string         `json:"coalesce"`
	RefreshAhead         string         `json:"refresh_ahead"`
	ByUser               string         `json:"by_user"`
	Shared               bool           `json:"shared"`
	IgnoreCookies        []string       `json:"ignore_cookies"`
	SetCookie            string         `json:"set_cookie"`
	Diagnostics          string         `json:"diagnostics"`
	Tags                 []string       `json:"tags"`
	TagHeader            *struct {
		Names []string `json:"names"`
		Keep  bool     `json:"keep"`
	} `json:"tag_header"`
	Key *struct {
		Template string `json:"template"`
		Exact    bool   `json:"exact"`
	} `json:"key"`
	VaryQuery  *cachekey.Query `json:"vary_query"`
	VaryHeader []string        `json:"vary_header"`
	NoStore    []string        `json:"no_store"` // fields
	Invalidate []struct {
		Selector string   `json:"selector"`
		Values   []string `json:"values"`
	} `json:"invalidate"`
}

type ttl struct {
	Duration time.Duration `json:"duration"`
	Override bool          `json:"override"`
}

func (t *ttl) compile() *TTL {
	if t == nil {
		return nil
	}
	return &TTL{Duration: t.Duration, Override: t.Override}
}

type statusTTL struct {
	ttl
	Status []int `json:"status"`
}

// route compiles the options.
func (p *policy) route(c *Cache) *Route {
	rt := NewRoute(c, cachekey.Spec{
		Prefix: "cache", Namespace: "general", Query: p.VaryQuery, Headers: p.VaryHeader, Templated: p.Key != nil, Exact: p.Key != nil && p.Key.Exact,
	})
	rt.Secret = []byte("secret")
	lifetime := p.TTL.compile()
	rt.Lifetime = func(*http.Request, bool) *TTL { return lifetime }
	rt.StatusLifetime = func(status int, ofRequest *TTL) *TTL {
		for _, rule := range p.TTLStatus {
			if slices.Contains(rule.Status, status) {
				return rule.compile()
			}
		}
		if status < 400 && status != http.StatusFound {
			return ofRequest
		}
		return nil
	}
	if p.Jitter != nil {
		rt.Jitter = *p.Jitter
	}
	rt.StaleWhileRevalidate = p.StaleWhileRevalidate
	if p.StaleIfError != nil {
		rt.StaleIfError = *p.StaleIfError
	}
	if p.MaxBody > 0 {
		rt.MaxBody = p.MaxBody
	}
	if p.VaryBody > 0 {
		rt.VaryBody = p.VaryBody
	}
	if len(p.Methods) > 0 {
		rt.Methods = p.Methods
	}
	rt.IsFailure = func(err error) bool {
		var status statusError
		return !errors.As(err, &status) || status >= http.StatusInternalServerError
	}
	rt.HonorsClient = p.ClientCacheControl == "honor"
	rt.Coalesce, rt.RefreshAhead = p.Coalesce != "off", p.RefreshAhead == "on"
	rt.ByUser, rt.Shared = p.ByUser != "", p.Shared
	rt.IgnoresCookie = func(name string) bool {
		return slices.ContainsFunc(p.IgnoreCookies, func(pattern string) bool { return glob.Match(pattern, name) })
	}
	if p.SetCookie == "strip" {
		rt.SetCookie = StripCookies
	}
	level := map[string]Diagnostics{"minimal": DiagnosticsMinimal, "off": DiagnosticsOff}[p.Diagnostics]
	rt.Diagnostics = func(*http.Request) Diagnostics { return level }
	if h := p.TagHeader; h != nil {
		rt.TagFields, rt.RemovedTagFields = h.Names, h.Names
		if h.Keep {
			rt.RemovedTagFields = nil
		}
	}
	if len(p.NoStore) > 0 {
		rt.Refuses = func(_ int, header http.Header) bool {
			return slices.ContainsFunc(p.NoStore, func(name string) bool { return header.Get(name) != "" })
		}
	}
	for range p.Invalidate {
		rt.Invalidations = append(rt.Invalidations, Invalidation{Matches: func(_ *http.Request, unsafe bool) bool { return unsafe }})
	}
	return rt
}

// ServeHTTP answers as a server would, with an error as the answer of an error route.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "a server")
	if err := s.serve(w, r); err != nil {
		w.WriteHeader(http.StatusBadGateway)
	}
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) error {
	up := &upstream{site: s, w: w, user: new(atomic.Pointer[string])}
	up.r = r.WithContext(context.WithValue(r.Context(), userKey{}, up.user))
	path, query := cachekey.SplitURI(r.URL, r.RequestURI)
	target := cachekey.Target{
		Scheme: "http", URLScheme: "http", Host: cachekey.NormalHost("http", r.Host), Path: path, Query: query, RewrittenQuery: r.URL.RawQuery,
	}
	var a Answer
	a.Begin(s.route, w, up.r, up, &target)
	defer func() {
		out := a.End()
		if out.Collapsed {
			s.collapsed.Add(1)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.outcomes = append(s.outcomes, out.Result.String()+" "+out.AnsweredBy().String())
	}()
	return a.Serve()
}

// upstream is what surrounds the cache for one request.
type upstream struct {
	site *site
	w    http.ResponseWriter
	r    *http.Request
	user *atomic.Pointer[string]
}

// statusError is an error with the status that an error route answers.
type statusError int

func (e statusError) Error() string { return http.StatusText(int(e)) }

type userKey struct{}

// authenticate is what an authentication handler does.
func authenticate(r *http.Request, user string) {
	known, _ := r.Context().Value(userKey{}).(*atomic.Pointer[string])
	known.Store(&user)
}

func (u *upstream) Serve(w http.ResponseWriter, r *http.Request) error {
	u.site.fetches.Add(1)
	if u.site.err != nil {
		return u.site.err
	}
	u.site.origin(w, r)
	return u.site.errAfter
}

func (u *upstream) Again(came *http.Request, _ http.ResponseWriter, body []byte) *http.Request {
	came.Body = io.NopCloser(bytes.NewReader(body))
	return came
}

func (u *upstream) Nobody(came *http.Request, w http.ResponseWriter, body []byte, _ func() *Outcome) (*http.Request, Upstream) {
	if u.UserID() != "" {
		return nil, nil
	}
	nobody := &upstream{site: u.site, w: w, user: new(atomic.Pointer[string])}
	r := came.Clone(context.WithValue(context.WithoutCancel(came.Context()), userKey{}, nobody.user))
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet
	}
	r.Header.Del("Cookie")
	r.Header.Del("Authorization")
	DropConditions(r.Header)
	nobody.r = u.Again(r, w, body)
	return nobody.r, nobody
}

func (u *upstream) Presents(r *http.Request) bool {
	return len(r.Header["Cookie"])+len(r.Header["Authorization"]) > 0
}

func (u *upstream) Unstorable() bool { return false }

func (u *upstream) UserID() string {
	if user := u.user.Load(); user != nil {
		return *user
	}
	return ""
}

func (u *upstream) Identity(*http.Request) string { return "" }

func (u *upstream) User() string { return u.expand(u.site.options.ByUser) }

func (u *upstream) Identifier() (identifier, missing string, ok bool) {
	key := u.site.options.Key
	ok = true
	identifier = u.replace(key.Template, func(name, value string) string {
		if value == "" && key.Exact {
			missing, ok = name, false
		}
		return cachekey.Escape(value)
	})
	return identifier, missing, ok
}

func (u *upstream) Tags() []string {
	var tags []string
	for _, template := range u.site.options.Tags {
		tags = append(tags, u.expand(template))
	}
	return tags
}

func (u *upstream) Selectors(rule int) []journal.Selector {
	var selectors []journal.Selector
	for _, value := range u.site.options.Invalidate[rule].Values {
		for kind := journal.KindNamespace; kind <= journal.KindAll; kind++ {
			if kind.String() == u.site.options.Invalidate[rule].Selector {
				selectors = append(selectors, journal.Selector{Kind: kind, Value: u.expand(value)})
			}
		}
	}
	return selectors
}

func (u *upstream) expand(template string) string {
	return u.replace(template, func(_, value string) string { return value })
}

// replace replaces {http.request.*} and {http.response.header.*}.
func (u *upstream) replace(template string, write func(name, value string) string) string {
	var out strings.Builder
	for {
		literal, rest, found := strings.Cut(template, "{")
		out.WriteString(literal)
		if !found {
			return out.String()
		}
		var name, value string
		name, template, _ = strings.Cut(rest, "}")
		switch kind, of, _ := strings.Cut(strings.TrimPrefix(name, "http."), ".header."); {
		case kind == "request":
			value = u.r.Header.Get(of)
		case kind == "response":
			value = u.w.Header().Get(of)
		case strings.HasPrefix(kind, "request.cookie."):
			if cookie, err := u.r.Cookie(strings.TrimPrefix(kind, "request.cookie.")); err == nil {
				value = cookie.Value
			}
		case strings.HasPrefix(kind, "request.uri.query."):
			value = u.r.URL.Query().Get(strings.TrimPrefix(kind, "request.uri.query."))
		case kind == "request.uri.path":
			value = u.r.URL.Path
		default:
			u.site.t.Errorf("unknown placeholder %s", name)
		}
		out.WriteString(write(name, value))
	}
}

// get sends a GET request.
func (s *site) get(uri string, fields ...string) *httptest.ResponseRecorder {
	return s.do(http.MethodGet, uri, fields...)
}

func (s *site) do(method, uri string, fields ...string) *httptest.ResponseRecorder {
	return s.send(httptest.NewRequest(method, uri, http.NoBody), fields...)
}

// send sends a request with the given fields, as name and value in turn.
func (s *site) send(r *http.Request, fields ...string) *httptest.ResponseRecorder {
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// flights is how many fetches are under way that others may follow.
func (s *site) flights() int { return s.route.Cache.flights.Len() }

// held is the size of the bodies that are kept for clients that read slowly.
func (s *site) held() int64 { return s.route.Cache.flights.Held() }

// isHitForMiss reports whether nobody waits for responses under a key.
func (s *site) isHitForMiss(key string) bool {
	_, known := s.route.Cache.misses.Get(coalesce.IDOf(key), time.Now())
	return known
}

// purge purges in the cache of the site.
func (s *site) purge(p journal.Purge) {
	s.t.Helper()
	if _, err := s.route.Cache.Journal.Append(s.t.Context(), p, time.Second); err != nil {
		s.t.Fatal(err)
	}
}

func hard(kind journal.Kind, value string) journal.Purge {
	return journal.Purge{Selectors: []journal.Selector{{Kind: kind, Value: value}}}
}

// expect checks the outcome, and returns the response for more.
func expect(t *testing.T, w *httptest.ResponseRecorder, outcome Result, detail string) *httptest.ResponseRecorder {
	t.Helper()
	if got := w.Header().Get("X-Cache"); got != outcome.String() {
		t.Errorf("X-Cache is %s, want %s; %s", got, outcome, w.Header()["Cache-Status"])
	}
	if status := w.Header().Get("Cache-Status"); !strings.Contains(status, detail) {
		t.Errorf("Cache-Status is %s, want %q in it", status, detail)
	}
	return w
}

// answer is an origin with one response.
func answer(body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}
