package rediscache

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/rfc9111"
)

const (
	maxTags   = 128 // of one response
	maxTagLen = 1024
)

// defaultTagFields are those in which applications state tags for other caches.
var defaultTagFields = []string{
	"Surrogate-Key", "Cache-Tag", "Cache-Tags", "Xkey", "Edge-Cache-Tag", "X-Litespeed-Tag",
}

// tagFields are the upstream fields that are read as tags.
func (p *Policy) tagFields() []string {
	if p.TagHeader != nil {
		return p.TagHeader.Names
	}
	return defaultTagFields
}

// removedTagFields are the fields that concern this cache only.
func (p *Policy) removedTagFields() []string {
	if p.TagHeader != nil && p.TagHeader.Keep {
		return nil
	}
	return p.tagFields()
}

// removeTagFields takes the tag fields from an answer, so that a miss looks
// like a hit. Where the cache took no part they stay.
func (x *exchange) removeTagFields(header http.Header) {
	if x.outcome == OutcomeBypass {
		return
	}
	for _, name := range x.h.policy.removedTagFields() {
		delete(header, name)
	}
}

// tags are those of the response: from the templates of the route, from the tag
// fields, and its cache groups, RFC 9875, which belong to its origin. It reports
// whether they are few and short enough: a response that lost a tag could not be
// purged by it.
func (x *exchange) tags(header http.Header) (tags []string, ok bool) {
	p := &x.h.policy
	ok = true
	add := func(tag string) {
		switch {
		case tag == "" || slices.Contains(tags, tag):
		case len(tag) > maxTagLen || len(tags) == maxTags:
			ok = false
		default:
			tags = append(tags, tag)
		}
	}
	for _, template := range p.Tags {
		add(x.repl.ReplaceAll(template, ""))
	}
	for _, name := range p.tagFields() {
		for _, line := range header[name] {
			for _, tag := range strings.FieldsFunc(line, isTagSeparator) {
				add(tag)
			}
		}
	}
	for _, group := range rfc9111.CacheGroups(header["Cache-Groups"]) {
		add(groupTag(x.q.origin(), group))
	}
	return tags, ok
}

func isTagSeparator(c rune) bool { return c == ',' || c == ' ' || c == '\t' }

// groupTag is the tag of a cache group: two origins may use the same name.
func groupTag(origin, group string) string { return origin + "#" + group }
