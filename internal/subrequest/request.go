package subrequest

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

// New makes a GET for a URL as a client on this machine would send it.
func New(u *url.URL, fields map[string]string) *http.Request {
	r := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: http.NoBody, Host: u.Host, RemoteAddr: "127.0.0.1:0",
	}
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	r.RequestURI = r.URL.RequestURI()
	for name, value := range fields {
		if r.Header.Set(name, value); http.CanonicalHeaderKey(name) == "Host" {
			r.Host = value
			r.Header.Del(name)
		}
	}
	if u.Scheme == "https" {
		r.TLS = &tls.ConnectionState{ServerName: u.Hostname(), HandshakeComplete: true, Version: tls.VersionTLS13}
	}
	return r
}

// AddField adds "Name: value" to a request as it would arrive.
func AddField(r *http.Request, line string) error {
	name, value, ok := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	if !ok || !rfc9111.IsToken(name) || strings.ContainsAny(value, "\r\n\x00") {
		return errors.New("header: want Name: value")
	}
	switch name = http.CanonicalHeaderKey(name); name {
	case "Host":
		r.Host = value
		return nil
	case "Content-Length":
		length, err := strconv.ParseInt(value, 10, 64)
		if err != nil || length < 0 {
			return errors.New("header: Content-Length is not a number")
		}
		r.ContentLength = length
	case "Transfer-Encoding":
		r.ContentLength = -1
		return nil
	}
	r.Header.Add(name, value)
	return nil
}

// The addresses from which nobody asks, set apart for documentation by RFC 5737 and
// RFC 3849: no rule of a site is about them.
const (
	nobodysIPv4 = "192.0.2.1"
	nobodysIPv6 = "2001:db8::1"
)

// NobodysAddress is where a request comes from that no client sends, of the family
// of a client's address.
func NobodysAddress(remote string) (address, ip string) {
	ip = nobodysIPv4
	if host, _, err := net.SplitHostPort(remote); err == nil && strings.Contains(host, ":") {
		ip = nobodysIPv6
	}
	return net.JoinHostPort(ip, "0"), ip
}
