package engine

import (
	"io"
	"maps"
	"net/http"
	"strings"
)

// clientWriter lets handlers behind find what the writer of the client can do.
type clientWriter struct{ http.ResponseWriter }

// Unwrap is for [http.ResponseController].
func (w clientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Push is HTTP/2 server push, where the client's connection has it.
func (w clientWriter) Push(target string, opts *http.PushOptions) error {
	if pusher, ok := w.ResponseWriter.(http.Pusher); ok {
		return pusher.Push(target, opts)
	}
	return http.ErrNotSupported
}

// writerOnly hides ReadFrom, which would bypass the capture.
type writerOnly struct{ io.Writer }

// pass makes the client's header what the upstream made of it, in its own one.
func (w clientWriter) pass(own http.Header) {
	if own != nil {
		client := w.ResponseWriter.Header()
		clear(client)
		maps.Copy(client, own.Clone())
	}
}

// passInterim passes a 1xx response on with the fields that the upstream's own header has now.
func (w clientWriter) passInterim(status int, own http.Header) {
	client := w.ResponseWriter.Header()
	was := maps.Clone(client)
	w.pass(own)
	w.ResponseWriter.WriteHeader(status)
	if own != nil {
		clear(client)
		maps.Copy(client, was)
	}
}

// passTrailers gives the client the trailers that the upstream has set in its own header
// since it was passed on.
func (w clientWriter) passTrailers(own http.Header) {
	client := w.ResponseWriter.Header()
	for name, values := range own {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			client[name] = values
		}
	}
	for _, line := range own["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values, ok := own[name]; ok {
				client[name] = values
			}
		}
	}
}
