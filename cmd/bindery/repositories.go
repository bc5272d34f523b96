package main

import (
	"context"
	"log/slog"
	"net/netip"
	"net/url"
	"sync"

	"golang.org/x/sync/errgroup"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
)

// repositories reads what visitors may read, and for the person at the keyboard what that person names. The two share
// neither a guard nor a cache, so that no open connection and no stored commit of one serves the other.
type repositories struct {
	visitors *source.Sources
	own      *source.Sources
	config   source.Config // of the sources below
	run      func(*source.Sources)

	mu   sync.Mutex
	dirs map[string]*source.Sources // of repositories in directories, for the person at the keyboard
}

// newRepositories makes the sources; group runs them until ctx ends.
func newRepositories(ctx context.Context, a *app, policy source.Policy, group *errgroup.Group, log *slog.Logger) (*repositories, error) {
	r := &repositories{
		config: source.Config{CAFile: trustFile(a.cfg.Steps, a.getenv), Providers: a.cfg.Providers.all(), Log: log},
		run:    func(s *source.Sources) { group.Go(func() error { return s.Run(ctx) }) },
		dirs:   map[string]*source.Sources{},
	}
	var err error
	policy.SSH = a.cfg.SSH.source()
	if r.visitors, err = r.open(a.inst.path("worker", "git"), policy); err != nil {
		return nil, err
	}
	anywhere := source.Policy{Nets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, SSH: policy.SSH}
	r.config.Dir = a.inst.path("worker", "git-own")
	r.own, err = r.open(r.config.Dir, anywhere)
	return r, err
}

func (r *repositories) open(dir string, policy source.Policy) (*source.Sources, error) {
	cfg := r.config
	cfg.Dir, cfg.Policy = dir, policy
	s, err := source.New(cfg)
	if err == nil {
		r.run(s)
	}
	return s, err
}

// of returns the sources that may read src.
func (r *repositories) of(src bindery.Source) (*source.Sources, error) {
	if !src.Trusted {
		return r.visitors, nil
	}
	u, err := url.Parse(src.URL)
	if err != nil || u.Scheme != "file" {
		return r.own, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.dirs[u.Path]; s != nil {
		return s, nil
	}
	s, err := r.open(r.config.Dir+"-"+bindery.Key("directory", u.Path)[:16], source.Policy{Dirs: []string{u.Path}})
	if err != nil {
		return nil, err
	}
	r.dirs[u.Path] = s
	return s, nil
}

// Resolve finds the commit of src.
func (r *repositories) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	if src.Provider == bindery.ProviderLocal && !src.Trusted {
		return src, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the https URL of the repository.", "Directories of this machine are not built for visitors")
	}
	s, err := r.of(src)
	if err != nil {
		return src, err
	}
	return s.Resolve(ctx, src)
}

// Fetch gets the files of src.
func (r *repositories) Fetch(ctx context.Context, src bindery.Source, scratch string, say func(string)) (string, error) {
	s, err := r.of(src)
	if err != nil {
		return "", err
	}
	return s.Fetch(ctx, src, scratch, say)
}
