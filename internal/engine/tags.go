package engine

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

// tags are those of the response: from the templates of the route, from the tag fields, and
// its cache groups, RFC 9875, which belong to its origin. It reports whether they are few
// and short enough: a response that lost a tag could not be purged by it.
func (j *judge) tags(header http.Header) (tags []string, ok bool) {
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
	for _, tag := range j.q.Upstream.Tags() {
		add(tag)
	}
	for _, name := range j.q.Route.TagFields {
		for _, line := range header[name] {
			for _, tag := range strings.FieldsFunc(line, isTagSeparator) {
				add(tag)
			}
		}
	}
	for _, group := range rfc9111.CacheGroups(header["Cache-Groups"]) {
		add(groupTag(j.q.Target.Origin(), group))
	}
	return tags, ok
}

func isTagSeparator(c rune) bool { return c == ',' || c == ' ' || c == '\t' }

// groupTag is the tag of a cache group: two origins may use the same name.
func groupTag(origin, group string) string { return origin + "#" + group }
