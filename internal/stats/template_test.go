package stats

import (
	"regexp"
	"strings"
	"testing"
)

func TestTemplate(t *testing.T) {
	long := strings.Repeat("word-", 6)
	for _, tt := range []struct{ path, want string }{
		{"/", "/"},
		{"", "/"},
		{"/api/v1/users/123/profile", "/api/v1/users/{id}/profile"},
		{"/api/v1/users/7/", "/api/v1/users/{id}/"},
		{"/oauth2/v2beta1", "/oauth2/v2beta1"},
		{"/a//b", "/a//b"},
		{"/users/6f1d3c5a-0b4e-4c7d-9a2f-112233445566", "/users/{id}"},
		{"/users/6F1D3C5A-0B4E-4C7D-9A2F-112233445566/x", "/users/{id}/x"},
		{"/u/deadbeef-cafe-babe-face-facadefacade", "/u/{id}"},
		{"/blobs/d41d8cd98f00b204e9800998ecf8427e", "/blobs/{id}"},
		{"/commits/40611cd", "/commits/{id}"},
		{"/commits/ab1cdefa", "/commits/{id}"},
		{"/facade/decade", "/facade/decade"},
		{"/reports/2026-11-24", "/reports/{id}"},
		{"/orders/ord-12345", "/orders/{id}"},
		{"/orders/12345.json", "/orders/{id}"},
		{"/events/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/events/{id}"},
		{"/reset/eyJhbGciOiJIUzI1NiJ9", "/reset/{id}"},
		{"/reset/k3J9x2", "/reset/{id}"},
		{"/reset/abcdefghijKLMNOPQRSTuvwxyz", "/reset/{id}"},
		{"/users/ada@example.org", "/users/{id}"},
		{"/users/ada%40example.org/mail", "/users/{id}/mail"},
		{"/reset/kqxwzpmtrvhn", "/reset/{id}"},
		{"/s/qwertyuiopasdfghjklzxcvbnm", "/s/{id}"},
		{"/invite/k7xq9zpw", "/invite/{id}"},
		{"/invite/code-k7xq9zpw", "/invite/{id}"},
		{"/invite/v7xq9zpw", "/invite/{id}"},
		{"/s3/k8s/k8s-cluster/i18n", "/s3/k8s/k8s-cluster/i18n"},
		{"/v1/v2beta1/v12alpha/V1", "/v1/v2beta1/v12alpha/V1"},
		{"/step2/report2/mp3-files", "/step2/report2/mp3-files"},
		{"/strengths/transcripts/rhythms/graphql/html5-css3", "/strengths/transcripts/rhythms/graphql/html5-css3"},
		{"/responsibilities/subscriptions.json", "/responsibilities/subscriptions.json"},
		{"/users/alice/hunter2", "/users/alice/hunter2"}, // names and words are not recognised
		{"/oauth2callback/base64encode/sha256sum/mp4files", "/oauth2callback/base64encode/sha256sum/mp4files"},
		{"/catchphrase/internationalization/httpsproxy", "/catchphrase/internationalization/httpsproxy"},
		{"/shop;jsessionid=abc/cart", "/{id}/cart"},
		{"/static/app.3f2a9c1b.js", "/static/{id}"},
		{"/static/app.js", "/static/app.js"},
		{"/blog/a-day-at-the-sea", "/blog/a-day-at-the-sea"},
		{"/" + strings.Repeat("x", 41), "/{id}"},
		{"/über", "/{id}"},
		{"*", "/{id}"},
		{"/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/h"},
		{"/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/..."},
		{"/" + long + "/" + long + "/" + long + "/" + long + "/x", "/" + long + "/" + long + "/" + long + "/" + long + "/..."},
		{"/" + long + "/" + long + "/" + long + "/" + long + "x/y", "/" + long + "/" + long + "/" + long + "/..."},
	} {
		if got := string(AppendTemplate(nil, tt.path)); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.path, got, tt.want)
		}
	}
}

var templateForm = regexp.MustCompile(`^(/([A-Za-z0-9._~-]*|\{id\}))+$`)

func FuzzTemplate(f *testing.F) {
	f.Add("/api/v1/users/123/profile")
	f.Add("/a/6f1d3c5a-0b4e-4c7d-9a2f-112233445566;x=y?token=secret")
	f.Add(strings.Repeat("/segment", 50))
	f.Fuzz(func(t *testing.T, path string) {
		before := []byte("before")
		appended := AppendTemplate(before, path)
		got, ok := strings.CutPrefix(string(appended), "before")
		if !ok || len(got) > MaxTemplate || !templateForm.MatchString(got) {
			t.Fatalf("%q becomes %q", path, got)
		}
		if strings.Count(got, "/") > maxSegments+1 {
			t.Errorf("%q has too many segments", got)
		}
		for segment := range strings.SplitSeq(got, "/") {
			if segment != "{id}" && folds(segment) {
				t.Errorf("%q keeps %q", path, segment)
			}
		}
		if again := string(AppendTemplate(nil, got)); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}
