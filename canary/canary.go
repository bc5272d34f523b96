// Package canary tries every few minutes whether a repository of the hub's own can be launched.
package canary

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Hub is the part of a dispatcher that is tried.
type Hub interface {
	Submit(ctx context.Context, ask bindery.Ask) (bindery.Build, error)
	Build(ctx context.Context, id string) (bindery.Build, error)
	Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error]
	Launch(ctx context.Context, b bindery.Build, ask bindery.Ask) (bindery.Session, error)
	Sessions(ctx context.Context) ([]bindery.Session, error)
	StopSession(ctx context.Context, id, reason string) error
}

// Config configures a Canary.
type Config struct {
	Hub    Hub                                                // required
	Source func() (bindery.Source, error)                     // what to build, new each time; required
	Visit  func(ctx context.Context, s bindery.Session) error // asks a session for something, as a visitor would; required
	Health func(ctx context.Context) error                    // asks the hub's own address whether all is well; required
	Forget func(ctx context.Context) error                    // removes the images that were made; default: nothing
	Report func(bindery.CanaryReport)                         // is told how each run went; default: nobody

	Every  time.Duration    // a run begins; default: 5 minutes
	Look   time.Duration    // health is asked for; default: 30 seconds
	Within time.Duration    // a run must have ended; default: 10 minutes
	Now    func() time.Time // default: time.Now
	Log    *slog.Logger     // default: discard
}

// A Canary sings as long as builds and launches work.
type Canary struct {
	cfg Config

	mu      sync.Mutex
	healthy time.Time
}

// New makes a Canary; Run has it sing.
func New(cfg Config) (*Canary, error) {
	if cfg.Hub == nil || cfg.Source == nil || cfg.Visit == nil || cfg.Health == nil {
		return nil, errors.New("canary: Config needs Hub, Source, Visit and Health")
	}
	cfg.Every, cfg.Look, cfg.Within = cmp.Or(cfg.Every, 5*time.Minute), cmp.Or(cfg.Look, 30*time.Second), cmp.Or(cfg.Within, 10*time.Minute)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Forget == nil {
		cfg.Forget = func(context.Context) error { return nil }
	}
	if cfg.Report == nil {
		cfg.Report = func(bindery.CanaryReport) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Canary{cfg: cfg, healthy: cfg.Now()}, nil
}

// Healthy is when the hub's own address said last that all is well; before the first time, when this began.
func (c *Canary) Healthy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.healthy
}

// Run sings until ctx ends. What an earlier process left behind is removed first.
func (c *Canary) Run(ctx context.Context) error {
	c.clean(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { c.look(ctx) })
	defer looking.Wait()
	tick := time.NewTicker(c.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		rep := c.sing(ctx)
		if ctx.Err() != nil { // the hub ends: what is left is removed by the next one
			return nil
		}
		if rep.Err != nil {
			c.cfg.Log.WarnContext(ctx, "the canary failed", "phase", rep.Failed, "build", rep.Build, "session", rep.Session, "kind", rep.Err.Kind, "err", rep.Err)
		}
		c.cfg.Report(rep)
	}
}

// look asks for the hub's health, from outside, more often than a whole run would be good for.
func (c *Canary) look(ctx context.Context) {
	tick := time.NewTicker(c.cfg.Look)
	defer tick.Stop()
	for {
		if err := c.ask(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.WarnContext(ctx, "the hub's own address does not say that all is well", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Canary) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := c.cfg.Health(ctx)
	if err == nil {
		c.mu.Lock()
		c.healthy = c.cfg.Now()
		c.mu.Unlock()
	}
	return err
}

// A run is one build and launch.
type run struct {
	*Canary
	rep   bindery.CanaryReport
	build bindery.Build
	sess  bindery.Session
}

// sing is one run. Whatever it made is taken down, however it ends.
func (c *Canary) sing(ctx context.Context) bindery.CanaryReport {
	within, cancel := context.WithTimeout(ctx, c.cfg.Within)
	defer cancel()
	r := &run{Canary: c, rep: bindery.CanaryReport{Took: map[string]time.Duration{}}}
	steps := []struct {
		phase string
		do    func(context.Context) error
	}{{bindery.CanaryHealth, c.ask}, {bindery.CanaryBuild, r.make}, {bindery.CanaryLaunch, r.launch}, {bindery.CanaryVisit, r.visit}}
	for _, s := range steps {
		began := c.cfg.Now()
		err := s.do(within)
		if err != nil {
			r.fail(s.phase, err)
			break
		}
		if s.phase != bindery.CanaryBuild { // which says itself
			r.rep.Took[s.phase] = c.cfg.Now().Sub(began)
		}
	}
	r.stop(ctx)
	r.rep.Time, r.rep.Build, r.rep.Session = c.cfg.Now(), r.build.ID, r.sess.ID
	return r.rep
}

func (r *run) fail(phase string, err error) {
	if r.rep.Err != nil {
		return
	}
	if phase == bindery.CanaryBuild && r.build.ID != "" && r.build.Started.IsZero() {
		phase = bindery.CanaryQueue
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "Look at the queue.", "The canary was not done within %s", r.cfg.Within)
	}
	r.rep.Failed, r.rep.Err = phase, bindery.AsError(err)
}

// asked is how a canary asks. A person waits for a launch that is like it: it has their class, and flows of its own.
func asked(src bindery.Source) bindery.Ask {
	return bindery.Ask{Source: src, Requester: bindery.CanaryRequester, Class: bindery.Attended, Evidence: "the hub's own canary"}
}

// make builds, and says apart how long it waited and how long it took.
func (r *run) make(ctx context.Context) error {
	src, err := r.cfg.Source()
	if err != nil {
		return err
	}
	ask := asked(src)
	ask.Retry = true
	if r.build, err = r.cfg.Hub.Submit(ctx, ask); err != nil {
		return err
	}
	for e, err := range r.cfg.Hub.Events(ctx, r.build.ID, 0) {
		if err != nil {
			if b, again := r.cfg.Hub.Build(context.WithoutCancel(ctx), r.build.ID); again == nil {
				r.build = b
			}
			return err
		}
		if e.Last() {
			break
		}
	}
	b, err := r.cfg.Hub.Build(ctx, r.build.ID)
	if err != nil {
		return err
	}
	r.build = b
	if b.State != bindery.BuildSucceeded {
		return cmp.Or[error](asError(b.Err), fmt.Errorf("the build was %s", b.State))
	}
	r.rep.Took[bindery.CanaryQueue] = max(b.Started.Sub(b.Created), 0)
	r.rep.Took[bindery.CanaryBuild] = max(b.Ended.Sub(b.Started), 0)
	return nil
}

// asError keeps a nil pointer from being an error.
func asError(e *bindery.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func (r *run) launch(ctx context.Context) (err error) {
	r.sess, err = r.cfg.Hub.Launch(ctx, r.build, asked(r.build.Source))
	return err
}

func (r *run) visit(ctx context.Context) error { return r.cfg.Visit(ctx, r.sess) }

// stopWithin is how long taking down may take.
const stopWithin = time.Minute

func (r *run) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	began := r.cfg.Now()
	if r.sess.ID != "" {
		if err := r.cfg.Hub.StopSession(ctx, r.sess.ID, "The canary has sung"); err != nil {
			r.fail(bindery.CanaryStop, err)
		}
	}
	if r.build.ID != "" {
		if err := r.cfg.Forget(ctx); err != nil {
			r.fail(bindery.CanaryStop, err)
		}
	}
	if r.rep.Err == nil {
		r.rep.Took[bindery.CanaryStop] = r.cfg.Now().Sub(began)
	}
}

// clean takes down what an earlier process left.
func (c *Canary) clean(ctx context.Context) {
	all, err := c.cfg.Hub.Sessions(ctx)
	for _, s := range all {
		if s.Requester == bindery.CanaryRequester {
			err = errors.Join(err, c.cfg.Hub.StopSession(ctx, s.ID, "The hub was restarted"))
		}
	}
	if err = errors.Join(err, c.cfg.Forget(ctx)); err != nil && ctx.Err() == nil {
		c.cfg.Log.WarnContext(ctx, "what the last canary left is not removed yet", "err", err)
	}
}
