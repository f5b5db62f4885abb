package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc3986"
)

// Kind says what a selector compares.
type Kind uint8

// The selectors.
const (
	KindNamespace Kind = iota // every response of a namespace
	KindTag                   // responses that carry a tag
	KindKey                   // namespace:identifier, or a whole key without the prefix
	KindPattern               // a Redis glob over namespace:identifier and over whole keys
	KindURL                   // a URL; without a query, whatever the query
	KindPrefix                // URLs that begin so
	KindHost                  // a host, on every port unless it has one
	KindUser                  // the hash of an identity
	KindAll                   // everything under the prefix
)

const numKinds = int(KindAll) + 1

var kindNames = [numKinds]string{"namespace", "tag", "key", "pattern", "url", "prefix", "host", "user", "all"}

// String returns the name of the selector, which is also its field in an entry.
func (k Kind) String() string {
	if int(k) < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Selector names stored responses.
type Selector struct {
	Kind  Kind
	Value string // "" for KindAll
}

// String returns the selector as a user would write it.
func (s Selector) String() string {
	if s.Kind == KindAll {
		return s.Kind.String()
	}
	return s.Kind.String() + " " + s.Value
}

// MarshalJSON writes a selector as the body of a purge names it: {"tag":"x"}.
func (s Selector) MarshalJSON() ([]byte, error) {
	if s.Kind == KindAll {
		return []byte(`{"all":true}`), nil
	}
	return json.Marshal(map[string]string{s.Kind.String(): s.Value})
}

// Purge is a union of selectors. A soft purge makes responses stale, any other
// makes them absent.
type Purge struct {
	Selectors  []Selector
	Soft       bool
	By, Reason string // for the listing; cut at 256 bytes
	// Request is set where a client's request purges: by an unsafe method, a rule or
	// what its answer says. Such purges must not displace those of operators: they
	// wait in a queue of their own.
	Request bool
}

// Body holds the selectors of the body of a purge. Each field takes one value
// or a list of them.
type Body struct {
	Namespace  Values `json:"namespace,omitempty"`
	Namespaces Values `json:"namespaces,omitempty"`
	Tag        Values `json:"tag,omitempty"`
	Tags       Values `json:"tags,omitempty"`
	Key        Values `json:"key,omitempty"`
	Keys       Values `json:"keys,omitempty"`
	Pattern    Values `json:"pattern,omitempty"`
	URL        Values `json:"url,omitempty"`
	URLs       Values `json:"urls,omitempty"`
	Prefix     Values `json:"prefix,omitempty"`
	Host       Values `json:"host,omitempty"`
	User       Values `json:"user,omitempty"`
	All        bool   `json:"all,omitempty"`
}

// Values is a JSON string or a list of strings.
type Values []string

// UnmarshalJSON reads a string or a list of strings.
func (v *Values) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*v = Values{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(v))
}

// MarshalJSON writes a single value as a string.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

func (b *Body) fields() [numKinds][2]*Values {
	return [numKinds][2]*Values{
		KindNamespace: {&b.Namespace, &b.Namespaces},
		KindTag:       {&b.Tag, &b.Tags},
		KindKey:       {&b.Key, &b.Keys},
		KindPattern:   {&b.Pattern},
		KindURL:       {&b.URL, &b.URLs},
		KindPrefix:    {&b.Prefix},
		KindHost:      {&b.Host},
		KindUser:      {&b.User},
	}
}

// Selectors returns the union that the body asks for, as it was written.
func (b *Body) Selectors() []Selector {
	var selectors []Selector
	for kind, names := range b.fields() {
		for _, values := range names {
			if values == nil {
				continue
			}
			for _, value := range *values {
				selectors = append(selectors, Selector{Kind(kind), value})
			}
		}
	}
	if b.All {
		selectors = append(selectors, Selector{Kind: KindAll})
	}
	return selectors
}

// bodyOf is the inverse of Selectors.
func bodyOf(selectors []Selector) *Body {
	b := new(Body)
	fields := b.fields()
	for _, s := range selectors {
		if s.Kind == KindAll {
			b.All = true
		} else {
			values := fields[s.Kind][0]
			*values = append(*values, s.Value)
		}
	}
	return b
}

// Normalize checks a selector and brings it into the form in which records hold
// what it is compared with. That form is its own: readers of an entry normalize
// again. The identity of KindUser must be hashed already.
func (s Selector) Normalize(prefix string) (Selector, error) {
	if int(s.Kind) >= numKinds {
		return s, fmt.Errorf("unknown selector %s", s.Kind)
	}
	if s.Kind == KindAll {
		return Selector{Kind: KindAll}, nil
	}
	if s.Value == "" {
		return s, fmt.Errorf("%s is empty", s.Kind)
	}
	var err error
	switch s.Kind {
	case KindKey, KindPattern:
		for strings.HasPrefix(s.Value, prefix+":") {
			s.Value = s.Value[len(prefix)+1:]
		}
	case KindURL:
		s.Value, err = normalURL(s.Value)
	case KindPrefix:
		s.Value, err = normalURLPrefix(s.Value)
	case KindHost:
		s.Value, err = normalHost(s.Value)
	case KindNamespace, KindTag, KindUser, KindAll:
	}
	if err == nil && s.Value == "" {
		err = fmt.Errorf("%s is empty", s.Kind)
	}
	return s, err
}

// normalURL brings a URL into the form in which entries hold it: path and query are as
// they were written, so that nodes that compare them so understand it, too. The table
// compares what rfc3986.Normal makes of it and of the URL of a record.
func normalURL(raw string) (string, error) {
	scheme, authority, rest, err := splitURL(raw, false)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return scheme + "://" + authority + rest, nil
}

// normalURLPrefix is normalURL for the beginning of a URL, which may end within
// the host.
func normalURLPrefix(raw string) (string, error) {
	scheme, authority, rest, err := splitURL(raw, true)
	if err != nil {
		return "", err
	}
	return scheme + "://" + authority + rest, nil
}

// splitURL splits an absolute URL, or the beginning of one, behind its authority, which
// loses its user information and the default port of the scheme. The fragment goes.
// anyHost lets it end behind the scheme.
func splitURL(raw string, anyHost bool) (scheme, authority, rest string, err error) {
	invalid := func(why string) error {
		return fmt.Errorf("%q is not an absolute http or https URL: %s", beforeQuery(raw), why)
	}
	scheme, rest, found := strings.Cut(raw, "://")
	if scheme = strings.ToLower(scheme); !found || scheme != "http" && scheme != "https" {
		return "", "", "", invalid("it does not begin with http:// or https://")
	}
	rest, _, _ = strings.Cut(rest, "#")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest, authority = rest[end:], rest[:end]
	} else {
		rest, authority = "", rest
	}
	if authority == "" && rest == "" && anyHost {
		return scheme, "", "", nil
	}
	host, port := rfc3986.SplitPort(authority[strings.LastIndexByte(authority, '@')+1:])
	if host, err = validHost(host, port); err != nil {
		return "", "", "", invalid(err.Error())
	}
	if _, err := url.Parse("http://h" + rest); err != nil {
		return "", "", "", invalid("it holds a control character, or % that begins no escape")
	}
	if port = rfc3986.NormalPort(scheme, port); port != "" {
		host += ":" + port
	}
	return scheme, host, rest, nil
}

// beforeQuery is what of a URL may stand in an error, which may be logged.
func beforeQuery(raw string) string {
	shown, _, _ := strings.Cut(raw, "?")
	return shown
}

func normalHost(raw string) (string, error) {
	host := raw
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]" // an IPv6 address as people write it
	}
	host, port := rfc3986.SplitPort(host)
	host, err := validHost(host, port)
	if err != nil {
		return "", fmt.Errorf("%q is not a host: %w", beforeQuery(raw), err)
	}
	if port != "" {
		host += ":" + rfc3986.NormalPort("", port)
	}
	return host, nil
}

// validHost is a host in normal form.
func validHost(host, port string) (string, error) {
	normal := rfc3986.NormalHost(host)
	_, err := url.Parse("http://" + strings.ReplaceAll(normal, "%", "%25") + ":" + port)
	switch {
	case normal == "":
		return "", errors.New("there is no host")
	case strings.ContainsFunc(host, notASCII) && strings.Contains(normal, "%"):
		return "", errors.New("the host is not a name, RFC 5891")
	case err != nil || strings.ContainsAny(normal+port, "/?#@\\"):
		return "", errors.New("the host, or its port, holds what it may not")
	}
	return normal, nil
}

func notASCII(c rune) bool { return c >= utf8.RuneSelf }

// cutURL splits the URL of a record, which is in normal form.
func cutURL(u string) (scheme, authority string) {
	scheme, rest, _ := strings.Cut(u, "://")
	authority, _, _ = strings.Cut(rest, "/")
	return scheme, authority
}

// maxValue bounds a value in an entry, and in the table those that it holds as
// they are.
const maxValue = 1024

// digestMark begins a value that stands for a longer one. It is no part of any
// value that a user can mean.
const digestMark = "\x00sha256:"

// digest stands for a value of a kind that is compared as a whole.
func digest(value string) string {
	if len(value) <= maxValue {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	return digestMark + hex.EncodeToString(sum[:])
}

// compact returns a selector that fits into an entry and covers at least as
// much: a client that makes its URL long must not escape the purge of it.
func (s Selector) compact() Selector {
	if len(s.Value) <= maxValue {
		return s
	}
	switch s.Kind {
	case KindURL:
		// Its query is compared by the parameters that count, so that no part of it
		// is the beginning of what matches.
		if path, _, _ := strings.Cut(s.Value, "?"); len(path) <= maxValue {
			return Selector{KindURL, path}
		}
		return compactPrefix(s.Value)
	case KindPrefix:
		return compactPrefix(s.Value)
	case KindPattern:
		return Selector{KindPattern, cutPattern(s.Value)}
	case KindNamespace, KindTag, KindKey, KindHost, KindUser, KindAll:
	}
	return Selector{s.Kind, digest(s.Value)}
}

// compactPrefix is a selector for what begins with a URL that is too long. Where dot
// segments behind the cut take back what stands before it, the normal form is cut.
func compactPrefix(u string) Selector {
	normal, cut := rfc3986.NormalPrefix(u), cutPrefix(u)
	switch {
	case strings.HasPrefix(normal, rfc3986.NormalPrefix(cut)):
	case len(normal) <= maxValue:
		cut = normal
	default:
		cut = cutPrefix(normal)
	}
	return Selector{KindPrefix, cut}
}

// cutPrefix cuts a prefix in front of the character or escape that makes it too
// long: a part of one is no URL.
func cutPrefix(prefix string) string {
	end := maxValue
	for end > maxValue-utf8.UTFMax && !utf8.RuneStart(prefix[end]) {
		end--
	}
	if percent := strings.LastIndexByte(prefix[:end], '%'); percent > end-len("%XX") {
		end = percent
	}
	return prefix[:end]
}

// cutPattern cuts a pattern in front of the element that makes it too long, and
// lets it match whatever follows.
func cutPattern(pattern string) string {
	end := 0
	for {
		next := end + elementLen(pattern[end:])
		if next >= maxValue {
			return pattern[:end] + "*"
		}
		end = next
	}
}

// elementLen is the length of the first element of a pattern: a byte, an escaped
// byte or a class.
func elementLen(pattern string) int {
	switch pattern[0] {
	case '\\':
		return 2
	case '[':
		for i := 1; i < len(pattern); i++ {
			switch pattern[i] {
			case '\\':
				i++
			case ']':
				return i + 1
			}
		}
		return len(pattern)
	}
	return 1
}

var errNoSelector = errors.New("no selector")

// normalizeAll normalizes a union, which must not be empty.
func normalizeAll(selectors []Selector, prefix string) ([]Selector, error) {
	if len(selectors) == 0 {
		return nil, errNoSelector
	}
	normal := make([]Selector, len(selectors))
	for i, s := range selectors {
		var err error
		if normal[i], err = s.Normalize(prefix); err != nil {
			return nil, err
		}
	}
	return normal, nil
}
