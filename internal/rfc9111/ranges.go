package rfc9111

import (
	"math"
	"net/http"
	"strings"
)

// maxRanges bounds the members of one Range field. Readers that skip about in
// a file ask for a handful; more are treated as an attack (RFC 9110 §14.2,
// §17.15).
const maxRanges = 32

// ByteRange is a part of a stored body: it lies inside of it and is not empty.
type ByteRange struct{ Start, Length int64 }

// RangeResult says how to answer a request with a Range field.
type RangeResult uint8

const (
	// RangeNone ignores the field: the answer is the whole body with 200.
	RangeNone RangeResult = iota

	// RangeOK answers 206 with the ranges.
	RangeOK

	// RangeUnsatisfiable answers 416, as no range lies in the body.
	RangeUnsatisfiable
)

// ParseRange reads the Range field of a request for a body of size bytes
// (RFC 9110 §14.1, §14.2). Ranges are returned in the order asked for, cut to
// the body; those beyond it are left out if others remain.
//
// The field is ignored if it is missing, malformed, repeated, of another unit
// than bytes, has more than 32 members, or asks for more bytes than there are,
// which takes overlaps. It is also ignored for a suffix of an empty body: that
// is satisfiable, but no Content-Range can say so (§14.1.2, §14.4).
func ParseRange(header http.Header, size int64) ([]ByteRange, RangeResult) {
	lines := header["Range"]
	if len(lines) != 1 {
		return nil, RangeNone
	}
	unit, set, ok := strings.Cut(trimOWS(lines[0]), "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Count(set, ",") >= maxRanges {
		return nil, RangeNone
	}
	return parseRangeSet(set, size)
}

// parseRangeSet reads the list of ranges. Empty members count for nothing
// (RFC 9110 §5.6.1.2), but a list of nothing else is malformed.
func parseRangeSet(set string, size int64) ([]ByteRange, RangeResult) {
	var ranges []ByteRange
	left := size
	result := RangeNone
	for spec := range strings.SplitSeq(set, ",") {
		spec = trimOWS(spec)
		if spec == "" {
			continue
		}
		r, one := parseRangeSpec(spec, size)
		switch one {
		case RangeNone:
			return nil, RangeNone
		case RangeUnsatisfiable:
			result = RangeUnsatisfiable
		case RangeOK:
			// Subtracting from what is left cannot overflow, a sum could.
			if left -= r.Length; left < 0 {
				return nil, RangeNone
			}
			ranges = append(ranges, r)
		}
	}
	if len(ranges) > 0 {
		return ranges, RangeOK
	}
	return nil, result
}

// parseRangeSpec reads `a-b`, `a-` or `-n`. RangeNone makes the whole field
// be ignored.
func parseRangeSpec(spec string, size int64) (ByteRange, RangeResult) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return ByteRange{}, RangeNone
	}
	if first == "" {
		return suffixRange(last, size)
	}
	return intRange(first, last, size)
}

// suffixRange is the last n bytes, or the whole of a shorter body. Only a
// suffix of no bytes is unsatisfiable (RFC 9110 §14.1.2).
func suffixRange(length string, size int64) (ByteRange, RangeResult) {
	n, ok := parsePosition(length)
	switch {
	case !ok:
		return ByteRange{}, RangeNone
	case n == 0:
		return ByteRange{}, RangeUnsatisfiable
	case size == 0:
		return ByteRange{}, RangeNone
	}
	n = min(n, size)
	return ByteRange{Start: size - n, Length: n}, RangeOK
}

// intRange is the bytes first to last, both included, or to the end. One that
// ends before it starts is malformed, one behind the end unsatisfiable
// (RFC 9110 §14.1.1, §14.1.2).
func intRange(first, last string, size int64) (ByteRange, RangeResult) {
	start, ok := parsePosition(first)
	if !ok {
		return ByteRange{}, RangeNone
	}
	end := int64(math.MaxInt64)
	if last != "" {
		if end, ok = parsePosition(last); !ok || end < start {
			return ByteRange{}, RangeNone
		}
	}
	if start >= size {
		return ByteRange{}, RangeUnsatisfiable
	}
	return ByteRange{Start: start, Length: min(end, size-1) - start + 1}, RangeOK
}

// parsePosition reads digits and nothing else. A number too large for int64
// lies behind every body all the same.
func parsePosition(s string) (int64, bool) {
	n := int64(0)
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, s != ""
}
