package http

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/integration/harness"
)

// problems compares an answer with what is expected.
func (k *dialogue) problems(
	t *testing.T, r harness.Reply, expected line, early []textproto.MIMEHeader, asked int, seen http.Header, patient bool,
) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	outcome, status, ok := strings.Cut(expected.head, " ")
	if !ok {
		status = "200"
	}
	if r.Outcome() != outcome {
		complain("%s, want %s", r.Outcome(), outcome)
	}
	if got := strconv.Itoa(r.Status); got != status {
		complain("status %s, want %s", got, status)
	}
	wantAsked := map[string]string{"HIT": "0", "MISS": "1", "REVALIDATED": "1", "BYPASS": "1"}[outcome]
	broken := false
	for _, item := range expected.items {
		word, rest, _ := strings.Cut(item, " ")
		name, value := cutField(item)
		switch {
		case item == "broken":
			broken = true
		case word == "=":
			if r.Body != rest {
				complain("body %q, want %q", r.Body, rest)
			}
		case word == "asked":
			wantAsked = rest
		case word == "part":
			if !strings.Contains(r.Body, "\r\n\r\n"+rest+"\r\n--") {
				complain("body %q, want a part %q", r.Body, rest)
			}
		case word == "saw":
			if problem := fieldProblem(seen, rest); problem != "" {
				complain("at the origin: %s", problem)
			}
		case word == "cs":
			if problem := parameterProblem(r.CacheStatus(t), rest); problem != "" {
				complain("Cache-Status: %s", problem)
			}
		case item == "early none":
			if len(early) > 0 {
				complain("interim responses %v", early)
			}
		case word == "early":
			name, value = cutField(rest)
			if !slices.ContainsFunc(early, func(h textproto.MIMEHeader) bool { return h.Get(name) == value }) {
				complain("interim responses %v, want %s", early, rest)
			}
		default:
			if problem := fieldProblem(r.Header, item); problem != "" {
				complain("%s", problem)
			}
		}
	}
	if wantAsked != "" && !patient && strconv.Itoa(asked) != wantAsked {
		complain("origin asked %d times, want %s", asked, wantAsked)
	}
	if broken != (r.Broken != nil) {
		complain("body ended with %v", r.Broken)
	}
	return problems
}

// fieldProblem holds a header to "Name: value", "Name ~ text" or "!Name".
func fieldProblem(header http.Header, item string) string {
	if name, absent := strings.CutPrefix(item, "!"); absent {
		if got, there := header[http.CanonicalHeaderKey(name)]; there {
			return fmt.Sprintf("%s is %q, want none", name, got)
		}
		return ""
	}
	if name, text, contains := strings.Cut(item, " ~ "); contains {
		if got := header.Values(name); !strings.Contains(strings.Join(got, "\n"), text) {
			return fmt.Sprintf("%s is %q, want one with %q", name, got, text)
		}
		return ""
	}
	name, want := cutField(item)
	if got := strings.Join(header.Values(name), ", "); !sameOrWithin(got, want) {
		return fmt.Sprintf("%s is %q, want %q", name, got, want)
	}
	return ""
}

func parameterProblem(params map[string]string, item string) string {
	if name, absent := strings.CutPrefix(item, "!"); absent {
		if got, there := params[name]; there {
			return fmt.Sprintf("%s=%s, want none", name, got)
		}
		return ""
	}
	name, want, valued := strings.Cut(item, "=")
	if got, there := params[name]; !there || valued && !sameOrWithin(got, want) {
		return fmt.Sprintf("%v, want %s", params, item)
	}
	return ""
}

// sameOrWithin compares with a text, or with a range of numbers as in 5..9.
func sameOrWithin(got, want string) bool {
	low, high, isRange := strings.Cut(want, "..")
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	if !isRange || err1 != nil || err2 != nil {
		return got == want
	}
	n, err := strconv.Atoi(got)
	return err == nil && from <= n && n <= to
}
