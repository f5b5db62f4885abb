package redisconn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestConnections resolves each kind of Redis. Clients keep to masters, and a reload with another
// connection gets another node.
func TestConnections(t *testing.T) {
	zero := 0
	keys := make(map[string]string)
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"one":      {Config{URL: "redis://u:p@a:1/2"}, "tcp a:1 u:p 2 tls=false"},
		"block":    {Config{URL: "redis://u:p@a:1/2", Username: "v", Password: "q", DB: &zero}, "tcp a:1 v:q 0 tls=false"},
		"socket":   {Config{URL: "unix:///run/r.sock?db=3"}, "unix /run/r.sock : 3 tls=false"},
		"tls":      {Config{URL: "rediss://a:1"}, "tcp a:1 : 0 tls=true"},
		"tls name": {Config{URL: "a:1", TLS: &TLS{ServerName: "b"}}, "tcp a:1 : 0 tls=true"},
		"cluster":  {Config{Addresses: []string{"rediss://u:p@a:1", "b:2"}, Cluster: true}, "cluster [a:1 b:2] u:p tls=true"},
		"seed":     {Config{URL: "a:1", Cluster: true}, "cluster [a:1] : tls=false"},
		"sentinel": {Config{
			Addresses: []string{"a:1", "b:2"}, Sentinel: &Sentinel{Master: "main", Password: "watch"}, Password: "p",
		}, "sentinel main [a:1 b:2] watch :p"},
		"other master": {Config{Addresses: []string{"a:1", "b:2"}, Sentinel: &Sentinel{Master: "other"}}, "sentinel other [a:1 b:2]  :"},
	} {
		conn, err := Resolve(&c.config, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := describe(t, conn); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		key := conn.Key()
		if again, err := Resolve(&c.config, Limits{}); err != nil || again.Key() != key {
			t.Errorf("%s: the key changes from %s", name, key)
		}
		if other, taken := keys[key]; taken {
			t.Errorf("%s and %s have the key %s", name, other, key)
		}
		for _, secret := range []string{"u:p", "watch", `"p"`, `"q"`} {
			if strings.Contains(key, secret) {
				t.Errorf("%s: the key %s shows a secret", name, key)
			}
		}
		keys[key] = name
	}
}

// describe makes the client and says what it is.
func describe(t *testing.T, conn *Connection) string {
	t.Helper()
	client := conn.Client()
	defer client.Close()
	switch client := client.(type) {
	case *redis.ClusterClient:
		o := client.Options()
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly || !o.ContextTimeoutEnabled || !conn.Replicated() {
			t.Errorf("%+v", o)
		}
		return fmt.Sprintf("cluster %v %s:%s tls=%t", o.Addrs, o.Username, o.Password, o.TLSConfig != nil)
	case *redis.Client:
		o := client.Options()
		if !o.ContextTimeoutEnabled {
			t.Errorf("%+v", o)
		}
		if conn.Replicated() {
			return fmt.Sprintf("sentinel %s %v %s %s:%s", conn.sentinel.Master, conn.addrs, conn.sentinel.Password, o.Username, o.Password)
		}
		return fmt.Sprintf("%s %s %s:%s %d tls=%t", o.Network, o.Addr, o.Username, o.Password, o.DB, o.TLSConfig != nil)
	}
	return fmt.Sprintf("%T", client)
}

// Other files are another connection, whatever their names.
func TestCertificatesArePartOfTheConnection(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	keys := make(map[string]bool)
	for _, pem := range []string{testAuthority, testAuthority + testAuthority} {
		if err := os.WriteFile(file, []byte(pem), 0o600); err != nil {
			t.Fatal(err)
		}
		conn, err := Resolve(&Config{URL: "a:1", TLS: &TLS{CA: file}}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		keys[conn.Key()] = true
	}
	if len(keys) != 2 {
		t.Errorf("keys: %v", keys)
	}
}

const testAuthority = `-----BEGIN CERTIFICATE-----
MIIBdjCCARugAwIBAgIUTG1BnYsVa3/S5nFR7Es+HhK0EU4wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjQxNDUxNTJaGA8yMTI2MTAzMTE0NTE1
MlowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGPF
K9AlmYYQeHizEgX9tZ736bA7wEwoBjh+4zmAQy6/Xa7tq8kkjF2leI66QYdQJH3v
NCh2chHsmFqfth2tvxGjUzBRMB0GA1UdDgQWBBQy6qEPt9X7SS+Aa7kVqKf4WAWX
PzAfBgNVHSMEGDAWgBQy6qEPt9X7SS+Aa7kVqKf4WAWXPzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0kAMEYCIQC3JX+QcCrQFNnlvIRvRPNHw70f+BNc1ye4
YUx+7a/wrAIhAMAqs3YfpVkygHewR5yIoVHQwLF1ofGvBjMgacAeRGzQ
-----END CERTIFICATE-----
`
