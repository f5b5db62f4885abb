package rediscache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/gplus-recycling/caddy-redis-cache/internal/subrequest"
)

const (
	defaultWarmConcurrency = 4
	maxWarmConcurrency     = 64
	warmTimeout            = time.Minute // for one request
	maxWarmRequests        = 100_000     // of a job
	maxWarmJobs            = 16          // whose progress can be asked for
	maxWarmResults         = 1000        // that are kept of a job
)

// warmRequest is the body of POST /redis_cache/warm.
type warmRequest struct {
	URLs        []string            `json:"urls"`
	Headers     []map[string]string `json:"headers"`     // one request per URL and set of fields
	Concurrency int                 `json:"concurrency"` // requests at a time
	Wait        bool                `json:"wait"`        // answer when done
}

// warmResult is the result of one request.
type warmResult struct {
	URL     string `json:"url"`
	Status  int    `json:"status,omitempty"`
	Outcome string `json:"outcome,omitempty"` // as X-Cache would show it
	Error   string `json:"error,omitempty"`
}

func (r *warmResult) failed() bool { return r.Error != "" || r.Status >= http.StatusBadRequest }

// warmProgress is how far a job has come.
type warmProgress struct {
	ID      string       `json:"id"`
	Total   int          `json:"total"`
	Done    int          `json:"done"`
	Failed  int          `json:"failed"`
	Running bool         `json:"running"`
	Results []warmResult `json:"results,omitempty"` // failed ones first to be kept
	Omitted int          `json:"omitted,omitempty"` // results that are not
}

// warmTask is one request with the server that will answer it.
type warmTask struct {
	url     string
	request *http.Request
	server  http.Handler
}

// warmJob is a list of requests that is being worked through. Each is made when it is
// its turn. mu guards what follows it.
type warmJob struct {
	task func(i int) (warmTask, error) // nil once the job is done

	mu       sync.Mutex
	progress warmProgress
	passed   int // where to look for a result that makes room for a failed one
}

// warmJobs are the last jobs of the process. mu guards the list.
var warmJobs struct {
	mu   sync.Mutex
	list []*warmJob
}

func handleWarm(app *App, w http.ResponseWriter, r *http.Request) error {
	var request warmRequest
	if err := readJSON(r, &request); err != nil {
		return err
	}
	job, err := app.newWarmJob(&request)
	if err != nil {
		return apiError(http.StatusBadRequest, err)
	}
	if !remember(job) {
		return apiError(http.StatusServiceUnavailable, fmt.Errorf("%d warm jobs are running already", maxWarmJobs))
	}
	if request.Wait {
		job.run(r.Context(), app.node, request.Concurrency)
		return writeJSON(w, http.StatusOK, job.snapshot(true))
	}
	go job.run(app.ctx, app.node, request.Concurrency)
	return writeJSON(w, http.StatusAccepted, job.snapshot(false))
}

func handleWarmProgress(_ *App, w http.ResponseWriter, r *http.Request) error {
	id := r.URL.Query().Get("id")
	warmJobs.mu.Lock()
	jobs := slices.Clone(warmJobs.list)
	warmJobs.mu.Unlock()
	if id == "" {
		all := make([]warmProgress, 0, len(jobs))
		for _, job := range jobs {
			all = append(all, job.snapshot(false))
		}
		return writeJSON(w, http.StatusOK, map[string]any{"jobs": all})
	}
	for _, job := range jobs {
		if job.progress.ID == id {
			return writeJSON(w, http.StatusOK, job.snapshot(true))
		}
	}
	return apiError(http.StatusNotFound, fmt.Errorf("no warm job has the id %q", id))
}

// remember lists the job in place of the oldest that is done. It reports whether
// there was room.
func remember(job *warmJob) bool {
	warmJobs.mu.Lock()
	defer warmJobs.mu.Unlock()
	if len(warmJobs.list) >= maxWarmJobs {
		done := slices.IndexFunc(warmJobs.list, func(j *warmJob) bool { return !j.snapshot(false).Running })
		if done < 0 {
			return false
		}
		warmJobs.list = slices.Delete(warmJobs.list, done, done+1)
	}
	warmJobs.list = append(warmJobs.list, job)
	return true
}

// newWarmJob checks everything before anything is sent.
func (a *App) newWarmJob(request *warmRequest) (*warmJob, error) {
	if len(request.URLs) == 0 {
		return nil, errors.New("urls is empty")
	}
	if request.Concurrency == 0 {
		request.Concurrency = defaultWarmConcurrency
	}
	if request.Concurrency < 0 || request.Concurrency > maxWarmConcurrency {
		return nil, fmt.Errorf("concurrency %d is not between 1 and %d", request.Concurrency, maxWarmConcurrency)
	}
	headers := request.Headers
	if len(headers) == 0 {
		headers = []map[string]string{nil}
	}
	if n := len(request.URLs) * len(headers); n > maxWarmRequests {
		return nil, fmt.Errorf("%d requests are more than %d", n, maxWarmRequests)
	}
	for _, rawURL := range request.URLs {
		if _, _, err := subrequest.ServerOf(a.ctx, rawURL); err != nil {
			return nil, err
		}
	}
	urls := request.URLs
	return &warmJob{
		task: func(i int) (warmTask, error) {
			rawURL := urls[i/len(headers)]
			server, u, err := subrequest.ServerOf(a.ctx, rawURL)
			if err != nil {
				return warmTask{url: rawURL}, err
			}
			return warmTask{rawURL, subrequest.New(u, headers[i%len(headers)]), server}, nil
		},
		progress: warmProgress{ID: rand.Text(), Total: len(urls) * len(headers), Running: true},
	}, nil
}

// run works through the job with a few requests at a time, and tells of its end.
func (j *warmJob) run(ctx context.Context, n *node, concurrency int) {
	todo := make(chan int)
	var workers sync.WaitGroup
	for range min(concurrency, j.progress.Total) {
		workers.Go(func() {
			for i := range todo {
				task, err := j.task(i)
				if err != nil { // it was checked before the configuration has ended
					j.add(warmResult{URL: task.url, Error: err.Error()})
					continue
				}
				j.add(task.send(ctx, n.logger()))
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
	end := j.progress
	j.mu.Unlock()
	n.logger().Info("cache_warmed", zap.String("id", end.ID), zap.Int("total", end.Total), zap.Int("failed", end.Failed))
	n.emit("warm_finished", map[string]any{"id": end.ID, "total": end.Total, "failed": end.Failed})
}

func (j *warmJob) add(result warmResult) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress.Done++
	failed := result.failed()
	countWarmed(failed)
	if failed {
		j.progress.Failed++
	}
	j.keep(result, failed)
}

// keep keeps a result, a failed one if need be in place of one that is not. mu is held.
func (j *warmJob) keep(result warmResult, failed bool) {
	p := &j.progress
	if len(p.Results) < maxWarmResults {
		p.Results = append(p.Results, result)
		return
	}
	p.Omitted++
	for ; failed && j.passed < len(p.Results); j.passed++ {
		if !p.Results[j.passed].failed() {
			p.Results[j.passed] = result
			j.passed++
			return
		}
	}
}

// send runs one request through the server.
func (t *warmTask) send(ctx context.Context, logger *zap.Logger) (result warmResult) {
	result.URL = t.url
	if err := ctx.Err(); err != nil {
		result.Error = err.Error()
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	status, header := subrequest.Warm(ctx, t.server, t.request, func(recovered any) {
		logPanic(logger, "a handler that warms", recovered)
		result.Error = "the response broke off"
	})
	if result.Error == "" {
		result.Status, result.Outcome = status, header.Get("X-Cache")
	}
	return result
}

func (j *warmJob) snapshot(results bool) warmProgress {
	j.mu.Lock()
	defer j.mu.Unlock()
	progress := j.progress
	progress.Results = slices.Clone(progress.Results)
	if !results {
		progress.Results = nil
	}
	return progress
}
