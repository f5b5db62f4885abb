package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
)

// Jobs that run are never forgotten, and their number is bounded.
func TestWarmJobsAreBounded(t *testing.T) {
	one := func(running bool) *job { return &job{progress: api.WarmProgress{Running: running}} }
	var jobs Jobs
	if !jobs.add(one(false)) {
		t.Fatal("no room for the first")
	}
	for i := range maxJobs {
		if !jobs.add(one(true)) {
			t.Fatalf("no room after %d", i)
		}
	}
	if jobs.add(one(true)) || len(jobs.list) != maxJobs {
		t.Errorf("%d jobs are listed", len(jobs.list))
	}
}

// What is listed of a job that is done holds neither its requests nor the servers of
// its configuration.
func TestWarmJobThatIsDoneHoldsNothing(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	var jobs Jobs
	one := &job{
		task: func(int) (task, error) {
			return task{"/", httptest.NewRequest(http.MethodGet, "/", http.NoBody), answer}, nil
		},
		count:    jobs.tally,
		progress: api.WarmProgress{Total: 1},
	}
	end := one.run(t.Context(), 1, nil)
	if one.task != nil || one.progress.Done != 1 || end.Done != 1 {
		t.Errorf("requests are kept: %t, %d done", one.task != nil, one.progress.Done)
	}
	if ok, failed := jobs.Counts(); ok != 1 || failed != 0 {
		t.Errorf("counted %d that are good, %d that failed", ok, failed)
	}
}

// TestWarmThrows has a handler break a response off.
func TestWarmThrows(t *testing.T) {
	thrower := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a string") })
	one := task{"/", httptest.NewRequest(http.MethodGet, "/", http.NoBody), thrower}
	var caught any
	if result := one.send(t.Context(), func(recovered any) { caught = recovered }); !result.Failed() || caught != "a string" {
		t.Errorf("%+v, thrown %v", result, caught)
	}
}

// TestWarmResultsAreBounded keeps the failed ones.
func TestWarmResultsAreBounded(t *testing.T) {
	var jobs Jobs
	one := &job{count: jobs.tally}
	for i := range 3 * maxResults {
		status := http.StatusOK
		if i%5 == 4 {
			status = http.StatusNotFound
		}
		one.add(&api.WarmResult{URL: "/", Status: status})
	}
	progress, failed := one.snapshot(true), 0
	for _, r := range progress.Results {
		if r.Failed() {
			failed++
		}
	}
	if len(progress.Results) != maxResults || progress.Omitted != 2*maxResults || failed != progress.Failed || failed != 3*maxResults/5 {
		t.Errorf("%d results, %d omitted, %d of %d failed ones", len(progress.Results), progress.Omitted, failed, progress.Failed)
	}
}
