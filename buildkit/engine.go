package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/gofrs/flock"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/control"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	bindery "github.com/bindery-hub/bindery"
)

// namespace is containerd's: everything that the engine stores is in this one.
const namespace = "buildkit"

// Network gives each build step a network namespace of its own. release takes it away again.
type Network interface {
	Namespace(ctx context.Context) (path string, release func() error, err error)
}

// Config configures an Engine.
type Config struct {
	Dir          string // required; the engine's own, nobody else's
	BaseDir      string // bootstrapped bases; several engines may share it. Default: Dir/bases
	Runtime      string // runc: a path, or a name on PATH. Default: "runc"
	CgroupParent string // of all build steps together, such as "/bindery-1a2b3c/builds"; empty: no cap
	Caps         Caps   // of CgroupParent
	Network      Network
	Nameserver   string // what steps ask for names; empty: what the machine asks
	Trust        Trust
	// CondaCredentials is a file with the credentials of private conda channels, in the form that rattler and pixi have
	// for it. Only steps see it in which nothing of a repository runs. Empty: there are none.
	CondaCredentials string
	Allow            []netip.Prefix      // addresses that are not public and may be fetched from all the same, by FROM and ADD
	Registries       map[string]Registry // how registries are reached, by the host in image names; default: as Docker does
	Volatile         bool                // nothing waits for the disk, and the cache is wiped when the machine dies
	MaxCache         int64               // bytes of build cache; default 40 GB
	MinFree          int64               // bytes of disk that the cache leaves free; default 5 GB
	Fresh            time.Duration       // for so long an image that was made or launched is not removed for want of space; default: 1 min
	Parallel         int64               // steps at once; default: no limit
	LookEvery        time.Duration       // at silent steps: an event tells of those that compute. default: 30 s
	Log              *slog.Logger
}

// An Engine builds images and holds them. Open makes one; it answers while Run runs.
type Engine struct {
	cfg Config

	lock     *flock.Flock
	listener *bufconn.Listener
	server   *grpc.Server
	ctl      *control.Controller
	client   *client.Client
	stores   *stores
	records  *records
	saved    saved
	guard    *guard
	stop     context.CancelFunc // of what BuildKit started for itself

	said    sync.Map      // by a solve's id, what is said of its result: map[string][]byte by predicate type
	solved  chan struct{} // filled when a solve has ended
	gcMu    sync.Mutex    // one collection at a time
	closing sync.Once
}

// Open takes the directory and opens what is in it. Call Run to make it work, Close to give it back.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("engine directory: %w", err)
	}
	e := &Engine{
		cfg: cfg, lock: flock.New(filepath.Join(cfg.Dir, "lock")), listener: bufconn.Listen(64 << 10),
		guard: newGuard(cfg.Allow, cfg.Registries, os.Getenv), saved: newSaved(), solved: make(chan struct{}, 1),
	}
	held, err := e.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the engine directory: %w", err)
	}
	if !held {
		return nil, bindery.Errorf(bindery.ErrLocked, bindery.User, "Stop the other worker, or use another state directory.",
			"Another worker holds the engine directory %s", cfg.Dir)
	}
	if err := e.open(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (c Config) checked() (Config, error) {
	if !filepath.IsAbs(c.Dir) {
		return c, errors.New("buildkit: Config.Dir must be an absolute directory")
	}
	if err := checkRegistries(c.Registries); err != nil {
		return c, fmt.Errorf("buildkit: Config.Registries: %w", err)
	}
	c.BaseDir = cmp.Or(c.BaseDir, filepath.Join(c.Dir, "bases"))
	c.Runtime = cmp.Or(c.Runtime, "runc")
	c.MaxCache = cmp.Or(c.MaxCache, 40<<30)
	c.MinFree = cmp.Or(c.MinFree, 5<<30)
	c.Fresh = cmp.Or(c.Fresh, time.Minute)
	c.LookEvery = cmp.Or(c.LookEvery, 30*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c, nil
}

func (e *Engine) open(ctx context.Context) error {
	e.clearLeftovers(ctx)
	dead, err := e.checkBoot(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(tempDir(e.cfg.Dir), 0o700); err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	if err := e.cfg.Trust.write(e.trustDir()); err != nil {
		return err
	}
	if err := makeCgroup(e.cfg.CgroupParent, e.cfg.Caps); err != nil {
		e.cfg.Log.WarnContext(ctx, "build steps run without limits", "err", err)
		e.cfg.Caps = Caps{}
	}
	if e.stores, err = openStores(ctx, e.cfg); err != nil {
		return err
	}
	if e.records, err = openRecords(filepath.Join(e.cfg.Dir, "images.db"), e.cfg.Volatile); err != nil {
		return err
	}
	if err := e.openSaved(); err != nil {
		return err
	}
	if dead != "" {
		if err := e.revive(ctx, dead); err != nil {
			e.cfg.Log.WarnContext(ctx, "no image outlived the machine", "err", err)
		}
	}
	// BuildKit's own loops end with this context, which must outlive the caller's.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	if err := e.openController(inner); err != nil {
		return err
	}
	if e.client, err = dial(inner, e.listener); err != nil {
		return fmt.Errorf("engine client: %w", err)
	}
	if err := e.dropViews(ctx); err != nil {
		return err
	}
	return e.dropOrphans(ctx)
}

// restAfter is how long after a build memory is given back to the machine.
const restAfter = 2 * time.Second

// Run serves until ctx ends. It also collects garbage and keeps note of when images were used.
func (e *Engine) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(e.listener) }()
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { e.bury(ctx) })
	if e.cfg.Volatile {
		e.saved.look()
		beside.Go(func() { e.saveImages(ctx) })
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	// What a build took of memory, or the start, is given back when nothing has ended for a while.
	rest := time.NewTimer(restAfter)
	defer rest.Stop()
	for {
		select {
		case err := <-served:
			if err != nil {
				return fmt.Errorf("engine: %w", err)
			}
			return nil
		case <-tick.C:
			if err := e.Collect(ctx); err != nil && ctx.Err() == nil {
				e.cfg.Log.WarnContext(ctx, "garbage was not collected", "err", err)
			}
		case <-e.solved:
			rest.Reset(restAfter)
		case <-rest.C:
			debug.FreeOSMemory()
		case <-ctx.Done():
			e.server.Stop()
			<-served
			return nil
		}
	}
}

// Close gives the directory back. After a clean Close the cache outlives even a power cut.
func (e *Engine) Close() error {
	var errs []error
	e.closing.Do(func() {
		if e.client != nil {
			errs = append(errs, e.client.Close())
		}
		if e.server != nil {
			e.server.Stop()
		}
		if e.ctl != nil {
			errs = append(errs, e.ctl.Close())
		}
		if e.stop != nil {
			e.stop()
		}
		if e.stores != nil {
			errs = append(errs, e.stores.close())
		}
		if e.records != nil {
			errs = append(errs, e.records.close())
			errs = append(errs, e.settleBoot())
		}
		removeCgroup(e.cfg.CgroupParent)
		errs = append(errs, e.lock.Unlock())
	})
	return errors.Join(errs...)
}

func (e *Engine) trustDir() string { return filepath.Join(e.cfg.Dir, "trust") }

// within gives ctx containerd's namespace, which its stores insist on.
func within(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, namespace) }

// dropOrphans ends leases that no record speaks of: a crash may fall between the two.
func (e *Engine) dropOrphans(ctx context.Context) error {
	known := map[string]bool{}
	all, err := e.records.all()
	if err != nil {
		return err
	}
	for _, r := range all {
		known[r.Lease] = true
	}
	list, err := e.stores.leases.List(ctx)
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range list {
		if isImageLease(l.ID) && !known[l.ID] {
			if err := e.stores.leases.Delete(ctx, leases.Lease{ID: l.ID}); err != nil {
				return fmt.Errorf("drop lease: %w", err)
			}
		}
	}
	return nil
}

// snapshotter is containerd's own view of the snapshots: BuildKit's wrapper forbids Remove.
func (e *Engine) snapshotter() snapshots.Snapshotter {
	return e.stores.meta.Snapshotter(snapshotterName)
}

func (e *Engine) collectSnapshots(ctx context.Context, meta *ctdmetadata.DB) error {
	e.gcMu.Lock()
	defer e.gcMu.Unlock()
	if _, err := meta.GarbageCollect(ctx); err != nil {
		return fmt.Errorf("collect snapshots: %w", err)
	}
	return nil
}
