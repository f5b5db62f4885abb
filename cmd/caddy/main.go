// Command caddy is Caddy with its standard modules and redis_cache.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/gplus-recycling/caddy-redis-cache"
)

func main() {
	caddycmd.Main()
}
