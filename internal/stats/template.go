package stats

import "strings"

const (
	// MaxTemplate bounds the bytes of a path template, maxSegments its segments.
	MaxTemplate = 128
	maxSegments = 8

	folded = "/{id}"
	more   = "/..." // in place of what is beyond a bound
)

// AppendTemplate appends the template of a URL's path to dst: the path as it is
// sent, with {id} for each segment that names one thing among many or that may be
// a secret. It is ASCII and has at most MaxTemplate bytes.
func AppendTemplate(dst []byte, path string) []byte {
	start := len(dst)
	path = strings.TrimPrefix(path, "/")
	for segments := 0; ; segments++ {
		segment, rest, further := strings.Cut(path, "/")
		fold := folds(segment)
		size := len("/") + len(segment)
		if fold {
			size = len(folded)
		}
		if segments == maxSegments || len(dst)-start+size > MaxTemplate-len(more) {
			return append(dst, more...)
		}
		if fold {
			dst = append(dst, folded...)
		} else {
			dst = append(append(dst, '/'), segment...)
		}
		if !further {
			return dst
		}
		path = rest
	}
}

// folds reports whether a segment is to become {id}: numbers, UUIDs, hashes,
// dates, tokens, and whatever has a character that names of endpoints do not have,
// such as the @ of an address or the ; of a parameter. Words and versions stay, and
// so does what looks like them: the name of a user, or a secret that reads like a
// word, with a number behind it or not.
func folds(segment string) bool {
	const (
		tooLong = 40 // for a word
		long    = 20 // for a word with digits or mixed case
		manyHex = 8
		digitsN = 4 // in a row or not
	)
	if len(segment) > tooLong {
		return true
	}
	digits, hex, uppers, lowers, plain := countCharacters(segment)
	if !plain {
		return true
	}
	mixed := uppers > 0 && lowers > 0
	switch {
	case len(segment) == 0:
		return false
	case digits == len(segment), digits >= digitsN:
		return true
	case len(segment) >= long:
		if hex == len(segment) || digits > 0 || mixed {
			return true
		}
	case hex == len(segment) && digits > 0 && hex >= manyHex:
		return true
	}
	return digits > 0 && mixed && len(segment) >= manyHex-2 || hasOddWord(segment)
}

// countCharacters counts kinds of characters; hex are those of hexadecimal digits and UUIDs.
// plain is false with one that names of endpoints do not have.
func countCharacters(segment string) (digits, hex, uppers, lowers int, plain bool) {
	for i := range len(segment) {
		switch c := segment[i]; {
		case '0' <= c && c <= '9':
			digits++
			hex++
		case 'a' <= c && c <= 'z':
			lowers++
			if c <= 'f' {
				hex++
			}
		case 'A' <= c && c <= 'Z':
			uppers++
			if c <= 'F' {
				hex++
			}
		case c == '-':
			hex++ // as in UUIDs
		case c != '.' && c != '_' && c != '~':
			return 0, 0, 0, 0, false
		}
	}
	return digits, hex, uppers, lowers, true
}

// hasOddWord reports whether a part of the segment between punctuation is no word.
func hasOddWord(segment string) bool {
	start := 0
	for i := range len(segment) {
		if c := segment[i]; c == '-' || c == '.' || c == '_' || c == '~' {
			if isOdd(segment[start:i]) {
				return true
			}
			start = i + 1
		}
	}
	return isOdd(segment[start:])
}

// isOdd reports whether letters and digits are no word: too many letters, too many
// consonants in a row, or digits more than once among the letters.
func isOdd(word string) bool {
	const (
		tooMany = 24 // letters
		row     = 8  // consonants
		few     = 6  // letters and digits that digits may be among
	)
	letters, consonants, runs := 0, 0, 0 // runs of digits behind letters
	digit := false
	for i := range len(word) {
		c := word[i] | 0x20 // in lower case; digits are the same
		if c <= '9' {
			if letters > 0 && !digit {
				runs++
			}
			digit, consonants = true, 0
			continue
		}
		digit = false
		letters++
		consonants++
		if isVowel(c) {
			consonants = 0
		}
		if letters >= tooMany || consonants >= row {
			return true
		}
	}
	return runs > 1 && len(word) >= few && !isVersion(word)
}

// isVersion reports whether a word is one like v2beta1.
func isVersion(word string) bool {
	const digits = "0123456789"
	number, ok := strings.CutPrefix(word, "v")
	stage := strings.Trim(number, digits)
	return ok && stage != number && (stage == "alpha" || stage == "beta" || stage == "rc")
}

func isVowel(c byte) bool {
	return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y'
}
