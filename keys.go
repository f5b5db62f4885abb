package rediscache

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
)

const (
	// maxNameIdentifier is how much of an identifier a Redis key shows.
	maxNameIdentifier = 200
	// maxIdentifier bounds what a client can make the cache remember of a URL;
	// requests above it bypass.
	maxIdentifier = 8 << 10
	// hashSize is the length of a hash in a key: 128 bits, so that no client can
	// search for a request that has the key of another.
	hashSize = 16
)

// Tags of the parts that go into the hash of a key. A part is hashed as its
// tag, its length and its bytes, so that no two lists of parts look the same.
const (
	partScheme byte = iota + 1
	partHost
	partPath
	partRewrittenPath
	partQuery
	partRewrittenQuery
	partField
	partCookie
	partForwarded
	partValue // of the field or cookie named before it
	partUser
	partIdentifier
	partMethod
	partBody
)

// partHash hashes parts. Its buffer usually stays on the stack.
type partHash struct{ buf []byte }

func (h *partHash) add(tag byte, part string) {
	h.buf = append(h.buf, tag)
	h.buf = binary.AppendUvarint(h.buf, uint64(len(part)))
	h.buf = append(h.buf, part...)
}

// addField adds a request field; an absent one differs from an empty one.
func (h *partHash) addField(name string, header http.Header) {
	h.add(partField, name)
	if value, present := rfc9111.VaryValue(name, header[name]); present {
		h.add(partValue, value)
	}
}

func (h *partHash) appendSum(dst []byte) []byte {
	sum := sha256.Sum256(h.buf)
	return hex.AppendEncode(dst, sum[:hashSize])
}

// keyRequest is what the key of a request is made of.
type keyRequest struct {
	prefix, namespace string
	scheme, host      string      // of the connection; host in lower case, without the scheme's default port
	urlScheme         string      // of the URL: what a trusted proxy says that the client has used
	trusted           bool        // by Caddy, to state forwardedFields: reverse_proxy passes them on
	path, query       string      // as the client sent them
	opaque            bool        // the target is neither a path nor a URL with one
	rewrittenPath     string      // "" where no handler changed it
	rewrittenQuery    string      // the same as query where no handler changed it
	templated         bool        // identifier comes from a template, not from host and path
	exact             bool        // identifier alone is the key
	identifier        string      // when templated
	header            http.Header // the request's
	varyQuery         *VaryQuery
	varyHeader        []string
	varyCookie        []string
	method            string // "" for GET and HEAD
	body              []byte // part of the key with another method
	graphql           bool   // so that what the answer is made for is, too
	user              string // keyed hash of the identity, "" without by_user
}

// requestKey is a key with its parts.
type requestKey struct {
	store.Key
	namespace, identifier string
}

var errKeyTooLong = errors.New("the identifier is too long")

// build makes the key: <prefix>:<namespace>:<identifier>:<hash>.
func (q *keyRequest) build() (requestKey, error) {
	var stack [512]byte
	full := append(stack[:0], q.prefix...)
	full = append(full, ':')
	full = append(full, q.namespace...)
	full = append(full, ':')
	start := len(full)
	if q.templated {
		full = append(full, q.identifier...)
	} else {
		full = appendEscaped(full, q.host)
		full = appendEscaped(full, q.path)
	}
	end := len(full)
	if end-start > maxIdentifier {
		return requestKey{}, errKeyTooLong
	}
	if !q.exact {
		full = append(full, ':')
		full = q.appendHash(full)
	}
	key := requestKey{namespace: q.namespace}
	key.Full = string(full)
	key.identifier = key.Full[start:end]
	key.Name = key.Full
	if end-start > maxNameIdentifier {
		key.Name = q.cutName(key.Full, start, end)
	}
	return key, nil
}

// cutName is the Redis key of a long identifier. Where the hash does not cover
// the identifier, a hash of it is appended: two identifiers must not share one
// Redis key only for being long.
func (q *keyRequest) cutName(full string, start, end int) string {
	name := []byte(full[:start+maxNameIdentifier])
	name = append(name, full[end:]...)
	if q.exact {
		h := partHash{}
		h.add(partIdentifier, full[start:end])
		name = h.appendSum(append(name, ':'))
	}
	return string(name)
}

func (q *keyRequest) appendHash(dst []byte) []byte {
	var stack [512]byte
	h := partHash{buf: stack[:0]}
	h.add(partScheme, q.scheme)
	h.add(partHost, q.host)
	if q.templated {
		h.add(partIdentifier, q.identifier)
	} else {
		h.add(partPath, q.path)
	}
	if q.rewrittenPath != "" {
		h.add(partRewrittenPath, q.rewrittenPath)
	}
	for _, pair := range q.varyQuery.kept(q.query) {
		h.add(partQuery, pair)
	}
	if q.rewrittenQuery != q.query {
		for _, pair := range q.keptRewritten() {
			h.add(partRewrittenQuery, pair)
		}
	}
	for _, name := range q.varyHeader {
		h.addField(name, q.header)
	}
	for _, name := range q.varyCookie {
		h.add(partCookie, name)
		for value := range cookieValues(q.header, name) {
			h.add(partValue, value)
		}
	}
	stated := len(h.buf)
	for _, name := range forwardedFields {
		for _, value := range q.header[name] {
			if !q.confirms(name, value) {
				h.add(partForwarded, name)
				h.add(partValue, value)
			}
		}
	}
	for _, line := range q.header["Forwarded"] {
		for pair := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ',' || c == ';' }) {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			switch strings.ToLower(name) {
			case "host":
				name = "X-Forwarded-Host"
			case "proto":
				name = "X-Forwarded-Proto"
			default:
				continue // for and by differ from client to client
			}
			if value = strings.Trim(value, `"`); !q.confirms(name, value) {
				h.add(partForwarded, "Forwarded "+name)
				h.add(partValue, value)
			}
		}
	}
	if q.trusted && len(h.buf) > stated {
		h.add(partForwarded, "trusted")
	}
	if q.method != "" {
		body := sha256.Sum256(q.body)
		h.addField("Content-Type", q.header)
		h.addField("Content-Encoding", q.header)
		if q.graphql {
			h.addField("Accept", q.header)
		}
		h.add(partMethod, q.method)
		h.add(partBody, string(body[:]))
	}
	if q.user != "" {
		h.add(partUser, q.user)
	}
	return h.appendSum(dst)
}

var defaultPorts = map[string]string{"http": "80", "https": "443"}

// forwardedFields are read by origins in place of the request's own host and
// scheme, whether or not Caddy trusts the client that sent them. Forwarded is read
// apart.
var forwardedFields = []string{
	"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Prefix",
	"X-Forwarded-Server", "X-Forwarded-Ssl", "Front-End-Https", "X-Host",
}

// confirms reports whether a forwarded field says what the request says itself.
func (q *keyRequest) confirms(name, value string) bool {
	switch name {
	case "X-Forwarded-Host", "X-Host", "X-Forwarded-Server":
		return strings.EqualFold(value, q.host)
	case "X-Forwarded-Port":
		_, port, found := strings.Cut(q.host[strings.LastIndexByte(q.host, ']')+1:], ":")
		if !found {
			port = defaultPorts[q.scheme]
		}
		return value == port
	case "X-Forwarded-Prefix":
		return value == "" || value == "/"
	case "X-Forwarded-Ssl", "Front-End-Https":
		if q.scheme == "https" {
			return strings.EqualFold(value, "on")
		}
		return strings.EqualFold(value, "off")
	}
	return strings.EqualFold(value, q.scheme)
}

// keptRewritten selects the parameters of the rewritten query. Parameters that
// a rewrite added always count: they may stand for a device or a language.
func (q *keyRequest) keptRewritten() []string {
	kept := q.varyQuery.kept(q.rewrittenQuery)
	known := make(map[string]struct{})
	for pair := range strings.SplitSeq(q.query, "&") {
		known[pair] = struct{}{}
	}
	for _, pair := range kept {
		known[pair] = struct{}{}
	}
	for pair := range strings.SplitSeq(q.rewrittenQuery, "&") {
		if _, ok := known[pair]; !ok {
			known[pair] = struct{}{}
			kept = append(kept, pair)
		}
	}
	return kept
}

// origin is the origin of the URL.
func (q *keyRequest) origin() string {
	return q.urlScheme + "://" + normalHost(q.urlScheme, q.host)
}

// url is the URL that the selectors url, prefix and host see.
func (q *keyRequest) url() string {
	u := q.origin() + q.path
	if kept := q.varyQuery.kept(q.query); len(kept) > 0 {
		u += "?" + strings.Join(kept, "&")
	}
	return u
}

// variantKey is the key of the variant that these request fields select.
func variantKey(base requestKey, names []string, header http.Header) (key store.Key, hash string) {
	var stack [256]byte
	h := partHash{buf: stack[:0]}
	for _, name := range names {
		h.addField(name, header)
	}
	hash = string(h.appendSum(nil))
	return store.Key{Full: base.Full + ":" + hash, Name: base.Name + ":" + hash}, hash
}

// userHash is the identity as it goes into the key: without the secret nobody
// who can read Redis can tell users by trying their names.
func userHash(secret []byte, identity string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(identity))
	return hex.EncodeToString(mac.Sum(nil)[:hashSize])
}

const upperHex = "0123456789ABCDEF"

// appendEscaped escapes what would make a key ambiguous or a glob.
func appendEscaped(dst []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; mustEscape(c) {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func escape(value string) string { return string(appendEscaped(nil, value)) }

func mustEscape(c byte) bool {
	return c <= ' ' || c >= 0x7f || strings.IndexByte(`:*?[]{}\%`, c) >= 0
}

// normalHost is the host of a request in lower case, without the default port
// of its scheme.
func normalHost(scheme, host string) string {
	if (scheme == "http" && strings.HasSuffix(host, ":80")) || (scheme == "https" && strings.HasSuffix(host, ":443")) {
		if h, _, err := net.SplitHostPort(host); err == nil {
			if strings.IndexByte(h, ':') >= 0 {
				h = "[" + h + "]"
			}
			host = h
		}
	}
	return strings.ToLower(host)
}

// splitURI splits the request target as the client sent it. An absolute one
// loses its authority, which the host repeats.
func splitURI(u *url.URL, requestURI string) (path, query string) {
	if strings.HasPrefix(requestURI, "/") {
		path, query, _ = strings.Cut(requestURI, "?")
		return path, query
	}
	return cmp.Or(u.EscapedPath(), "/"), u.RawQuery
}

// param is a pair of a query with its name, decoded once.
type param struct {
	pair, name string
	at         int // in the query
}

// kept returns the selected parameters of a raw query, sorted by name. Those of
// one name stay in their order, which an origin may care for.
func (v *VaryQuery) kept(query string) []string {
	if query == "" {
		return nil
	}
	var stack [16]param
	params := v.appendParams(stack[:0], query)
	slices.SortFunc(params, func(a, b param) int { return cmp.Or(strings.Compare(a.name, b.name), a.at-b.at) })
	if len(params) == 0 {
		return nil
	}
	pairs := make([]string, len(params))
	for i := range params {
		pairs[i] = params[i].pair
	}
	return pairs
}

// appendParams appends the selected parameters, as they stand in the query.
func (v *VaryQuery) appendParams(params []param, query string) []param {
	var only []string
	if v != nil && v.Mode == queryOnly {
		only = make([]string, len(v.Names))
		for i, name := range v.Names {
			only[i] = folded(name)
		}
	}
	if n := strings.Count(query, "&") + 1; n > cap(params) && only == nil {
		params = make([]param, 0, n)
	}
	for pair := range strings.SplitSeq(query, "&") {
		name := paramName(pair)
		// Some origins split at semicolons, too: what hides behind one counts.
		if v == nil || strings.IndexByte(pair, ';') >= 0 || v.keeps(name, only) {
			params = append(params, param{pair, name, len(params)})
		}
	}
	return params
}

// paramName is the decoded name of a pair, as an origin would read it.
func paramName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err == nil {
		return decoded
	}
	return name
}

// folded is what some origins make of the name of a parameter: PHP reads user.id and
// user_id[] as user_id, ASP.NET does not tell upper case from lower.
func folded(name string) string {
	name = strings.TrimLeft(name, " ")
	if i := strings.IndexAny(name, "[\x00"); i > 0 {
		name = name[:i]
	}
	return strings.ToLower(foldedChars.Replace(name))
}

var foldedChars = strings.NewReplacer(".", "_", " ", "_")

// keeps reports whether parameters of a name count; only are the folded names of that
// mode.
func (v *VaryQuery) keeps(name string, only []string) bool {
	switch v.Mode {
	case queryOnly:
		return slices.Contains(only, folded(name))
	case queryExcept:
		return !slices.ContainsFunc(v.Names, func(pattern string) bool {
			if pattern == queryTracking {
				return isTracking(name)
			}
			return glob.Match(pattern, name)
		})
	}
	return v.Mode == queryAll
}

// The modes of the option vary_query, and its word for tracking parameters.
const (
	queryAll      = "all"
	queryNone     = "none"
	queryOnly     = "only"
	queryExcept   = "except"
	queryTracking = "tracking"
)

// trackingParams are added to links by advertisers and newsletters and do not
// change what is answered, as do those that begin with utm_.
var trackingParams = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range []string{
		"fbclid", "gclid", "gclsrc", "gbraid", "wbraid", "dclid", "gad_source", "gad_campaignid", "msclkid",
		"twclid", "ttclid", "li_fat_id", "igshid", "yclid", "_openstat", "mc_cid", "mc_eid", "mkt_tok", "_hsenc", "_hsmi",
		"__hstc", "__hssc", "__hsfp", "hsCtaTracking", "_ga", "_gl", "vero_id", "vero_conv", "oly_anon_id", "oly_enc_id",
		"rb_clickid", "s_cid", "srsltid", "ef_id", "epik", "wickedid", "sc_cid", "irclickid",
	} {
		set[name] = true
	}
	return set
}()

func isTracking(name string) bool { return strings.HasPrefix(name, "utm_") || trackingParams[name] }

func (v *VaryQuery) validate() error {
	if err := oneOf("vary_query", v.Mode, []string{queryAll, queryNone, queryOnly, queryExcept}); err != nil {
		return err
	}
	if named := v.Mode == queryOnly || v.Mode == queryExcept; named != (len(v.Names) > 0) {
		return fmt.Errorf("vary_query %s: %d names", v.Mode, len(v.Names))
	}
	return nil
}

func (k *KeyTemplate) validate() error {
	if k.Template == "" {
		return errors.New("key: the template is empty")
	}
	if strings.ContainsFunc(k.Template, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fmt.Errorf("key: %q holds a space, a control character or one outside ASCII", k.Template)
	}
	return nil
}
