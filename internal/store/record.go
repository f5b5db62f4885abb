// Package store keeps responses: in this process (Memory), in Redis (Redis),
// and in both (Tiered). It knows nothing of HTTP semantics beyond the record
// it stores, writes no log and exports no metric: it returns outcomes and keeps
// counters for those who do.
//
// # Memory
//
// A stored response is one allocation, metadata and body. A lookup unpacks the metadata
// into a Record, which the entry points to weakly: what is in demand is unpacked about once
// in a cycle of the collector, and what is not costs no more than its bytes. collector.go
// bounds how much the heap grows between two cycles.
//
// # Redis
//
// Reads of different requests share round trips (go-redis's automatic pipelining), and so
// do queued writes. Records above 256 KiB are split into several keys (parts.go), so that
// no command takes Redis for long; their parts are read over ordinary connections, a
// megabyte in a round trip. An answer has the read timeout; the parts, once the key has
// been answered, as long again and a second for each 64 MiB, and where that is too short it
// is a miss and no failure of Redis. A record is compressed by the writers of the queue,
// never while a request waits: metadata and body together up to 32 KiB, which is where a
// dictionary helps, above that the body alone, so that walks read the metadata without it.
// dictionaries.go says how dictionaries live. A reader that lacks one reads it within the
// time that the lookup has.
//
// One server, Sentinel or Cluster: redisconn makes the client, the rest of the code sees
// one interface, and only store and journal ask whether it is a cluster. Records and
// journal are read from masters only. Redis counts as down until a read is answered, and
// again after five network errors or timeouts in a row; while it is down no request touches
// it. This circuit breaker is ours (health.go): a library's lets a request find out whether
// Redis is back, and here none may wait for that. A write that succeeds does not make up
// for reads that fail. Writes go through a bounded queue; what was stored last under a key
// is what Redis ends up with, however slow a writer is.
package store

import (
	"net/http"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// Key names a stored response. Full is its identity and is compared on every
// read. Name is where it lies in Redis; its identifier part is cut at 200
// bytes, so two full keys may share a name. They are equal when nothing was cut.
type Key struct{ Full, Name string }

// FieldOp says what a stored field does to the header that the outer handlers
// prepared before the response was written.
type FieldOp uint8

const (
	FieldSet FieldOp = iota // replaces what is there
	FieldAdd                // is appended to what is there
	FieldDel                // removes what is there; has no values
)

// Field is one header field of a stored response. Name is canonical.
type Field struct {
	Op     FieldOp
	Name   string
	Values []string
}

// Variant is one entry of a base record's list: the hash that ends the
// variant's key, and the time from which the variant is of no use.
type Variant struct {
	Hash    string
	Expires time.Time
}

// Record is a stored response, or the base record of a URL whose responses
// vary: that one has Vary and Variants, but neither status nor body. A record
// is immutable once a tier has it, the slices included.
type Record struct {
	Key        Key
	BaseKey    string // the full key that the variants of a URL share; Key.Full without variants
	Namespace  string
	Identifier string // whole, where the key name has it cut
	URL        string // scheme://host/path?kept-query as the client sent it
	Tags       []string
	User       string           // hash of the identity it is stored for; "" for everybody
	Position   journal.Position // of the journal when its fetch began; Redis is not told Local
	Freshness  rfc9111.Freshness
	FetchTime  time.Duration // from the request to the upstream to the end of its response; 0 when unknown
	Expires    time.Time     // end of any use, grace included
	Status     int
	Fields     []Field
	Vary       []string // request fields that select a variant
	Variants   []Variant
	AnyOrigin  bool // fetched with an Origin that made no difference
	Body       []byte

	// What is not stored but says how to store it:
	MinEncode int  // the size from which the body is compressed in Redis; 0: never
	Private   bool // fetched with credentials: no dictionary is trained from it
}

// Check says what purges say about a record. upTo is what an earlier check of the
// record returned with Valid, or zero.
type Check func(r *Record, upTo journal.Checked) (journal.Verdict, journal.Checked)

// orValid is a check that finds every record valid if c is nil.
func (c Check) orValid() Check {
	if c != nil {
		return c
	}
	return func(_ *Record, upTo journal.Checked) (journal.Verdict, journal.Checked) { return journal.Valid, upTo }
}

// Header returns the fields that the response was stored with. The values are the
// record's own.
func (r *Record) Header() http.Header {
	header := make(http.Header, len(r.Fields))
	for i := range r.Fields {
		if f := &r.Fields[i]; f.Op != FieldDel {
			header[f.Name] = f.Values
		}
	}
	return header
}

// IsBase reports whether the record only lists the variants of a URL.
func (r *Record) IsBase() bool { return r.Status == 0 }

// Weight returns the bytes the record costs in the memory tier, which packs the
// metadata whatever the record was built from.
func (r *Record) Weight() int64 { return weightOf(metaSize(r), len(r.Body)) }

// Subject is the record as selectors of purges see it.
func (r *Record) Subject() journal.Subject {
	return journal.Subject{
		Position: r.Position, Namespace: r.Namespace, Identifier: r.Identifier, Key: r.Key.Full, BaseKey: r.BaseKey,
		URL: r.URL, Tags: r.Tags, User: r.User,
	}
}
