package watch

import (
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
)

// strangers remembers for the doctor that the redirect of a stranger's request to a
// login form has purged what `invalidate` names. It lasts as long as the handler.
type strangers struct{ path atomic.Pointer[string] }

// note takes in a redirect after which rules of the route purge.
func (s *strangers) note(r *http.Request, userID string, header http.Header) {
	if userID != "" || len(r.Header["Authorization"])+len(r.Header["Cookie"]) > 0 {
		return
	}
	location, err := url.Parse(header.Get("Location"))
	if err == nil && leadsToLogin(location.Path) && s.path.Load() == nil {
		path := strings.Clone(location.Path[:min(len(location.Path), maxShownName)])
		s.path.Store(&path)
	}
}

// latest is the path of such a redirect, or "".
func (s *strangers) latest() string {
	if path := s.path.Load(); path != nil {
		return *path
	}
	return ""
}

// leadsToLogin reports whether a path is called as login forms are.
func leadsToLogin(path string) bool {
	path = strings.ToLower(path)
	for _, word := range []string{"login", "log-in", "log_in", "signin", "sign-in", "sign_in", "sessions/new", "authenticate", "authorize", "oauth", "/auth", "/sso"} {
		if strings.Contains(path, word) {
			return true
		}
	}
	return false
}
