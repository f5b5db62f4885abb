package store

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// leakTimeout is how long goroutines may take to end after the last test: those of
// connections do so when their timeouts pass.
const leakTimeout = 10 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := leaked(); err != nil {
			fmt.Println("FAIL: goroutines that nobody ends:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func leaked() (err error) {
	for end := time.Now().Add(leakTimeout); time.Now().Before(end); {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}
