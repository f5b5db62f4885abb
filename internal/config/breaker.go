package config

import (
	"cmp"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// CircuitBreaker says when requests leave Redis out because it does not answer.
// It belongs to the node: the configuration that was loaded last decides.
type CircuitBreaker struct {
	// The failures in a row, timeouts included, that open the breaker. Default: 5.
	Failures int `json:"failures,omitempty"`

	// The longest time between two attempts to reach Redis while the breaker is
	// open. They are made in the background, the first ones after a second, two,
	// four and so on, and one as soon as the journal reaches Redis. Default: 30s.
	Recovery caddy.Duration `json:"recovery,omitempty"`
}

const (
	defaultFailures = 5
	defaultRecovery = 30 * time.Second
)

// Limits are the failures in a row that open the breaker, and the longest time between
// two attempts.
func (b *CircuitBreaker) Limits() (failures int, recovery time.Duration) {
	return b.failures(), b.recovery()
}

func (b *CircuitBreaker) failures() int {
	if b == nil {
		return defaultFailures
	}
	return cmp.Or(b.Failures, defaultFailures)
}

func (b *CircuitBreaker) recovery() time.Duration {
	if b == nil {
		return defaultRecovery
	}
	return cmp.Or(time.Duration(b.Recovery), defaultRecovery)
}

func (b *CircuitBreaker) validate() error {
	if b.failures() < 0 || b.recovery() < 0 {
		return fmt.Errorf("circuit_breaker: failures and recovery must not be negative")
	}
	return nil
}

func (b *CircuitBreaker) parse(d *caddyfile.Dispenser) error {
	if err := noArgs(d); err != nil {
		return err
	}
	seen := make(onlyOnce)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if err := cmp.Or(seen.check(d, option), b.parseOption(d, option)); err != nil {
			return err
		}
	}
	return nil
}

func (b *CircuitBreaker) parseOption(d *caddyfile.Dispenser, option string) error {
	value, err := oneArg(d)
	if err != nil {
		return err
	}
	switch option {
	case "failures":
		if b.Failures, err = parseNumber(d, option, value); err == nil && b.Failures == 0 {
			err = d.Errf("failures: the breaker would never be closed")
		}
	case "recovery":
		if b.Recovery, err = parseDuration(d, option, value); err == nil && b.Recovery == 0 {
			err = d.Errf("recovery: want a duration above 0")
		}
	default:
		err = d.Errf("unrecognized option of circuit_breaker: %s", option)
	}
	return err
}
