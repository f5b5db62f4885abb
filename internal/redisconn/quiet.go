package redisconn

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// quiet is a dialer of a client that prints no failure to connect: whoever uses the client
// says in the log when Redis is away and when it is back. Its logger would have to be set
// for the process, and so for everybody else's clients in it. A failure becomes a connection
// that fails with the same error when it is used, which is at once: the client greets the
// server first.
func quiet(opts *redis.Options) func(context.Context, string, string) (net.Conn, error) {
	dial := redis.NewDialer(opts)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return failed{unreachable{err}}, nil
		}
		return conn, nil
	}
}

// unreachable is a failure to connect. The client takes one layer off what its greeting
// meets.
type unreachable struct{ error }

func (u unreachable) Unwrap() error { return u.error }

// failed is a connection that there is not.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error)       { return 0, f.err }
func (f failed) Write([]byte) (int, error)      { return 0, f.err }
func (failed) Close() error                     { return nil }
func (failed) LocalAddr() net.Addr              { return nowhere{} }
func (failed) RemoteAddr() net.Addr             { return nowhere{} }
func (failed) SetDeadline(time.Time) error      { return nil }
func (failed) SetReadDeadline(time.Time) error  { return nil }
func (failed) SetWriteDeadline(time.Time) error { return nil }

type nowhere struct{}

func (nowhere) Network() string { return "none" }
func (nowhere) String() string  { return "none" }

// Interface guards
var _ net.Conn = failed{}
