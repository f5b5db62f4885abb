package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// Delta is a directive whose argument is a number of seconds. When it is
// present but not valid its value is 0.
type Delta struct {
	Present, Valid bool
	Value          time.Duration
}

// add notes one more occurrence. Of directives that occur twice and disagree
// none is valid: §4.2.1 leaves the choice between the first and none, and the
// sender cannot have meant both.
func (d *Delta) add(value time.Duration, valid bool) {
	next := Delta{Present: true, Valid: valid, Value: value}
	if d.Present && *d != next {
		next = Delta{Present: true}
	}
	*d = next
}

// Directives is a parsed Cache-Control field of a request or a response, all
// lines of it (§5.2).
type Directives struct {
	Public, Private, NoStore, NoCache, MustRevalidate, ProxyRevalidate, MustUnderstand, OnlyIfCached bool

	// Fields named by private="…" and no-cache="…", canonical. This qualified
	// form leaves Private and NoCache false.
	PrivateFields, NoCacheFields []string

	MaxAge, SMaxAge, StaleWhileRevalidate, StaleIfError, MinFresh, MaxStale Delta

	MaxStaleAny bool // max-stale without an argument
}

// ParseCacheControl parses the lines of a Cache-Control field. Directives that
// it does not know are ignored, and so is an argument of those that take none.
// It allocates for the qualified forms of private and no-cache only.
func ParseCacheControl(lines []string) (d Directives) {
	for _, line := range lines {
		list := members{rest: line}
		for member, ok := list.next(); ok; member, ok = list.next() {
			d.add(member)
		}
	}
	return d
}

// longestDirective bounds the names that are worth a look.
const longestDirective = len("stale-while-revalidate")

// add notes one directive.
func (d *Directives) add(member string) {
	name, argument, hasArgument := strings.Cut(member, "=")
	if trimmed := trimOWS(name); trimmed != name {
		// The grammar has no space before "=" (§5.2): no argument is valid
		// behind it, but what the directive forbids is forbidden.
		name, argument = trimmed, ""
	}
	if len(name) > longestDirective {
		return
	}
	var buf [longestDirective]byte // names match in either case
	for i := range len(name) {
		buf[i] = lower(name[i])
	}
	name = string(buf[:len(name)])

	if flag := d.flag(name); flag != nil {
		*flag = true
	} else if delta := d.delta(name); delta != nil {
		delta.add(parseDeltaArgument(argument))
	} else if flag, fields := d.qualified(name); flag != nil {
		addQualified(flag, fields, argument)
	} else if name == "max-stale" {
		d.addMaxStale(argument, hasArgument)
	}
}

// flag is the field of a directive without an argument, or nil.
func (d *Directives) flag(name string) *bool {
	switch name {
	case "public":
		return &d.Public
	case "no-store":
		return &d.NoStore
	case "must-revalidate":
		return &d.MustRevalidate
	case "proxy-revalidate":
		return &d.ProxyRevalidate
	case "must-understand":
		return &d.MustUnderstand
	case "only-if-cached":
		return &d.OnlyIfCached
	}
	return nil
}

// delta is the field of a directive whose argument is a number, or nil.
// max-stale is none of them: it may stand alone.
func (d *Directives) delta(name string) *Delta {
	switch name {
	case "max-age":
		return &d.MaxAge
	case "s-maxage":
		return &d.SMaxAge
	case "stale-while-revalidate":
		return &d.StaleWhileRevalidate
	case "stale-if-error":
		return &d.StaleIfError
	case "min-fresh":
		return &d.MinFresh
	}
	return nil
}

// qualified are the fields of a directive that may name header fields, or nil.
func (d *Directives) qualified(name string) (flag *bool, fields *[]string) {
	switch name {
	case "private":
		return &d.Private, &d.PrivateFields
	case "no-cache":
		return &d.NoCache, &d.NoCacheFields
	}
	return nil, nil
}

// addMaxStale notes a max-stale, whose argument may be absent (§5.2.1.2).
func (d *Directives) addMaxStale(argument string, hasArgument bool) {
	if !hasArgument {
		d.MaxStaleAny = true
		return
	}
	d.MaxStale.add(parseDeltaArgument(argument))
}

// parseDeltaArgument parses a number, which may be quoted (§5.2). It may not
// have space in front: the grammar has none after "=".
func parseDeltaArgument(argument string) (time.Duration, bool) {
	if inner, ok := unquote(argument); ok {
		argument = inner
	}
	if argument == "" || !isDigit(argument[0]) {
		return 0, false
	}
	return ParseDeltaSeconds(argument)
}

// addQualified notes a private or no-cache. It restricts the fields it names
// only when it names them in the prescribed form, a quoted list (§5.2.2.4,
// §5.2.2.7); otherwise, "private=true" included, it restricts the whole
// response, which a cache is always free to do.
func addQualified(flag *bool, fields *[]string, argument string) {
	if list, ok := unquote(argument); ok {
		if names, ok := fieldNames(list); ok {
			*fields = append(*fields, names...)
			return
		}
	}
	*flag = true
}

// unquote removes the quotes around a quoted string. It resolves no escapes:
// neither a number nor the name of a field needs one, so neither is valid with
// one.
func unquote(s string) (inner string, ok bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", false
	}
	return s[1 : len(s)-1], true
}

// fieldNames parses a list of field names into canonical ones. It is not ok
// when there are none, or one that is not a name.
func fieldNames(list string) (names []string, ok bool) {
	for name := range strings.SplitSeq(list, ",") {
		name = trimOWS(name)
		if name == "" {
			continue
		}
		if !IsToken(name) {
			return nil, false
		}
		names = append(names, http.CanonicalHeaderKey(name))
	}
	return names, len(names) > 0
}

// members walks over a comma-separated list. Commas in a quoted string do not
// separate (RFC 9110 §5.6.1, §5.6.4).
type members struct {
	rest string

	// A quote was not closed: it, and those behind it, are characters like
	// any other. So it does not swallow a directive that forbids something, and
	// no part of a line is searched for a closing quote twice.
	unclosed bool
}

// next returns the next member that is not empty.
func (m *members) next() (member string, ok bool) {
	for m.rest != "" {
		end := m.end()
		member = trimOWS(m.rest[:end])
		m.rest = m.rest[min(end+1, len(m.rest)):]
		if member != "" {
			return member, true
		}
	}
	return "", false
}

// end is the index at which the first member of the rest ends.
func (m *members) end() int {
	for i := 0; i < len(m.rest); i++ {
		switch m.rest[i] {
		case ',':
			return i
		case '"':
			i += m.quoted(m.rest[i:])
		}
	}
	return len(m.rest)
}

// quoted is the index of the quote that ends the quoted string at the start of
// s, or 0.
func (m *members) quoted(s string) int {
	if m.unclosed {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	m.unclosed = true
	return 0
}
