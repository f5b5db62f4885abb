package engine

import (
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/coalesce"
)

// Flights returns how many fetches are under way that others may follow.
func (c *Cache) Flights() int { return c.flights.Len() }

// Held returns the size of the bodies that are kept for clients that read slowly.
func (c *Cache) Held() int64 { return c.flights.Held() }

// IsHitForMiss reports whether nobody waits for responses under a key.
func (c *Cache) IsHitForMiss(key string) bool {
	_, known := c.misses.Get(coalesce.IDOf(key), time.Now())
	return known
}

// Take and Give change what is held, as clients do that read slowly.
func (c *Cache) Take(n, limit int64) bool { return c.flights.Take(n, limit) }

// Give undoes Take.
func (c *Cache) Give(n int64) { c.flights.Give(n) }
