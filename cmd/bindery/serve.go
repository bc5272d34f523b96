package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/proxy"
	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/store"
	"github.com/bindery-hub/bindery/web"
	"github.com/bindery-hub/bindery/worker"
)

type serveCmd struct {
	Listen        string   `help:"Address of the hub (default ${listen})." placeholder:"ADDR" env:"BINDERY_LISTEN"`
	SessionListen string   `help:"Address of the sessions, an origin of their own (default ${session_listen})." placeholder:"ADDR" env:"BINDERY_SESSION_LISTEN"`
	SessionURL    string   `name:"session-url" help:"Where visitors reach the sessions' address, behind a proxy." placeholder:"URL" env:"BINDERY_SESSION_URL"`
	PublicURL     string   `name:"public-url" help:"Where visitors reach the hub, behind a proxy." placeholder:"URL" env:"BINDERY_PUBLIC_URL"`
	WorkerListen  string   `help:"Address at which workers join over the network, by TLS (default: none do)." placeholder:"ADDR" env:"BINDERY_WORKER_LISTEN"`
	AllowSource   []string `help:"Let visitors build repositories at these addresses, or below this directory. Repeatable." placeholder:"CIDR|file:DIR" sep:"none"`
	Slots         int      `help:"Builds at once (default: one per core, at least 2)." placeholder:"N" env:"BINDERY_SLOTS"`
	Base          string   `help:"What to build on: debian:SUITE or an image (default ${base})." placeholder:"BASE" env:"BINDERY_BASE"`
	LogFormat     string   `help:"text or json (default text)." enum:",text,json" default:"" placeholder:"FORMAT" env:"BINDERY_LOG_FORMAT"`
}

const (
	defaultListen        = "127.0.0.1:8585"
	defaultSessionListen = "127.0.0.1:8586"
)

// Run serves until ctx ends. Builds and sessions go on without the hub; the next one adopts them.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	if err := c.settle(a.cfg); err != nil {
		return err
	}
	if err := a.ready(); err != nil {
		return err
	}
	if err := a.inst.create(); err != nil {
		return err
	}
	unlock, err := lockHub(a.inst)
	if err != nil {
		return err
	}
	defer unlock()
	doors, err := c.openDoors(a.inst)
	if err != nil {
		return err
	}
	defer doors.close()
	rest := time.AfterFunc(2*time.Second, debug.FreeOSMemory) // what the start took
	defer rest.Stop()
	return c.serve(ctx, a, doors)
}

// settle fills in what the command line leaves out.
func (c *serveCmd) settle(cfg config) error {
	c.Listen = cmp.Or(c.Listen, cfg.Listen, defaultListen)
	c.SessionListen = cmp.Or(c.SessionListen, cfg.SessionListen, defaultSessionListen)
	c.WorkerListen = cmp.Or(c.WorkerListen, cfg.WorkerListen)
	c.SessionURL = cmp.Or(c.SessionURL, cfg.SessionURL)
	c.PublicURL = cmp.Or(c.PublicURL, cfg.PublicURL)
	c.Slots = cmp.Or(c.Slots, cfg.Slots)
	c.Base = cmp.Or(c.Base, cfg.Base)
	c.LogFormat = cmp.Or(c.LogFormat, cfg.LogFormat)
	c.AllowSource = append(c.AllowSource, cfg.AllowSource...)
	if _, _, err := parseAllow(c.AllowSource); err != nil {
		return usagef("--allow-source: %v", err)
	}
	if c.Slots < 0 {
		return usagef("--slots is not negative")
	}
	for flag, url := range map[string]string{"--session-url": c.SessionURL, "--public-url": c.PublicURL} {
		if err := checkURL(url); err != nil {
			return usagef("%s: %v", flag, err)
		}
	}
	return nil
}

// lockHub makes sure that one hub serves a state directory.
func lockHub(inst instance) (unlock func(), err error) {
	f, err := os.OpenFile(inst.path("hub.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, bindery.Errorf(bindery.ErrLocked, bindery.User, "Stop the other hub, or choose another directory with --state-dir.",
			"Another hub serves the state directory %s", inst.dir)
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// doors are where the hub listens.
type doors struct{ public, sessions, local, workers net.Listener }

func (c *serveCmd) openDoors(inst instance) (d doors, err error) {
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.public, err = listen(c.Listen, "--listen"); err != nil {
		return d, err
	}
	if d.sessions, err = listen(c.SessionListen, "--session-listen"); err != nil {
		return d, err
	}
	if c.WorkerListen != "" {
		if d.workers, err = listen(c.WorkerListen, "--worker-listen"); err != nil {
			return d, err
		}
	}
	sock := inst.path("hub.sock")
	if err := os.Remove(sock); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a hub that was killed: we hold its lock
		return d, fmt.Errorf("remove the old socket: %w", err)
	}
	old := unix.Umask(0o177)
	d.local, err = net.Listen("unix", sock)
	unix.Umask(old)
	if err != nil {
		return d, fmt.Errorf("listen at the hub's socket: %w", err)
	}
	return d, nil
}

func (d doors) close() {
	for _, l := range []net.Listener{d.public, d.sessions, d.local, d.workers} {
		if l != nil {
			_ = l.Close() // a server may have closed it
		}
	}
}

// listen opens a TCP address that a flag named.
func listen(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, bindery.Errorf(bindery.ErrNotReady, bindery.User, "Stop the program that listens there (ss -ltnp shows it), or choose another address with "+flag+".",
			"%s is in use", addr)
	}
	return nil, bindery.Errorf(bindery.ErrNotReady, bindery.User, "Choose an address of this machine with "+flag+".", "Cannot listen at %s", bindery.Printable(addr)).Because(err)
}

// hubParts are the parts and what the hub alone has beside them, without its servers.
type hubParts struct {
	*parts
	crew   *fleet
	limits *poolFile
	db     *store.DB
	trace  *tracer
	seen   *observed
	hub    *dispatch.Dispatcher
	people staff
}

// serve wires the hub: with hubParts, it is the one place where its parts are chosen.
func (c *serveCmd) serve(ctx context.Context, a *app, d doors) error {
	log := newLog(a.stderr, c.LogFormat)
	h, err := c.hubParts(ctx, a, log)
	defer h.close()
	if err != nil {
		return err
	}
	if err := h.seen.open(ctx, a, h.db, h.hub, log); err != nil {
		return err
	}
	if d.workers != nil {
		h.people.gate = d.workers.Addr().String()
	}
	pages, err := c.web(a, h, d, log)
	if err != nil {
		return err
	}
	h.seen.load = pages.Load
	visits, err := c.proxy(a, h.hub, d, log)
	if err != nil {
		return err
	}
	bird, err := h.seen.canary(a, h.crew, h.hub, d, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	if bird != nil {
		group.Go(func() error { return bird.Run(ctx) })
	}
	group.Go(func() error { return pages.Run(ctx, d.public, d.local) })
	group.Go(func() error { return visits.Run(ctx, d.sessions) })
	h.run(ctx, group, d, log)
	log.InfoContext(ctx, "the hub serves", "url", "http://"+d.public.Addr().String()+"/", "sessions", c.sessionURL(d), "state", a.inst.dir)
	err = group.Wait()
	log.InfoContext(ctx, "the hub ends; sessions and builds go on", "err", err)
	return err
}

// hubParts opens what the hub has below its servers. The caller closes it, when there is an error too.
func (c *serveCmd) hubParts(ctx context.Context, a *app, log *slog.Logger) (h hubParts, err error) {
	w, err := c.workers(ctx, a, log)
	if err != nil {
		return h, err
	}
	authority, err := worker.OpenAuthority(a.inst.path("authority"))
	if err != nil {
		return h, err
	}
	h.crew, h.limits, h.seen = newFleet(w, a.cfg.Canary.dir(a.inst), authority, log), newPoolFile(a.cfg.Pools, log), &observed{}
	if h.parts, err = a.open(ctx, w, h.crew, log); err != nil {
		return h, err
	}
	if h.db, err = store.Open(ctx, store.Config{Path: a.inst.path("bindery.db")}); err != nil {
		return h, err
	}
	if _, err := h.db.Lead(ctx, "pid "+itoa(os.Getpid())); err != nil {
		return h, err
	}
	if h.trace, err = newTracer(a.inst.path("trace"), a.cfg.Trace, log); err != nil {
		return h, err
	}
	policy, err := a.cfg.policy()
	if err != nil {
		return h, err
	}
	h.hub, err = dispatch.New(c.dispatch(a, h, policy, log))
	h.people = staff{h.hub, h.crew, ""}
	return h, err
}

// dispatch is what the dispatcher is made of.
func (c *serveCmd) dispatch(a *app, h hubParts, policy sched.Config, log *slog.Logger) dispatch.Config {
	return dispatch.Config{
		Ended: h.seen.built, Resolved: h.seen.resolved,
		Store: h.db, Worker: visitorWorker{h.parts.workers, h.crew.canary}, Connect: h.crew.connect, Minimums: h.limits.minimums,
		Launcher: hubLauncher{h.launcher}, Recipe: a.recipe(c.Base),
		Retention: a.cfg.Images.rule(), Prunes: a.cfg.Images.Prune, Generations: h.seen.generation,
		Policy: policy, Wait: true, Quick: true, Trace: h.trace.sink(),
		Limits: a.cfg.Sessions.limits(), Port: sessionPort, Probe: probe, Leases: h.hubLeases, Log: log,
	}
}

// close may be called of parts that were opened in part. It has nothing to save: every commit is on the disk already,
// and each line of the trace is written when it comes.
func (h hubParts) close() {
	if h.trace != nil {
		_ = h.trace.close()
	}
	if h.db != nil {
		_ = h.db.Close()
	}
}

// run has group run what the parts do by themselves.
func (h hubParts) run(ctx context.Context, group *errgroup.Group, d doors, log *slog.Logger) {
	group.Go(func() error { return quietly(ctx, h.hub.Run(ctx)) })
	group.Go(func() error { return h.seen.run(ctx) })
	group.Go(func() error { return quietly(ctx, h.net.ServeDNS(ctx)) })
	group.Go(func() error { return h.parts.workers.supervise(ctx, log) })
	h.limits.tell = h.seen.pools
	group.Go(func() error { return h.limits.run(ctx) })
	if d.workers != nil {
		group.Go(func() error { return h.people.serve(ctx, d.workers, log) })
	}
}

// workers starts or adopts the worker, and lets other commands know how to start one like it.
func (c *serveCmd) workers(ctx context.Context, a *app, log *slog.Logger) (workers, error) {
	args := c.workerArgs()
	text, err := json.Marshal(args)
	if err != nil {
		return workers{}, err
	}
	if err := writeFile(a.inst.path(hubFile), text); err != nil {
		return workers{}, err
	}
	w, err := a.workers(args...)
	if err != nil {
		return w, err
	}
	_, fits, err := w.current(ctx)
	if err == nil && !fits {
		log.WarnContext(ctx, "the worker that runs has other settings; it is replaced when its builds have ended")
	}
	return w, err
}

// workerArgs are the flags of the worker that this hub wants.
func (c *serveCmd) workerArgs() []string {
	w := workerCmd{AllowSource: c.AllowSource, Slots: cmp.Or(c.Slots, defaultSlots()), Base: c.Base}
	return w.policy()
}

func (c *serveCmd) sessionURL(d doors) string { return cmp.Or(c.SessionURL, urlOf(d.sessions)) }

// urlOf is where visitors of this machine reach l. Without an address of its own, the host is left for each request
// to say.
func urlOf(l net.Listener) string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if ok && addr.IP.IsUnspecified() {
		return "http://:" + itoa(addr.Port)
	}
	return "http://" + l.Addr().String()
}

func (c *serveCmd) proxy(a *app, hub *dispatch.Dispatcher, d doors, log *slog.Logger) (*proxy.Proxy, error) {
	proxies, err := parsePrefixes(a.cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	link := c.PublicURL
	if public := urlOf(d.public); link == "" && !strings.HasPrefix(public, "http://:") {
		link = public
	}
	return proxy.New(proxy.Config{Sessions: hub, Hub: link, URL: c.SessionURL, Proxies: proxies, Log: log})
}

// web makes the pages and both APIs.
func (c *serveCmd) web(a *app, h hubParts, d doors, log *slog.Logger) (*web.Server, error) {
	secret, err := a.buildSecret()
	if err != nil {
		return nil, err
	}
	proxies, err := parsePrefixes(a.cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	agents, err := a.cfg.Binder.agents()
	if err != nil {
		return nil, err
	}
	b := a.cfg.Binder
	static, err := b.static()
	if err != nil {
		return nil, err
	}
	login, err := a.cfg.Login.server()
	if err != nil {
		return nil, err
	}
	return web.New(web.Config{
		Login: login, Users: a.cfg.Login.Users,
		Builds: h.hub, Sessions: h.hub, Queue: h.hub, Workers: h.people, History: h.db, SessionLog: h.launcher.Log,
		Worker: h.workerStatus, Report: h.seen.launched, Metrics: h.seen.handler(),
		Export: h.seen.export(h.db),
		Checks: func(ctx context.Context) []bindery.Check { return a.vital() },
		Secret: secret,
		Admin:  adminPages(secret, b.BaseURL, log),
		Base:   b.BaseURL, BadgeURL: b.BadgeBaseURL, ImagePrefix: b.ImagePrefix, APIOnly: b.APIOnly, TokenLife: b.TokenExpires, AnyTokenOrigin: b.TokenCheckOrigin != nil && !*b.TokenCheckOrigin,
		Providers: a.cfg.Providers.links(), Rules: b.rules(), Agents: agents, SessionsAtOnce: a.cfg.Sessions.Max,
		Version: thisRelease().Version, Generation: a.recipe(c.Base).Generation(), Generations: h.hub, Rollouts: h.hub, Library: h.hub,
		URL: c.PublicURL, SessionURL: c.sessionURL(d),
		Tokens: webTokens(a.cfg.APITokens), HideSources: a.cfg.HideSources,
		Files: a.cfg.Pages.files(), Banner: template.HTML(a.cfg.Pages.Banner), About: template.HTML(a.cfg.Pages.About), Proxies: proxies, AllowOrigin: a.cfg.AllowOrigin,
		Headers: b.Headers, Static: static, SocialTitle: b.SocialTitle, Log: log,
	})
}
