package rediscache

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	thisModule = "github.com/gplus-recycling/caddy-redis-cache"
	caddyPath  = "github.com/caddyserver/caddy/v2"
)

// floors are the internal packages from the ground up. Each imports those below its
// floor only. The root package is above all of them.
var floors = [][]string{
	{"internal/api", "internal/glob", "internal/graphql", "internal/redistest", "internal/rfc3986"},
	{"internal/journal", "internal/rfc9111", "internal/stats"},
	{"internal/coalesce", "internal/store"},
	{"internal/cachekey", "internal/reason", "internal/routes", "internal/subrequest"},
	{"internal/redisconn"},
	{"internal/engine"},
	{"internal/config", "internal/node"},
	{"internal/doctor", "internal/explain", "internal/lint"},
	{"internal/admin", "internal/cli", "internal/watch"},
}

// floorOf is the floor of a package below internal, or of the one that it is a part
// of, or -1.
func floorOf(dir string) int {
	return slices.IndexFunc(floors, func(floor []string) bool {
		return slices.ContainsFunc(floor, func(room string) bool { return dir == room || strings.HasPrefix(dir, room+"/") })
	})
}

// knowCaddy are the internal packages that read configurations, send requests through
// sites, answer Caddy's admin API or add to its command.
var knowCaddy = []string{"internal/admin", "internal/cli", "internal/config", "internal/lint", "internal/routes", "internal/subrequest"}

// TestImports keeps the borders between the packages: the cache under internal
// knows nothing of the server around it, and the HTTP rules know nothing at all.
func TestImports(t *testing.T) {
	for dir, files := range sources(t) {
		for path, file := range files {
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if why := forbidden(dir, imported); why != "" {
					t.Errorf("%s imports %s: %s", path, imported, why)
				}
			}
		}
	}
}

// forbidden says why no file of dir may import the package, or nothing. Tests
// are held to the same rules as the code beside them.
func forbidden(dir, imported string) string {
	within := func(parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }
	is := func(path string) bool { return imported == path || strings.HasPrefix(imported, path+"/") }

	if is(caddyPath) && dir != "." && !within("cmd") && !within("integration") && !slices.ContainsFunc(knowCaddy, within) {
		return "the cache knows nothing of the server around it"
	}
	if within("internal") {
		if is("go.uber.org/zap") || is("github.com/prometheus") {
			return "internal packages return outcomes and keep counters, the root package reports them"
		}
		if imported == thisModule {
			return "internal packages do not know the root package"
		}
		if room, ours := strings.CutPrefix(imported, thisModule+"/"); ours {
			switch own, other := floorOf(dir), floorOf(room); {
			case own < 0:
				return "it has no floor in deps_test.go"
			case other >= own && !strings.HasPrefix(dir, room) && !strings.HasPrefix(room, dir) && !is(thisModule+"/internal/redistest"):
				return "it is no package of a lower floor"
			}
		}
	}
	// A path without a dot in its first element is the standard library's.
	first, _, _ := strings.Cut(imported, "/")
	standard := !strings.Contains(first, ".")
	if within("internal/rfc9111") && !standard && imported != "github.com/dunglas/httpsfv" && imported != thisModule+"/internal/rfc3986" {
		return "the HTTP rules need the standard library, structured fields and the rules for URLs only"
	}
	if within("internal/rfc3986") && !standard && imported != "golang.org/x/net/idna" {
		return "the rules for URLs need the standard library and names in Unicode only"
	}
	return ""
}

// TestCacheWithoutCaddy builds the cache and its tests from packages that know neither
// Caddy nor its logger and metrics, whatever they import in turn.
func TestCacheWithoutCaddy(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-test", "./internal/engine", "./internal/node")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), thisModule+"/internal/store\n") {
		t.Fatalf("listed %s", out)
	}
	for line := range strings.Lines(string(out)) {
		for _, path := range []string{"github.com/caddyserver/", "go.uber.org/zap", "github.com/prometheus/"} {
			if strings.HasPrefix(line, path) {
				t.Errorf("the engine or the node depends on %s", line)
			}
		}
	}
}

// TestForbidden guards the guard: a rule that no import can break is no rule.
func TestForbidden(t *testing.T) {
	for _, tt := range []struct {
		dir, imported string
		want          bool
	}{
		{".", caddyPath + "/modules/caddyhttp", false},
		{"cmd/caddy", caddyPath + "/cmd", false},
		{"internal/store", caddyPath, true},
		{"internal/subrequest", caddyPath + "/modules/caddyhttp", false},
		{"internal/store", "github.com/redis/go-redis/v9", false},
		{"internal/store", "go.uber.org/zap/zapcore", true},
		{"internal/stats", "github.com/prometheus/client_golang/prometheus", true},
		{"internal/stats", thisModule, true},
		{"internal/store", thisModule + "/internal/journal", false},
		{"internal/store", thisModule + "/internal/store/storetest", false},
		{"internal/journal", thisModule + "/internal/store", true},
		{"internal/doctor", thisModule + "/internal/lint", true},
		{"internal/new", thisModule + "/internal/api", true},
		{"internal/rfc9111", "net/http", false},
		{"internal/rfc9111", "github.com/dunglas/httpsfv", false},
		{"internal/rfc9111", thisModule + "/internal/store", true},
		{"internal/rfc9111", thisModule + "/internal/rfc3986", false},
		{"internal/rfc3986", "golang.org/x/net/idna", false},
		{"internal/rfc3986", thisModule + "/internal/rfc9111", true},
	} {
		if got := forbidden(tt.dir, tt.imported) != ""; got != tt.want {
			t.Errorf("forbidden(%q, %q) is %t, want %t", tt.dir, tt.imported, got, tt.want)
		}
	}
}

// TestRequirements keeps from the module of users what only tools and the tests of the
// binary need: whoever builds with xcaddy gets every requirement. Those have modules of
// their own.
func TestRequirements(t *testing.T) {
	ofTests := []string{"github.com/alicebob/miniredis/v2", "github.com/anishathalye/porcupine", "github.com/prometheus/client_model", "go.uber.org/goleak", "go.yaml.in/yaml/v3"}
	all := sources(t)
	imported := func(module string) bool {
		for dir, files := range all {
			if dir == "integration" || strings.HasPrefix(dir, "integration/") {
				continue
			}
			for path, file := range files {
				for _, spec := range file.Imports {
					if name, _ := strconv.Unquote(spec.Path.Value); !strings.HasSuffix(path, "_test.go") && (name == module || strings.HasPrefix(name, module+"/")) {
						return true
					}
				}
			}
		}
		return false
	}
	content, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(content)) {
		if directive, _, _ := strings.Cut(strings.TrimSpace(line), " "); directive == "tool" {
			t.Errorf("go.mod asks users for what a tool requires: %q belongs into tools/go.mod", strings.TrimSpace(line))
		}
		module, version, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "require "), " ")
		if !found || !strings.HasPrefix(version, "v") || strings.Contains(version, "// indirect") {
			continue
		}
		checked++
		if !slices.Contains(ofTests, module) && !imported(module) {
			t.Errorf("go.mod asks users for %s, which nothing but tests imports", module)
		}
	}
	if checked < 10 {
		t.Errorf("%d requirements are checked", checked)
	}
}

// TestPackageDocs holds every package to a comment that says what it is for.
func TestPackageDocs(t *testing.T) {
	for dir, files := range sources(t) {
		documented := false
		for _, file := range files {
			documented = documented || strings.TrimSpace(file.Doc.Text()) != ""
		}
		if !documented {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// sources parses the head of every Go file of the module, by directory.
func sources(t *testing.T) map[string]map[string]*ast.File {
	t.Helper()
	dirs := make(map[string]map[string]*ast.File)
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != "." && (name == "testdata" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if dirs[dir] == nil {
			dirs[dir] = make(map[string]*ast.File)
		}
		dirs[dir][path] = file
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) < 3 {
		t.Fatalf("found Go files in %d directories only; the walk is wrong", len(dirs))
	}
	return dirs
}
