package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/canary"
	"github.com/bindery-hub/bindery/dispatch"
)

// A canaryConfig says how often the hub tries itself, and with what.
type canaryConfig struct {
	Every      *time.Duration `yaml:"every"`
	Repository string         `yaml:"repository"`
}

// defaultCanary is how often the hub builds and launches something of its own.
const defaultCanary = 5 * time.Minute

func (c canaryConfig) every() time.Duration {
	if c.Every == nil {
		return defaultCanary
	}
	return *c.Every
}

func (c canaryConfig) check() error {
	if every := c.every(); every != 0 && (every < 10*time.Second || every > 24*time.Hour) {
		return errors.New("canary.every: give 10s to 24h, or 0s for none")
	}
	if c.Repository == "" {
		return nil
	}
	if _, err := bindery.ParseGitSource(c.Repository, ""); err != nil {
		return fmt.Errorf("canary.repository: %w", err)
	}
	return nil
}

// dir is where the hub's own repository is; empty: it has none.
func (c canaryConfig) dir(inst instance) string {
	if c.every() == 0 || c.Repository != "" {
		return ""
	}
	return inst.path("canary")
}

// canarySource is the hub's own repository.
func canarySource(dir string) bindery.Source {
	return bindery.Source{Provider: bindery.ProviderLocal, URL: dir, Trusted: true}
}

const canaryReadme = `# The canary

This hub builds and launches this directory every few minutes, to see whether that works.
`

// source writes the hub's own repository anew: nothing of it was ever built before.
func (c canaryConfig) source(inst instance) (bindery.Source, error) {
	dir := c.dir(inst)
	if dir == "" {
		return bindery.ParseGitSource(c.Repository, "")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return bindery.Source{}, err
	}
	for name, text := range map[string]string{"README.md": canaryReadme, "sung.txt": time.Now().UTC().Format(time.RFC3339Nano) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return bindery.Source{}, err
		}
	}
	return canarySource(dir), nil
}

// canary makes the hub's canary; nil when there is to be none.
func (o *observed) canary(a *app, crew *fleet, hub *dispatch.Dispatcher, d doors, log *slog.Logger) (*canary.Canary, error) {
	cfg := a.cfg.Canary
	if cfg.every() == 0 {
		return nil, nil
	}
	source := func() (bindery.Source, error) { return cfg.source(a.inst) }
	bird, err := canary.New(canary.Config{
		Hub: hub, Every: cfg.every(), Log: log, Source: source, Report: o.sang,
		Health: func(ctx context.Context) error {
			return healthy(ctx, near(d.public)+strings.TrimRight("/"+strings.Trim(a.cfg.Binder.BaseURL, "/"), "/")+"/health")
		},
		Visit: func(ctx context.Context, s bindery.Session) error { return visitSession(ctx, near(d.sessions), s) },
		Forget: func(ctx context.Context) error {
			src, err := source()
			return cmp.Or(err, crew.forgetImages(ctx, src))
		},
	})
	if err != nil {
		return nil, err
	}
	watches := o.watches
	o.watches = func() map[string]time.Time {
		all := map[string]time.Time{"health": bird.Healthy()}
		maps.Copy(all, watches())
		return all
	}
	return bird, nil
}

// near is how this machine reaches what listens on l.
func near(l net.Listener) string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if ok && addr.IP.IsUnspecified() {
		return "http://127.0.0.1:" + itoa(addr.Port)
	}
	return "http://" + l.Addr().String()
}

// ask sends a GET and reads a part of the answer.
func askFor(ctx context.Context, url string, header http.Header) (status int, text []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	maps.Copy(req.Header, header)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it is this machine
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	text, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return res.StatusCode, text, err
}

// healthy asks the hub as a probe does.
func healthy(ctx context.Context, url string) error {
	status, text, err := askFor(ctx, url, nil)
	if err != nil {
		return err
	}
	var ans struct{ OK bool }
	if err := json.Unmarshal(text, &ans); err != nil || status != http.StatusOK || !ans.OK {
		return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Look at /health: it lists what is not well.", "The hub says that not all is well (status %d)", status)
	}
	return nil
}

// visitSession asks a session's server for its version, through the proxy and with its token.
func visitSession(ctx context.Context, origin string, s bindery.Session) error {
	status, _, err := askFor(ctx, origin+s.BasePath()+"api/status", http.Header{"Authorization": {"token " + s.Token}})
	if err == nil && status != http.StatusOK {
		err = bindery.Errorf(bindery.ErrSessionDied, bindery.Ours, "Read the session's log.", "The session answers with status %d", status)
	}
	return err
}
