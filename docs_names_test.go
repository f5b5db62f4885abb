package rediscache

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddyserver/caddy/v2"

	"github.com/gplus-recycling/caddy-redis-cache/internal/journal"
	"github.com/gplus-recycling/caddy-redis-cache/internal/routes"
)

// These tests keep the documentation from naming what does not exist, and from leaving
// out what does.

// jsonNames are the names of a type's fields in JSON.
func jsonNames(of reflect.Type) (names []string) {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	for f := range of.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, jsonNames(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// moduleType is the type of a Caddy module.
func moduleType(t *testing.T, id string) reflect.Type {
	t.Helper()
	info, err := caddy.GetModule(id)
	if err != nil {
		t.Fatal(err)
	}
	return reflect.TypeOf(info.New())
}

// optionNames are the options for the fields of a type: several fields may be forms of
// one option.
func optionNames(of reflect.Type) (names []string) {
	for _, name := range jsonNames(of) {
		name = strings.TrimSuffix(strings.TrimSuffix(name, "_rules"), "_status")
		switch name {
		case "tags", "namespaces":
			name = strings.TrimSuffix(name, "s")
		case "match":
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func TestDocumentedOptions(t *testing.T) {
	p := readPage(t, "docs/configuration.md")
	app := moduleType(t, appID)
	field := func(of reflect.Type, name string) reflect.Type {
		f, _ := of.Elem().FieldByName(name)
		return f.Type
	}
	wantSame(t, "global option", p.section(t, "## Global option").headings("###"), optionNames(app))

	redis := field(app, "Redis")
	parts := p.section(t, "### `redis`").firstColumn()
	parts = slices.DeleteFunc(parts, func(form string) bool { return strings.HasPrefix(form, "redis") })
	arguments := []string{"off", "url", "addresses"}
	wantSame(t, "redis", append(parts, arguments...), optionNames(redis))
	text := p.section(t, "### `redis`").text
	for _, block := range []string{"Sentinel", "TLS"} {
		for _, name := range optionNames(field(redis, block)) {
			if !strings.Contains(text, "`"+name+"`") && name != "master" {
				t.Errorf("the documentation of redis lacks %s of %s", name, block)
			}
		}
	}
	wantSame(t, "circuit_breaker", p.section(t, "### `circuit_breaker`").firstColumn()[1:], optionNames(field(app, "CircuitBreaker")))

	policy := optionNames(moduleType(t, handlerID))
	policy = slices.DeleteFunc(policy, func(name string) bool { return name == "namespace" }) // an argument
	var documented []string
	for _, part := range []string{"Lifetimes", "The key", "For whom", "What is not cached", "Tags and purges", "How it is done"} {
		documented = append(documented, p.section(t, "## "+part).headings("###")...)
	}
	wantSame(t, "directive", documented, policy)

	// The list at the top, and an example of each.
	index, _, _ := strings.Cut(p.text, "## Global option")
	examples := strings.Join(slices.Concat(p.blocks["caddyfile"], p.blocks["caddyfile global"], p.blocks["caddyfile site"], p.blocks["caddyfile directive"]), "\n")
	for _, name := range slices.Concat(optionNames(app), policy) {
		if !strings.Contains(index, "[`"+name+"`](#"+name+")") {
			t.Errorf("the list of options lacks %s", name)
		}
		if !regexp.MustCompile(`(?m)^\s*` + name + `\b`).MatchString(examples) {
			t.Errorf("there is no example of %s", name)
		}
	}
}

func TestDocumentedMetrics(t *testing.T) {
	p := readPage(t, "docs/operations.md")
	metrics, _, _ := strings.Cut(p.section(t, "## Metrics").text, "### ")
	var documented []string
	for _, name := range (&page{lines: strings.Split(metrics, "\n")}).firstColumn()[1:] {
		name, _, _ = strings.Cut(name, "{")
		documented = append(documented, metricPrefix+name)
	}
	wantSame(t, "metrics", documented, metricNames)
}

func TestDocumentedRoutes(t *testing.T) {
	var existing []string
	info, err := caddy.GetModule("admin.api.redis_cache")
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range info.New().(caddy.AdminRouter).Routes() {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			// No configuration runs, so nothing is done.
			err := route.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "http://localhost:2019"+route.Pattern, http.NoBody))
			if failed, ok := err.(caddy.APIError); !ok || failed.HTTPStatus != http.StatusMethodNotAllowed { //nolint:errorlint // it is not wrapped
				existing = append(existing, method+" "+route.Pattern)
			}
		}
	}
	p := readPage(t, "docs/admin-api.md")
	table, _, _ := strings.Cut(p.text, "\n## ")
	documented := (&page{lines: strings.Split(table, "\n")}).firstColumn()
	wantSame(t, "admin routes", documented, existing)
}

// eachSource calls a function with the text of each file of code.
func eachSource(t *testing.T, do func(text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		content, err := os.ReadFile(file)
		do(string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// structNames are the names in JSON of a struct's own fields. It is looked up in the
// sources, for such types stand beside what they are for, and few are exported.
func structNames(t *testing.T, of string) (names []string) {
	t.Helper()
	definition := regexp.MustCompile(`(?ims)^type ` + of + ` struct {\n(.*?)^}`)
	tag := regexp.MustCompile("`json:\"([a-z_]+)")
	eachSource(t, func(text string) {
		if m := definition.FindStringSubmatch(text); m != nil {
			for _, m := range tag.FindAllStringSubmatch(m[1], -1) {
				names = append(names, m[1])
			}
		}
	})
	return names
}

// TestDocumentedJSON has tables of what is sent to the admin API and what it answers.
func TestDocumentedJSON(t *testing.T) {
	admin, purging := readPage(t, "docs/admin-api.md"), readPage(t, "docs/purging.md")
	selectors := slices.DeleteFunc(jsonNames(reflect.TypeFor[journal.Body]()), func(name string) bool {
		return slices.Contains([]string{"namespaces", "tags", "keys", "urls"}, name)
	})
	var documented []string
	for _, form := range purging.section(t, "## Selectors").firstColumn() {
		name, _, _ := strings.Cut(form, " ")
		documented = append(documented, name)
	}
	wantSame(t, "selectors", documented, selectors)
	for _, tt := range []struct {
		page        *page
		heading, of string
	}{
		{purging, "## Through the admin API", "purge(?:Request)?"},
		{admin, "## Warm", "warm(?:Request)?"},
		{admin, "## Explain", "explanation"},
		{admin, "## Statistics", "statistics"},
	} {
		wantSame(t, tt.heading, tt.page.section(t, tt.heading).firstColumn(), structNames(t, tt.of))
	}
}

// TestDocumentedEvents finds the events where they are emitted.
func TestDocumentedEvents(t *testing.T) {
	emitted := regexp.MustCompile(`[eE]mit\("([a-z_]+)"`)
	var existing []string
	eachSource(t, func(text string) {
		for _, m := range emitted.FindAllStringSubmatch(text, -1) {
			existing = append(existing, "redis_cache."+m[1])
		}
	})
	wantSame(t, "events", readPage(t, "docs/operations.md").section(t, "## Caddy events").firstColumn(), existing)
}

// TestDocumentedPlaceholders also has the documentation of the module, where Caddy shows it.
func TestDocumentedPlaceholders(t *testing.T) {
	documented := readPage(t, "docs/http.md").section(t, "## Placeholders").firstColumn()
	source, err := os.ReadFile("module.go")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, m := range regexp.MustCompile("(?m)^// `({http.redis_cache.[a-z_]+})` \\|").FindAllStringSubmatch(string(source), -1) {
		shown = append(shown, m[1])
	}
	wantSame(t, "placeholders", documented, shown)

	s := newSite(t, `{"ttl":{"duration":"1h"}}`, answer("x"))
	s.get("/a")
	r, w := s.prepare(httptest.NewRequest(http.MethodGet, "/a", http.NoBody))
	if err := s.handler.ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, placeholder := range documented {
		if value, known := repl.Get(strings.Trim(placeholder, "{}")); !known || value == "" && placeholder != "{http.redis_cache.reason}" {
			t.Errorf("%s is %v (%t) for a hit", placeholder, value, known)
		}
	}
}

func TestDocumentedResponseFields(t *testing.T) {
	s := newSite(t, `{"ttl":{"duration":"1h"}}`, answer("x"))
	s.get("/a")
	var documented, existing []string
	for name := range s.get("/a").Header() {
		if strings.HasPrefix(name, "X-Cache") || name == "Age" || name == "Cache-Status" {
			existing = append(existing, name)
		}
	}
	for _, name := range readPage(t, "docs/http.md").section(t, "## Response fields").firstColumn() {
		documented = append(documented, http.CanonicalHeaderKey(name))
	}
	wantSame(t, "response fields", documented, existing)
}

func TestDocumentedCredentials(t *testing.T) {
	wantSame(t, "credentials", spans(readPage(t, "docs/safety.md").section(t, "### Request fields that are credentials").text), routes.CredentialHeaders)
}

func TestDocumentedCommands(t *testing.T) {
	p := readPage(t, "docs/cli.md")
	root := &cobra.Command{Use: "redis-cache"}
	caddycmd.Commands()["redis-cache"].CobraFunc(root)
	flag := regexp.MustCompile("--[a-z][a-z-]*")
	documented, _, _ := strings.Cut(p.text, "\n## ")
	table := slices.DeleteFunc((&page{lines: strings.Split(documented, "\n")}).firstColumn(), func(word string) bool { return strings.HasPrefix(word, "--") })
	var commands, flags []string
	add := func(f *pflag.Flag) {
		if f.Name != "help" {
			flags = append(flags, "--"+f.Name)
		}
	}
	root.PersistentFlags().VisitAll(add)
	for _, cmd := range root.Commands() {
		commands = append(commands, cmd.Name())
		cmd.Flags().VisitAll(add)
		heading := "## " + strings.ToUpper(cmd.Name()[:1]) + cmd.Name()[1:]
		for _, line := range p.lines {
			if strings.HasPrefix(line, "## ") && strings.Contains(strings.ToLower(line), cmd.Name()) {
				heading = line
			}
		}
		text := p.section(t, heading).text
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && root.PersistentFlags().Lookup(f.Name) == nil && !strings.Contains(text, "--"+f.Name) {
				t.Errorf("the documentation of %s lacks --%s", cmd.Name(), f.Name)
			}
		})
	}
	wantSame(t, "commands", table, commands)
	for _, name := range flag.FindAllString(p.text, -1) {
		if !slices.Contains(append(flags, "--help"), name) {
			t.Errorf("the documentation has %s, which no command has", name)
		}
	}
}
