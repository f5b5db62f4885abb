package subrequest

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// ServerOf finds the server that a request for a URL would reach on this machine:
// the one that listens on its port, with TLS for https alone. ctx is of the
// configuration whose servers are meant.
func ServerOf(ctx caddy.Context, rawURL string) (*caddyhttp.Server, *url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, nil, fmt.Errorf("url %q is not an absolute http or https URL", rawURL)
	}
	if u.User != nil {
		return nil, nil, errors.New("url: a user belongs into the field Authorization")
	}
	port, err := portOf(u)
	if err != nil {
		return nil, nil, fmt.Errorf("url %q: %q is not a port", rawURL, u.Port())
	}
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return nil, nil, errors.New("no http app is configured")
	}
	running := app.(*caddyhttp.App)
	names := serversOn(running, port, "")
	if len(names) > 1 {
		names = serversOn(running, port, u.Hostname())
	}
	switch len(names) {
	case 0:
		return nil, nil, fmt.Errorf("url %q: no server listens there, or several on other addresses of port %d", rawURL, port)
	case 1:
	default:
		return nil, nil, fmt.Errorf("url %q: several servers listen there", rawURL)
	}
	server := running.Servers[names[0]]
	secure := len(server.TLSConnPolicies) > 0 && int(port) != cmp.Or(running.HTTPPort, caddyhttp.DefaultHTTPPort)
	if secure != (u.Scheme == "https") {
		return nil, nil, fmt.Errorf("url %q: the server on port %d does not speak %s", rawURL, port, u.Scheme)
	}
	return server, u, nil
}

// portOf is the port that a URL names, or that of its scheme.
func portOf(u *url.URL) (uint, error) {
	switch {
	case u.Port() != "":
		number, err := strconv.ParseUint(u.Port(), 10, 16)
		return uint(number), err
	case u.Scheme == "https":
		return caddyhttp.DefaultHTTPSPort, nil
	}
	return caddyhttp.DefaultHTTPPort, nil
}

// serversOn names the servers that listen on a port, at one address if that is
// not empty.
func serversOn(app *caddyhttp.App, port uint, host string) (names []string) {
	for name, server := range app.Servers {
		if slices.ContainsFunc(server.Listen, func(listen string) bool {
			address, err := caddy.ParseNetworkAddress(listen)
			return err == nil && address.StartPort <= port && port <= address.EndPort && (host == "" || host == address.Host)
		}) {
			names = append(names, name)
		}
	}
	return names
}
