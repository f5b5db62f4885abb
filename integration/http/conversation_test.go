package http

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// A conversation is what client, cache and origin say to each other about one
// URL of its own. The lines of its script are, with # before a comment:
//
//	< STATUS [| ITEM]...
//	> METHOD [/SUFFIX] [| Name: value]... [| = body] => OUTCOME [STATUS] [| EXPECTATION]...
//	~ the same as after >, repeated until it comes true
//
// The first is what the origin answers from here on. Of several in a row each
// is for one request, the last one for all that follow. Its body is the number
// of the request at the origin, so that it shows where an answer came from. Its items:
//
//	Name: value            a field line
//	!Name                  without this field, such as Date
//	= body                 this body
//	103 Name: value        an interim response before it
//	trailer Name: value    a trailer field
//	slow 1100ms            not before this time has passed
//	raw                    these bytes and no more: no field is added, the connection closed
//
// STATUS may be "gone", for an origin that hangs up before it has answered.
// The status that the client must get is 200 unless stated. Expectations:
//
//	Name: value            the field's lines, joined with a comma; 5..9 is a number in that range
//	Name ~ text            one of them holds the text
//	!Name                  no such field
//	= body                 this body; nothing after the sign is no body
//	part text              a part of a body in several parts
//	broken                 the body breaks off
//	asked 2                so many requests reached the origin, where the outcome does not say it
//	saw Name: value        what the last request at the origin had
//	saw !Name
//	cs fwd=stale           a parameter of this cache in Cache-Status; cs !stored is its absence
//	early Name: value      an interim response with this field arrived; "early none"
//
// In all lines {path} is the conversation's URL path, {id} a word of its own,
// {tier} where hits come from, and {now-100} an HTTP-date, as are {850 now-100}
// and {asctime now-100}.
type conversation struct {
	rule   string // with its section; RFC 9111 unless another one is named
	route  string // of conversationSite; "" for the defaults
	script string
	alone  bool // nothing else is purged meanwhile
}

// conversationSite has a route for each option that a conversation needs.
func conversationSite(web *harness.Origin) string {
	return `
	redis_cache /honor/* {
		client_cache_control honor
	}
	redis_cache /heuristic/* {
		heuristic 10 1d
	}
	redis_cache /targets/* {
		targets My-CDN-Control CDN-Cache-Control
	}
	redis_cache /swr/* {
		stale_while_revalidate 1m
	}
	redis_cache /sie/* {
		stale_if_error 1m
	}
	redis_cache /class/* {
		ttl status 4xx 5m
	}
	redis_cache /named/* {
		ttl status 403 405 406 415 416 5m
	}
	redis_cache /unwanted/* {
		no_store status 4xx
	}
	handle /fields/* {
		route {
			redis_cache
			# A reverse proxy removes some of these itself.
			header {
				Connection "X-Named, keep-alive"
				X-Named secret
				Keep-Alive "timeout=5"
				Proxy-Connection keep-alive
				Proxy-Authenticate Basic
				Proxy-Authorization Basic
				Proxy-Authentication-Info nonce
				Te trailers
				X-Kept yes
			}
			reverse_proxy ` + web.Addr + `
		}
	}
	redis_cache`
}

// conversations are the rules of RFC 9111 and its relatives, one by one.
func conversations() []conversation {
	return slices.Concat(
		freshnessConversations(), storingConversations(), varyConversations(), validationConversations(),
		staleConversations(), methodConversations(), rangeConversations(), controlConversations(),
		statusMeaningConversations(), honorConversations(), arrivalConversations(),
	)
}

// TestConversations holds the same conversations with each choice of tiers, and where Redis has never
// been there.
func TestConversations(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, cache, tier string
		redis, away       bool
	}{
		{name: "memory", tier: "memory"},
		{name: "redis", cache: "\tmemory off", tier: "redis", redis: true},
		{name: "both", tier: "memory", redis: true},
		{name: "redis away", tier: "memory", away: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := harness.Layout{Origin: harness.NewOrigin(t), Cache: tt.cache}
			if tt.redis {
				l.Redis = harness.StartRedis(t)
			}
			if tt.away {
				l.Connect = fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
			}
			l.Site = conversationSite(l.Origin)
			node := harness.StartCaddy(t, l)
			for i, c := range conversations() {
				t.Run(c.rule, func(t *testing.T) {
					if !c.alone {
						t.Parallel()
					}
					k := &dialogue{node: node, tier: tt.tier, id: "c" + strconv.Itoa(i), now: time.Now(), written: make(map[string]string)}
					k.path = "/" + k.id
					if c.route != "" {
						k.path = "/" + c.route + k.path
					}
					l.Origin.Handle(k.path, k.answer)
					l.Origin.Handle(k.path+"/", k.answer)
					k.run(t, c.script)
				})
			}
		})
	}
}

// dialogue is a conversation being held.
type dialogue struct {
	node           *harness.Node
	tier, id, path string
	now            time.Time
	written        map[string]string // what Redis had under a key when it was looked at last

	mu      sync.Mutex // guards what the origin uses
	answers []line     // the first is the next, the last stays
	asked   int
	seen    http.Header
}

// line is a line of a script: its first part and the others.
type line struct {
	head  string
	items []string
}

func parseLine(s string) line {
	parts := strings.Split(s, " | ")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return line{parts[0], parts[1:]}
}

func (k *dialogue) run(t *testing.T, script string) {
	listening := false
	for text := range strings.Lines(script) {
		text, _, _ = strings.Cut(strings.TrimSpace(text), " # ")
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		sign, rest := text[0], k.expand(t, strings.TrimSpace(text[1:]))
		if sign == '<' {
			k.mu.Lock()
			if !listening {
				k.answers = nil
			}
			k.answers = append(k.answers, parseLine(rest))
			k.mu.Unlock()
			listening = true
			continue
		}
		listening = false
		request, expected, ok := strings.Cut(rest, "=>")
		if !ok || (sign != '>' && sign != '~') {
			t.Fatalf("malformed line %q", text)
		}
		ask := func() string { return k.exchange(t, parseLine(request), parseLine(expected), sign == '~') }
		problem := ask()
		if sign == '~' {
			harness.Within(harness.Patience, func() bool {
				if problem != "" {
					problem = ask()
				}
				return problem == ""
			})
		}
		if problem != "" {
			t.Fatalf("%s\n%s", text, problem)
		}
	}
}

// expand fills in what braces stand for.
func (k *dialogue) expand(t *testing.T, s string) string {
	s = strings.NewReplacer("{path}", k.path, "{id}", k.id, "{tier}", k.tier).Replace(s)
	for {
		before, rest, ok := strings.Cut(s, "{")
		if !ok {
			return s
		}
		name, after, _ := strings.Cut(rest, "}")
		shape, offset, ok := strings.Cut(name, "now")
		format, known := map[string]string{
			"": http.TimeFormat, "850": "Monday, 02-Jan-06 15:04:05 GMT", "asctime": time.ANSIC,
		}[strings.TrimSpace(shape)]
		seconds, err := strconv.Atoi("0" + strings.TrimLeft(offset, "+-"))
		if !ok || !known || err != nil {
			t.Fatalf("unknown {%s}", name)
		}
		if strings.HasPrefix(offset, "-") {
			seconds = -seconds
		}
		s = before + k.now.Add(time.Duration(seconds)*time.Second).UTC().Format(format) + after
	}
}

// cutField splits "Name: value"; the value may be empty.
func cutField(s string) (name, value string) {
	name, value, _ = strings.Cut(s, ":")
	return strings.TrimSpace(name), strings.TrimSpace(value)
}

// answer is the origin.
func (k *dialogue) answer(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.asked++
	k.seen = r.Header.Clone()
	body := strconv.Itoa(k.asked)
	answer := line{head: "404"}
	if len(k.answers) > 0 {
		answer = k.answers[0]
		k.answers = k.answers[min(1, len(k.answers)-1):]
	}
	k.mu.Unlock()

	status, err := strconv.Atoi(answer.head)
	if err != nil {
		// A connection that closes without a byte would make the client try again.
		harness.CutOff("HTTP")(w, r)
		return
	}
	raw := slices.Contains(answer.items, "raw")
	var plain strings.Builder
	fmt.Fprintf(&plain, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	trailers := make(http.Header)
	for _, item := range answer.items {
		word, rest, _ := strings.Cut(item, " ")
		switch {
		case item == "raw":
		case word == "=":
			body = rest
		case word == "slow":
			d, _ := time.ParseDuration(rest)
			harness.Within(d, func() bool { return false })
		case word == "103" || word == "102":
			name, value := cutField(rest)
			w.Header().Set(name, value)
			code, _ := strconv.Atoi(word)
			w.WriteHeader(code)
			w.Header().Del(name)
		case word == "trailer":
			name, value := cutField(rest)
			trailers.Set(http.TrailerPrefix+name, value)
		case item[0] == '!':
			w.Header()[http.CanonicalHeaderKey(item[1:])] = nil
		default:
			name, value := cutField(item)
			w.Header().Add(name, value)
			fmt.Fprintf(&plain, "%s: %s\r\n", name, value)
		}
	}
	if raw {
		harness.CutOff(plain.String()+"\r\n"+body)(w, r)
		return
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent && status != http.StatusNotModified {
		io.WriteString(w, body)
	}
	if len(trailers) > 0 {
		http.NewResponseController(w).Flush() // only chunked content has trailers
		maps.Copy(w.Header(), trailers)
	}
}

// exchange sends one request and says what is wrong with the answer.
func (k *dialogue) exchange(t *testing.T, request, expected line, patient bool) string {
	method, suffix, _ := strings.Cut(request.head, " ")
	var fields []string
	body := ""
	for _, item := range request.items {
		if content, ok := strings.CutPrefix(item, "= "); ok {
			body = content
			continue
		}
		name, value := cutField(item)
		fields = append(fields, name+": "+value)
	}
	var early []textproto.MIMEHeader
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			early = append(early, header)
			return nil
		},
	})
	k.mu.Lock()
	before := k.asked
	k.mu.Unlock()
	r, err := k.node.Try(ctx, method, k.path+suffix, body, fields...)
	if err != nil {
		return err.Error()
	}
	k.mu.Lock()
	asked, seen := k.asked-before, k.seen
	k.mu.Unlock()
	problems := k.problems(t, r, expected, early, asked, seen, patient)
	k.settle(t, r)
	if len(problems) == 0 {
		return ""
	}
	return fmt.Sprintf("\t%s\n\tgot %d %q, origin asked %d times, %v", strings.Join(problems, "\n\t"), r.Status, r.Body, asked, r.Header)
}

// settle waits until what was stored can be found in Redis.
func (k *dialogue) settle(t *testing.T, r harness.Reply) {
	if k.tier != "redis" || r.Key() == "" || r.Broken != nil || len(r.Trailer) > 0 {
		return
	}
	value := func() string { return k.node.Layout.Redis.Client.Get(context.Background(), r.Key()).Val() }
	if _, stored := r.CacheStatus(t)["stored"]; stored {
		harness.Eventually(t, "Redis has what was stored", func() bool { return value() != k.written[r.Key()] })
	}
	k.written[r.Key()] = value()
}

// stored and unstored are the shortest conversations: the origin answers a GET,
// and a second one is a hit, or none.
func stored(rule, answer string) conversation {
	return conversation{rule: rule, script: "< " + answer + "\n> GET => MISS\n> GET => HIT | = 1\n"}
}

func unstored(rule, answer string) conversation {
	return conversation{rule: rule, script: "< " + answer + "\n> GET => MISS | = 1\n> GET => MISS | = 2\n"}
}

// on is the conversation on a route with options.
func (c conversation) on(route string) conversation {
	c.route = route
	return c
}
