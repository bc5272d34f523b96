package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/images"
	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/cache/remotecache"
	registryremotecache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // the codec that BuildKit's services are written for
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	bindery "github.com/bindery-hub/bindery"
)

const snapshotterName = "overlayfs"

// stores are the things on disk: layers as files, layers as tars, and what is known of both.
type stores struct {
	dir     string
	overlay snapshots.Snapshotter
	db      *bolt.DB // closed by the worker once there is one
	meta    *ctdmetadata.DB
	images  images.Store
	leases  *leaseutil.Manager
}

func openStores(ctx context.Context, cfg Config) (*stores, error) {
	s := &stores{dir: filepath.Join(cfg.Dir, "worker")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("engine stores: %w", err)
	}
	// With Config.Volatile the databases need not be on the disk before layers: they go together, see bootid.go.
	known, err := storage.NewMetaStore(filepath.Join(s.dir, "snapshots", "metadata.db"), func(o *bolt.Options) error {
		o.NoSync = cfg.Volatile
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("metadata of layers: %w", err)
	}
	if s.overlay, err = overlay.NewSnapshotter(filepath.Join(s.dir, "snapshots"), overlay.AsynchronousRemove, overlay.WithMetaStore(known)); err != nil {
		return nil, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Use a state directory on ext4 or xfs, and a kernel with overlayfs.",
			"The engine cannot keep layers in %s", cfg.Dir).Because(err)
	}
	blobs, err := local.NewStore(filepath.Join(s.dir, "content"))
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	opt := &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true, NoSync: cfg.Volatile}
	if s.db, err = bolt.Open(filepath.Join(s.dir, "containerd.db"), 0o600, opt); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	s.meta = ctdmetadata.NewDB(s.db, blobs, map[string]snapshots.Snapshotter{snapshotterName: s.overlay})
	if err := s.meta.Init(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("metadata: %w", err), s.db.Close())
	}
	s.images = imageStore{ctdmetadata.NewImageStore(s.meta)}
	s.leases = leaseutil.WithNamespace(ctdmetadata.NewLeaseManager(s.meta), namespace)
	return s, nil
}

func (s *stores) close() error {
	return errors.Join(s.overlay.Close(), s.db.Close()) // closing a bolt database twice is harmless
}

// imageStore puts BuildKit's calls into the namespace: it does not do so itself here.
type imageStore struct{ images.Store }

func (s imageStore) Get(ctx context.Context, name string) (images.Image, error) {
	return s.Store.Get(within(ctx), name)
}

func (s imageStore) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return s.Store.List(within(ctx), filters...)
}

func (s imageStore) Create(ctx context.Context, i images.Image) (images.Image, error) {
	return s.Store.Create(within(ctx), i)
}

func (s imageStore) Update(ctx context.Context, i images.Image, fields ...string) (images.Image, error) {
	return s.Store.Update(within(ctx), i, fields...)
}

func (s imageStore) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	return s.Store.Delete(within(ctx), name, opts...)
}

// freshStore begins every write from nothing. A build that was stopped leaves parts of blobs, and BuildKit would go on
// behind them, which it cannot where the blob comes from an OCI layout, as bases do: no later build would get past it.
type freshStore struct{ content.Store }

// Writer returns a writer of one blob.
func (s freshStore) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := s.Store.Writer(ctx, opts...)
	if err != nil {
		return nil, err
	}
	st, err := w.Status()
	if err == nil && st.Offset > 0 {
		err = w.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a blob anew: %w", err), w.Close())
	}
	return w, nil
}

// exportingWorker is BuildKit's worker with one exporter more.
type exportingWorker struct {
	*base.Worker
	e *Engine
}

// Exporter returns the exporter called name.
func (w *exportingWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name == launchable {
		return launchableExporter{w.e}, nil
	}
	x, err := w.Worker.Exporter(name, sm)
	if err == nil && (name == client.ExporterImage || name == client.ExporterOCI) {
		return attestingExporter{x, w.e}, nil
	}
	return x, err
}

func (e *Engine) openController(ctx context.Context) error {
	w, err := e.newWorker(ctx)
	if err != nil {
		return err
	}
	workers := &worker.Controller{}
	if err := workers.Add(&exportingWorker{w, e}); err != nil {
		return fmt.Errorf("engine worker: %w", err)
	}
	sessions, err := session.NewManager()
	if err != nil {
		return fmt.Errorf("engine sessions: %w", err)
	}
	steps, err := bboltcachestorage.NewStore(filepath.Join(e.cfg.Dir, "cache.db"))
	if err != nil {
		return fmt.Errorf("step cache: %w", err)
	}
	opt := &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true, NoSync: true}
	history, err := boltutil.SafeOpen(filepath.Join(e.cfg.Dir, "history.db"), 0o600, opt)
	if err != nil {
		return errors.Join(fmt.Errorf("build history: %w", err), steps.Close())
	}
	hosts := e.guard.registries()
	kept := int64(20)
	e.ctl, err = control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends:        map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)},
		CacheManager:     solver.NewCacheManager(ctx, "local", steps, worker.NewCacheResultStorage(workers)),
		CacheStore:       steps,
		HistoryDB:        history,
		HistoryConfig:    &config.HistoryConfig{MaxEntries: &kept},
		LeaseManager:     w.LeaseManager(),
		ContentStore:     w.ContentStore(),
		GarbageCollect:   w.GarbageCollect,
		GracefulStop:     ctx.Done(),
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			registryCache: registryremotecache.ResolveCacheExporterFunc(sessions, hosts),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			registryCache: registryremotecache.ResolveCacheImporterFunc(sessions, w.ContentStore(), hosts),
		},
	})
	if err != nil {
		return fmt.Errorf("engine controller: %w", err)
	}
	e.server = grpc.NewServer(
		grpc.ChainUnaryInterceptor(e.quietUnary, grpcerrors.UnaryServerInterceptor),
		grpc.ChainStreamInterceptor(e.quietStream, grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize),
		grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize),
	)
	e.ctl.Register(e.server)
	return nil
}

func (e *Engine) newWorker(ctx context.Context) (*base.Worker, error) {
	s := e.stores
	exec, monitor, err := e.newExecutor()
	if err != nil {
		return nil, err
	}
	id, err := base.ID(s.dir)
	if err != nil {
		return nil, fmt.Errorf("engine worker: %w", err)
	}
	md, err := openMetadata(filepath.Join(s.dir, "metadata.db"), e.cfg.Volatile)
	if err != nil {
		return nil, fmt.Errorf("engine worker: %w", err)
	}
	blobs := containerdsnapshot.NewContentStore(freshStore{s.meta.ContentStore()}, namespace)
	layers := containerdsnapshot.NewSnapshotter(snapshotterName, e.snapshotter(), namespace, nil)
	opt := base.WorkerOpt{
		ID: id, Root: s.dir,
		MetadataStore:    md,
		ContentMetadata:  s.db,
		NetworkProviders: e.networks(),
		Executor:         exec,
		Snapshotter:      stepSnapshots{layers, e.cfg.Volatile},
		ContentStore:     blobs,
		Applier:          apply.NewFileSystemApplier(blobs),
		Differ:           walking.NewWalkingDiff(blobs),
		ImageStore:       s.images,
		Platforms:        []ocispecs.Platform{platforms.Normalize(platforms.DefaultSpec())},
		LeaseManager:     s.leases,
		GarbageCollect:   s.meta.GarbageCollect,
		MountPoolRoot:    filepath.Join(s.dir, "cachemounts"),
		ResourceMonitor:  monitor,
		RegistryHosts:    e.guard.registries(),
		GCPolicy:         e.cfg.policy(),
		BuildkitVersion:  client.BuildkitVersion{Package: "bindery", Version: version},
	}
	if e.cfg.Parallel > 0 {
		opt.ParallelismSem = semaphore.NewWeighted(e.cfg.Parallel)
	}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("engine worker: %w", err)
	}
	return w, e.guard.sources(w)
}

// openMetadata opens what BuildKit knows of its layers, which it writes down dozens of times in a build.
func openMetadata(path string, volatile bool) (*metadata.Store, error) {
	md, err := metadata.NewStore(path)
	if err != nil {
		return nil, err
	}
	err = md.DB().View(func(tx *bolt.Tx) error { // there is no option for it
		tx.DB().NoSync = volatile
		return nil
	})
	return md, err
}

func (e *Engine) newExecutor() (executor.Executor, *resources.Monitor, error) {
	monitor, err := resources.NewMonitor()
	if err != nil {
		return nil, nil, fmt.Errorf("engine executor: %w", err)
	}
	opt := runcexecutor.Opt{
		Root:                filepath.Join(e.stores.dir, "executor"),
		CommandCandidates:   []string{e.cfg.Runtime},
		ProcessMode:         oci.ProcessSandbox,
		DefaultCgroupParent: e.cfg.CgroupParent,
		ResourceMonitor:     monitor,
	}
	if e.cfg.Nameserver != "" {
		opt.DNS = &oci.DNSConfig{Nameservers: []string{e.cfg.Nameserver}, SearchDomains: []string{"."}}
	}
	exec, err := runcexecutor.New(opt, e.networks())
	if err != nil {
		return nil, nil, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Run make setup, or name a runc with --runtime.",
			"No container runtime called %s was found", e.cfg.Runtime).Because(err)
	}
	return &stepExecutor{Executor: exec, trust: e.cfg.Trust, dir: e.trustDir(), cgroup: e.cfg.CgroupParent, pids: e.cfg.Caps.StepPIDs}, monitor, nil
}

func dial(ctx context.Context, l *bufconn.Listener) (*client.Client, error) {
	return client.New(ctx, "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
}
