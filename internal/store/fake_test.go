package store_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/gplus-recycling/caddy-redis-cache/internal/store"
	"github.com/gplus-recycling/caddy-redis-cache/internal/store/storetest"
)

// Replies of a fakeRedis.
const (
	ok    = "+OK\r\n"
	null  = "$-1\r\n"
	empty = "*2\r\n$1\r\n0\r\n*0\r\n" // SCAN that found nothing
	hang  = ""
	keep  = "keep" // to SET: takes the value, which GET then returns
)

func bulk(b []byte) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(b), b) }

// fakeRedis is a server without network, so that it works in a synctest bubble,
// whose replies a test chooses command by command.
type fakeRedis struct {
	dials atomic.Int32

	// before may let a command take its time, and answer it; nil, or empty: as replies say.
	before func(args []string) string
	// readTimeout is that of the client; 500 ms.
	readTimeout time.Duration

	mu      sync.Mutex
	replies map[string]string // by command in upper case, alone or with its key; without one, it hangs
}

func newFake(replies map[string]string) *fakeRedis { return &fakeRedis{replies: replies} }

func (f *fakeRedis) set(command, reply string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies[command] = reply
}

func (f *fakeRedis) reply(args []string) string {
	if f.before != nil {
		if reply := f.before(args); reply != "" {
			return reply
		}
	}
	command := strings.ToUpper(args[0])
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(args) > 1 {
		if reply, found := f.replies[command+" "+args[1]]; found {
			return reply
		}
	}
	if f.replies[command] == keep {
		f.replies["GET "+args[1]] = bulk([]byte(args[2]))
		return ok
	}
	return f.replies[command]
}

// tier returns the tier of this server.
func (f *fakeRedis) tier(t *testing.T) *store.Redis {
	client := redis.NewClient(&redis.Options{
		Addr:                  "192.0.2.1:6379", // a name would be resolved, outside the bubble
		Protocol:              2,
		DisableIdentity:       true,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
		DialTimeout:           500 * time.Millisecond,
		DialerRetries:         1,
		ReadTimeout:           cmp.Or(f.readTimeout, 500*time.Millisecond),
		WriteTimeout:          500 * time.Millisecond,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			f.dials.Add(1)
			client, server := net.Pipe()
			go f.serve(server)
			return client, nil
		},
	})
	t.Cleanup(func() { _ = client.Close() })
	return store.NewRedis(client, storetest.Prefix)
}

func (f *fakeRedis) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	replies := make(chan string, 1024) // a pipeline is read to its end before its replies are
	defer close(replies)
	go func() {
		for reply := range replies {
			_, _ = io.WriteString(conn, reply)
		}
	}()
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := f.reply(args)
		if strings.EqualFold(args[0], "hello") {
			reply = "-ERR unknown command\r\n"
		}
		if reply == hang {
			_, _ = io.Copy(io.Discard, r)
			return
		}
		replies <- reply
	}
}

// readCommand reads a command with its arguments.
func readCommand(r *bufio.Reader) (args []string, err error) {
	n, err := readInt(r)
	for i := 0; err == nil && i < n; i++ {
		var size int
		if size, err = readInt(r); err != nil {
			break
		}
		arg := make([]byte, size+2)
		_, err = io.ReadFull(r, arg)
		args = append(args, string(arg[:size]))
	}
	return args, err
}

// readInt reads a line like "*3" or "$11".
func readInt(r *bufio.Reader) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}
