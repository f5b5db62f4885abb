package rediscache

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/reason"
)

// TestReasonsPage has the page of reasons as the table has it.
func TestReasonsPage(t *testing.T) {
	const page = "docs/reasons.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), " -->\n")
	if !found {
		t.Fatal("the page does not say where what is generated begins")
	}
	want := head + " -->\n" + reasonsText()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s is not what the table of reasons says; write it anew with -update", page)
	}
}

// reasonsText is the generated part of the page: what holds for several reasons, then
// each by its name.
func reasonsText() string {
	all := reason.All()
	slices.SortStableFunc(all, func(a, b reason.Reason) int { return cmp.Compare(a.String(), b.String()) })

	text := new(strings.Builder)
	for _, class := range []struct {
		of   reason.Class
		says string
	}{
		{reason.FetchMends, "The next answer mends it, if it may be stored"},
		{reason.Passes, "It passes by itself, or no line of the policy changes it"},
		{reason.Wanted, "The policy wants it so"},
		{reason.NotShared, "Other requests could not have the response either, so they do not wait for the next one"},
		{reason.NotMeasured, "The request counts for no [endpoint](admin-api.md#statistics) in statistics, where it is BYPASS"},
	} {
		var names []string
		for _, r := range all {
			if r.Is(class.of) {
				names = append(names, fmt.Sprintf("[`%s`](#%[1]s)", r))
			}
		}
		fmt.Fprintf(text, "\n%s: %s.\n", class.says, strings.Join(slices.Compact(names), ", "))
	}
	last := ""
	for _, r := range all {
		if r.String() != last {
			fmt.Fprintf(text, "\n## `%s`\n", r)
		}
		last = r.String()
		fmt.Fprintf(text, "\n%s", r.Meaning())
		if word := r.Fwd(); word != "bypass" {
			fmt.Fprintf(text, " `fwd=%s`", word)
		}
		fmt.Fprintf(text, "\n\n%s\n", r.Advice())
		if line := r.Line(); line != "" {
			option, more, _ := strings.Cut(line, ", ")
			fmt.Fprintf(text, "\nThe line: `%s`%s\n", option, strings.TrimSuffix(", "+more, ", "))
		}
	}
	return strings.ReplaceAll(text.String(), "-<name>", `-\<name>`)
}
