package rediscache

import "time"

// The limits of the engine and the node that tests here wait for.
const (
	strayLimit     = time.Minute
	strayWait      = 10 * time.Second
	followLimit    = 10 * time.Second
	failureLimit   = time.Second
	refreshTimeout = time.Minute
	maxRefreshes   = 64
	maxVariants    = 64

	maxTails     = 16
	tailBuffer   = 256
	inventoryAge = 3 * time.Second
)
