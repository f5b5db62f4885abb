package rfc9111

import (
	"slices"

	"github.com/dunglas/httpsfv"
)

// Bounds of a list of groups, well above the minimum of 32 groups of 32
// characters that RFC 9875 §2 asks for.
const (
	maxGroups      = 128
	maxGroupLength = 256
)

// CacheGroups reads the lines of Cache-Groups or Cache-Group-Invalidation, a
// structured list of strings (RFC 9875 §2, §3). Parameters are ignored and
// repeated groups returned once. A list that is malformed or has a member of
// another type is ignored as a whole (RFC 9651 §4.2) and gives nil. Groups of
// more than 256 characters are left out, as is every one after the 128th.
func CacheGroups(lines []string) []string {
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var groups []string
	for _, member := range list {
		item, _ := member.(httpsfv.Item)
		group, ok := item.Value.(string)
		if !ok {
			return nil
		}
		if len(groups) < maxGroups && len(group) <= maxGroupLength && !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}
