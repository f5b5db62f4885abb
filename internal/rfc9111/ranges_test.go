package rfc9111

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	const huge = "99999999999999999999999999"
	for _, c := range []struct {
		section, name string
		value         string
		size          int64
		ranges        []ByteRange
		result        RangeResult
	}{
		{"9110 14.1.2", "first bytes", "bytes=0-4", 10, []ByteRange{{0, 5}}, RangeOK},
		{"9110 14.1.2", "one byte", "bytes=9-9", 10, []ByteRange{{9, 1}}, RangeOK},
		{"9110 14.1.2", "to the end", "bytes=4-", 10, []ByteRange{{4, 6}}, RangeOK},
		{"9110 14.1.2", "beyond the end", "bytes=4-99", 10, []ByteRange{{4, 6}}, RangeOK},
		{"9110 14.1.2", "beyond every integer", "bytes=4-" + huge, 10, []ByteRange{{4, 6}}, RangeOK},
		{"9110 14.1.2", "suffix", "bytes=-3", 10, []ByteRange{{7, 3}}, RangeOK},
		{"9110 14.1.2", "suffix longer than the body", "bytes=-30", 10, []ByteRange{{0, 10}}, RangeOK},
		{"9110 14.1.2", "suffix beyond every integer", "bytes=-" + huge, 10, []ByteRange{{0, 10}}, RangeOK},
		{"9110 14.1.2", "several, in their order", "bytes=6-7,0-1 , -1", 10, []ByteRange{{6, 2}, {0, 2}, {9, 1}}, RangeOK},
		{"9110 14.1.2", "leading zeros", "bytes=000-004", 10, []ByteRange{{0, 5}}, RangeOK},
		{"9110 14.1", "the unit has no case", "Bytes=0-0", 10, []ByteRange{{0, 1}}, RangeOK},
		{"9110 5.5", "white space around", " bytes=0-0\t", 10, []ByteRange{{0, 1}}, RangeOK},
		{"9110 5.6.1.2", "empty members", "bytes=,0-0, ,", 10, []ByteRange{{0, 1}}, RangeOK},
		{"9110 14.1.2", "some beyond the body", "bytes=20-30,0-1", 10, []ByteRange{{0, 2}}, RangeOK},

		{"9110 15.5.17", "behind the end", "bytes=10-", 10, nil, RangeUnsatisfiable},
		{"9110 15.5.17", "all behind the end", "bytes=10-11,20-", 10, nil, RangeUnsatisfiable},
		{"9110 15.5.17", "beyond every integer", "bytes=" + huge + "-" + huge, 10, nil, RangeUnsatisfiable},
		{"9110 14.1.2", "empty suffix", "bytes=-0", 10, nil, RangeUnsatisfiable},
		{"9110 14.1.2", "empty body", "bytes=0-", 0, nil, RangeUnsatisfiable},
		{"9110 14.1.2", "empty suffix of an empty body", "bytes=-0", 0, nil, RangeUnsatisfiable},
		{"9110 14.1.2", "suffix of an empty body", "bytes=-5", 0, nil, RangeNone},

		{"9110 14.2", "unknown unit", "lines=0-4", 10, nil, RangeNone},
		{"9110 14.2", "unit with a space", "bytes =0-4", 10, nil, RangeNone},
		{"9110 14.2", "no unit", "0-4", 10, nil, RangeNone},
		{"9110 14.1.1", "nothing", "bytes=", 10, nil, RangeNone},
		{"9110 14.1.1", "only empty members", "bytes=, ,", 10, nil, RangeNone},
		{"9110 14.1.1", "no dash", "bytes=4", 10, nil, RangeNone},
		{"9110 14.1.1", "only a dash", "bytes=-", 10, nil, RangeNone},
		{"9110 14.1.1", "ends before it starts", "bytes=4-3", 10, nil, RangeNone},
		{"9110 14.1.1", "ends before it starts, behind the end", "bytes=20-11", 10, nil, RangeNone},
		{"9110 14.1.1", "letters", "bytes=a-4", 10, nil, RangeNone},
		{"9110 14.1.1", "letters at the end", "bytes=0-4x", 10, nil, RangeNone},
		{"9110 14.1.1", "letters after too many digits", "bytes=0-" + huge + "x", 10, nil, RangeNone},
		{"9110 14.1.1", "sign", "bytes=+1-4", 10, nil, RangeNone},
		{"9110 14.1.1", "two dashes", "bytes=--4", 10, nil, RangeNone},
		{"9110 14.1.1", "inner space", "bytes=0 -4", 10, nil, RangeNone},
		{"9110 14.1.1", "one good, one malformed", "bytes=0-4,x", 10, nil, RangeNone},
		{"9110 14.2", "more bytes than there are", "bytes=0-5,0-5", 10, nil, RangeNone},
		{"9110 14.2", "the whole body in parts", "bytes=5-9,0-4", 10, []ByteRange{{5, 5}, {0, 5}}, RangeOK},
		{"9110 17.15", "too many", "bytes=" + strings.Repeat("0-0,", 32) + "0-0", 100, nil, RangeNone},
		{"9110 17.15", "as many as allowed", "bytes=" + strings.Repeat("0-0,", 31) + "0-0", 100, slices.Repeat([]ByteRange{{0, 1}}, 32), RangeOK},
	} {
		ranges, result := ParseRange(http.Header{"Range": {c.value}}, c.size)
		if result != c.result || !slices.Equal(ranges, c.ranges) {
			t.Errorf("RFC %s %s: got %v %v, want %v %v", c.section, c.name, ranges, result, c.ranges, c.result)
		}
	}
}

func TestParseRangeLines(t *testing.T) {
	for _, c := range []struct {
		section string
		h       http.Header
	}{
		{"9110 14.2 no field", newHeader()},
		{"9110 14.2 two lines", newHeader("Range", "bytes=0-1", "Range", "bytes=2-3")},
	} {
		if ranges, result := ParseRange(c.h, 10); result != RangeNone || ranges != nil {
			t.Errorf("RFC %s: got %v %v", c.section, ranges, result)
		}
	}
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-4,-1,7-", int64(10))
	f.Add("bytes=9223372036854775807-9223372036854775807", int64(1))
	f.Add("bytes=-9223372036854775808", int64(1)<<62)
	f.Add("bytes=0-,1-,2-", int64(0))
	f.Fuzz(func(t *testing.T, value string, size int64) {
		if size < 0 {
			return
		}
		ranges, result := ParseRange(http.Header{"Range": {value}}, size)
		if (result == RangeOK) != (len(ranges) > 0) || len(ranges) > maxRanges {
			t.Fatalf("%d ranges with result %d", len(ranges), result)
		}
		left := size
		for _, r := range ranges {
			left -= r.Length
			if r.Start < 0 || r.Length < 1 || r.Start > size-r.Length || left < 0 {
				t.Errorf("%v of %v does not fit into %d bytes", r, ranges, size)
			}
		}
	})
}
