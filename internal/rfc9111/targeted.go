package rfc9111

import (
	"net/http"
	"time"

	"github.com/dunglas/httpsfv"
)

// targeted finds the first field of the target list that is present and valid
// (RFC 9213 §2.2). Its name is returned as the list has it.
func targeted(header http.Header, targets []string) (d Directives, name string, ok bool) {
	for _, name := range targets {
		if lines := header[http.CanonicalHeaderKey(name)]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				return d, name, true
			}
		}
	}
	return Directives{}, "", false
}

// parseTargeted parses all lines of a targeted field as one Structured Fields
// dictionary. A field that is empty, cannot be parsed, or has a directive of the
// wrong type must be ignored (RFC 9213 §2.1).
func parseTargeted(lines []string) (d Directives, ok bool) {
	dictionary, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dictionary.Names()) == 0 {
		return Directives{}, false
	}
	for _, name := range dictionary.Names() {
		member, _ := dictionary.Get(name)
		if !d.addTargeted(name, member) {
			return Directives{}, false
		}
	}
	return d, true
}

// addTargeted notes one directive of a targeted field, unless its type is wrong.
// What it does not know it ignores, whatever the type. Request directives mean
// nothing here, and are never read.
func (d *Directives) addTargeted(name string, member httpsfv.Member) bool {
	item, _ := member.(httpsfv.Item) // the zero value, of no type, for an inner list
	if flag := d.flag(name); flag != nil {
		set, ok := item.Value.(bool)
		*flag = set
		return ok
	}
	if delta := d.delta(name); delta != nil {
		seconds, ok := item.Value.(int64)
		delta.add(deltaOf(seconds))
		return ok
	}
	if flag, fields := d.qualified(name); flag != nil {
		return setQualified(flag, fields, item.Value)
	}
	return true
}

// deltaOf is the duration of a number of seconds, which is not valid when
// negative.
func deltaOf(seconds int64) (time.Duration, bool) {
	if seconds < 0 {
		return 0, false
	}
	return time.Duration(min(seconds, int64(MaxDelta/time.Second))) * time.Second, true
}

// setQualified notes a private or no-cache: a boolean, or a string that names
// fields.
func setQualified(flag *bool, fields *[]string, value any) bool {
	switch value := value.(type) {
	case bool:
		*flag = value
	case string:
		names, ok := fieldNames(value)
		*flag, *fields = !ok, names
	default:
		return false
	}
	return true
}
