package rfc9111

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// ParseVary parses the lines of a Vary field into canonical names, sorted and
// without duplicates (§4.1). any is set when a member is "*", and when one is
// no field name: there is no telling what the response depends on.
func ParseVary(lines []string) (names []string, any bool) {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			name = trimOWS(name)
			switch {
			case name == "":
			case name == "*" || !IsToken(name):
				return nil, true
			default:
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

// VaryValue is the normalised value of a request field, by which stored
// responses are selected: two requests match when their values are equal (§4.1).
// An absent field differs from an empty one; lines are nil for it.
//
// Only differences that §4.1 calls insignificant are dropped: how the value is
// spread over lines, white space around commas, and what the specifications of
// Accept-Language and Accept-Encoding give no meaning to.
func VaryValue(name string, lines []string) (value string, present bool) {
	if len(lines) == 0 {
		return "", false
	}
	value = combine(lines)
	switch {
	case equalFold(name, "accept-language"):
		value = toLower(value)
	case equalFold(name, "accept-encoding"):
		value = normalCodings(toLower(value))
	}
	return value, true
}

// combine joins the lines of a field, without white space around the commas
// that are not quoted. Empty members are kept: whether the field is a list at
// all is not known.
func combine(lines []string) string {
	if len(lines) == 1 && strings.IndexByte(lines[0], ',') < 0 {
		return trimOWS(lines[0])
	}
	var buf [128]byte
	value := buf[:0]
	for i, line := range lines {
		if i > 0 {
			value = append(value, ',')
		}
		value = appendMembers(value, line)
	}
	return string(value)
}

func appendMembers(dst []byte, line string) []byte {
	list := members{rest: line}
	for {
		end := list.end()
		dst = append(dst, trimOWS(list.rest[:end])...)
		if end == len(list.rest) {
			return dst
		}
		dst = append(dst, ',')
		list.rest = list.rest[end+1:]
	}
}

// toLower folds ASCII letters only: strings.ToLower would make values equal that
// differ in bytes that are no valid UTF-8.
func toLower(s string) string {
	for i := range len(s) {
		if lower(s[i]) != s[i] {
			folded := []byte(s)
			for ; i < len(folded); i++ {
				folded[i] = lower(folded[i])
			}
			return string(folded)
		}
	}
	return s
}

// coding is a member of Accept-Encoding; its weight is in thousandths.
type coding struct {
	name   string
	weight int
}

// normalCodings puts an Accept-Encoding value in lower case into a form that is
// equal for values of equal meaning (RFC 9110 §12.5.3): the order of the codings
// has none, and weights have none while they are all the same. What is malformed
// or contradicts itself is left alone.
func normalCodings(value string) string {
	var stack [8]coding
	codings, ok := parseCodings(stack[:0], value)
	if !ok {
		return value
	}
	weighted, others := compareWeights(codings)
	var buf [64]byte
	normal := buf[:0]
	for _, c := range codings {
		// A coding that is not listed is not acceptable, so that weight 0 means
		// something only for identity, and where "*" lists all others.
		if c.weight == 0 && !others && c.name != "identity" && c.name != "*" {
			continue
		}
		if len(normal) > 0 {
			normal = append(normal, ',')
		}
		normal = append(normal, c.name...)
		if c.weight == 0 || weighted && c.weight != 1000 {
			normal = append(normal, ";q="...)
			normal = strconv.AppendFloat(normal, float64(c.weight)/1000, 'f', -1, 64)
		}
	}
	return string(normal)
}

// compareWeights reports whether the weights of acceptable codings differ, and
// whether "*" makes all others acceptable.
func compareWeights(codings []coding) (weighted, others bool) {
	first := 0
	for _, c := range codings {
		if c.weight == 0 {
			continue
		}
		if first == 0 {
			first = c.weight
		}
		weighted = weighted || c.weight != first
		others = others || c.name == "*"
	}
	return weighted, others
}

// parseCodings appends the codings to dst, sorts them, and drops duplicates. It
// is not ok when one is malformed, or occurs with different weights.
func parseCodings(dst []coding, value string) (codings []coding, ok bool) {
	for member := range strings.SplitSeq(value, ",") {
		if member == "" {
			continue
		}
		name, parameter, weighted := strings.Cut(member, ";")
		c := coding{name: trimOWS(name), weight: 1000}
		if weighted {
			c.weight, ok = parseWeight(trimOWS(parameter))
			if !ok {
				return nil, false
			}
		}
		if !IsToken(c.name) {
			return nil, false
		}
		dst = append(dst, c)
	}
	slices.SortFunc(dst, func(a, b coding) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.weight, b.weight))
	})
	dst = slices.Compact(dst)
	for i := 1; i < len(dst); i++ {
		if dst[i].name == dst[i-1].name {
			return nil, false
		}
	}
	return dst, true
}

// parseWeight parses "q=" and a weight of at most three decimals
// (RFC 9110 §12.4.2) into thousandths.
func parseWeight(s string) (weight int, ok bool) {
	value, ok := strings.CutPrefix(s, "q=")
	if !ok || value == "" || len(value) > len("0.000") || len(value) > 1 && value[1] != '.' {
		return 0, false
	}
	scale := 1000
	for i := range len(value) {
		if i == 1 {
			continue // the point
		}
		if !isDigit(value[i]) {
			return 0, false
		}
		weight += int(value[i]-'0') * scale
		scale /= 10
	}
	return weight, weight <= 1000
}
