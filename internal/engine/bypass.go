package engine

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// hasContent reports whether a request has content. A GET over HTTP/3 never states
// that it has none, and one over HTTP/2 need not: only its end tells.
func hasContent(r *http.Request) bool {
	if r.ContentLength >= 0 || r.ProtoMajor < 2 {
		return r.ContentLength != 0
	}
	var first [1]byte
	n, err := io.ReadFull(r.Body, first[:])
	if n == 0 && err == io.EOF { //nolint:errorlint // ReadFull returns it as it is
		r.Body, r.ContentLength = http.NoBody, 0
		return false
	}
	unread(r, first[:n])
	return true
}

// unread puts back what has been read of the body.
func unread(r *http.Request, read []byte) {
	rest := r.Body
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(read), rest), rest}
}

// dropsFields reports whether the client names fields in Connection, which proxies
// then leave out, RFC 9110 section 7.6.1: the origin would not see what the key and
// handlers in front have seen.
func dropsFields(r *http.Request) bool {
	for _, line := range r.Header["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(option)) {
			case "", "close", "keep-alive", "te", "upgrade", "http2-settings", "proxy-connection", "trailer", "transfer-encoding":
			default:
				return true
			}
		}
	}
	return false
}

// overrideFields make some origins read another method or URL than the request
// states, which the key would not show, or answer as they answer their own builds and
// proxies.
var overrideFields = map[string]bool{
	"X-Http-Method-Override": true, "X-Http-Method": true, "X-Method-Override": true, "X-Original-Url": true, "X-Rewrite-Url": true,
	// React Router
	"X-React-Router-Spa-Mode": true, "X-React-Router-Prerender-Data": true,
	// Next.js
	"X-Matched-Path": true, "X-Invoke-Path": true, "X-Invoke-Query": true, "X-Invoke-Status": true, "X-Invoke-Output": true,
	"X-Now-Route-Matches": true, "X-Middleware-Subrequest": true, "X-Middleware-Invoke": true, "X-Middleware-Rewrite": true,
	"X-Middleware-Redirect": true, "X-Middleware-Set-Cookie": true, "X-Middleware-Skip": true, "X-Middleware-Next": true,
	"X-Middleware-Override-Headers": true,
}

func overrides(header http.Header) bool {
	for name, values := range header {
		if strings.HasPrefix(name, "X-") && len(values) > 0 && overrideFields[name] {
			return true
		}
	}
	return false
}
