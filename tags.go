package rediscache

import "github.com/gplus-recycling/caddy-redis-cache/internal/engine"

// tagFields are the upstream fields that are read as tags.
func (p *Policy) tagFields() []string {
	if p.TagHeader != nil {
		return p.TagHeader.Names
	}
	return engine.DefaultTagFields
}

// removedTagFields are the fields that concern this cache only.
func (p *Policy) removedTagFields() []string {
	if p.TagHeader != nil && p.TagHeader.Keep {
		return nil
	}
	return p.tagFields()
}
