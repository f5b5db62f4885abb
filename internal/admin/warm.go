package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gplus-recycling/caddy-redis-cache/internal/api"
	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

const (
	warmTimeout = time.Minute // for one request
	maxWarmed   = 100_000     // requests of a job
	maxJobs     = 16          // whose progress can be asked for
	maxResults  = 1000        // that are kept of a job
)

// Jobs are the last warm jobs of a process. They outlive the configuration that began
// them, unless that ends while they run. mu guards the list.
type Jobs struct {
	mu   sync.Mutex
	list []*job

	ok, failed atomic.Uint64 // requests, of all jobs
}

// Counts are the requests that were sent for warming, by what has come of them.
func (j *Jobs) Counts() (ok, failed uint64) { return j.ok.Load(), j.failed.Load() }

// task is one request with the server that will answer it.
type task struct {
	url     string
	request *http.Request
	server  http.Handler
}

// job is a list of requests that is being worked through. Each is made when it is its
// turn. mu guards what follows it.
type job struct {
	task  func(i int) (task, error) // nil once the job is done
	count func(failed bool)

	mu       sync.Mutex
	progress api.WarmProgress
	passed   int // where to look for a result that makes room for a failed one
}

// Warm is POST /redis_cache/warm.
func (a *API) Warm(w http.ResponseWriter, r *http.Request) error {
	var request api.Warm
	if err := ReadJSON(r, &request); err != nil {
		return err
	}
	one, err := a.newJob(&request)
	if err != nil {
		return Error(http.StatusBadRequest, err)
	}
	if !a.Jobs.add(one) {
		return Error(http.StatusServiceUnavailable, fmt.Errorf("%d warm jobs are running already", maxJobs))
	}
	run := func(ctx context.Context) {
		a.Warmed(one.run(ctx, request.Concurrency, func(recovered any) { a.Thrown("a handler that warms", recovered) }))
	}
	if request.Wait {
		run(r.Context())
		return WriteJSON(w, http.StatusOK, one.snapshot(true))
	}
	go run(a.Context)
	return WriteJSON(w, http.StatusAccepted, one.snapshot(false))
}

// WarmProgress is GET /redis_cache/warm.
func (a *API) WarmProgress(w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	a.Jobs.mu.Lock()
	jobs := slices.Clone(a.Jobs.list)
	a.Jobs.mu.Unlock()
	if id == "" {
		all := make([]api.WarmProgress, 0, len(jobs))
		for _, one := range jobs {
			all = append(all, one.snapshot(false))
		}
		return WriteJSON(w, http.StatusOK, map[string]any{"jobs": all})
	}
	for _, one := range jobs {
		if one.progress.ID == id {
			return WriteJSON(w, http.StatusOK, one.snapshot(true))
		}
	}
	return Error(http.StatusNotFound, fmt.Errorf("no warm job has the id %q", id))
}

// add lists the job in place of the oldest that is done. It reports whether there was
// room.
func (j *Jobs) add(one *job) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.list) >= maxJobs {
		done := slices.IndexFunc(j.list, func(other *job) bool { return !other.snapshot(false).Running })
		if done < 0 {
			return false
		}
		j.list = slices.Delete(j.list, done, done+1)
	}
	j.list = append(j.list, one)
	return true
}

func (j *Jobs) tally(failed bool) {
	if failed {
		j.failed.Add(1)
	} else {
		j.ok.Add(1)
	}
}

// newJob checks everything before anything is sent.
func (a *API) newJob(request *api.Warm) (*job, error) {
	if len(request.URLs) == 0 {
		return nil, errors.New("urls is empty")
	}
	if request.Concurrency == 0 {
		request.Concurrency = api.DefaultConcurrency
	}
	if request.Concurrency < 0 || request.Concurrency > api.MaxConcurrency {
		return nil, fmt.Errorf("concurrency %d is not between 1 and %d", request.Concurrency, api.MaxConcurrency)
	}
	headers := request.Headers
	if len(headers) == 0 {
		headers = []map[string]string{nil}
	}
	if n := len(request.URLs) * len(headers); n > maxWarmed {
		return nil, fmt.Errorf("%d requests are more than %d", n, maxWarmed)
	}
	for _, rawURL := range request.URLs {
		if _, _, err := subrequest.ServerOf(a.Context, rawURL); err != nil {
			return nil, err
		}
	}
	urls := request.URLs
	return &job{
		task: func(i int) (task, error) {
			rawURL := urls[i/len(headers)]
			server, u, err := subrequest.ServerOf(a.Context, rawURL)
			if err != nil {
				return task{url: rawURL}, err
			}
			return task{rawURL, subrequest.New(u, headers[i%len(headers)]), server}, nil
		},
		count:    a.Jobs.tally,
		progress: api.WarmProgress{ID: rand.Text(), Total: len(urls) * len(headers), Running: true},
	}, nil
}

// run works through the job with a few requests at a time, and returns how it ended,
// without the results. Each panic of a handler goes to thrown.
func (j *job) run(ctx context.Context, concurrency int, thrown func(recovered any)) *api.WarmProgress {
	todo := make(chan int)
	var workers sync.WaitGroup
	for range min(concurrency, j.progress.Total) {
		workers.Go(func() {
			for i := range todo {
				next, err := j.task(i)
				if err != nil { // it was checked before the configuration has ended
					j.add(&api.WarmResult{URL: next.url, Error: err.Error()})
					continue
				}
				result := next.send(ctx, thrown)
				j.add(&result)
			}
		})
	}
	for i := range j.progress.Total {
		todo <- i
	}
	close(todo)
	workers.Wait()
	j.mu.Lock()
	j.progress.Running = false
	j.task = nil // it holds the URLs and the configuration
	j.mu.Unlock()
	end := j.snapshot(false)
	return &end
}

func (j *job) add(result *api.WarmResult) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress.Done++
	failed := result.Failed()
	j.count(failed)
	if failed {
		j.progress.Failed++
	}
	j.keep(result, failed)
}

// keep keeps a result, a failed one if need be in place of one that is not. mu is held.
func (j *job) keep(result *api.WarmResult, failed bool) {
	p := &j.progress
	if len(p.Results) < maxResults {
		p.Results = append(p.Results, *result)
		return
	}
	p.Omitted++
	for ; failed && j.passed < len(p.Results); j.passed++ {
		if !p.Results[j.passed].Failed() {
			p.Results[j.passed] = *result
			j.passed++
			return
		}
	}
}

// send runs one request through the server.
func (t *task) send(ctx context.Context, thrown func(recovered any)) (result api.WarmResult) {
	result.URL = t.url
	if err := ctx.Err(); err != nil {
		result.Error = err.Error()
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	status, header := subrequest.Warm(ctx, t.server, t.request, func(recovered any) {
		thrown(recovered)
		result.Error = "the response broke off"
	})
	if result.Error == "" {
		result.Status, result.Outcome = status, header.Get("X-Cache")
	}
	return result
}

func (j *job) snapshot(results bool) api.WarmProgress {
	j.mu.Lock()
	defer j.mu.Unlock()
	progress := j.progress
	progress.Results = slices.Clone(progress.Results)
	if !results {
		progress.Results = nil
	}
	return progress
}
