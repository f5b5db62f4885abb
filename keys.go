package rediscache

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gplus-recycling/caddy-redis-cache/internal/cachekey"
)

// keySpec is what keys of the namespace are made of.
func (p *Policy) keySpec(prefix, namespace string) cachekey.Spec {
	return cachekey.Spec{
		Prefix: prefix, Namespace: namespace, Query: p.VaryQuery, Headers: p.VaryHeader, Cookies: p.VaryCookie,
		Templated: p.Key != nil, Exact: p.Key != nil && p.Key.Exact,
	}
}

func validateQuery(v *cachekey.Query) error {
	if err := oneOf("vary_query", v.Mode, []string{cachekey.QueryAll, cachekey.QueryNone, cachekey.QueryOnly, cachekey.QueryExcept}); err != nil {
		return err
	}
	if named := v.Mode == cachekey.QueryOnly || v.Mode == cachekey.QueryExcept; named != (len(v.Names) > 0) {
		return fmt.Errorf("vary_query %s: %d names", v.Mode, len(v.Names))
	}
	return nil
}

func (k *KeyTemplate) validate() error {
	if k.Template == "" {
		return errors.New("key: the template is empty")
	}
	if strings.ContainsFunc(k.Template, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fmt.Errorf("key: %q holds a space, a control character or one outside ASCII", k.Template)
	}
	return nil
}
