package graphql

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"strings"
)

// Kind is what a request asks of a GraphQL server. Of what it may mean, and of the
// requests of a batch, the greatest counts.
type Kind uint8

// The kinds.
const (
	None       Kind = iota // no GraphQL request
	Query                  // reads
	Unreadable             // GraphQL, but what is asked cannot be told
	Mutation
	Subscription
)

var kindNames = [...]string{"", "query", "unreadable", "mutation", "subscription"}

func (k Kind) String() string { return kindNames[k] }

// Changes reports whether the request must reach the server each time it is sent.
func (k Kind) Changes() bool { return k >= Mutation }

// KindOf finds the kind of a request with content: from its Content-Type, from the
// query of its URL, of which some servers read parameters, and from its body.
//
// A GraphQL request is a document of type application/graphql; or JSON, whatever its
// type, a form, or the operations of a form in parts (graphql-multipart-request-spec),
// with a query that begins like a document or with what stands for one: doc_id,
// extensions.persistedQuery, or an id that looks like a hash. A list of such is a
// batch. Everything else is None.
//
// What servers may read in different ways is Unreadable, unless one of them would see
// a mutation or subscription in it.
func KindOf(contentType, query string, body []byte) Kind {
	mediaType, params := parseType(contentType)
	if isWide(params["charset"], body) {
		return Unreadable
	}
	var r request // what the URL says
	r.addForm(query)
	var kind Kind
	switch mediaType {
	case "application/x-www-form-urlencoded":
		kind = kindOfJSON(r, body) // some clients send nothing else
		r.addForm(string(body))
	case "multipart/form-data":
		kind = r.addParts(params["boundary"], body)
	case "application/graphql":
		if kind = kindOfJSON(r, body); kind == None {
			r.addDocument(string(body))
		}
	default:
		kind = kindOfJSON(r, body)
	}
	return max(kind, r.kind())
}

// parseType is lenient: of a field that is malformed the type is read alone.
func parseType(contentType string) (mediaType string, params map[string]string) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		mediaType, _, _ = strings.Cut(contentType, ";")
		mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	}
	return mediaType, params
}

// isWide reports whether a text is in a charset that is not ASCII where it could be:
// one that is named, or UTF-16 or UTF-32, which some parsers of JSON recognise by
// themselves.
func isWide(charset string, text []byte) bool {
	if namesWide(charset) {
		return true
	}
	if len(text) < 2 {
		return false
	}
	switch a, b := text[0], text[1]; {
	case a == 0 && b == 0:
		return len(text) > 3 && (text[2] == 0 && text[3] >= '\t' || text[2] == 0xFE && text[3] == 0xFF)
	case a == 0:
		return b >= '\t'
	case b == 0:
		return a >= '\t'
	default:
		return a == 0xFE && b == 0xFF || a == 0xFF && b == 0xFE
	}
}

func namesWide(charset string) bool {
	charset = strings.ToLower(charset)
	for _, wide := range [...]string{"utf-16", "utf-32", "utf-7", "ucs-", "unicode"} {
		if strings.Contains(charset, wide) {
			return true
		}
	}
	return false
}

// kindOfJSON is the kind of a body of JSON, or of several such values in a row. The
// first of them completes what the URL says.
func kindOfJSON(url request, body []byte) (kind Kind) {
	s := scanner{text: bytes.TrimPrefix(body, byteOrderMark)}
	values := 0
	for ; !s.bad && !s.done(); values++ {
		kind = max(kind, kindOfValue(url, s.value()))
		url = request{}
	}
	if kind == Query && (values > 1 || s.bad) {
		return Unreadable
	}
	return kind
}

var byteOrderMark = []byte("\uFEFF")

// kindOfValue is the kind of an object, or of a list of them; others are None.
func kindOfValue(url request, value []byte) (kind Kind) {
	if len(value) == 0 || value[0] != '[' {
		return url.withObject(value).kind()
	}
	others := url.kind() != None
	s := scanner{text: value}
	for element := range s.elements() {
		k := request{}.withObject(element).kind()
		kind, others = max(kind, k), others || k == None
	}
	if kind == Query && (others || s.bad) {
		return Unreadable
	}
	return kind
}

// addParts adds a form in parts, and returns the kind of its operations.
func (r *request) addParts(boundary string, body []byte) (kind Kind) {
	url := *r
	for parts := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		part, err := parts.NextRawPart()
		if err == io.EOF { //nolint:errorlint // one that is wrapped came too early
			return kind
		}
		if err != nil {
			return max(kind, Unreadable)
		}
		content, err := io.ReadAll(part)
		switch name := part.FormName(); {
		case err != nil:
			return max(kind, Unreadable)
		case name != "operations":
			r.add(name, string(content))
		case kind != None: // servers differ in which they take
			kind = max(kind, kindOfJSON(url, content), Unreadable)
		default:
			kind = kindOfJSON(url, content)
		}
	}
}
