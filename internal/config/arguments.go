package config

import (
	"strconv"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseSelectors reads `<selector> [<template>...]`.
func parseSelectors(d *caddyfile.Dispenser, args []string) (s Selectors, err error) {
	if len(args) == 0 {
		return s, d.ArgErr()
	}
	s = Selectors{Selector: args[0], Values: args[1:]}
	if err := s.validate(); err != nil {
		return s, d.WrapErr(err)
	}
	return s, nil
}

// expandShorthands expands placeholder shorthands, which Caddy does for site
// blocks only.
func expandShorthands(text string) string {
	segment := caddyfile.Segment{{Text: text}}
	httpcaddyfile.NewShorthandReplacer().ApplyToSegment(&segment)
	return segment[0].Text
}

// wrap adds file and line.
func wrap(d *caddyfile.Dispenser, err error) error {
	if err == nil {
		return nil
	}
	return d.WrapErr(err)
}

// oneArg reads the one argument of an option.
func oneArg(d *caddyfile.Dispenser) (value string, err error) {
	if !d.AllArgs(&value) {
		return "", d.ArgErr()
	}
	return value, nil
}

// noArgs reads an option without arguments.
func noArgs(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	return nil
}

// onlyOnce finds options that are set twice in one block.
type onlyOnce map[string]bool

func (seen onlyOnce) check(d *caddyfile.Dispenser, option string) error {
	if seen[option] {
		return d.Errf("%s is set twice", option)
	}
	seen[option] = true
	return nil
}

func parseSize(d *caddyfile.Dispenser, option, value string) (int64, error) {
	size, err := humanize.ParseBytes(value)
	if err != nil || size == 0 || size > 1<<62 {
		return 0, d.Errf("%s: %q is not a size such as 8MiB", option, value)
	}
	return int64(size), nil
}

func parseDuration(d *caddyfile.Dispenser, option, value string) (caddy.Duration, error) {
	duration, err := caddy.ParseDuration(value)
	if err != nil || duration < 0 {
		return 0, d.Errf("%s: %q is not a duration such as 5m or 1d", option, value)
	}
	return caddy.Duration(duration), nil
}

func parseNumber(d *caddyfile.Dispenser, option, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, d.Errf("%s: %q is not a number", option, value)
	}
	return n, nil
}
