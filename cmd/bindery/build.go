package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

type buildCmd struct {
	sourceArgs
	Push []string `help:"Also push the image to this name. Repeatable." placeholder:"IMAGE" sep:"none"`
	OCI  string   `name:"oci" help:"Also write the image to this directory, as an OCI layout." placeholder:"DIR"`

	Compression string   `help:"Of what is pushed or written: zstd, gzip, estargz or none (default zstd)." enum:",zstd,gzip,estargz,none" default:"" placeholder:"HOW"`
	CacheFrom   []string `help:"Take finished steps from this image of a registry. Repeatable." placeholder:"IMAGE" sep:"none"`
	CacheTo     string   `help:"Leave finished steps in this image of a registry." placeholder:"IMAGE"`
	Provenance  bool     `help:"Attach how the image was made, as an in-toto statement in SLSA's form."`
	SBOM        bool     `name:"sbom" help:"Attach what is in the image, in SPDX's form."`
	Appendix    string   `help:"Lines of a Dockerfile to build onto the image." placeholder:"TEXT"`
	Timeline    bool     `help:"Show afterwards when each step ran."`

	JSON    bool `help:"Print a JSON object."`
	Quiet   bool `short:"q" help:"Show no progress." xor:"noise"`
	Verbose bool `short:"v" help:"Show the whole log on a terminal too." xor:"noise"`
}

// A built image, as `bindery build --json` prints it.
type built struct {
	bindery.BuildResult
	Log string `json:"log"`
}

// Run builds and prints what came out.
func (c *buildCmd) Run(ctx context.Context, a *app) error {
	if err := a.ready(); err != nil {
		return err
	}
	src, err := c.source(a.cfg.Providers.links())
	if err != nil {
		return err
	}
	req := bindery.BuildRequest{Source: src, Base: cmp.Or(c.Base, a.cfg.Base), Push: c.Push, Appendix: c.Appendix, Export: bindery.Export{
		Compression: c.Compression, CacheFrom: c.CacheFrom, CacheTo: c.CacheTo, Provenance: c.Provenance, SBOM: c.SBOM,
	}}
	if (c.Provenance || c.SBOM) && len(c.Push) == 0 && c.OCI == "" {
		return usagef("--provenance and --sbom are attached to what is pushed or written: add --push or --oci")
	}
	if c.OCI != "" {
		if req.OCI, err = filepath.Abs(c.OCI); err != nil {
			return err
		}
	}
	if err := a.inst.create(); err != nil {
		return err
	}
	w, err := a.workers()
	if err != nil {
		return err
	}
	show := newDisplay(a.stderr, a.getenv, c.Quiet, c.Verbose)
	steps := &timeline{display: show}
	if c.Timeline {
		show = steps
	}
	began := time.Now()
	made, err := a.build(ctx, w, req, show)
	if err == nil {
		show.Note("Built in %s: %d steps run, %d cached", seconds(time.Since(began)), made.Steps.Run, made.Steps.Cached)
	}
	show.Close()
	if c.Timeline {
		steps.write(a.stderr)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, made.built)
	}
	fmt.Fprintln(a.stdout, made.Image)
	return nil
}

// A making is a finished build with what only its caller saw.
type making struct {
	built
	source  bindery.Source // resolved
	resolve time.Duration
}

// build has the worker make req and follows it. When ctx ends, the build is cancelled.
func (a *app) build(ctx context.Context, w workers, req bindery.BuildRequest, show display) (making, error) {
	began := time.Now()
	client, _, err := w.current(ctx)
	if err != nil {
		return making{}, err
	}
	req.Source.Trusted = true
	req.Source, err = client.Resolve(ctx, req.Source)
	m := making{source: req.Source, resolve: time.Since(began)}
	if err != nil {
		return m, err
	}
	req.ID, req.Attempt = newID("c-"), 1
	log, err := a.inst.newBuildLog(req.ID)
	if err != nil {
		return m, err
	}
	defer func() { _ = log.Close() }() // a log that cannot be finished is no reason to fail a build
	m.Log = log.Name()
	each := func(ev bindery.Event) {
		_, _ = log.WriteString(logText(ev)) // as above
		if ev.Err == nil {
			show.Event(ev)
		}
	}
	m.BuildResult, err = w.build(ctx, req, each)
	for errors.Is(err, bindery.ErrWorkerLost) && req.Attempt < 3 && ctx.Err() == nil {
		show.Note("The worker went away. What was finished is kept; trying again.")
		req.Attempt++
		m.BuildResult, err = w.build(ctx, req, each)
	}
	if ctx.Err() != nil {
		return m, context.Cause(ctx)
	}
	if errors.Is(err, bindery.ErrStep) {
		show.Note("The whole log is in %s", m.Log)
	}
	return m, err
}

// build carries out one attempt. When ctx ends, it is cancelled.
func (w workers) build(ctx context.Context, req bindery.BuildRequest, each func(bindery.Event)) (bindery.BuildResult, error) {
	client, err := w.client(ctx)
	if err != nil {
		return bindery.BuildResult{}, err
	}
	for err = client.Start(ctx, req); full(err); err = client.Start(ctx, req) {
		select {
		case <-ctx.Done():
			return bindery.BuildResult{}, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return bindery.BuildResult{}, err
	}
	result, err := w.follow(ctx, req, each)
	if ctx.Err() != nil {
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer stop()
		_ = client.Cancel(end, req.ID, req.Attempt) // the worker may be the one that has gone
	}
	return result, err
}

// full reports whether err says that the worker has enough to do for now.
func full(err error) bool {
	e, ok := errors.AsType[*bindery.Error](err)
	return ok && e.Kind == bindery.ErrNotReady && e.Fault == bindery.Transient
}

// follow reads the events of an attempt to the last one, over connections that may break, and acknowledges them. A
// worker that has died is started again: it knows how far the attempt came.
func (w workers) follow(ctx context.Context, req bindery.BuildRequest, each func(bindery.Event)) (bindery.BuildResult, error) {
	var seq int64
	var broken error
	for range 20 {
		client, err := w.client(ctx)
		if err != nil {
			return bindery.BuildResult{}, err
		}
		for ev, err := range client.Events(ctx, req.ID, req.Attempt, seq) {
			if broken = err; err != nil {
				break
			}
			seq = ev.Seq
			each(ev)
			if !ev.Last() {
				continue
			}
			_ = client.Ack(ctx, req.ID, req.Attempt, seq) // the worker forgets it by itself after a while
			if ev.Err != nil {
				return bindery.BuildResult{}, ev.Err
			}
			return *ev.Result, nil
		}
		if errors.Is(broken, bindery.ErrNotFound) {
			break
		}
		select {
		case <-ctx.Done():
			return bindery.BuildResult{}, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return bindery.BuildResult{}, bindery.Errorf(bindery.ErrWorkerLost, bindery.Ours,
		"Run the command again: finished steps are kept.", "The worker went away during the build").Because(broken)
}

// logText is an event as text of the log file.
func logText(ev bindery.Event) string {
	text := ev.Message
	if s := ev.Step; s != nil && !s.Ended.IsZero() && !s.Cached {
		text = fmt.Sprintf("%s: done after %.1fs\n", s.Name, s.Ended.Sub(s.Started).Seconds())
		if s.Failed {
			text = fmt.Sprintf("%s: failed after %.1fs\n", s.Name, s.Ended.Sub(s.Started).Seconds())
		}
	}
	if ev.Err != nil {
		text = "\n" + ev.Err.Error() + "\n" + ev.Err.Remedy + "\n"
	}
	return text
}

// newBuildLog opens the log of one build and removes all but the newest of the others.
func (i instance) newBuildLog(id string) (*os.File, error) {
	const keep = 50
	old, err := filepath.Glob(i.path("logs", "*.log"))
	if err != nil {
		return nil, err
	}
	sortBy(old, func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	})
	for len(old) >= keep {
		_ = os.Remove(old[0]) // another process may have been faster
		old = old[1:]
	}
	return os.OpenFile(i.path("logs", id+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}
