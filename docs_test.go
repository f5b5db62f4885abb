package rediscache

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// page is a page of the documentation.
type page struct {
	file   string
	text   string              // without fenced blocks
	blocks map[string][]string // fenced blocks, by what follows the fence
	lines  []string
}

// allPages are those of the documentation, by file.
func allPages(t *testing.T) map[string]*page {
	t.Helper()
	files := []string{"README.md", "ARCHITECTURE.md", "AGENTS.md", "CHANGELOG.md"}
	err := filepath.WalkDir("docs", func(file string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(file, ".md") {
			files = append(files, filepath.ToSlash(file))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*page)
	for _, file := range files {
		all[file] = readPage(t, file)
	}
	return all
}

func readPage(t *testing.T, file string) *page {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{file: file, blocks: make(map[string][]string)}
	text, fence, block := new(strings.Builder), "", []string(nil)
	for line := range strings.Lines(string(content)) {
		switch kind, isFence := strings.CutPrefix(strings.TrimSpace(line), "```"); {
		case isFence && block == nil:
			fence, block = kind, []string{}
		case isFence:
			p.blocks[fence], block = append(p.blocks[fence], strings.Join(block, "")), nil
		case block != nil:
			block = append(block, line)
		default:
			text.WriteString(line)
		}
	}
	if block != nil {
		t.Errorf("%s: a fence is not closed", file)
	}
	p.text = text.String()
	p.lines = strings.Split(p.text, "\n")
	return p
}

// section is what stands under a heading, up to the next one of its level.
func (p *page) section(t *testing.T, heading string) *page {
	t.Helper()
	level := heading[:strings.Index(heading, " ")]
	start := slices.Index(p.lines, heading)
	if start < 0 {
		t.Fatalf("%s has no heading %q", p.file, heading)
	}
	s := &page{file: p.file}
	for _, line := range p.lines[start+1:] {
		if hashes, _, _ := strings.Cut(line, " "); hashes != "" && strings.Trim(hashes, "#") == "" && len(hashes) <= len(level) {
			break
		}
		s.lines = append(s.lines, line)
	}
	s.text = strings.Join(s.lines, "\n")
	return s
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// spans are the words in code.
func spans(text string) (words []string) {
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

// firstColumn has the words in code of the first columns of the tables of a page.
func (p *page) firstColumn() (words []string) {
	for _, line := range p.lines {
		if strings.HasPrefix(line, "| ") {
			line = strings.ReplaceAll(line, `\|`, "")
			words = append(words, spans(strings.Split(line, "|")[1])...)
		}
	}
	return words
}

// headings are the words in code that are headings of a level.
func (p *page) headings(level string) (words []string) {
	for _, line := range p.lines {
		if heading, ok := strings.CutPrefix(line, level+" "); ok {
			words = append(words, spans(heading)...)
		}
	}
	return words
}

// wantSame compares what a page names with what there is, both ways.
func wantSame(t *testing.T, what string, documented, existing []string) {
	t.Helper()
	for _, name := range documented {
		if !slices.Contains(existing, name) {
			t.Errorf("%s: the documentation has %q, which does not exist", what, name)
		}
	}
	for _, name := range existing {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: the documentation lacks %q", what, name)
		}
	}
	if len(existing) == 0 {
		t.Errorf("%s: there are none", what)
	}
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notInAnchor  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors are those that GitHub gives the headings of a page.
func (p *page) anchors() map[string]bool {
	found := make(map[string]bool)
	for _, line := range p.lines {
		hashes, heading, _ := strings.Cut(line, " ")
		if hashes != "" && strings.Trim(hashes, "#") == "" {
			found[strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")] = true
		}
	}
	return found
}

// TestLinks follows every link from page to page, and finds every page from README.
func TestLinks(t *testing.T) {
	all := allPages(t)
	linked := map[string]bool{"README.md": true}
	for file, p := range all {
		for _, m := range markdownLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(p.text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			if target = path.Join(path.Dir(file), target); strings.HasPrefix(m[1], "#") {
				target = file
			} else {
				linked[target] = true
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", file, m[1])
			} else if to := all[target]; anchor != "" && (to == nil || !to.anchors()[anchor]) {
				t.Errorf("%s links to %s, but there is no such heading", file, m[1])
			}
		}
	}
	for file := range all {
		if !linked[file] {
			t.Errorf("no page links to %s", file)
		}
	}
}

// TestDocumentedCaddyfiles loads every Caddyfile of the documentation. What follows the
// fence says where it belongs: nowhere for a whole one, or into the global option, a
// site or a directive.
func TestDocumentedCaddyfiles(t *testing.T) {
	all := allPages(t)
	t.Chdir(t.TempDir()) // for logs
	t.Setenv("REDIS_PASSWORD", "secret")
	t.Setenv("CACHE_SECRET", "secret")
	const global = "{\n\tadmin off\n\tredis_cache {\n\t\tnamespace user\n%s\t}\n}\n"
	in := map[string]string{
		"":          "%s",
		"global":    global + "http://x {\n\tredis_cache\n}\n",
		"site":      fmt.Sprintf(global, "") + "http://x {\n%s}\n",
		"directive": "http://x {\n\tredis_cache {\n%s\t}\n}\n",
	}
	count := 0
	for _, file := range slices.Sorted(maps.Keys(all)) {
		for fence, blocks := range all[file].blocks {
			kind, isCaddyfile := strings.CutPrefix(fence, "caddyfile")
			for _, block := range blocks {
				if !isCaddyfile {
					continue
				}
				count++
				around, known := in[strings.TrimSpace(kind)]
				if !known {
					t.Fatalf("%s: a Caddyfile is for nowhere: %s", file, fence)
				}
				result := adapt(t, fmt.Sprintf(around, block))
				if strings.HasPrefix(result, "error") {
					t.Errorf("%s: %s in\n%s", file, result, block)
				} else if !strings.Contains(block, "/etc/redis/") { // certificates that are not there
					loads(t, result, file+": "+block)
				}
			}
		}
	}
	if count < 50 {
		t.Errorf("the documentation has %d Caddyfiles only", count)
	}
}

func loads(t *testing.T, config, where string) {
	t.Helper()
	cfg := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON([]byte(config), cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Logging == nil {
		cfg.Logging = new(caddy.Logging)
	}
	if cfg.Logging.Logs["default"] == nil {
		cfg.Logging.Logs = map[string]*caddy.CustomLog{"default": {}}
	}
	cfg.Logging.Logs["default"].WriterRaw = []byte(`{"output":"discard"}`)
	if err := caddy.Validate(cfg); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}
