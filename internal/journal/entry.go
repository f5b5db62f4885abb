package journal

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Op is what an entry does.
type Op string

// The entries that are understood.
const (
	OpPurge     Op = "purge"
	OpSoftPurge Op = "soft_purge"
	OpEvent     Op = "event"   // each node expands it under its own rules
	OpEnable    Op = "enable"  // a namespace, or all
	OpDisable   Op = "disable" // a namespace, or all
	OpEpoch     Op = "epoch"   // begins an epoch
)

const (
	// maxEntry is the most bytes of an entry that nodes read.
	maxEntry = 4 << 10
	// maxNote bounds the fields `by` and `reason`.
	maxNote = 256
	// maxSelectorBytes is what of an entry its selectors may take.
	maxSelectorBytes = maxEntry - 2*maxNote - 256
)

// The fields of an entry beside its selector.
const (
	fieldOp        = "op"
	fieldSelectors = "selectors"
	fieldBy        = "by"
	fieldReason    = "reason"
	fieldEvent     = "event"
	fieldData      = "data"
	fieldEpoch     = "epoch"
	fieldToken     = "token" // tells the writer that it reads its own entry
	// fieldSource tells on whose behalf it was written: sourceRequest, or absent. Nodes
	// that do not know it apply the entry as any other.
	fieldSource   = "source"
	sourceRequest = "request"
)

// Entry is one entry of the journal.
type Entry struct {
	ID        ID
	Op        Op // "" in a listing, for an entry that is malformed
	Selectors []Selector
	By        string
	Reason    string
	Request   bool            // a client's request purges
	Event     string          // of OpEvent
	Data      json.RawMessage // of OpEvent: a JSON object, or nil
	// Replayed is set for what the journal held already when the node joined, or may
	// have held before a gap.
	Replayed bool
	// Removed is how many stored responses were removed because of the entry: in
	// a listing, once it is known.
	Removed *int64
	// Malformed says, in a listing, why nobody applied the entry.
	Malformed error

	epoch uint64
	token string
}

// Soft reports whether the entry makes responses stale, not absent.
func (e *Entry) Soft() bool { return e.Op == OpSoftPurge }

var (
	errTooLarge  = fmt.Errorf("an entry of more than %d bytes", maxEntry)
	errUnknownOp = errors.New("unknown op")
)

// fields are the fields of an entry, names and values in turn.
type fields []any

// values are the fields as Redis returns them.
func (f fields) values() map[string]any {
	values := make(map[string]any, len(f)/2)
	for i := 0; i < len(f); i += 2 {
		values[text(f[i])] = f[i+1]
	}
	return values
}

// encode returns the entries of a purge: one, unless its selectors are too many.
func (p *Purge) encode(prefix string) ([]fields, error) {
	selectors, err := normalizeAll(p.Selectors, prefix)
	if err != nil {
		return nil, err
	}
	op := OpPurge
	if p.Soft {
		op = OpSoftPurge
	}
	for i, s := range selectors {
		selectors[i] = s.compact()
	}
	var entries []fields
	for len(selectors) > 0 {
		n, field, value := encodeSelectors(selectors)
		entry := fields{fieldOp, string(op), field, value}.note(p.By, p.Reason)
		if p.Request {
			entry = append(entry, fieldSource, sourceRequest)
		}
		entries = append(entries, entry)
		selectors = selectors[n:]
	}
	return entries, nil
}

// encodeSelectors encodes as many selectors as fit into one entry. JSON is for
// text only: a value that is none gets an entry of its own.
func encodeSelectors(selectors []Selector) (n int, field, value string) {
	wired := wire(selectors)
	for n = len(wired); n > 1; n /= 2 {
		if slices.ContainsFunc(wired[:n], func(s Selector) bool { return !utf8.ValidString(s.Value) }) {
			continue
		}
		body, err := json.Marshal(bodyOf(wired[:n]))
		if err == nil && len(body) <= maxSelectorBytes {
			return n, fieldSelectors, string(body)
		}
	}
	if wired[0].Kind == KindAll {
		return 1, KindAll.String(), "1"
	}
	return 1, wired[0].Kind.String(), wired[0].Value
}

// wire returns selectors with their hashes as text.
func wire(selectors []Selector) []Selector {
	out := slices.Clone(selectors)
	for i, s := range out {
		if s.Kind == KindUser {
			out[i].Value = hex.EncodeToString([]byte(s.Value))
		}
	}
	return out
}

// note appends who and why, if it is known.
func (f fields) note(by, reason string) fields {
	if by != "" {
		f = append(f, fieldBy, clip(by))
	}
	if reason != "" {
		f = append(f, fieldReason, clip(reason))
	}
	return f
}

// clip cuts a note at a character.
func clip(s string) string {
	if len(s) <= maxNote {
		return s
	}
	end := maxNote
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// decode reads an entry as Redis returned it. Anybody may have written it.
func decode(id ID, values map[string]any, prefix string) (Entry, error) {
	e := Entry{ID: id, token: text(values[fieldToken])}
	size := 0
	for name, value := range values {
		size += len(name) + len(text(value))
	}
	if size > maxEntry {
		return e, errTooLarge
	}
	get := func(name string) string { return text(values[name]) }
	e.By, e.Reason, e.Request = clip(get(fieldBy)), clip(get(fieldReason)), get(fieldSource) == sourceRequest
	var err error
	switch op := Op(get(fieldOp)); op {
	case OpPurge, OpSoftPurge:
		e.Selectors, err = decodeSelectors(values, prefix)
	case OpEnable, OpDisable:
		e.Selectors, err = decodeSwitch(values, prefix)
	case OpEvent:
		e.Event, e.Data, err = decodeEvent(get(fieldEvent), get(fieldData))
	case OpEpoch:
		if e.epoch = parseEpoch(get(fieldEpoch)); e.epoch == 0 {
			err = errors.New("no epoch")
		}
	default:
		err = errUnknownOp
	}
	if err == nil {
		e.Op = Op(get(fieldOp))
	}
	return e, err
}

func text(value any) string {
	s, _ := value.(string)
	return s
}

// userHashLen is the length of the hash of a user's identity, in hexadecimal.
const userHashLen = 32

// decodeSelectors returns the union of the selector fields and `selectors`.
func decodeSelectors(values map[string]any, prefix string) ([]Selector, error) {
	var selectors []Selector
	for i := range numKinds {
		kind := Kind(i)
		value, present := values[kind.String()]
		if !present {
			continue
		}
		if kind == KindAll && text(value) != "1" && text(value) != "true" {
			return nil, errors.New("all is neither 1 nor true")
		}
		selectors = append(selectors, Selector{kind, text(value)})
	}
	if object, present := values[fieldSelectors]; present {
		body := new(Body)
		decoder := json.NewDecoder(strings.NewReader(text(object)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(body); err != nil {
			return nil, fmt.Errorf("selectors: %w", err)
		}
		if _, err := decoder.Token(); err != io.EOF { //nolint:errorlint // it is never wrapped
			return nil, errors.New("selectors: there is more than one object")
		}
		selectors = append(selectors, body.Selectors()...)
	}
	for i, s := range selectors {
		if s.Kind != KindUser {
			continue
		}
		// The hash that nodes make of an identity, in hexadecimal, encoded once more: so
		// that an identity written by hand is no hash.
		hash, err := hex.DecodeString(s.Value)
		if _, notHex := hex.DecodeString(string(hash)); err != nil || notHex != nil || len(hash) != userHashLen {
			return nil, errors.New("user is not a hash: users are purged by the admin API")
		}
		selectors[i].Value = string(hash)
	}
	return normalizeAll(selectors, prefix)
}

// decodeSwitch returns what to enable or disable: one namespace, or all.
func decodeSwitch(values map[string]any, prefix string) ([]Selector, error) {
	selectors, err := decodeSelectors(values, prefix)
	if err == nil && (len(selectors) != 1 || (selectors[0].Kind != KindNamespace && selectors[0].Kind != KindAll)) {
		err = errors.New("want one namespace, or all")
	}
	return selectors, err
}

func decodeEvent(name, data string) (string, json.RawMessage, error) {
	if name == "" {
		return "", nil, errors.New("event is empty")
	}
	if data == "" {
		return name, nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(data), &object); err != nil {
		return "", nil, fmt.Errorf("data: %w", err)
	}
	return name, json.RawMessage(data), nil
}
