package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
	"github.com/bindery-hub/bindery/runc"
)

// parts are what the hub and `bindery run` have in common: a worker to build and to prepare root file systems, the
// network, the launcher.
type parts struct {
	inst     instance
	workers  workers
	images   runc.Images
	net      *bridge.Network
	launcher *runc.Launcher
	log      *slog.Logger
}

// open makes the parts and raises the network. Nothing of it needs closing: the network stays for others.
func (a *app) open(ctx context.Context, w workers, images runc.Images, log *slog.Logger) (*parts, error) {
	p, err := a.parts(ctx, w, images, log)
	if err != nil {
		return nil, err
	}
	return p, p.net.Up(ctx)
}

// parts is open without the network.
func (a *app) parts(ctx context.Context, w workers, images runc.Images, log *slog.Logger) (*parts, error) {
	if err := a.inst.create(); err != nil {
		return nil, err
	}
	p := &parts{inst: a.inst, workers: w, images: images, log: log}
	var err error
	if p.net, err = a.network(ctx, log); err != nil {
		return nil, err
	}
	p.launcher, err = a.launcher(p, log)
	return p, err
}

func (a *app) network(ctx context.Context, log *slog.Logger) (*bridge.Network, error) {
	name, subnet, err := bridge.Choose(ctx, a.inst.dir)
	if err != nil {
		return nil, err
	}
	if a.cfg.Network.Bridge != "" {
		name = a.cfg.Network.Bridge
	}
	if a.cfg.Network.Subnet != "" {
		if subnet, err = netip.ParsePrefix(a.cfg.Network.Subnet); err != nil {
			return nil, fmt.Errorf("network.subnet: %w", err)
		}
	}
	allow, err := parsePrefixes(a.cfg.Network.Allow)
	if err != nil {
		return nil, err
	}
	return bridge.New(bridge.Config{
		Name: name, Subnet: subnet, Dir: a.inst.path("net"), RunDir: filepath.Join(a.inst.runDir(), "netns"),
		Allow: allow, Resolvers: a.cfg.Network.DNS, Log: log,
	})
}

func (a *app) launcher(p *parts, log *slog.Logger) (*runc.Launcher, error) {
	program, err := findRuntime(a.runtime)
	if err != nil {
		return nil, err
	}
	env, binds, err := a.sessionTrust()
	if err != nil {
		return nil, err
	}
	return runc.New(runc.Config{
		Dir: a.inst.path("sessions"), Runtime: program, CgroupParent: a.inst.cgroup() + "/sessions",
		Images: p.images, Network: ports{p.net}, Nameserver: p.net.Gateway().String(),
		Env: env, Binds: binds, Shim: []string{ourselves(), shimCommand}, Defaults: a.cfg.Sessions.limits(), Log: log,
	})
}

// sessionCA is where sessions find this machine's certificates, when they are given them.
const sessionCA = "/run/bindery/ca.pem"

// sessionTrust returns what every session gets of this machine. By itself that is nothing.
func (a *app) sessionTrust() (env []string, binds []runc.Bind, err error) {
	if a.cfg.Sessions.Trust {
		env = trustEnv(a.cfg, a.getenv)
		if file := trustFile(a.cfg.Steps, a.getenv); file != "" {
			binds = []runc.Bind{{Source: file, Target: sessionCA}}
			for _, name := range []string{"SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"} {
				env = append(env, name+"="+sessionCA)
			}
			env = append(env, "UV_NATIVE_TLS=1")
		}
	}
	own, err := environ(a.cfg.Sessions.Env)
	return append(env, own...), binds, err
}

// limits are those of the configuration file; what it leaves out is the launcher's to choose.
func (s sessionConfig) limits() bindery.Limits {
	return bindery.Limits{Memory: int64(s.Memory), CPU: s.CPUs, PIDs: s.PIDs, Log: int64(s.Log), Idle: s.Idle, Age: s.Age}
}

// ports gives the launcher its network.
type ports struct{ net *bridge.Network }

func (p ports) Attach(ctx context.Context, id string) (netns string, addr netip.Addr, err error) {
	port, err := p.net.Attach(ctx, id)
	return port.Netns, port.Addr, err
}

func (p ports) Detach(ctx context.Context, id string) error { return p.net.Detach(ctx, id) }

// stepNetwork gives each build step a place in the network.
type stepNetwork struct{ net *bridge.Network }

// stepPrefix begins the network ids of build steps.
const stepPrefix = "step-"

func isStep(id string) bool { return strings.HasPrefix(id, stepPrefix) }

// Namespace makes one.
func (s stepNetwork) Namespace(ctx context.Context) (path string, release func() error, err error) {
	id := newID(stepPrefix)
	port, err := s.net.Attach(ctx, id)
	if err != nil {
		return "", nil, err
	}
	return port.Netns, func() error {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return s.net.Detach(end, id)
	}, nil
}

// newLog returns the logger of a server. An error has one name in all lines.
func newLog(w io.Writer, format string) *slog.Logger {
	opts := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == "error" {
			a.Key = "err"
		}
		return a
	}}
	if format == "json" {
		return slog.New(bindery.LogHandler{Handler: slog.NewJSONHandler(w, opts)})
	}
	return slog.New(bindery.LogHandler{Handler: slog.NewTextHandler(w, opts)})
}

// quietly drops the error of something that was told to end.
func quietly(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func itoa(n int) string { return strconv.Itoa(n) }
