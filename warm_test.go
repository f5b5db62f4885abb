package rediscache

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Jobs that run are never forgotten, and their number is bounded.
func TestWarmJobsAreBounded(t *testing.T) {
	job := func(running bool) *warmJob { return &warmJob{progress: warmProgress{Running: running}} }
	warmJobs.list = nil
	defer func() { warmJobs.list = nil }()
	if !remember(job(false)) {
		t.Fatal("no room for the first")
	}
	for i := range maxWarmJobs {
		if !remember(job(true)) {
			t.Fatalf("no room after %d", i)
		}
	}
	if remember(job(true)) || len(warmJobs.list) != maxWarmJobs {
		t.Errorf("%d jobs are listed", len(warmJobs.list))
	}
}

// What is listed of a job that is done holds neither its requests nor the servers of
// its configuration.
func TestWarmJobThatIsDoneHoldsNothing(t *testing.T) {
	s := newSite(t, `{}`, nil)
	defer s.close()
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	job := &warmJob{
		task: func(int) (warmTask, error) {
			return warmTask{"/", httptest.NewRequest(http.MethodGet, "/", nil), answer}, nil
		},
		progress: warmProgress{Total: 1},
	}
	job.run(t.Context(), s.handler.app.node, 1)
	if job.task != nil || job.progress.Done != 1 {
		t.Errorf("requests are kept: %t, %d done", job.task != nil, job.progress.Done)
	}
}
