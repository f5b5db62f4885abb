package journal

// A cache around the journal, as small as G1 allows: a shared tier in place of
// Redis, a memory tier per node, flights, and an origin that numbers its answers.
// What readers and purgers saw becomes a history, and porcupine says whether the
// history is one that G1 allows.
//
// cacheNode.mu guards a node's memory and flights, cacheWorld.mu what all nodes
// share. A response does not change once it is made.

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// resource is something to cache. Its tag is shared across the namespaces.
type resource struct{ namespace, identifier, tag string }

var resources = [...]resource{
	{"pickup", "item:1", "red"}, {"pickup", "item:2", "blue"}, {"menu", "item:1", "red"}, {"menu", "card:2", "blue"},
}

func (r resource) subject(at Position) Subject {
	key := "cache:" + r.namespace + ":" + r.identifier
	return Subject{
		Position: at, Namespace: r.namespace, Identifier: r.identifier, Key: key, BaseKey: key,
		URL: "https://example.com/" + r.namespace + "/" + r.identifier, Tags: []string{r.tag},
	}
}

// target is a selector, and what it covers: told, not asked of the code under
// test.
type target struct {
	selector Selector
	covers   []int
	request  bool // it is purged as by a request of a client
}

var targets = []target{
	{Selector{KindNamespace, "pickup"}, []int{0, 1}, false},
	{Selector{KindTag, "red"}, []int{0, 2}, false},
	{Selector{KindKey, "pickup:item:2"}, []int{1}, false},
	{Selector{KindPattern, "menu:c*"}, []int{3}, false},
	{Selector{KindPattern, "*:item:1"}, []int{0, 2}, false},
	{Selector{KindPrefix, "https://example.com/menu/"}, []int{2, 3}, false},
	{Selector{KindAll, ""}, []int{0, 1, 2, 3}, false},
	{Selector{KindURL, "https://example.com/pickup/item:1"}, []int{0}, true},
	{Selector{KindURL, "https://example.com/menu/card:2"}, []int{3}, true},
	{Selector{KindTag, "blue"}, []int{1, 3}, true},
	{Selector{KindKey, "menu:item:1"}, []int{2}, true},
	{Selector{KindPrefix, "https://example.com/pickup/item"}, []int{0, 1}, true},
	{Selector{KindHost, "elsewhere.test"}, nil, true},
}

// answer is what a read came to. The origin numbers its answers per resource,
// in the order in which they were asked for, 304 included.
type answer struct {
	body      int // the answer that brought the body
	confirmed int // the last one that said it was good
}

// operation is what was asked for: a read of a resource, or what a purge means
// to it.
type operation struct {
	resource int
	node     int  // that read; of a purge the one to which alone something is promised, 0 for all
	cutOff   bool // a read on a node that neither held a lease nor reached Redis: only its own purges bind it
	purge    bool
	soft     bool
	maybe    bool // a purge of which nothing was promised
	// floor is the last answer that the origin was asked for before the purge. What
	// is asked for during a purge may be before it or after it.
	floor int
}

func (o operation) String() string {
	if !o.purge {
		return fmt.Sprintf("read %d on node %d (cut off %t)", o.resource, o.node, o.cutOff)
	}
	return fmt.Sprintf("purge %d up to answer %d (soft %t, maybe %t, node %d)", o.resource, o.floor, o.soft, o.maybe, o.node)
}

const maxNodes = 15

// bounds are what reads may not fall back to: on any node, and on each one.
type bounds [1 + maxNodes]answer

// g1 is the guarantee for one resource. A hard purge forbids bodies that were
// asked for before it, whatever has confirmed them since; a soft one forbids
// answers that the origin has not confirmed since. A purge without a promise may
// happen at any time or never. One that waits promises something to its own node,
// and to the others once that node trusts Redis again and has a later one confirmed.
var g1 = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, len(resources))
		for _, o := range history {
			i := o.Input.(operation).resource
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() []any { return []any{bounds{}} },
	Step: func(state, input, output any) []any {
		b, in := state.(bounds), input.(operation)
		if !in.purge {
			out := output.(answer)
			binding := []answer{b[in.node], b[0]}
			if in.cutOff {
				binding = binding[:1]
			}
			for _, bound := range binding {
				if out.body <= bound.body || out.confirmed <= bound.confirmed {
					return nil
				}
			}
			return []any{b}
		}
		raised := b
		bound := &raised[in.node]
		bound.confirmed = max(bound.confirmed, in.floor)
		if !in.soft {
			bound.body = max(bound.body, in.floor)
		}
		if in.maybe {
			return []any{b, raised}
		}
		return []any{raised}
	},
}).ToModel()

// history is what was seen from outside.
type history struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// add ends an operation that was called at a time.
func (h *history) add(called int64, in operation, out answer) {
	returned := h.now()
	if in.maybe {
		returned = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{Input: in, Output: out, Call: called, Return: returned})
}

// want checks the history.
func (h *history) want(t testing.TB, want porcupine.CheckResult) {
	t.Helper()
	start := time.Now()
	got := porcupine.CheckOperationsTimeout(g1, h.ops, time.Minute)
	t.Logf("%d operations are %s, found in %v", len(h.ops), got, time.Since(start).Round(time.Millisecond))
	if got == want {
		return
	}
	t.Errorf("the history is %s, want %s", got, want)
	for _, part := range g1.Partition(h.ops) {
		if porcupine.CheckOperationsTimeout(g1, part, time.Minute) == want {
			continue
		}
		for _, o := range part {
			t.Logf("%v to %v: %v: %+v", time.Duration(o.Call), time.Duration(o.Return), o.Input, o.Output)
		}
	}
}

// response is a stored response.
type response struct {
	answer
	subject Subject
}

// cacheWorld is what the nodes share.
type cacheWorld struct {
	history
	t testing.TB
	s *server

	// onAsk is called when the origin was asked, and returns whether the answer to
	// a conditional request is a 304.
	onAsk func(resource, number int) (notModified bool)

	mu     sync.Mutex
	shared [len(resources)]*response
	asked  [len(resources)]int // how often
	joined int                 // nodes
}

func newCacheWorld(t testing.TB) *cacheWorld {
	return &cacheWorld{
		history: history{start: time.Now()}, t: t, s: newServer(t),
		onAsk: func(int, int) bool { return true },
	}
}

// flight is a fetch that others wait for.
type flight struct {
	done     chan struct{}
	response *response
	waiting  atomic.Int64
}

// held is a response in memory. It was checked up to there.
type held struct {
	*response
	upTo Checked
}

// cacheNode is a node with its memory tier. The fields in the second group are
// what a mutant does otherwise.
type cacheNode struct {
	*testNode
	w      *cacheWorld
	number int

	check          func(*Subject, Checked) (Verdict, Checked)
	followsBlindly bool
	notesLate      bool
	afterLookup    func()

	mu      sync.Mutex
	memory  [len(resources)]*held
	flights [len(resources)]*flight
	lapses  int // how often a request has found that the node may not trust Redis
	waiting []waiting
}

// waiting is a purge that was promised to its own node alone.
type waiting struct {
	operation
	lapses int // of its time
}

// newNode returns a node that does nothing by itself before Start.
func (w *cacheWorld) newNode(change ...func(*Options)) *cacheNode {
	w.mu.Lock()
	w.joined++
	n := &cacheNode{w: w, number: w.joined, afterLookup: func() {}}
	w.mu.Unlock()
	change = append(change, named(fmt.Sprintf("node%d", n.number)), func(o *Options) { o.Empty = n.empty })
	n.testNode = newNode(w.t, w.s.Client(), change...)
	n.check = n.Check
	return n
}

func (n *cacheNode) empty() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.memory = [len(resources)]*held{}
}

// read is a request. stale lets it find whatever is stored stale.
func (n *cacheNode) read(resource int, stale bool) answer {
	called := n.w.now()
	r, cutOff := n.serve(resource, stale)
	n.w.add(called, operation{resource: resource, node: n.number, cutOff: cutOff}, r.answer)
	return r.answer
}

// serve returns a response, and whether it is one of a node that neither holds a
// lease nor reaches Redis.
func (n *cacheNode) serve(resource int, stale bool) (r *response, cutOff bool) {
	at := n.Position()
	standing := n.Trust(n.w.t.Context())
	if standing != Leased {
		n.mu.Lock()
		n.lapses++
		n.mu.Unlock()
	}
	if standing == Unproven {
		return n.fetch(resource, at, nil), false
	}
	cutOff = standing == CutOff
	if r, verdict := n.lookup(resource); r != nil && verdict == Valid && !stale {
		return r, cutOff
	}
	for range 2 {
		at = n.Position()
		f, lead := n.join(resource)
		if lead {
			return n.lead(resource, f, stale), cutOff
		}
		f.waiting.Add(1)
		<-f.done
		if verdict, _ := n.check(&f.response.subject, Checked{}); verdict == Valid || n.followsBlindly {
			return f.response, cutOff
		}
	}
	return n.fetch(resource, at, nil), cutOff
}

func (n *cacheNode) join(resource int) (f *flight, lead bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.flights[resource]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	n.flights[resource] = f
	return f, true
}

// lead looks up once more, and fetches.
func (n *cacheNode) lead(resource int, f *flight, stale bool) *response {
	at := n.Position()
	base, verdict := n.lookup(resource)
	n.afterLookup()
	if n.notesLate {
		at = n.Position()
	}
	f.response = base
	if base == nil || verdict != Valid || stale {
		f.response = n.fetch(resource, at, base)
	}
	n.mu.Lock()
	n.flights[resource] = nil
	n.mu.Unlock()
	close(f.done)
	return f.response
}

// fetch asks the origin, and stores what it says as of a position. With a base
// the answer may be a 304.
func (n *cacheNode) fetch(resource int, at Position, base *response) *response {
	number, notModified := n.w.ask(resource)
	r := &response{answer{number, number}, resources[resource].subject(at)}
	if base != nil && notModified {
		r.body = base.body
	}
	if verdict, _ := n.check(&r.subject, Checked{}); verdict < Covered {
		shared := *r
		shared.subject.Position.Local = 0 // Redis is not told
		n.w.mu.Lock()
		n.w.shared[resource] = &shared
		n.w.mu.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.keep(resource, r)
	}
	return r
}

func (w *cacheWorld) ask(resource int) (number int, notModified bool) {
	w.mu.Lock()
	w.asked[resource]++
	number = w.asked[resource]
	w.mu.Unlock()
	return number, w.onAsk(resource, number)
}

// lookup searches memory, then the shared tier. What is covered is not found.
func (n *cacheNode) lookup(resource int) (*response, Verdict) {
	n.mu.Lock()
	defer n.mu.Unlock()
	found, verdict := (*response)(nil), Absent
	if h := n.memory[resource]; h != nil {
		if verdict, h.upTo = n.check(&h.subject, h.upTo); verdict < Covered {
			found = h.response
		} else {
			n.memory[resource] = nil
		}
	}
	if verdict == Valid {
		return found, verdict
	}
	n.w.mu.Lock()
	r := n.w.shared[resource]
	n.w.mu.Unlock()
	if r == nil {
		return found, verdict
	}
	if v, proved := n.check(&r.subject, Checked{}); v < Covered && v <= verdict {
		own := *r
		own.subject.Position.Local = proved.Local
		n.keep(resource, &own)
		return &own, v
	}
	return found, verdict
}

// keep puts a response into memory, but not in place of one of a higher position.
func (n *cacheNode) keep(resource int, r *response) {
	at := r.subject.Position
	if h := n.memory[resource]; h != nil && at.Before(h.subject.Position) {
		return
	}
	n.memory[resource] = &held{response: r}
}

// promise is to whom a purge has promised something.
type promise int

const (
	toNobody promise = iota
	toThisNode
	toAll
)

// purgeBy records a purge. do makes it, and returns what it has promised.
func (n *cacheNode) purgeBy(tgt target, soft bool, do func(Purge) promise) promise {
	called := n.w.now()
	n.w.mu.Lock()
	floors := n.w.asked
	n.w.mu.Unlock()
	recorded := n.recorded()
	soft = soft && !tgt.request
	promised := do(Purge{Selectors: []Selector{tgt.selector}, Soft: soft, Request: tgt.request})
	if promised == toAll {
		for _, o := range recorded {
			n.w.add(called, o, answer{})
		}
	}
	for _, resource := range tgt.covers {
		o := operation{resource: resource, purge: true, soft: soft, maybe: promised == toNobody, floor: floors[resource]}
		if promised == toThisNode {
			n.mu.Lock()
			n.waiting = append(n.waiting, waiting{o, n.lapses})
			n.mu.Unlock()
			o.node = n.number
		}
		n.w.add(called, o, answer{})
	}
	return promised
}

// recorded returns the purges that must be in the journal by now: since they were
// made, this node has not trusted Redis and trusts it again.
func (n *cacheNode) recorded() (list []operation) {
	if n.Trust(n.w.t.Context()) != Leased {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.waiting {
		if w.lapses < n.lapses {
			list = append(list, w.operation)
		}
	}
	return list
}

// purgeAll is a purge that promises something to all nodes, or if it is not final
// to this one.
func (n *cacheNode) purgeAll(tgt target, soft bool, wait time.Duration) promise {
	return n.purgeBy(tgt, soft, func(p Purge) promise {
		r, err := n.Append(n.w.t.Context(), p, wait)
		switch {
		case err != nil:
			return toNobody
		case !r.Complete():
			return toThisNode
		}
		return toAll
	})
}

// purgeHere is a purge by a request, which promises something to this node.
func (n *cacheNode) purgeHere(tgt target, soft bool) {
	n.purgeBy(tgt, soft, func(p Purge) promise {
		p.Request = true
		if n.AppendAsync(p) != nil {
			return toNobody
		}
		return toThisNode
	})
}

// TestModelOfG1 guards the guard.
func TestModelOfG1(t *testing.T) {
	type op = porcupine.Operation
	read := func(body, confirmed int, call, ret int64) op {
		return op{Input: operation{node: 1}, Output: answer{body, confirmed}, Call: call, Return: ret}
	}
	cut := func(body, confirmed int, call, ret int64) op {
		return op{Input: operation{node: 1, cutOff: true}, Output: answer{body, confirmed}, Call: call, Return: ret}
	}
	purge := func(in operation, call, ret int64) op {
		in.purge = true
		return op{Input: in, Output: answer{}, Call: call, Return: ret}
	}
	for name, tt := range map[string]struct {
		want    porcupine.CheckResult
		history []op
	}{
		"an old response after a purge":             {porcupine.Illegal, []op{purge(operation{floor: 1}, 1, 2), read(1, 1, 3, 4)}},
		"a new one":                                 {porcupine.Ok, []op{purge(operation{floor: 1}, 1, 2), read(2, 2, 3, 4)}},
		"an old one during a purge":                 {porcupine.Ok, []op{purge(operation{floor: 1}, 1, 4), read(2, 2, 2, 3), read(1, 1, 3, 5)}},
		"a purge that may have happened":            {porcupine.Ok, []op{purge(operation{floor: 1, maybe: true}, 1, math.MaxInt64), read(1, 1, 3, 4), read(2, 2, 5, 6), read(1, 1, 7, 8)}},
		"a purge of something else":                 {porcupine.Ok, []op{purge(operation{resource: 1, floor: 1}, 1, 2), read(1, 1, 3, 4)}},
		"a 304 after a hard purge":                  {porcupine.Illegal, []op{purge(operation{floor: 1}, 1, 2), read(1, 2, 3, 4)}},
		"a 304 after a soft purge":                  {porcupine.Ok, []op{purge(operation{floor: 1, soft: true}, 1, 2), read(1, 2, 3, 4)}},
		"no 304 after a soft purge":                 {porcupine.Illegal, []op{purge(operation{floor: 1, soft: true}, 1, 2), read(1, 1, 3, 4)}},
		"a 304 after both":                          {porcupine.Illegal, []op{purge(operation{floor: 1}, 1, 2), purge(operation{floor: 1, soft: true}, 3, 4), read(1, 2, 5, 6)}},
		"a promise to this node":                    {porcupine.Illegal, []op{purge(operation{floor: 1, node: 1}, 1, 2), read(1, 1, 3, 4)}},
		"cut off, after a purge of its own":         {porcupine.Illegal, []op{purge(operation{floor: 1, node: 1}, 1, 2), cut(1, 1, 3, 4)}},
		"cut off, after a purge of the fleet":       {porcupine.Ok, []op{purge(operation{floor: 1}, 1, 2), cut(1, 1, 3, 4)}},
		"a promise to another node":                 {porcupine.Ok, []op{purge(operation{floor: 1, node: 2}, 1, 2), read(1, 1, 3, 4)}},
		"an old purge that ends after a newer one":  {porcupine.Illegal, []op{purge(operation{floor: 2}, 1, 2), purge(operation{floor: 1}, 1, 4), read(2, 2, 5, 6)}},
		"an old response after a new one, no purge": {porcupine.Ok, []op{read(2, 2, 1, 2), read(1, 1, 3, 4)}},
	} {
		if got := porcupine.CheckOperationsTimeout(g1, tt.history, time.Minute); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
