package rediscache

import "testing"

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
