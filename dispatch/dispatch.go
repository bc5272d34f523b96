// Package dispatch is the shell round the scheduler: it stores what sched decides, has workers and launchers carry it out, feeds back how that ended.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// Store keeps what must outlive the process.
type Store interface {
	// Commit writes all changes in one transaction. When it returns nil they survive a power cut.
	Commit(ctx context.Context, c bindery.Changes) error
	// Live returns everything that is not over, with the failed builds that answered for their keys until after since.
	Live(ctx context.Context, since time.Time) (bindery.Live, error)
	Build(ctx context.Context, id string) (bindery.Build, error)
	// Events returns at most limit events of a build that follow number after.
	Events(ctx context.Context, build string, after int64, limit int) ([]bindery.Event, error)
	Known(ctx context.Context, key string) (bindery.Known, error)
	Session(ctx context.Context, id string) (bindery.Session, error)
}

// Worker builds. *worker.Client is one.
type Worker interface {
	Start(ctx context.Context, req bindery.BuildRequest) error
	Events(ctx context.Context, id string, attempt int, after int64) iter.Seq2[bindery.Event, error]
	Ack(ctx context.Context, id string, attempt int, seq int64) error
	Cancel(ctx context.Context, id string, attempt int) error
	Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error)
	Status(ctx context.Context) (bindery.WorkerStatus, error)
}

// Launcher runs sessions. *runc.Launcher is one. A launcher that also has LogReader's method lets the last words of a
// session that died at its start be told to its visitor.
type Launcher interface {
	Start(ctx context.Context, l bindery.Launch) (bindery.Running, error)
	Wait(ctx context.Context, id string) (bindery.Exit, error)
	Stop(ctx context.Context, id string) error
	List(ctx context.Context) ([]bindery.Running, error)
}

// LogReader is a Launcher that keeps what sessions print.
type LogReader interface {
	Log(ctx context.Context, id string, follow bool) (io.ReadCloser, error)
}

// Config configures a Dispatcher.
type Config struct {
	Store      Store    // required
	Worker     Worker   // required
	Launcher   Launcher // required
	Generation string   // of the builder; part of every build's key. required

	Policy sched.Config   // attempts, delays, number of sessions; the zero value has sane defaults
	Limits bindery.Limits // of a session; Idle defaults to 10 minutes, Age to 6 hours, the rest to the launcher's
	Port   int            // that a session's server listens on. default: 8888
	Env    []string       // further K=V for every session

	// Probe returns nil once the server of a session answers. The default wants any HTTP answer below 500 at
	// http://ADDR/BASEPATH/api.
	Probe func(ctx context.Context, addr, basePath string) error
	// Leases lists the sessions for which something is still held beside containers and root file systems, such as
	// network addresses; those without a record are stopped. default: none
	Leases func() ([]string, error)

	LaunchWithin time.Duration    // until a session answers. default: 2 minutes
	ResolveFor   time.Duration    // a branch or tag is not asked for again so soon. default: 1 minute
	PollWorker   time.Duration    // between two looks at the worker's status. default: 5 seconds
	Now          func() time.Time // default: time.Now
	Log          *slog.Logger     // default: discard
}

func (c Config) withDefaults() (Config, error) {
	if c.Store == nil || c.Worker == nil || c.Launcher == nil || c.Generation == "" {
		return c, errors.New("dispatch: Config needs Store, Worker, Launcher and Generation")
	}
	c.Limits.Idle = cmp.Or(c.Limits.Idle, 10*time.Minute)
	c.Limits.Age = cmp.Or(c.Limits.Age, 6*time.Hour)
	c.Port = cmp.Or(c.Port, 8888)
	c.LaunchWithin = cmp.Or(c.LaunchWithin, 2*time.Minute)
	c.ResolveFor = cmp.Or(c.ResolveFor, time.Minute)
	c.PollWorker = cmp.Or(c.PollWorker, 5*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Probe == nil {
		c.Probe = httpProbe(&http.Client{})
	}
	return c, nil
}

func httpProbe(*http.Client) func(ctx context.Context, addr, basePath string) error { return nil }

// A Dispatcher owns the queue and the sessions of one hub.
type Dispatcher struct {
	cfg Config
}

// New makes a Dispatcher; Run starts it.
func New(cfg Config) (*Dispatcher, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Dispatcher{cfg: cfg}, nil
}

// Run restores the state from the store and works until ctx ends. Builds and sessions go on when it returns: the next
// Run adopts them. All other methods wait for it to have restored.
func (d *Dispatcher) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Resolve fills in the commit of a source. Equal questions that are asked at once are asked of the worker once;
// answers for a ref are kept for Config.ResolveFor, those for a full commit for good.
func (d *Dispatcher) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	return src, errors.ErrUnsupported
}

// Submit returns the build that answers an ask: one that succeeded already, one under way, one whose failure is still
// remembered (unless ask.Retry), or a new one. A source without a commit is resolved first.
func (d *Dispatcher) Submit(ctx context.Context, ask bindery.Ask) (bindery.Build, error) {
	return bindery.Build{}, errors.ErrUnsupported
}

// Cancel stops a build that nobody wants: at once when it is queued, as soon as its worker has stopped it otherwise.
func (d *Dispatcher) Cancel(ctx context.Context, id string) error { return errors.ErrUnsupported }

// Build returns the record of a build.
func (d *Dispatcher) Build(ctx context.Context, id string) (bindery.Build, error) {
	return bindery.Build{}, errors.ErrUnsupported
}

// Events yields the events of a build that follow number after: those stored, then new ones as they come, until the
// last. It ends early, with an error, when ctx ends or there is no such build.
func (d *Dispatcher) Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error] {
	return nil
}

// Standing says where a build stands in the queue; the zero Standing when it runs or has ended.
func (d *Dispatcher) Standing(ctx context.Context, id string) (bindery.Standing, error) {
	return bindery.Standing{}, errors.ErrUnsupported
}

// Launch starts a session of a succeeded build and returns when its server answers. When ctx ends before that, the
// session is stopped. A build whose image is gone from the worker is built again first.
func (d *Dispatcher) Launch(ctx context.Context, build bindery.Build, ask bindery.Ask) (bindery.Session, error) {
	return bindery.Session{}, errors.ErrUnsupported
}

// Session returns the record of a session, ended ones included.
func (d *Dispatcher) Session(ctx context.Context, id string) (bindery.Session, error) {
	return bindery.Session{}, errors.ErrUnsupported
}

// Sessions lists the sessions that have not ended, oldest first, without their tokens.
func (d *Dispatcher) Sessions(ctx context.Context) ([]bindery.Session, error) {
	return nil, errors.ErrUnsupported
}

// StopSession takes a session down, for a reason in words, and returns when it has ended. A session that has ended
// already is no error.
func (d *Dispatcher) StopSession(ctx context.Context, id, reason string) error {
	return errors.ErrUnsupported
}

// Active notes that a session had traffic just now. It is cheap: call it per request and per message.
func (d *Dispatcher) Active(id string) {}

// Address returns where the server of a ready session answers. It is cheap: call it per request.
func (d *Dispatcher) Address(id string) (addr string, ok bool) { return "", false }

// Workers returns what the worker last said of itself, and whether it answers now.
func (d *Dispatcher) Workers(ctx context.Context) ([]WorkerView, error) {
	return nil, errors.ErrUnsupported
}

// A WorkerView is a worker as the hub sees it.
type WorkerView struct {
	bindery.WorkerStatus
	Up bool `json:"up"` // it answers
}
