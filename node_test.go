package rediscache

import "testing"

// A client that does not close keeps no other one open.
func TestDestructClosesBothClients(t *testing.T) {
	n := redisNode(t)
	if err := n.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Destruct(); err == nil {
		t.Error("a client that was closed already is no error")
	}
	if err := n.client.Close(); err == nil {
		t.Error("the other client was left open")
	}
}
