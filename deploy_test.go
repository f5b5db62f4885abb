package rediscache

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gplus-recycling/caddy-redis-cache/internal/node"
)

var metricInUse = regexp.MustCompile(metricPrefix + `\w+`)

// TestDeploy holds dashboard, rules and the rest of deploy to what the metrics
// are, and to what is in the directory.
func TestDeploy(t *testing.T) {
	names, files := 0, 0
	err := filepath.WalkDir("deploy", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var parsed map[string]any
		switch filepath.Ext(path) {
		case ".json":
			err = json.Unmarshal(content, &parsed)
		case ".yml":
			err = yaml.Unmarshal(content, &parsed)
		default:
			return nil
		}
		files++
		if err != nil || len(parsed) == 0 {
			t.Errorf("%s: %v", path, err)
		}
		for _, name := range metricInUse.FindAllString(string(content), -1) {
			names++
			base := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !slices.Contains(metricNames, name) && (base == name || !strings.HasSuffix(base, "_seconds") || !slices.Contains(metricNames, base)) {
				t.Errorf("%s uses %s, which is no metric", path, name)
			}
		}
		return nil
	})
	if err != nil || names < 20 || files < 6 {
		t.Errorf("%d files with %d names: %v", files, names, err)
	}
}

var kindsInUse = regexp.MustCompile(`errors_total\{kind=~?"([^"]+)"`)

// TestAlertsKnowEveryError finds an alert for each kind of error but the one that
// every new version brings.
func TestAlertsKnowEveryError(t *testing.T) {
	content, err := os.ReadFile("deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	watched := []string{"other_version"}
	for _, match := range kindsInUse.FindAllStringSubmatch(string(content), -1) {
		watched = append(watched, strings.Split(match[1], "|")...)
	}
	var kinds []string
	for _, kind := range node.ErrorKinds {
		kinds = append(kinds, kind.Name)
	}
	slices.Sort(watched)
	slices.Sort(kinds)
	if !slices.Equal(watched, kinds) {
		t.Errorf("alerts are about %q, the kinds are %q", watched, kinds)
	}
}

// TestCompose looks for what the containers mount.
func TestCompose(t *testing.T) {
	content, err := os.ReadFile("deploy/docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct{ Volumes []string }
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal(content, &compose); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"caddy", "redis", "prometheus", "grafana"} {
		service, ok := compose.Services[name]
		if !ok || len(service.Volumes) == 0 {
			t.Errorf("there is no service %s with volumes", name)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			_, declared := compose.Volumes[source]
			if _, err := os.Stat(filepath.Join("deploy", source)); !declared && err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
