package graphql

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
)

// scanner walks over JSON without unpacking it. What is well formed it splits as
// every parser does; of other text it takes what comes before the fault.
type scanner struct {
	text []byte
	at   int
	bad  bool // a fault was met
}

// skipSpace returns the next byte that is no white space, or 0 at the end.
func (s *scanner) skipSpace() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) done() bool {
	s.skipSpace()
	return s.at == len(s.text)
}

// value skips a value and returns its text, empty if there is none.
func (s *scanner) value() []byte {
	c := s.skipSpace()
	start := s.at
	switch c {
	case '{', '[':
		s.skipNested()
	case '"':
		s.skipString()
	default:
		for s.at < len(s.text) && strings.IndexByte(" \t\n\r\",:[]{}", s.text[s.at]) < 0 {
			s.at++
		}
		s.bad = s.bad || s.at == start
	}
	return s.text[start:s.at]
}

// skipNested skips an object or a list. Which bracket ends which is not looked at.
func (s *scanner) skipNested() {
	for depth := 0; s.at < len(s.text); {
		switch s.text[s.at] {
		case '"':
			s.skipString()
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if s.at++; depth == 0 {
			return
		}
	}
	s.bad = true
}

func (s *scanner) skipString() {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return
		}
	}
	s.at, s.bad = len(s.text), true
}

// members iterates over the names, in quotes, and the values of an object. Neither is
// empty.
func (s *scanner) members() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		if !s.open('{') {
			return
		}
		for s.skipSpace() == '"' {
			name := s.value()
			if s.skipSpace() != ':' {
				break
			}
			s.at++
			value := s.value()
			if len(value) == 0 || !yield(name, value) || !s.comma() {
				return
			}
		}
		s.close('}')
	}
}

// elements iterates over the elements of a list.
func (s *scanner) elements() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if !s.open('[') {
			return
		}
		for c := s.skipSpace(); c != 0 && c != ']'; c = s.skipSpace() {
			if element := s.value(); len(element) == 0 || !yield(element) || !s.comma() {
				return
			}
		}
		s.close(']')
	}
}

func (s *scanner) open(bracket byte) bool {
	if s.skipSpace() != bracket {
		return false
	}
	s.at++
	return true
}

// comma skips the comma that has to follow unless a closing bracket does.
func (s *scanner) comma() bool {
	switch s.skipSpace() {
	case ',':
		s.at++
		return true
	case '}', ']':
		return true
	}
	s.bad = true
	return false
}

func (s *scanner) close(bracket byte) { s.bad = s.bad || s.skipSpace() != bracket }

// unquote decodes a string in quotes. One that is malformed is returned with all that
// stands in it.
func unquote(quoted []byte) (text string) {
	if bytes.IndexByte(quoted, '\\') >= 0 && json.Unmarshal(quoted, &text) == nil {
		return text
	}
	return strings.Trim(string(quoted), `"`)
}

// HasErrors reports whether an answer in JSON has a member errors that is not empty:
// at its top, or with lists in an object of the list that it is, as answers to a batch
// are. Of a part of an answer it looks at the members that are complete.
func HasErrors(answer []byte, lists bool) bool {
	s := scanner{text: bytes.TrimPrefix(answer, byteOrderMark)}
	if lists && s.skipSpace() == '[' {
		for element := range s.elements() {
			if HasErrors(element, false) {
				return true
			}
		}
		return false
	}
	for name, value := range s.members() {
		isErrors := bytes.Equal(name, quotedErrors) || bytes.IndexByte(name, '\\') >= 0 && unquote(name) == "errors"
		if isErrors && !s.bad && !isEmpty(value) {
			return true
		}
	}
	return false
}

var quotedErrors = []byte(`"errors"`)

// isEmpty reports whether a value stands for nothing.
func isEmpty(value []byte) bool {
	switch string(value) {
	case "null", "false", "0", `""`:
		return true
	}
	end := len(value) - 1
	return end > 0 && bytes.IndexByte([]byte("]}"), value[end]) >= 0 && len(bytes.TrimSpace(value[1:end])) == 0
}
