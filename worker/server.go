// Package worker serves builds over a socket; its client is here too.
//
// A build belongs to its worker, not to the connection that started it: starting is idempotent by (build, attempt),
// and the events of an attempt stay on disk until they are acknowledged. So the process that asked may die and come
// back, and so may the worker, without a line of the log being lost.
package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Builder carries out a build.
type Builder interface {
	Build(ctx context.Context, req bindery.BuildRequest, emit func(bindery.Event)) (bindery.BuildResult, error)
}

// Images keeps images and prepares root file systems from them.
type Images interface {
	Image(ctx context.Context, name string) (bindery.Image, error)
	Images(ctx context.Context) ([]bindery.Image, error)
	RemoveImage(ctx context.Context, name string) error
	Prepare(ctx context.Context, session, image string) (bindery.Rootfs, error)
	Release(ctx context.Context, session string) error
	Prepared(ctx context.Context) ([]string, error)
}

// A Dropper removes images by itself when its disk is short of room, and keeps note of it.
type Dropper interface {
	Dropped(ctx context.Context) ([]bindery.Dropped, error)
	ForgetDropped(ctx context.Context, last int64) error
}

// A Resolver finds the commit of a source.
type Resolver interface {
	Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error)
}

// A Planner says what a build of src would do.
type Planner interface {
	Plan(ctx context.Context, src bindery.Source, base string) (json.RawMessage, error)
}

// Config configures a Server.
type Config struct {
	Builder    Builder  // required
	Images     Images   // required
	Resolver   Resolver // required
	Planner    Planner  // required
	Dir        string   // required; event logs go to builds/ in it
	Name       string
	Version    string
	Generation string
	Slots      int // builds at once; default: 1
	// Disk says where the bytes of the images' disk are. Optional.
	Disk func(ctx context.Context) (bindery.DiskUse, error)
	// Dropper tells which images went for want of room. Optional.
	Dropper Dropper
	// Packages lists what an image has installed. Optional.
	Packages func(ctx context.Context, image string) (json.RawMessage, error)
	GitHub   func() int                                          // questions that GitHub's API still takes; may be nil
	Usage    func(context.Context) (size, free int64, err error) // of the cache and its disk; may be nil
	Checks   func(context.Context) []bindery.Check               // may be nil
	Probe    *Probe                                              // looks at the machine; default: nobody does
	Room     func(context.Context) error                         // drops what of the cache nothing holds; may be nil
	Labels   map[string]string                                   // of its node
	Pool     string                                              // that it belongs to
	Machine  string                                              // type of its machine
	IdleExit time.Duration                                       // Run ends when nothing was asked for so long; 0: never
	MaxLog   int64                                               // bytes of events kept of one attempt; default: 64 MiB
	Secrets  []string                                            // never to appear in an event
	Log      *slog.Logger                                        // default: discard
	Now      func() time.Time                                    // default: time.Now
}

// A Server runs builds.
type Server struct {
	cfg    Config
	builds string // directory of event logs

	wg sync.WaitGroup // running builds

	mu       sync.Mutex
	attempts map[key]*attempt
	acked    map[key]bool // ended and deleted; starting one again is a mistake
	running  int
	asking   int // requests being answered
	active   time.Time
	draining bool
	base     context.Context // of builds; nil before Run and after its end
	nudge    chan struct{}   // something ended
}

// New makes a Server. The event logs of an earlier worker in the same directory are taken over by Run.
func New(cfg Config) (*Server, error) {
	if cfg.Builder == nil || cfg.Images == nil || cfg.Resolver == nil || cfg.Planner == nil || cfg.Dir == "" {
		return nil, errors.New("worker: Config.Builder, Images, Resolver, Planner and Dir are required")
	}
	cfg.Slots = cmp.Or(cfg.Slots, 1)
	cfg.MaxLog = cmp.Or(cfg.MaxLog, 64<<20)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{
		cfg: cfg, builds: filepath.Join(cfg.Dir, "builds"),
		attempts: map[key]*attempt{}, acked: map[key]bool{}, nudge: make(chan struct{}, 1),
	}, nil
}

// shutdownTime is how long builds and streams get to end.
const shutdownTime = 20 * time.Second

// Run serves on l, and on more, until ctx ends, until it is idle for IdleExit, or until it was told to drain and the last build has
// ended. Builds that still run then end as lost, which their askers try again.
func (s *Server) Run(ctx context.Context, l net.Listener, more ...net.Listener) error {
	if err := s.recover(); err != nil {
		return fmt.Errorf("read the event logs: %w", err)
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	s.mu.Lock()
	s.base, s.active = base, s.cfg.Now()
	s.mu.Unlock()
	if os.Getpid() == 1 {
		go reap(base)
	}
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	all := append([]net.Listener{l}, more...)
	ended := make(chan error, len(all))
	for _, l := range all {
		go func() { ended <- srv.Serve(l) }()
	}
	err := s.wait(ctx, ended)
	s.mu.Lock()
	s.base = nil // no build starts any more
	s.mu.Unlock()
	cancel(lost())
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer stop()
	s.waitBuilds(drain)
	return errors.Join(err, ignoreClosed(shut(drain, srv)))
}

// shut lets streams end, and cuts those that do not.
func shut(ctx context.Context, srv *http.Server) error {
	short, cancel := context.WithTimeout(ctx, shutdownTime/4)
	defer cancel()
	if srv.Shutdown(short) == nil {
		return nil
	}
	return srv.Close()
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// wait returns when Run is to end.
func (s *Server) wait(ctx context.Context, ended <-chan error) error {
	every := time.Hour
	if s.cfg.IdleExit > 0 {
		every = max(s.cfg.IdleExit/4, 10*time.Millisecond)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("serve: %w", err)
		case <-tick.C:
		case <-s.nudge:
		}
		s.mu.Lock()
		idle := s.running == 0 && s.asking == 0
		over := idle && (s.draining || (s.cfg.IdleExit > 0 && s.cfg.Now().Sub(s.active) >= s.cfg.IdleExit))
		s.mu.Unlock()
		if over {
			return nil
		}
	}
}

func (s *Server) waitBuilds(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.cfg.Log.Error("builds did not stop in time")
	}
}

func (s *Server) wake() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

func lost() *bindery.Error {
	return bindery.Errorf(bindery.ErrWorkerLost, bindery.Transient, "It is started again by itself.", "The worker was stopped while it built this")
}

// start begins the attempt that req names, or finds it begun.
func (s *Server) start(req bindery.BuildRequest) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	k := key{req.ID, req.Attempt}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attempts[k]; a != nil || s.acked[k] {
		if a != nil && string(a.request) == string(raw) {
			return nil
		}
		return bindery.Errorf(bindery.ErrConflict, bindery.Ours, "Use the next attempt.", "Attempt %d of build %s was something else, or is over", req.Attempt, req.ID)
	}
	switch {
	case s.base == nil || s.draining:
		return bindery.Errorf(bindery.ErrNotReady, bindery.Transient, "Try again in a moment.", "This worker takes no more builds: it is being replaced")
	case s.running >= 2*s.cfg.Slots+mostQuick:
		return bindery.Errorf(bindery.ErrNotReady, bindery.Transient, "Try again later.", "This worker has %d slots and runs %d builds already", s.cfg.Slots, s.running)
	}
	a, err := s.newAttempt(k, raw)
	if err != nil {
		return noSpaceOr(fmt.Errorf("begin an event log: %w", err))
	}
	ctx, cancel := context.WithCancelCause(s.base)
	a.cancel = cancel
	s.attempts[k] = a
	s.running++
	s.wg.Go(func() { s.build(ctx, a, req) })
	return nil
}

// mostQuick is how many builds there may be beside the slots: they only copy. The queue has its own limit, below it.
const mostQuick = 16

// build runs one attempt and writes its last event, whatever happens.
func (s *Server) build(ctx context.Context, a *attempt, req bindery.BuildRequest) {
	defer func() {
		a.cancel(nil)
		s.mu.Lock()
		s.running--
		s.active = s.cfg.Now()
		s.mu.Unlock()
		s.wake()
	}()
	result, err := s.safely(ctx, req, a.log.emit)
	err = s.blame(err)
	if why, ok := errors.AsType[*bindery.Error](context.Cause(ctx)); ok && err != nil {
		err = bindery.Errorf(why.Kind, why.Fault, why.Remedy, "%s", why.Msg).Because(err)
	}
	last := bindery.Event{Phase: bindery.PhaseBuilt, Result: &result}
	if err != nil {
		last = bindery.Event{Phase: bindery.PhaseFailed, Err: bindery.AsError(err)}
	}
	if err != nil && last.Err.Fault == bindery.Ours {
		s.cfg.Log.ErrorContext(ctx, "build failed for a fault of ours", "build", req.ID, "attempt", req.Attempt, "err", err)
	}
	if err := a.log.finish(last); err != nil {
		s.cfg.Log.ErrorContext(ctx, "the end of a build is kept in memory only", "build", req.ID, "attempt", req.Attempt, "err", err)
	}
}

// blame makes a failure the disk's when the disk is broken: whatever a build says then, it is not its fault.
func (s *Server) blame(err error) error {
	if err == nil || s.cfg.Probe == nil || errors.Is(err, bindery.ErrNoSpace) || errors.Is(err, bindery.ErrCancelled) {
		return err
	}
	text := s.cfg.Probe.broken()
	if text == "" {
		return err
	}
	return bindery.Errorf(bindery.ErrNoSpace, bindery.Ours, "Wait: the build goes on elsewhere. The operator has to see to the disk.", "%s", text).Because(err)
}

// safely turns a panic of the builder into an error: other builds must not die of it.
func (s *Server) safely(ctx context.Context, req bindery.BuildRequest, emit func(bindery.Event)) (_ bindery.BuildResult, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, stack())
		}
	}()
	return s.cfg.Builder.Build(ctx, req, emit)
}

// cancel ends an attempt. An attempt that is over stays as it is.
func (s *Server) cancel(k key) error {
	a, err := s.find(k)
	if err != nil {
		return err
	}
	if a.cancel != nil {
		a.cancel(bindery.Errorf(bindery.ErrCancelled, bindery.User, "Start it again if you still want it.", "The build was cancelled"))
	}
	return nil
}

// ack forgets an attempt once all its events, the last included, are kept elsewhere.
func (s *Server) ack(k key, seq int64) error {
	a, err := s.find(k)
	if err != nil {
		return err
	}
	if state := a.log.state(); !state.Done || seq < state.LastSeq {
		return nil
	}
	s.mu.Lock()
	delete(s.attempts, k)
	s.acked[k] = true
	s.mu.Unlock()
	return a.log.remove()
}

func (s *Server) find(k key) (*attempt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attempts[k]; a != nil {
		return a, nil
	}
	return nil, bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Start it first.", "This worker knows no attempt %d of build %s", k.attempt, bindery.Printable(k.build))
}
