package rfc3986

import "strings"

// PathKind says whether everybody reads a path alike.
type PathKind uint8

const (
	// PathPlain is read alike by all.
	PathPlain PathKind = iota
	// PathParams has parameters in its last segment, which some leave out.
	PathParams
	// PathAmbiguous is one path for a matcher, and may be another one for an origin.
	PathAmbiguous
)

// maxDecodings is how often a path may be decoded on its way through proxies and
// frameworks.
const maxDecodings = 3

// KindOf judges a path with its escapes, decoded up to three times. It is ambiguous
// if it then has
//
//   - a segment that is "." or "..", RFC 3986 section 5.2.4, blanks, control bytes
//     and parameters left out;
//   - a backslash, which some take for a slash;
//   - parameters, behind ";" or NUL, in a segment that is not the last: some leave
//     them out, section 3.3;
//   - still something to decode.
//
// What one decoding brings to light stays visible in the next, so that only the last
// one is judged. An escaped slash alone is not ambiguous. Nothing is allocated for a
// path of up to 512 bytes.
func KindOf(path string) PathKind {
	if strings.IndexByte(path, '%') < 0 {
		return judge(path)
	}
	var stack [512]byte
	decoded := append(stack[:0], path...)
	for range maxDecodings {
		n := unescape(decoded)
		if n == len(decoded) {
			return judge(decoded)
		}
		decoded = decoded[:n]
	}
	if unescape(decoded) != len(decoded) {
		return PathAmbiguous
	}
	return judge(decoded)
}

// judge is KindOf for what has been decoded.
func judge[T string | []byte](path T) PathKind {
	start, end := 0, -1 // of a segment, and of it without its parameters
	for i := range len(path) {
		switch path[i] {
		case '\\':
			return PathAmbiguous
		case ';', 0:
			if end < 0 {
				end = i
			}
		case '/':
			if end >= 0 || isDots(path[start:i]) {
				return PathAmbiguous
			}
			start = i + 1
		}
	}
	if end < 0 {
		if isDots(path[start:]) {
			return PathAmbiguous
		}
		return PathPlain
	}
	if isDots(path[start:end]) {
		return PathAmbiguous
	}
	return PathParams
}

// isDots reports whether a segment is "." or "..", but for blanks and control bytes,
// which some strip.
func isDots[T string | []byte](segment T) bool {
	dots := 0
	for i := range len(segment) {
		switch c := segment[i]; {
		case c == '.' && dots < 2:
			dots++
		case c > ' ' && c != 0x7f:
			return false
		}
	}
	return dots > 0
}

// WithoutParams returns a path without the parameters of its last segment, and the
// rest as it is. It is for paths that KindOf has found PathParams.
func WithoutParams(path string) string {
	levels := [maxDecodings + 1]string{path}
	last := 0
	for range maxDecodings {
		decoded := []byte(levels[last])
		n := unescape(decoded)
		if n == len(decoded) {
			break
		}
		last++
		levels[last] = string(decoded[:n])
	}
	deepest := levels[last]
	segment := strings.LastIndexByte(deepest, '/') + 1
	cut := strings.IndexAny(deepest[segment:], ";\x00")
	if cut < 0 {
		return path
	}
	cut += segment
	for ; last > 0; last-- {
		cut = encodedIndex(levels[last-1], cut)
	}
	return path[:cut]
}

// unescape decodes what is escaped, once and in place, and returns the length. What
// is no escape stays.
func unescape(s []byte) int {
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if isEscape(s, i) {
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
		}
		s[n] = c
		n++
	}
	return n
}

// encodedIndex is where in s begins what decodes to the byte at an index.
func encodedIndex(s string, decoded int) int {
	i := 0
	for ; decoded > 0; decoded-- {
		if isEscape(s, i) {
			i += 2
		}
		i++
	}
	return i
}

// isEscape reports whether "%XX" stands at i.
func isEscape[T string | []byte](s T, i int) bool {
	return s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
