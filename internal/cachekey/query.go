package cachekey

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/glob"
)

// Query selects query parameters. A nil one selects all.
type Query struct {
	// `all`, `none`, `only` the named ones, or all `except` the named ones.
	Mode string `json:"mode"`

	// Parameters for `only`; parameters, globs and `tracking` for `except`.
	Names []string `json:"names,omitempty"`
}

// param is a pair of a query with its name, decoded once.
type param struct {
	pair, name string
	at         int // in the query
}

// Kept returns the selected parameters of a raw query, sorted by name. Those of
// one name stay in their order, which an origin may care for.
func (q *Query) Kept(query string) []string {
	if query == "" {
		return nil
	}
	var stack [16]param
	params := q.appendParams(stack[:0], query)
	slices.SortFunc(params, func(a, b param) int { return cmp.Or(strings.Compare(a.name, b.name), a.at-b.at) })
	if len(params) == 0 {
		return nil
	}
	pairs := make([]string, len(params))
	for i := range params {
		pairs[i] = params[i].pair
	}
	return pairs
}

// appendParams appends the selected parameters, as they stand in the query.
func (q *Query) appendParams(params []param, query string) []param {
	var only []string
	if q != nil && q.Mode == QueryOnly {
		only = make([]string, len(q.Names))
		for i, name := range q.Names {
			only[i] = folded(name)
		}
	}
	if n := strings.Count(query, "&") + 1; n > cap(params) && only == nil {
		params = make([]param, 0, n)
	}
	for pair := range strings.SplitSeq(query, "&") {
		name := ParamName(pair)
		// Some origins split at semicolons, too: what hides behind one counts.
		if q == nil || strings.IndexByte(pair, ';') >= 0 || q.keeps(name, only) {
			params = append(params, param{pair, name, len(params)})
		}
	}
	return params
}

// ParamName is the decoded name of a pair, as an origin would read it.
func ParamName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if decoded, err := url.QueryUnescape(name); err == nil {
		return decoded
	}
	return name
}

// folded is what some origins make of the name of a parameter: PHP reads user.id and
// user_id[] as user_id, ASP.NET does not tell upper case from lower.
func folded(name string) string {
	name = strings.TrimLeft(name, " ")
	if i := strings.IndexAny(name, "[\x00"); i > 0 {
		name = name[:i]
	}
	return strings.ToLower(foldedChars.Replace(name))
}

var foldedChars = strings.NewReplacer(".", "_", " ", "_")

// keeps reports whether parameters of a name count; only are the folded names of that
// mode.
func (q *Query) keeps(name string, only []string) bool {
	switch q.Mode {
	case QueryOnly:
		return slices.Contains(only, folded(name))
	case QueryExcept:
		return !slices.ContainsFunc(q.Names, func(pattern string) bool {
			if pattern == QueryTracking {
				return isTracking(name)
			}
			return glob.Match(pattern, name)
		})
	}
	return q.Mode == QueryAll
}

// The modes of a query, and the name that stands for tracking parameters.
const (
	QueryAll      = "all"
	QueryNone     = "none"
	QueryOnly     = "only"
	QueryExcept   = "except"
	QueryTracking = "tracking"
)

// trackingParams are added to links by advertisers and newsletters and do not
// change what is answered, as do those that begin with utm_.
var trackingParams = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range []string{
		"fbclid", "gclid", "gclsrc", "gbraid", "wbraid", "dclid", "gad_source", "gad_campaignid", "msclkid",
		"twclid", "ttclid", "li_fat_id", "igshid", "yclid", "_openstat", "mc_cid", "mc_eid", "mkt_tok", "_hsenc", "_hsmi",
		"__hstc", "__hssc", "__hsfp", "hsCtaTracking", "_ga", "_gl", "vero_id", "vero_conv", "oly_anon_id", "oly_enc_id",
		"rb_clickid", "s_cid", "srsltid", "ef_id", "epik", "wickedid", "sc_cid", "irclickid",
	} {
		set[name] = true
	}
	return set
}()

func isTracking(name string) bool { return strings.HasPrefix(name, "utm_") || trackingParams[name] }

// keptRewritten selects the parameters of a rewritten query. Parameters that a rewrite
// added always count: they may stand for a device or a language.
func (q *Query) keptRewritten(query, rewritten string) []string {
	kept := q.Kept(rewritten)
	known := make(map[string]struct{})
	for pair := range strings.SplitSeq(query, "&") {
		known[pair] = struct{}{}
	}
	for _, pair := range kept {
		known[pair] = struct{}{}
	}
	for pair := range strings.SplitSeq(rewritten, "&") {
		if _, ok := known[pair]; !ok {
			known[pair] = struct{}{}
			kept = append(kept, pair)
		}
	}
	return kept
}

// URL is a URL with the parameters of a query that count.
func (q *Query) URL(base, query string) string {
	if kept := q.Kept(query); len(kept) > 0 {
		return base + "?" + strings.Join(kept, "&")
	}
	return base
}
