package main

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/metrics"
	"github.com/bindery-hub/bindery/store"
	otlp "github.com/bindery-hub/bindery/traces"
)

// observed passes what happens in a hub to the metrics and to the archive. It is there before they are, since each of
// the parts needs another one.
type observed struct {
	metrics *metrics.Recorder
	archive *metrics.Archive
	traces  *otlp.Traces // nil: nobody wants them
	log     *slog.Logger
	load    func() bindery.Load
	watches func() map[string]time.Time
}

func (o *observed) open(ctx context.Context, a *app, db *store.DB, hub *dispatch.Dispatcher, log *slog.Logger) (err error) {
	if cfg := a.cfg.Traces; cfg.URL != "" {
		o.traces, err = otlp.New(ctx, otlp.Config{URL: cfg.URL, Headers: cfg.Headers, Version: thisRelease().Version, Events: db.Events, Log: log})
		if err != nil {
			return err
		}
	}
	o.watches, o.log = hub.Watches, log
	o.metrics, err = metrics.New(metrics.Config{
		Queue: hub.Queue, Workers: hub.Workers, Generations: hub.Generations, Load: func() bindery.Load { return o.load() }, Watches: func() map[string]time.Time { return o.watches() },
		Version: thisRelease().Version, Generation: a.generation(), HideRepos: a.cfg.HideSources, Canary: a.cfg.Canary.every(), Log: log,
	})
	if err != nil {
		return err
	}
	if off := a.cfg.Binder.Metrics; off != nil && !*off {
		o.metrics = nil
	}
	o.archive, err = metrics.NewArchive(metrics.ArchiveConfig{
		Dir: cmp.Or(a.cfg.Binder.Archive.Dir, a.inst.path("archive")), Days: a.cfg.Binder.Archive.Days, Log: log,
	})
	return err
}

// handler answers /metrics; nil: nothing does.
func (o *observed) handler() http.Handler {
	if o.metrics == nil {
		return nil
	}
	return o.metrics
}

// export yields what the archive and the store know.
func (o *observed) export(h metrics.History) func(ctx context.Context, kind string, since, until time.Time) (iter.Seq2[[]byte, error], error) {
	return func(ctx context.Context, kind string, since, until time.Time) (iter.Seq2[[]byte, error], error) {
		return o.archive.Export(ctx, h, kind, since, until)
	}
}

func (o *observed) run(ctx context.Context) error {
	if o.traces == nil {
		return o.archive.Run(ctx)
	}
	var both errgroup.Group
	both.Go(func() error { return o.archive.Run(ctx) })
	both.Go(func() error { return o.traces.Run(ctx) })
	return both.Wait()
}

// sang takes the report of a canary.
func (o *observed) sang(rep bindery.CanaryReport) {
	o.archive.Canary(rep)
	if o.metrics != nil {
		o.metrics.Canary(rep)
	}
}

// built counts a build, unless it is the canary's.
func (o *observed) built(b bindery.Build) {
	attrs := []any{
		"build", b.ID, "state", b.State, "repository", bindery.Printable(b.Source.URL), "commit", b.Source.Commit, "class", b.Class, "attempts", b.Attempt,
		"worker", b.Worker, "took", b.Ended.Sub(b.Created).String(),
	}
	if b.Err != nil {
		attrs = append(attrs, "kind", b.Err.Kind, "fault", b.Err.Fault, "err", b.Err)
	}
	o.log.Info("a build ended", attrs...)
	if o.traces != nil {
		o.traces.Built(b)
	}
	if o.metrics != nil && b.Requester != bindery.CanaryRequester {
		o.metrics.Built(b)
	}
}

func (o *observed) resolved(src bindery.Source, err error, served bool) {
	if o.metrics != nil {
		o.metrics.Resolved(src, err, served)
	}
}

func (o *observed) launched(rep bindery.LaunchReport) {
	o.log.Info("a launch ended", "request", rep.Request, "build", rep.Build, "session", rep.Session, "status", rep.Status, "class", rep.Class,
		"repository", bindery.Printable(rep.Repo), "cached", rep.Cached, "took", rep.Time.Sub(rep.Began).String())
	if o.traces != nil {
		o.traces.Launched(rep)
	}
	if o.metrics != nil {
		o.metrics.Launched(rep)
	}
	o.archive.Launched(rep)
}

// generation is told of each step of a generation, and what becomes of its images.
func (o *observed) generation(e bindery.GenerationEvent) {
	o.archive.Generation(e)
	if o.metrics != nil && e.Event == bindery.ImageDropped {
		o.metrics.Dropped(e.Worker)
	}
}

// pools is told what a file declares of node pools.
func (o *observed) pools(file string, declared pools, wrong error) {
	o.archive.Pools(file, declared.list(), wrong)
}

// workerStatus asks the worker of this state directory.
func (p *parts) workerStatus(ctx context.Context) (bindery.WorkerStatus, error) {
	client, err := p.workers.client(ctx)
	if err != nil {
		return bindery.WorkerStatus{}, err
	}
	return client.Status(ctx)
}
