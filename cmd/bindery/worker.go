package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
	"github.com/bindery-hub/bindery/build"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/worker"
)

type workerCmd struct {
	AllowSource []string          `help:"Build repositories at these addresses, or below this directory, for visitors. Repeatable." placeholder:"CIDR|file:DIR" sep:"none"`
	Slots       int               `help:"Builds at once (default: one per core, at least 2)." placeholder:"N" env:"BINDERY_SLOTS"`
	Base        string            `help:"What to build on: debian:SUITE or an image (default ${base})." placeholder:"BASE" env:"BINDERY_BASE"`
	IdleExit    time.Duration     `help:"End after so long without anything to do (default: never)." placeholder:"DURATION"`
	Name        string            `help:"What the hub calls it (default: this machine's name)." placeholder:"NAME" env:"BINDERY_WORKER_NAME"`
	Pool        string            `help:"The pool that it belongs to." placeholder:"POOL" env:"BINDERY_WORKER_POOL"`
	Label       map[string]string `help:"Label of its node, for bindery pool check. Repeatable." placeholder:"KEY=VALUE" mapsep:"none"`
	MachineType string            `help:"Type of its machine, for the same." placeholder:"TYPE" env:"BINDERY_MACHINE_TYPE"`
	Join        string            `help:"Join the hub of this state directory, or the one whose workers' address this is." placeholder:"DIR|HOST:PORT" env:"BINDERY_JOIN"`
	Listen      string            `help:"Address to serve the hub at, over the network." placeholder:"ADDR" env:"BINDERY_WORKER_ADDRESS"`
	TokenFile   string            `help:"File with the token to join by, from bindery workers token." placeholder:"FILE" env:"BINDERY_JOIN_TOKEN_FILE"`

	LogFormat string `help:"text or json (default text)." enum:",text,json" default:"" placeholder:"FORMAT" env:"BINDERY_LOG_FORMAT"`

	Contained bool `hidden:"" help:"We are in namespaces of our own already."`
}

// Run serves builds until ctx ends. The process that a person starts only watches over the one that does the work, in
// namespaces of its own.
func (c *workerCmd) Run(ctx context.Context, a *app) error {
	if err := c.settle(a.cfg); err != nil {
		return err
	}
	if err := a.ready(); err != nil {
		return err
	}
	allow := append(c.AllowSource, a.cfg.AllowSource...)
	nets, dirs, err := parseAllow(allow)
	if err != nil {
		return usagef("--allow-source: %v", err)
	}
	if err := a.inst.create(); err != nil {
		return err
	}
	if !c.Contained {
		err := worker.Foreground(ctx, append(a.args, "--contained"), a.stdout, a.stderr)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return statusError(exit.ExitCode()) // it has said why
		}
		return err
	}
	if err := worker.Contain(a.inst.path("sessions"), a.inst.runDir()); err != nil {
		return err
	}
	log := newLog(a.stderr, c.LogFormat)
	buildkit.Quiet(log)
	return c.serve(ctx, a, source.Policy{Nets: nets, Dirs: dirs}, log)
}

// serve wires the worker: source, build and the engine behind the protocol.
func (c *workerCmd) serve(ctx context.Context, a *app, policy source.Policy, log *slog.Logger) error {
	listener, err := worker.Listen(a.inst.dir)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // the server may have closed it
	if err := a.inst.saveSettings(settings{a.program(), c.policy()}); err != nil {
		return err
	}
	net, err := a.network(ctx, log)
	if err != nil {
		return err
	}
	if err := net.Up(ctx); err != nil {
		return err
	}
	defer retire(context.WithoutCancel(ctx), a.inst, net, log)
	engine, err := c.engine(ctx, a, net, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := engine.Close(); err != nil {
			log.ErrorContext(ctx, "the engine did not close cleanly", "err", err)
		}
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	sources, err := newRepositories(ctx, a, policy, group, log)
	if err != nil {
		return err
	}
	server, err := c.server(a, sources, engine, net, log)
	if err != nil {
		return err
	}
	door, err := c.door(a, log)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "the worker serves", "state", a.inst.dir, "slots", c.Slots, "pid", os.Getpid())
	group.Go(func() error { return engine.Run(ctx) })
	group.Go(func() error { return quietly(ctx, net.ServeDNS(ctx)) })
	group.Go(func() error {
		defer stop() // it may end by itself: idle, or drained
		return server.Run(ctx, listener, door.listeners()...)
	})
	if c.Join != "" {
		group.Go(func() error { return quietly(ctx, door.join(ctx)) })
	}
	return group.Wait()
}

// server puts the protocol round builds.
func (c *workerCmd) server(a *app, sources *repositories, engine *buildkit.Engine, net *bridge.Network, log *slog.Logger) (*worker.Server, error) {
	scratch := a.inst.path("worker", "scratch")
	if err := os.RemoveAll(scratch); err != nil { // checkouts of a worker that was killed
		return nil, err
	}
	builder, err := build.New(build.Config{
		Sources: sources, Engine: engine, Generation: generation(), Base: c.Base, Appendix: a.cfg.Appendix, Suites: a.cfg.Python.Suites, Scratch: scratch, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return worker.New(worker.Config{
		Builder: builder, Images: engine, Resolver: sources, Planner: planner{builder},
		Dir: a.inst.path("worker"), Name: c.Name, Pool: c.Pool, Labels: c.Label, Machine: c.MachineType, Room: engine.Prune,
		Probe: &worker.Probe{Dir: a.inst.path("worker"), Reach: a.reach}, Version: thisRelease().Version, Generation: a.generation(),
		Packages: packages(engine), Disk: engine.Disk, Dropper: engine, Slots: c.Slots, Usage: engine.Usage, GitHub: sources.visitors.GitHubLeft, Checks: net.Checks, IdleExit: c.IdleExit, Log: log,
		Secrets: append(slices.Concat(passwords(trustEnv(a.cfg, a.getenv)), condaSecrets(a.cfg.Conda)), a.cfg.Providers.tokens()...),
	})
}

// retire takes away what an instance shares between its processes, unless one of them still uses it.
func retire(ctx context.Context, inst instance, net *bridge.Network, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	gone, err := net.Retire(ctx)
	if err != nil {
		log.ErrorContext(ctx, "the network was not taken down", "err", err)
	}
	if !gone {
		return
	}
	_ = os.Remove(inst.runDir()) // here and below: one in use refuses
	trees, _ := filepath.Glob("/sys/fs/cgroup/*" + inst.cgroup())
	for _, tree := range append(trees, "/sys/fs/cgroup"+inst.cgroup()) {
		_ = os.Remove(filepath.Join(tree, "sessions"))
		_ = os.Remove(filepath.Join(tree, "builds"))
		_ = os.Remove(tree)
	}
}

func (c *workerCmd) engine(ctx context.Context, a *app, net *bridge.Network, log *slog.Logger) (*buildkit.Engine, error) {
	program, err := findRuntime(a.runtime)
	if err != nil {
		return nil, err
	}
	// Steps of a worker that was killed are dead with it; what they held of the network is not.
	if err := net.Sweep(ctx, func(id string) bool { return !isStep(id) }); err != nil {
		return nil, err
	}
	allow, err := parsePrefixes(a.cfg.Network.Allow)
	if err != nil {
		return nil, err
	}
	dir := a.inst.path("worker", "engine")
	if err := buildkit.TempIn(dir); err != nil {
		return nil, err
	}
	volatile := a.cfg.Steps.Volatile == nil || *a.cfg.Steps.Volatile
	return buildkit.Open(ctx, buildkit.Config{
		Dir: dir, BaseDir: a.inst.path("worker", "bases"), Runtime: program,
		CgroupParent: a.inst.cgroup() + "/builds", Caps: buildkit.Caps{Memory: cmp.Or(int64(a.cfg.Steps.Memory), memoryTotal()/5*4), PIDs: 1 << 14, StepPIDs: 1 << 12},
		Network: stepNetwork{net}, Allow: allow, Nameserver: net.Gateway().String(),
		Trust:            withConda(buildkit.Trust{CAFile: trustFile(a.cfg.Steps, a.getenv), Env: trustEnv(a.cfg, a.getenv)}, a.cfg.Conda),
		CondaCredentials: a.cfg.Conda.CredentialsFile,
		Registries:       a.cfg.Registries.engine(),
		Volatile:         volatile, MaxCache: int64(a.cfg.Cache.Max), MinFree: int64(a.cfg.Cache.MinFree), Log: log,
	})
}

func defaultSlots() int { return max(2, runtime.NumCPU()) }

// settle fills in what the command line leaves out.
func (c *workerCmd) settle(cfg config) error {
	c.Name = cmp.Or(c.Name, cfg.Worker.Name, hostname())
	c.Pool = cmp.Or(c.Pool, cfg.Worker.Pool)
	c.MachineType = cmp.Or(c.MachineType, cfg.Worker.Machine)
	if c.Label == nil {
		c.Label = cfg.Worker.Labels
	}
	c.Slots = cmp.Or(c.Slots, cfg.Slots, defaultSlots())
	c.Base = cmp.Or(c.Base, cfg.Base)
	c.LogFormat = cmp.Or(c.LogFormat, cfg.LogFormat)
	return c.checkJoin()
}

// policy are the flags that tell this worker from another one of the same program.
func (c *workerCmd) policy() []string {
	args := []string{"--slots", itoa(c.Slots)}
	if c.Base != "" {
		args = append(args, "--base", c.Base)
	}
	for _, v := range c.AllowSource {
		args = append(args, "--allow-source", v)
	}
	return args
}

// hostname is the name of a worker that was given none.
func hostname() string {
	name, err := os.Hostname()
	name = strings.ToLower(name)
	if err != nil || bindery.CheckWorkerName(name) != nil {
		return "worker"
	}
	return name
}

// planner gives the protocol plans as JSON: it does not need to know what is in them.
type planner struct{ b *build.Builder }

func (p planner) Plan(ctx context.Context, src bindery.Source, base string) (json.RawMessage, error) {
	made, err := judge(p.b.Plan(ctx, src, base))
	if err != nil {
		return nil, err
	}
	return json.Marshal(made)
}
