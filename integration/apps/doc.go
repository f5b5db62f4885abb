// Package apps runs the dangerous cases once more with real applications behind the cache.
// Its tests need the build tag apps and what `make apps` installs.
package apps
