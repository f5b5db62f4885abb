package redisconn

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// TestFailureToConnect gives the error of the network, and prints nothing.
func TestFailureToConnect(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	redis.SetLogger(printed{t})
	t.Cleanup(logging.Enable)
	addr := listener.Addr().String()
	listener.Close()
	for name, c := range map[string]Config{"one": {URL: addr}, "tls": {URL: "rediss://" + addr}, "cluster": {URL: addr, Cluster: true}} {
		t.Run(name, func(t *testing.T) {
			conn, err := Resolve(&c, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			client := conn.Client()
			defer client.Close()
			for range 2 * conn.PoolSize {
				err = client.Get(t.Context(), "k").Err()
				if opErr := new(net.OpError); !errors.As(err, &opErr) || opErr.Op != "dial" || !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatalf("%v", err)
				}
			}
		})
	}
}

// printed fails a test by what the library prints.
type printed struct{ t *testing.T }

func (p printed) Printf(_ context.Context, format string, v ...any) { p.t.Errorf(format, v...) }
