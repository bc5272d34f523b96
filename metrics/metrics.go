// Package metrics tells operators what happened: Prometheus series, archived lines.
package metrics

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	bindery "github.com/bindery-hub/bindery"
)

// Config configures a Recorder.
type Config struct {
	Queue   func(ctx context.Context) (bindery.Queue, error)        // required
	Workers func(ctx context.Context) ([]bindery.WorkerView, error) // required
	// Generations says what serves and how a roll-out stands. Default: there are none.
	Generations func(ctx context.Context) ([]bindery.RolloutStatus, error)
	// Load says what the event streams do. Default: nothing.
	Load func() bindery.Load
	// Watches says when each loop that watches over something last had a look. Default: there is none.
	Watches func() map[string]time.Time
	// Canary is how often a canary sings; 0: there is none.
	Canary time.Duration
	// Budget says how many requests GitHub's API still takes; false: nothing is known. Default: what the worker says.
	Budget func() (remaining int, known bool)

	Version, Generation string
	// HideRepos leaves the label repo empty: /metrics is open to everybody.
	HideRepos bool
	// Repos is how many repositories are told apart; the rest are "other". Visitors choose the names. default: 1000
	Repos int
	Now   func() time.Time // default: time.Now
	Log   *slog.Logger     // default: discard
}

// A Recorder counts what it is told, and looks at the queue when it is asked.
type Recorder struct {
	cfg      Config
	registry *prometheus.Registry

	buildTime  *prometheus.HistogramVec
	launchTime *prometheus.HistogramVec
	builds     *prometheus.CounterVec
	launches   *prometheus.CounterVec
	ready      *prometheus.HistogramVec
	outcomes   *prometheus.CounterVec
	requests   *prometheus.CounterVec
	waited     *prometheus.HistogramVec
	worked     *prometheus.HistogramVec
	served     *prometheus.CounterVec
	resolves   *prometheus.CounterVec
	canaries   *prometheus.CounterVec

	mu          sync.Mutex
	repos       map[string]bool
	generations map[string]bool
	recent      map[string]time.Time // repositories to their last launch
	canary      bindery.CanaryReport // the last one
	sung        time.Time            // the last that went well; before the first, when this began
	disks       map[string]*disk     // of workers
	dropped     map[string]int       // images, by worker
}

// New makes a Recorder.
func New(cfg Config) (*Recorder, error) {
	if cfg.Queue == nil || cfg.Workers == nil {
		return nil, errors.New("metrics: Config needs Queue and Workers")
	}
	cfg.Repos = cmp.Or(cfg.Repos, 1000)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Load == nil {
		cfg.Load = func() bindery.Load { return bindery.Load{} }
	}
	if cfg.Generations == nil {
		cfg.Generations = func(context.Context) ([]bindery.RolloutStatus, error) { return nil, nil }
	}
	if cfg.Watches == nil {
		cfg.Watches = func() map[string]time.Time { return nil }
	}
	if cfg.Budget == nil {
		cfg.Budget = func() (int, bool) { return 0, false }
	}
	r := &Recorder{
		cfg: cfg, registry: prometheus.NewRegistry(), repos: map[string]bool{}, generations: map[string]bool{},
		recent: map[string]time.Time{}, disks: map[string]*disk{}, dropped: map[string]int{}, sung: cfg.Now(),
	}
	r.instruments()
	for _, c := range []prometheus.Collector{
		r.buildTime, r.launchTime, r.builds, r.launches, r.ready, r.outcomes, r.requests,
		r.waited, r.worked, r.served, r.resolves, r.canaries,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.registry.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// instruments makes what is counted as it happens. The first four are BinderHub's: its dashboards read them.
func (r *Recorder) instruments() {
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	r.buildTime = histogram("binderhub_build_time_seconds", "Seconds from the first request for a build to its end, the wait for a slot included.",
		[]float64{60, 120, 300, 600, 1800, 3600, 7200}, "status")
	r.launchTime = histogram("binderhub_launch_time_seconds", "Seconds from an image to a session that answers.",
		[]float64{2, 5, 10, 20, 30, 60, 120, 300, 600}, "status", "retries")
	r.builds = counter("binderhub_build_count_total", "Builds that ended.", "status", "provider", "repo")
	r.launches = counter("binderhub_launch_count_total", "Launches that ended.", "status", "provider", "repo")
	r.ready = histogram("bindery_time_to_ready_seconds", "Seconds from a request to its session, everything included.",
		[]float64{0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200}, "cached", "class")
	r.outcomes = counter("bindery_builds_total", "Builds that ended, by whose fault a failure was and by how many attempts it took.", "status", "fault", "class", "attempts")
	r.requests = counter("bindery_launch_requests_total", "Requests for launches that ended, those that nobody waited for included.", "status", "fault", "class", "token")
	r.waited = histogram("bindery_build_wait_seconds", "Seconds from the first request for a build to the start of its last attempt.",
		[]float64{0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200}, "class")
	r.worked = histogram("bindery_build_attempt_seconds", "Seconds that the last attempt of a build took.",
		[]float64{0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200}, "status", "quick")
	r.served = counter("bindery_generation_launches_total", "Launches by the generation of the builder that made their image.", "generation")
	r.resolves = counter("bindery_resolves_total", "Questions to providers what a ref is, by what came of them; stale: they did not answer, and the last answer served.", "provider", "outcome")
	r.canaries = counter("bindery_canary_runs_total", "Builds and launches of the canary, by the phase in which one failed.", "status", "phase")
	// What alerts ask for is there from the start: the first of something is a change that they see.
	for _, class := range classes {
		for _, status := range []string{bindery.LaunchSucceeded, bindery.LaunchLeft} {
			r.requests.WithLabelValues(status, "", string(class), "false")
		}
		for _, fault := range faults {
			r.requests.WithLabelValues(bindery.LaunchFailed, string(fault), string(class), "false")
		}
		r.outcomes.WithLabelValues("success", "", string(class), "1")
	}
	for _, outcome := range outcomes {
		r.resolves.WithLabelValues("Git", outcome)
	}
	r.canaries.WithLabelValues("success", "")
	for _, phase := range bindery.CanaryPhases() {
		r.canaries.WithLabelValues("failure", phase)
	}
}

var (
	classes = [...]bindery.Class{bindery.Attended, bindery.Unattended, bindery.Background}
	faults  = [...]bindery.Fault{bindery.User, bindery.Transient, bindery.Ours}
)

// What comes of a question to a provider.
const (
	resolveAnswered = "answered"
	resolveAbsent   = "absent" // there is no such thing
	resolveStale    = "stale"
	resolveFailed   = "failed"
)

var outcomes = [...]string{resolveAnswered, resolveAbsent, resolveStale, resolveFailed}

// ServeHTTP answers with all series.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := prometheus.NewRegistry()
	err := now.Register(snapshot{r, func() (context.Context, context.CancelFunc) { return context.WithTimeout(req.Context(), lookFor) }})
	if err != nil { // two gauges of one name
		http.Error(w, "the metrics are broken", http.StatusInternalServerError)
		return
	}
	promhttp.HandlerFor(prometheus.Gatherers{r.registry, now}, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(w, req)
}

// Built counts a build that has ended.
func (r *Recorder) Built(b bindery.Build) {
	status, fault := "success", ""
	switch {
	case b.State == bindery.BuildCancelled:
		status = "cancelled"
	case b.State == bindery.BuildFailed:
		status = "failure"
	}
	if b.Err != nil {
		fault = string(b.Err.Fault)
	}
	r.outcomes.WithLabelValues(status, fault, string(b.Class), attempts(b.Attempt)).Inc()
	if !b.Started.IsZero() {
		r.waited.WithLabelValues(string(b.Class)).Observe(b.Started.Sub(b.Created).Seconds())
		r.worked.WithLabelValues(status, strconv.FormatBool(b.Quick)).Observe(b.Ended.Sub(b.Started).Seconds())
	}
	if status == "cancelled" { // BinderHub knows no such thing
		return
	}
	r.buildTime.WithLabelValues(status).Observe(b.Ended.Sub(b.Created).Seconds())
	r.builds.WithLabelValues(status, NameOf(b.Source.Provider), r.repo(b.Source.URL)).Inc()
}

// attempts is a label of few values: builds whose workers are lost have any number.
func attempts(n int) string {
	if n > 3 {
		return "more"
	}
	return strconv.Itoa(n)
}

// Resolved counts a question to a provider: err is its answer, served says that an older answer did instead.
func (r *Recorder) Resolved(src bindery.Source, err error, served bool) {
	outcome := resolveAnswered
	if err != nil {
		outcome = resolveFailed
		if kind := bindery.AsError(err).Kind; kind == bindery.ErrRefNotFound || kind == bindery.ErrRepoNotFound {
			outcome = resolveAbsent
		}
	}
	if served {
		outcome = resolveStale
	}
	r.resolves.WithLabelValues(NameOf(src.Provider), outcome).Inc()
}

// Canary counts a run of the canary.
func (r *Recorder) Canary(rep bindery.CanaryReport) {
	status := "success"
	if rep.Err != nil {
		status = "failure"
	}
	r.canaries.WithLabelValues(status, rep.Failed).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.canary = rep
	if rep.Err == nil {
		r.sung = rep.Time
	}
}

// Dropped counts an image that a worker removed because its disk was short of room.
func (r *Recorder) Dropped(worker string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped[worker]++
}

// Launched counts a request for a launch that has ended.
func (r *Recorder) Launched(rep bindery.LaunchReport) {
	fault := ""
	if rep.Err != nil {
		fault = string(rep.Err.Fault)
	}
	r.requests.WithLabelValues(rep.Status, fault, string(rep.Class), strconv.FormatBool(rep.Token)).Inc()
	if rep.Status == bindery.LaunchLeft || rep.Build == "" { // BinderHub counts from the image on
		return
	}
	repo := r.repo(rep.Repo)
	switch {
	case rep.Status == bindery.LaunchSucceeded:
		r.launchTime.WithLabelValues("success", "0").Observe(rep.Started.Seconds())
		r.ready.WithLabelValues(strconv.FormatBool(rep.Cached), string(rep.Class)).Observe((rep.Built + rep.Started).Seconds())
		r.served.WithLabelValues(r.generation(rep.Generation)).Inc()
		r.touch(rep.Source.Identity(), rep.Time)
	case rep.Status == bindery.LaunchFailed && rep.Started > 0:
		r.launchTime.WithLabelValues("failure", "-1").Observe(rep.Started.Seconds())
	case rep.Status == bindery.LaunchFailed: // its build did, which is counted there
		return
	}
	r.launches.WithLabelValues(rep.Status, NameOf(rep.Provider.Kind), repo).Inc()
}

// repo is a repository's label. Visitors choose what it is, so there is a bound on how many there are.
func (r *Recorder) repo(name string) string {
	if r.cfg.HideRepos {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name = bindery.Printable(name)
	if !r.repos[name] && len(r.repos) >= r.cfg.Repos {
		return "other"
	}
	r.repos[name] = true
	return name
}

// mostGenerations bounds the values of a label: a hub that is upgraded every day has a new one every day.
const mostGenerations = 20

func (r *Recorder) generation(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.generations[name] && len(r.generations) >= mostGenerations {
		return "other"
	}
	r.generations[name] = true
	return name
}

// mostRecent bounds what is remembered to count the last hour's repositories.
const mostRecent = 100_000

func (r *Recorder) touch(repo string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.recent[repo]; ok || len(r.recent) < mostRecent {
		r.recent[repo] = at
	}
}

// lastHour counts the repositories that were launched in it.
func (r *Recorder) lastHour() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.cfg.Now().Add(-time.Hour)
	for repo, at := range r.recent {
		if at.Before(old) {
			delete(r.recent, repo)
		}
	}
	return len(r.recent)
}

// NameOf is BinderHub's name of a kind of provider, as its metrics and its archive have it.
func NameOf(kind string) string {
	names := map[string]string{
		bindery.ProviderGitHub: "GitHub", bindery.ProviderGist: "Gist", bindery.ProviderGitLab: "GitLab", bindery.ProviderGit: "Git",
		bindery.ProviderZenodo: "Zenodo", bindery.ProviderFigshare: "Figshare", bindery.ProviderHydroshare: "Hydroshare",
		bindery.ProviderDataverse: "Dataverse", bindery.ProviderCKAN: "CKAN", bindery.ProviderSWH: "SoftwareHeritage",
	}
	return cmp.Or(names[kind], kind)
}
