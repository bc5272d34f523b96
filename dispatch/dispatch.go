// Package dispatch is the shell round the scheduler: what sched decides it stores, then has carried out.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
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

// A Historian is a Store that remembers the builds that have ended: a hub learns from them what builds cost.
type Historian interface {
	// Past returns the builds that ended last, at most limit of them, oldest first.
	Past(ctx context.Context, limit int) ([]bindery.Build, error)
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
	Store      Store          // required
	Worker     Worker         // the hub's own; it answers visitors' questions, too. required
	Launcher   Launcher       // required
	Generation string         // of the builder; part of every build's key. default: Recipe's
	Recipe     bindery.Recipe // what the hub is set to build by; default: rules that are called like Generation. one of the two is required
	// Retention is what a rule of retention leaves to the hub. Prunes has the hub remove what it does not keep by itself.
	Retention bindery.Retention
	Prunes    bool
	// Generations is told of each step of a generation, once that is stored. It must not wait. default: nobody is
	Generations func(bindery.GenerationEvent)

	// Connect returns the client of a worker that has joined. default: none can join
	Connect func(bindery.WorkerRecord) (Worker, error)
	// Minimums are what a pool wants of its workers. default: bindery.DefaultMinimums for each
	Minimums func(pool string) bindery.Minimums

	Policy sched.Config   // attempts, delays, number of sessions; the zero value has sane defaults
	Limits bindery.Limits // of a session; Idle defaults to 10 minutes, Age to 6 hours, the rest to the launcher's
	// Wait lets launches wait for a place when there is none, rather than refuse them. Over the quota that an ask brings,
	// as BinderHub's settings have them, it is refused as BinderHub would.
	Wait bool
	// Quick lets the next commit of what was built before run beside the slots, as long as nothing but copying is to be
	// done. The worker says whether that is so.
	Quick bool
	Port  int      // that a session's server listens on. default: 8888
	Env   []string // further K=V for every session

	// Probe returns nil once the server of a session answers. The default wants any HTTP answer below 500 at
	// http://ADDR/BASEPATH/api.
	Probe func(ctx context.Context, addr, basePath string) error
	// Leases lists the sessions for which something is still held beside containers and root file systems, such as
	// network addresses; those without a record are stopped. default: none
	Leases func() ([]string, error)

	// Ended is told of each build that is over, once that is stored. It must not wait. default: nobody is
	Ended func(bindery.Build)

	// Resolved is told of each question to a provider: err is its answer, served says that an older answer did in its
	// place. It must not wait. default: nobody is
	Resolved func(src bindery.Source, err error, served bool)

	// Trace is given each thing that is done to the scheduler, in order: `bindery sim replay` does it again. When it
	// returns true it is given the whole of the scheduler next: what follows replays without what was before. It must not
	// wait. default: nothing is traced
	Trace func(t sched.Traced) (full bool)

	LaunchWithin time.Duration    // until a session answers. default: 2 minutes
	ResolveFor   time.Duration    // a branch or tag is not asked for again so soon. default: 1 minute
	PollWorker   time.Duration    // between two looks at the worker's status. default: 5 seconds
	Now          func() time.Time // default: time.Now
	Log          *slog.Logger     // default: discard
}

func (c Config) withDefaults() (Config, error) {
	if c.Store == nil || c.Worker == nil || c.Launcher == nil || c.Generation == "" && c.Recipe.Rules == "" {
		return c, errors.New("dispatch: Config needs Store, Worker, Launcher and Recipe")
	}
	c.Recipe.Rules = cmp.Or(c.Recipe.Rules, c.Generation)
	c.Generation = c.Recipe.Generation()
	c.Policy = c.Policy.WithDefaults()
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
	if c.Minimums == nil {
		c.Minimums = func(string) bindery.Minimums { return bindery.DefaultMinimums() }
	}
	if c.Resolved == nil {
		c.Resolved = func(bindery.Source, error, bool) {}
	}
	if c.Probe == nil {
		c.Probe = httpProbe()
	}
	return c, nil
}

// A Dispatcher owns the queue and the sessions of one hub.
type Dispatcher struct {
	cfg       Config
	inbox     chan *message
	kick      chan struct{} // something was noted
	ruled     chan struct{} // a rule was made: it may want something built
	restored  chan struct{} // closed when the state is there
	stopped   chan struct{} // closed when Run ends
	resolver  resolver
	watches   watches
	shown     sync.Map                        // of *shown, by session: what is stored
	shelf     atomic.Pointer[shelf]           // where images are looked for
	following sync.Map                        // attempts that have a follower
	spawn     func(func(ctx context.Context)) // starts work that Run waits for; called by Run's goroutine only

	mu        sync.Mutex // guards what follows, and the records in it
	sched     *sched.Scheduler
	builds    map[string]*build   // not over
	made      map[directory]bool  // what there is an environment of
	succeeded map[string]string   // key to id of builds that have just succeeded
	sessions  map[string]*session // not over
	requests  map[string]string   // Ask.Request to session
	lobby     map[string]*waiter  // by Ask.Request, or session: launches that wait for a place
	rules     map[ruleName]bindery.Rule
	members   []*member // the hub's own worker first
	tokens    map[string]bindery.JoinToken
	traced    bool          // the trace has begun
	usageAt   time.Time     // when the flows were last written down
	past      []sched.Learn // what builds of the past cost, until the first restore

	generations []bindery.Generation
	enrolling   []bindery.Generation    // of them those that are to be stored yet
	held        map[string]bindery.Held // what roll-outs could not replace, by key
	roll        *roll                   // that is under way; nil: none
	trying      map[string]bool         // sessions without a record: images are tried with them

	notes    sync.Mutex // guards what follows; never held while waiting, taken after mu
	topics   map[string]*topic
	touched  map[string]time.Time // sessions that had traffic
	answered map[string]time.Time // images that were promised to somebody lately
	removing map[string]bool      // images that are promised to nobody any more
	watched  map[string]int       // builds whose number of watchers changed
	boards   map[string]*board    // of what waits and is read about
}

// New makes a Dispatcher; Run starts it.
func New(cfg Config) (*Dispatcher, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	now := cfg.Now()
	return &Dispatcher{
		cfg: cfg, watches: watches{last: map[string]time.Time{watchWorkers: now, watchSessions: now}}, inbox: make(chan *message, mostMessages), kick: make(chan struct{}, 1), ruled: make(chan struct{}, 1),
		restored: make(chan struct{}), stopped: make(chan struct{}),
		resolver: resolver{known: map[bindery.Source]resolved{}, pending: map[bindery.Source]*question{}},
		sched:    sched.New(cfg.Policy), builds: map[string]*build{}, succeeded: map[string]string{},
		sessions: map[string]*session{}, requests: map[string]string{},
		topics: map[string]*topic{}, touched: map[string]time.Time{}, watched: map[string]int{},
		lobby: map[string]*waiter{}, made: map[directory]bool{}, held: map[string]bindery.Held{}, trying: map[string]bool{}, answered: map[string]time.Time{}, removing: map[string]bool{}, rules: map[ruleName]bindery.Rule{}, boards: map[string]*board{},
		members: []*member{{conn: cfg.Worker}}, tokens: map[string]bindery.JoinToken{},
	}, nil
}
