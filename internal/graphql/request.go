package graphql

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

// request collects what one request says.
type request struct {
	// More than one value of these, and servers differ in which they take.
	documents []string
	names     []string // of the operation that is to run
	hashes    []string // of a persisted query

	named bool // the document is named in another way than by its hash
	bad   bool // the object is malformed
}

// maxValues bounds how many values of one member are told apart.
const maxValues = 8

// kind is that of what the request would run.
func (r request) kind() Kind {
	if len(r.documents) == 0 {
		if r.named || len(r.hashes) > 0 {
			return Unreadable
		}
		return None
	}
	kind := None
	for _, document := range r.documents {
		kind = max(kind, kindOfDocument(document, r.names))
	}
	if kind == Query && (r.named || r.bad || len(r.documents) > 1 || r.contradicted()) {
		return Unreadable
	}
	return kind
}

// contradicted reports whether the request states a hash that is not its document's: a
// server may know another one by it.
func (r *request) contradicted() bool {
	if len(r.hashes) == 0 {
		return false
	}
	sum := sha256.Sum256([]byte(r.documents[0]))
	own := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(r.hashes, func(hash string) bool { return !strings.EqualFold(hash, own) })
}

// add adds a parameter of a form. Servers differ in whether they fold the case of
// names.
func (r *request) add(name, value string) {
	switch {
	case value == "":
	case strings.EqualFold(name, "query"):
		if beginsDocument(value) {
			r.addDocument(value)
		}
	case strings.EqualFold(name, "operationName"):
		r.names = addNew(r.names, value)
	case strings.EqualFold(name, "extensions"):
		r.addExtensions([]byte(value))
	case strings.EqualFold(name, "doc_id"):
		r.named = true
	case strings.EqualFold(name, "id"), strings.EqualFold(name, "documentId"), strings.EqualFold(name, "queryId"):
		r.named = r.named || looksHashed(value)
	}
}

func (r *request) addDocument(document string) { r.documents = addNew(r.documents, document) }

// addNew leaves the list as it was for those who share it.
func addNew(list []string, value string) []string {
	if len(list) == maxValues || slices.Contains(list, value) {
		return list
	}
	return append(slices.Clip(list), value)
}

// addForm adds the parameters of a form, or of the query of a URL.
func (r *request) addForm(text string) {
	for pair := range strings.SplitSeq(text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			continue
		}
		if value, err = url.QueryUnescape(value); err == nil {
			r.add(name, value)
		}
	}
}

// withObject is the request with the members of a JSON object.
func (r request) withObject(object []byte) request {
	s := scanner{text: object}
	for name, value := range s.members() {
		switch name := unquote(name); {
		case value[0] == '"':
			r.add(name, unquote(value))
		case string(value) == "null":
		case strings.EqualFold(name, "extensions"):
			r.addExtensions(value)
		case strings.EqualFold(name, "doc_id"):
			r.named = true
		}
	}
	r.bad = s.bad
	return r
}

// addExtensions looks for a persisted query.
func (r *request) addExtensions(object []byte) {
	s := scanner{text: bytes.TrimSpace(object)}
	for name, value := range s.members() {
		if !strings.EqualFold(unquote(name), "persistedQuery") || string(value) == "null" {
			continue
		}
		r.named = r.named || value[0] != '{'
		hash := ""
		of := scanner{text: value}
		for name, value := range of.members() {
			if strings.EqualFold(unquote(name), "sha256Hash") && value[0] == '"' {
				hash = unquote(value)
			}
		}
		r.hashes = addNew(r.hashes, hash)
	}
}

// looksHashed reports whether an identifier looks like the hash of a document: 128
// bits or more in hexadecimal digits, 256 bits in base64, or with the name of an
// algorithm in front.
func looksHashed(id string) bool {
	if algorithm, _, named := strings.Cut(strings.ToLower(id), ":"); named {
		return strings.HasPrefix(algorithm, "sha") || algorithm == "md5"
	}
	isHex := func(c rune) bool { return strings.ContainsRune("0123456789abcdefABCDEF", c) }
	if len(id) >= 32 && strings.IndexFunc(id, func(c rune) bool { return !isHex(c) }) < 0 {
		return true
	}
	id = strings.TrimSuffix(id, "=")
	return len(id) == 43 && strings.IndexFunc(id, func(c rune) bool {
		return c >= 0x80 || !isNamePart(byte(c)) && c != '-' && c != '+' && c != '/'
	}) < 0
}
