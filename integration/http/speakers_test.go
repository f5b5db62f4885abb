package http

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// speakers returns a client for each protocol.
func speakers(t *testing.T, site, tlsAddr string) map[string]func(*http.Request) (*http.Response, error) {
	t.Helper()
	secure := func() *tls.Config { return &tls.Config{InsecureSkipVerify: true, ServerName: harness.SiteHost} }
	transport := func(set func(*http.Protocols)) *http.Transport {
		tr := &http.Transport{
			DisableCompression: true, TLSClientConfig: secure(), Protocols: new(http.Protocols), ExpectContinueTimeout: harness.Patience,
		}
		set(tr.Protocols)
		t.Cleanup(tr.CloseIdleConnections)
		return tr
	}
	quic := &http3.Transport{TLSClientConfig: secure(), DisableCompression: true}
	t.Cleanup(func() { quic.Close() })
	to := func(base string, rt http.RoundTripper) func(*http.Request) (*http.Response, error) {
		return func(req *http.Request) (*http.Response, error) {
			u, err := url.Parse(base + req.URL.String())
			if err != nil {
				return nil, err
			}
			req.URL = u
			return rt.RoundTrip(req)
		}
	}
	return map[string]func(*http.Request) (*http.Response, error){
		"h1":  to("http://"+site, transport(func(p *http.Protocols) { p.SetHTTP1(true) })),
		"h2":  to("https://"+tlsAddr, transport(func(p *http.Protocols) { p.SetHTTP2(true) })),
		"h2c": to("http://"+site, transport(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })),
		"h3":  to("https://"+tlsAddr, quic),
	}
}

// rawWords sends bytes and returns what comes back until the connection ends or
// an answer is complete, without what the cache adds.
func rawWords(t *testing.T, addr, words string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(harness.Patience))
	io.WriteString(conn, words)
	in := bufio.NewReader(conn)
	var b bytes.Buffer
	for range strings.Count(words, "HTTP/1.") {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			fmt.Fprintf(&b, "no answer\n")
			break
		}
		for _, name := range harness.OwnFields {
			resp.Header.Del(name)
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			fmt.Fprint(&b, resp.Status, resp.Header["Upgrade"])
			line, _ := in.ReadString('\n')
			b.WriteString(line)
			break
		}
		resp.Write(&b)
		resp.Body.Close()
	}
	return b.String()
}
