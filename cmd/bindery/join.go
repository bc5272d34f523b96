package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/worker"
)

// checkJoin refuses what a worker cannot join with.
func (c *workerCmd) checkJoin() error {
	for flag, name := range map[string]string{"--name": c.Name, "--pool": c.Pool} {
		if name != "" {
			if err := bindery.CheckWorkerName(name); err != nil {
				return usagef("%s: %v", flag, err)
			}
		}
	}
	if c.Join == "" || filepath.IsAbs(c.Join) {
		if c.Listen != "" || c.TokenFile != "" {
			return usagef("--listen and --token-file are for --join HOST:PORT")
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Join); err != nil {
		return usagef("--join takes a state directory, as an absolute path, or HOST:PORT")
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return usagef("--join HOST:PORT needs --listen ADDR, such as 10.0.0.5:8588: the hub connects to the worker")
	}
	return nil
}

// A door is how a hub gets in: by the socket of the state directory, and over the network when it has joined so.
type door struct {
	c    *workerCmd
	a    *app
	log  *slog.Logger
	tcp  net.Listener // nil: by the socket only
	with *worker.Membership
}

func (c *workerCmd) door(a *app, log *slog.Logger) (*door, error) {
	d := &door{c: c, a: a, log: log}
	if c.Listen == "" {
		return d, nil
	}
	l, err := listen(c.Listen, "--listen")
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, err
	}
	d.with = &worker.Membership{
		Hub: c.Join, Name: c.Name, Pool: c.Pool, Address: net.JoinHostPort(host, port), Dir: a.inst.dir, Token: c.token, Log: log,
	}
	d.tcp = tls.NewListener(l, d.with.ServerTLS())
	return d, nil
}

func (d *door) listeners() []net.Listener {
	if d.tcp == nil {
		return nil
	}
	return []net.Listener{d.tcp}
}

// token reads the token from its file.
func (c *workerCmd) token() (worker.Token, error) {
	if c.TokenFile == "" {
		return worker.Token{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Make one with `bindery workers token` on the hub's machine, and name its file with --token-file.",
			"The worker has not joined before, and has no token to join by")
	}
	text, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return worker.Token{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a file that can be read with --token-file.", "The join token cannot be read").Because(err)
	}
	return worker.ParseToken(string(text))
}

// join joins the hub, and keeps the membership until ctx ends. An error is one that trying again does not mend.
func (d *door) join(ctx context.Context) error {
	if d.with != nil {
		if err := d.with.Join(ctx); err != nil {
			return err
		}
		d.log.InfoContext(ctx, "the worker has joined", "hub", d.c.Join, "name", d.c.Name)
		return d.with.Keep(ctx)
	}
	client, err := api.NewClient(api.ClientConfig{Socket: filepath.Join(d.c.Join, "hub.sock"), As: person(d.a.getenv)})
	if err != nil {
		return err
	}
	in := api.NewWorker{Name: d.c.Name, Pool: d.c.Pool, Socket: d.a.inst.path("worker.sock")}
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		v, err := client.AddWorker(ctx, in)
		if err == nil {
			d.log.InfoContext(ctx, "the worker has joined", "hub", d.c.Join, "name", d.c.Name, "state", v.State, "reason", v.Reason)
			return nil
		}
		if !passing(err) {
			return err
		}
		d.log.WarnContext(ctx, "the hub cannot be reached; trying again", "hub", d.c.Join, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// passing reports whether a hub may still take a worker that it did not take.
func passing(err error) bool {
	for _, k := range []bindery.Kind{bindery.ErrUnreachable, bindery.ErrNotReady, bindery.ErrWorkerLost, bindery.ErrTimeout} {
		if errors.Is(err, k) {
			return true
		}
	}
	return errors.Is(err, fs.ErrNotExist)
}

// reach tries the network as builds will use it: a name is resolved, a package index is asked. Behind a proxy it is the
// proxy that resolves names.
func (a *app) reach(ctx context.Context) []bindery.Reach {
	index := indexURL(a.cfg.Steps, a.getenv)
	var out []bindery.Reach
	if u, err := url.Parse(index); err == nil && !a.proxied() {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		found, err := net.DefaultResolver.LookupHost(within, u.Hostname())
		r := bindery.Reach{What: "the name " + u.Hostname(), OK: err == nil, Found: strings.Join(found, ", ")}
		if err != nil {
			r.Found = "cannot be resolved"
		}
		out = append(out, r)
	}
	check := checkIndex(ctx, a.cfg.Steps, a.getenv)
	return append(out, bindery.Reach{What: "the package index", OK: check.OK, Found: check.Found})
}

func (a *app) proxied() bool {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"} {
		if a.getenv(name) != "" {
			return true
		}
	}
	return false
}
