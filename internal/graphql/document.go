package graphql

import "strings"

// A document is read as far as needed to tell its operations apart: their first
// words, and where their brackets end. What servers refuse to run may pass.

// kindOfDocument is the kind of the operation that a server would run, which names
// name if there are several in the document.
func kindOfDocument(document string, names []string) Kind {
	operations, ok := parse(document)
	kind, others := None, None
	for _, o := range operations {
		if len(names) == 0 && len(operations) == 1 || len(names) == 1 && o.name == names[0] {
			kind = max(kind, o.kind)
		}
		others = max(others, o.kind)
	}
	if !ok || kind == None {
		return max(others, Unreadable)
	}
	return kind
}

// operation is one of a document.
type operation struct {
	kind Kind
	name string // "" without one
}

var operationKinds = map[string]Kind{"query": Query, "mutation": Mutation, "subscription": Subscription}

// parse returns the operations of a document, and whether all of it was understood.
func parse(document string) (operations []operation, ok bool) {
	l := lexer{text: document}
	for {
		token := l.next()
		for token == tokenString { // a description
			token = l.next()
		}
		switch token {
		case tokenEnd:
			return operations, true
		case '{':
			operations = append(operations, operation{kind: Query})
			if !l.group() {
				return operations, false
			}
			continue
		case tokenName:
		default:
			return operations, false
		}
		kind := operationKinds[l.word()]
		if kind == None && l.word() != "fragment" {
			return operations, false
		}
		name, ok := l.definition()
		if kind != None {
			operations = append(operations, operation{kind, name})
		}
		if !ok {
			return operations, false
		}
	}
}

// beginsDocument reports whether a text begins as the documents do that are run.
func beginsDocument(text string) bool {
	l := lexer{text: text}
	token := l.next()
	for token == tokenString {
		token = l.next()
	}
	return token == '{' || token == tokenName && (operationKinds[l.word()] != None || l.word() == "fragment")
}

// lexer reads a document. Punctuators are tokens of their own; tokenOther is
// anything that none can begin with, or that does not end.
type lexer struct {
	text      string
	start, at int // of the last token, and behind it
}

const (
	tokenEnd    = 0
	tokenName   = 'a'
	tokenString = '"'
	tokenOther  = '?'
)

// word is the last token.
func (l *lexer) word() string { return l.text[l.start:l.at] }

func (l *lexer) next() byte {
	l.skipIgnored()
	l.start = l.at
	if l.at == len(l.text) {
		return tokenEnd
	}
	c := l.text[l.at]
	l.at++
	switch {
	case isNamePart(c):
		for l.at < len(l.text) && isNamePart(l.text[l.at]) {
			l.at++
		}
		if c >= '0' && c <= '9' {
			return tokenOther
		}
		return tokenName
	case c == '"':
		if !l.skipString() {
			return tokenOther
		}
		return tokenString
	case strings.IndexByte("!$&()*.:=@[]{|}", c) >= 0:
		return c
	}
	return tokenOther
}

func isNamePart(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// skipIgnored skips what means nothing between tokens: blanks, commas, byte order
// marks and comments.
func (l *lexer) skipIgnored() {
	for l.at < len(l.text) {
		switch l.text[l.at] {
		case ' ', '\t', '\n', '\r', ',':
			l.at++
		case '#':
			end := strings.IndexAny(l.text[l.at:], "\n\r")
			if end < 0 {
				end = len(l.text) - l.at
			}
			l.at += end
		default:
			if !strings.HasPrefix(l.text[l.at:], "\uFEFF") {
				return
			}
			l.at += len("\uFEFF")
		}
	}
}

// skipString skips the rest of a string that has begun, and reports whether it ends.
func (l *lexer) skipString() bool {
	const block = `""`
	isBlock := strings.HasPrefix(l.text[l.at:], block)
	if isBlock {
		l.at += len(block)
	}
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case isBlock && strings.HasPrefix(rest, `"""`):
			// Of more than three quotes it is the first three.
			l.at += 3
			return true
		case isBlock && strings.HasPrefix(rest, `\"""`):
			l.at += 4
		case isBlock:
			l.at++
		case rest[0] == '\\':
			l.at = min(l.at+2, len(l.text))
		case rest[0] == '\n' || rest[0] == '\r':
			return false
		default:
			l.at++
			if rest[0] == '"' {
				return true
			}
		}
	}
	return false
}

// definition skips a definition behind its first word, and returns the name that it
// may begin with. It reports whether the definition ends.
func (l *lexer) definition() (name string, ok bool) {
	for first := true; ; first = false {
		switch l.next() {
		case tokenName:
			if first {
				name = l.word()
			}
		case '@': // a directive, whose name follows
		case '(':
			if !l.group() {
				return name, false
			}
		case '{':
			return name, l.group()
		default:
			return name, false
		}
	}
}

// group skips to the end of a bracket that has begun. Which bracket ends which is not
// looked at.
func (l *lexer) group() bool {
	for depth := 1; depth > 0; {
		switch l.next() {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		case tokenEnd:
			return false
		}
	}
	return true
}
