package engine

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/gplus-recycling/caddy-redis-cache/internal/graphql"
	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// A route that caches POST by its content may be one to a GraphQL server, where a POST
// may change something as well as read. So the content says whether it is safe.

// readContent reads the content of a request that may be part of the key, leaves it for
// the upstream, and finds out what it asks of a GraphQL server. That of a request which
// bypasses is read only if it is known to be small: it may be one that goes on for as
// long as the response does.
func (q *Request) readContent(bypasses bool) {
	r, limit := q.HTTP, q.Route.VaryBody
	if !IsBodyMethod(q.Method) || !q.Route.Caches(q.Method) {
		return
	}
	q.Unread = true
	if r.ContentLength > limit || bypasses && r.ContentLength < 0 {
		return
	}
	content, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	unread(r, content)
	if err != nil || int64(len(content)) > limit {
		return
	}
	q.Unread, q.Body = false, content
	q.Operation = graphql.Unreadable
	if content, ok := decoded(r.Header, content, maxExpansion*limit); ok {
		q.Operation = graphql.KindOf(r.Header.Get("Content-Type"), r.URL.RawQuery, content)
	}
}

// maxExpansion is how many times vary_body the content of a request may be when it is
// decoded. What is larger is not read.
const maxExpansion = 8

// decoded is content without its coding. It is not ok for a coding that is not known,
// and for more than limit bytes.
func decoded(header http.Header, content []byte, limit int64) (plain []byte, ok bool) {
	var reader io.Reader
	switch strings.ToLower(strings.Join(header["Content-Encoding"], ",")) {
	case "", "identity":
		return content, true
	case "gzip", "x-gzip":
		unzip, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil, false
		}
		reader = unzip
	case "zstd":
		expand, err := zstd.NewReader(bytes.NewReader(content), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
		if err != nil {
			return nil, false
		}
		defer expand.Close()
		reader = expand
	default:
		return nil, false
	}
	plain, err := io.ReadAll(io.LimitReader(reader, limit+1))
	return plain, err == nil && int64(len(plain)) <= limit
}

// ownLifetime reports whether the response says itself how long it stays fresh. If it
// does not, its body must not tell of errors.
func ownLifetime(response rfc9111.Response, decision *rfc9111.Decision, rules rfc9111.Policy) bool {
	switch decision.Source {
	case "", "heuristic":
		return false
	case "ttl":
		if !rules.Override {
			return false
		}
		rules.HasTTL, rules.Override = false, false
		own := rfc9111.Decide(response, rules)
		return own.Store && own.Freshness.Fresh(response.ResponseTime) && own.Source != "heuristic"
	}
	return true
}

// tellsErrors reports whether a response whose status is one of success has a body of
// JSON that tells of errors, as GraphQL servers answer: they may be over soon. To a
// GraphQL request, a body that cannot be looked into may tell of them, too.
func (q *Request) tellsErrors(status int, header http.Header, body []byte) bool {
	isGraphQL := q.Operation != graphql.None
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case status >= http.StatusMultipleChoices || err != nil && header.Get("Content-Type") == "":
		return false
	case strings.HasPrefix(mediaType, "multipart/"):
		return isGraphQL
	case mediaType != "application/json" && mediaType != "text/json" && !strings.HasSuffix(mediaType, "+json"):
		return false
	}
	plain, ok := decoded(header, body, q.Route.MaxBody)
	if !ok {
		return isGraphQL
	}
	return graphql.HasErrors(plain, isGraphQL)
}
