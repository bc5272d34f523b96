package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/proxy"
	"github.com/bindery-hub/bindery/runc"
)

// sessionPort is where a session's server listens inside its container.
const sessionPort = 8888

type runCmd struct {
	sourceArgs
	Cmd     []string `arg:"" optional:"" help:"Run this in the environment, in place of its server, and end with its status."`
	Port    int      `short:"p" help:"Serve the session at this port of 127.0.0.1 (default: the first free one from 8888)." placeholder:"N"`
	Env     []string `short:"e" help:"Set a variable in the session. Repeatable." placeholder:"K=V" sep:"none"`
	Memory  size     `help:"Memory limit, such as 2G." placeholder:"SIZE" env:"BINDERY_MEMORY"`
	CPUs    float64  `name:"cpus" help:"CPU limit, in cores." placeholder:"N" env:"BINDERY_CPUS"`
	Detach  bool     `short:"d" help:"Leave the session running and return; bindery sessions stop ends it."`
	JSON    bool     `help:"Print a JSON object about the session, once it is ready."`
	Quiet   bool     `short:"q" help:"Show no progress." xor:"noise"`
	Verbose bool     `short:"v" help:"Show the whole log on a terminal too." xor:"noise"`

	Session string `hidden:"" help:"The session's id."`
	TellFD  int    `name:"tell-fd" hidden:"" help:"Tell the parent process how it goes by this file."`
}

// Help is the text under the usage.
func (*runCmd) Help() string {
	return `The environment is built when it is not there yet. Ctrl-C stops the session; a second one kills it.

With -- and a command, the command runs through the environment's entrypoint with the terminal's input and output, and
bindery ends with its status:

  bindery run https://github.com/binder-examples/requirements
  bindery run . -- ./verify`
}

// A ready session, as `bindery run --json` prints it.
type ready struct {
	Image    string             `json:"image"`
	EnvKey   string             `json:"env_key"`
	ImageKey string             `json:"image_key"`
	URL      string             `json:"url"`
	Token    string             `json:"token"`
	Session  string             `json:"session"`
	Timings  map[string]float64 `json:"timings"` // seconds
}

// Run is `bindery run`.
func (c *runCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(a); err != nil {
		return err
	}
	if err := a.ready(); err != nil {
		return err
	}
	src, err := c.source(a.cfg.Providers.links())
	if err != nil {
		return err
	}
	if c.Detach && c.TellFD == 0 {
		return c.detach(ctx, a, src)
	}
	show, tell, err := c.audience(a)
	if err != nil {
		return err
	}
	o := &owner{cmd: c, app: a, show: show, tell: tell, id: cmp.Or(c.Session, dispatch.RunID(src))}
	err = o.run(ctx, src)
	if err != nil && tell.fail(ctx, err) {
		return statusError(exitFailed)
	}
	return err
}

// check reads the command line as a whole.
func (c *runCmd) check(a *app) error {
	rest, dashes := a.afterDashes()
	if len(c.Cmd) != len(rest) || dashes && len(rest) == 0 {
		return usagef("put the command after --: bindery run REPO -- CMD")
	}
	c.Cmd = rest
	if len(c.Cmd) > 0 && (c.Detach || c.JSON || c.Port != 0) {
		return usagef("--detach, --json and --port are for a server, not with -- and a command")
	}
	for _, kv := range c.Env {
		if k, _, ok := strings.Cut(kv, "="); !ok || !envNameRE.MatchString(k) || strings.ContainsRune(kv, 0) {
			return usagef("-e takes NAME=VALUE, not %q", bindery.Printable(kv))
		}
	}
	if c.Port < 0 || c.Port > 65535 {
		return usagef("--port takes 1 to 65535, not %d", c.Port)
	}
	if c.CPUs < 0 {
		return usagef("--cpus is not negative")
	}
	return nil
}

// audience returns who watches: the terminal, or the parent that started us in the background.
func (c *runCmd) audience(a *app) (display, *teller, error) {
	if c.TellFD == 0 {
		return newDisplay(a.stderr, a.getenv, c.Quiet, c.Verbose), nil, nil
	}
	t, err := newTeller(c.TellFD)
	return t, t, err
}

// An owner is the process that a session belongs to: it starts the session, serves it and stops it.
type owner struct {
	cmd  *runCmd
	app  *app
	show display
	tell *teller // nil without a parent
	id   string

	listener net.Listener // for the session's visitors; nil with a command
	*parts
}

func (o *owner) run(ctx context.Context, src bindery.Source) (err error) {
	closed := false
	closeShow := func() {
		if !closed {
			o.show.Close()
			closed = true
		}
	}
	defer closeShow()
	if len(o.cmd.Cmd) == 0 {
		if o.listener, err = listenFree(o.cmd.Port); err != nil {
			return err
		}
		defer func() { _ = o.listener.Close() }() // the server may have closed it
	}
	w, err := o.app.workers()
	if err != nil {
		return err
	}
	if o.parts, err = o.app.open(ctx, w, w, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if err := o.sweep(ctx); err != nil {
		return err
	}
	made, err := o.app.build(ctx, o.workers, bindery.BuildRequest{Source: src, Base: cmp.Or(o.cmd.Base, o.app.cfg.Base)}, o.show)
	if err != nil {
		return err
	}
	record := owned{ID: o.id, Source: made.source, Image: made.Image, Created: time.Now().UTC()}
	if record.Owner, err = thisProcess(); err != nil {
		return fmt.Errorf("know our own process: %w", err)
	}
	if err := o.inst.saveOwned(record); err != nil {
		return err
	}
	names, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return quietly(names, o.net.ServeDNS(names)) })
	if len(o.cmd.Cmd) > 0 {
		closeShow()
		err = o.attached(ctx, made)
	} else {
		err = o.serve(ctx, made, record, closeShow)
	}
	stop()
	return errors.Join(err, o.inst.dropOwned(o.id), group.Wait())
}

func (o *owner) launch(image string) bindery.Launch {
	return bindery.Launch{ID: o.id, Image: image, Env: o.cmd.Env, Limits: bindery.Limits{Memory: int64(o.cmd.Memory), CPU: o.cmd.CPUs}}
}

// attached runs the command and ends with its status.
func (o *owner) attached(ctx context.Context, made making) error {
	l := o.launch(made.Image)
	l.Args = o.cmd.Cmd
	exit, err := o.launcher.Attached(ctx, l, runc.Stdio{In: o.app.stdin, Out: o.app.stdout, Err: o.app.stderr})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if exit.OutOfMemory {
		fmt.Fprintln(o.app.stderr, "bindery: the command went over its memory limit; --memory sets a larger one")
	}
	if exit.Code != 0 {
		return statusError(exit.Code)
	}
	return nil
}

// serve starts the session, says where it is, and serves it until it ends or ctx does.
func (o *owner) serve(ctx context.Context, made making, record owned, closeShow func()) error {
	s := bindery.Session{ID: o.id, Image: made.Image, Source: made.source, State: bindery.SessionPending, Token: dispatch.Token(), Created: record.Created}
	l := o.launch(made.Image)
	l.Port = sessionPort
	args, env := dispatch.Command(s, sessionPort, nil)
	l.Args, l.Env = args, append(env, l.Env...)
	began := time.Now()
	o.show.Event(bindery.Event{Phase: bindery.PhaseLaunching, Message: "Starting the session\n"})
	defer o.stopSession(ctx)
	running, err := o.launcher.Start(ctx, l)
	if err != nil {
		return err
	}
	launched := time.Since(began)
	if err := o.answers(ctx, running.Address, s.BasePath()); err != nil {
		return err
	}
	record.URL = "http://" + o.listener.Addr().String() + s.BasePath()
	if err := o.inst.saveOwned(record); err != nil {
		return err
	}
	out := ready{Image: made.Image, EnvKey: made.EnvKey, ImageKey: made.ImageKey, URL: record.URL, Token: s.Token, Session: o.id,
		Timings: map[string]float64{"resolve": made.resolve.Seconds(), "launch": launched.Seconds(), "ready": time.Since(began).Seconds()}}
	for _, stage := range []string{"fetch", "plan", "solve"} {
		out.Timings[stage] = made.Seconds[stage]
	}
	closeShow()
	return o.follow(ctx, running.Address, out)
}

// follow serves the session's visitors until its container ends or ctx does.
func (o *owner) follow(ctx context.Context, address string, out ready) error {
	visits, err := proxy.New(proxy.Config{Sessions: oneSession{o.id, address}})
	if err != nil {
		return err
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	group, inner := errgroup.WithContext(inner)
	group.Go(func() error { return visits.Run(inner, o.listener) })
	log := shownLog(o.app.stderr)
	group.Go(func() error { return o.copyLog(inner, log) })
	if screen, ok := log.(*terminalLog); ok && o.tell == nil {
		screen.settle(inner) // or the server's own lines push the address off the screen
	}
	if err := o.announce(out); err != nil {
		return err
	}
	exit, err := o.launcher.Wait(inner, o.id)
	stop()
	if served := group.Wait(); err == nil || ctx.Err() == nil {
		err = errors.Join(err, served)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return ended(exit)
}

// oneSession is all that the proxy of a run knows.
type oneSession struct{ id, address string }

func (o oneSession) Address(id string) (addr string, ok bool) { return o.address, id == o.id }
func (o oneSession) Active(string)                            {}

// ended says how a session that nobody stopped came to its end.
func ended(exit bindery.Exit) error {
	switch {
	case exit.OutOfMemory:
		return bindery.Errorf(bindery.ErrOutOfMemory, bindery.User, "Give it more with --memory.", "The session went over its memory limit and was ended")
	case exit.Code != 0:
		return bindery.Errorf(bindery.ErrSessionDied, bindery.User, "Its log, above, says why.", "The session's server ended with status %d", exit.Code)
	}
	return nil
}

// announce prints where the session is, or tells the parent.
func (o *owner) announce(out ready) error {
	if o.tell != nil {
		return o.tell.ready(out)
	}
	if o.cmd.JSON {
		return printJSON(o.app.stdout, out)
	}
	fmt.Fprintf(o.app.stderr, "Ready after %s. Ctrl-C stops the session.\n", seconds(time.Duration(out.Timings["ready"]*float64(time.Second))))
	_, err := fmt.Fprintf(o.app.stdout, "%slab?token=%s\n", out.URL, out.Token)
	return err
}

// copyLog shows the session's log on standard error; a session in the background keeps it for `sessions logs`.
func (o *owner) copyLog(ctx context.Context, to io.WriteCloser) error {
	if o.tell != nil {
		return nil
	}
	log, err := o.launcher.Log(ctx, o.id, true)
	if err != nil {
		return fmt.Errorf("read the session's log: %w", err)
	}
	defer func() { _ = log.Close() }() // only read
	_, _ = io.Copy(to, log)            // it ends with ctx, which says why
	return to.Close()
}

// stopSession takes the session down, whatever has ended; interrupted once more, it kills.
func (o *owner) stopSession(ctx context.Context) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt)
	defer signal.Stop(again)
	stopped := make(chan error, 1)
	go func() { stopped <- o.launcher.Stop(end, o.id) }()
	for {
		select {
		case err := <-stopped:
			if err != nil {
				fmt.Fprintln(o.app.stderr, "bindery: the session was not cleaned up:", clean(err.Error()))
			}
			return
		case <-again:
			all, _ := o.launcher.List(end) // then there is nothing to kill
			for _, r := range all {
				if r.ID == o.id && r.PID > 0 {
					_ = syscall.Kill(r.PID, syscall.SIGKILL) // it may have ended
				}
			}
		}
	}
}

// answers waits until the session's server does, or is no more.
func (o *owner) answers(ctx context.Context, address, base string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		exit, err := o.launcher.Wait(ctx, o.id)
		if err == nil {
			cancel(o.died(ctx, exit))
		}
	}()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for {
		if probe(ctx, address, base) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return bindery.Errorf(bindery.ErrTimeout, bindery.User, "Look at its log: does the environment start Jupyter?\n"+o.lastWords(ctx), "The session's server did not answer within two minutes")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// died is the error of a session that ended before it answered.
func (o *owner) died(ctx context.Context, exit bindery.Exit) error {
	if exit.OutOfMemory {
		return bindery.Errorf(bindery.ErrOutOfMemory, bindery.User, "Give it more with --memory.", "The session went over its memory limit while it started")
	}
	return bindery.Errorf(bindery.ErrSessionDied, bindery.User, "Its last lines:\n"+o.lastWords(ctx), "The session ended with status %d before it answered", exit.Code)
}

// lastWords returns the end of the session's log.
func (o *owner) lastWords(ctx context.Context) string {
	log, err := o.launcher.Log(context.WithoutCancel(ctx), o.id, false)
	if err != nil {
		return "(no log)"
	}
	defer func() { _ = log.Close() }() // only read
	text, _ := io.ReadAll(io.LimitReader(log, 1<<20))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// probe returns nil when Jupyter answers at all: its own pages may still need a token.
func probe(ctx context.Context, address, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+base+"api", nil)
	if err != nil {
		return err
	}
	resp, err := sessionTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // nothing of it is read
	if resp.StatusCode >= 500 {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// sessionTransport asks sessions directly: they are on this machine, whatever proxies the environment names.
var sessionTransport = &http.Transport{Proxy: nil, DisableKeepAlives: true}

// listenFree takes the port, or the first free one from 8888.
func listenFree(port int) (net.Listener, error) {
	if port != 0 {
		return listen(net.JoinHostPort("127.0.0.1", itoa(port)), "--port")
	}
	for port := 8888; port < 8988; port++ {
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", itoa(port))); err == nil {
			return l, nil
		}
	}
	return listen("127.0.0.1:0", "--port")
}

// sweep takes down what the owners of killed processes left behind.
func (o *owner) sweep(ctx context.Context) error {
	all, err := o.inst.loadOwned()
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Owner.alive() {
			continue
		}
		if err := o.launcher.Stop(ctx, s.ID); err != nil {
			return fmt.Errorf("clean up session %s of an earlier run: %w", s.ID, err)
		}
		if err := o.inst.dropOwned(s.ID); err != nil {
			return err
		}
	}
	return nil
}
