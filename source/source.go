// Package source turns the name of a repository into its files, by the git program behind a guard.
//
// Git never meets the network or the machine by itself. It runs as an unprivileged user in namespaces of its own:
// a file system with nothing in it but programs, the repository cache and one checkout, and a network that ends at
// the guard, a proxy in this process that looks up names, refuses addresses that are not public and dials the address
// it checked.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Policy says which sources are allowed beyond http and https at public addresses.
type Policy struct {
	Nets []netip.Prefix // addresses allowed although they are not public
	Dirs []string       // absolute directories; file URLs of repositories below them are allowed
	SSH  SSH            // hosts that are read by ssh; default: none
}

// Config configures Sources.
type Config struct {
	Dir    string // required; repository caches, kept between runs
	Policy Policy
	UID    int          // that git runs as when we are root; default: 65534
	GID    int          // default: 65534
	CAFile string       // certificates that git trusts; default: the system's
	Log    *slog.Logger // default: discard

	Providers []Provider // default: bindery.DefaultProviders(), without credentials

	Poll time.Duration // between looks at an archive that prepares a download; default: 10 seconds

	ResolveTimeout time.Duration // default: 1 minute
	FetchTimeout   time.Duration // default: 30 minutes
	MaxBytes       int64         // of one checkout and of one pack; default: 20 GiB
	MaxFiles       int           // of one checkout; default: 2 million
	MaxCache       int64         // bytes kept in Dir; default: 10 GiB
	MaxAge         time.Duration // a cache not used for so long goes; default: 14 days

	// Lookup resolves a name; default: the machine's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Proxy says which proxy of the machine leads to a URL; default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
	Proxy func(*url.URL) (*url.URL, error)
}

// Sources resolves and fetches sources.
type Sources struct {
	cfg     Config
	git     string // path of the program
	lfs     bool   // git-lfs is installed
	started atomic.Bool
	ready   chan struct{} // closed when box and guard are set
	ended   chan struct{} // closed when Run is over
	box     *box
	guard   *guard
	forges  []*forge
	asking  chan struct{} // a place for each ref that git looks up
	answers answers

	sweep sync.Mutex
	swept time.Time
}

// New makes Sources. It fails when git is not installed.
func New(cfg Config) (*Sources, error) {
	if cfg.Dir == "" || !filepath.IsAbs(cfg.Dir) {
		return nil, errors.New("source: Config.Dir must be an absolute path")
	}
	cfg.UID, cfg.GID = cmp.Or(cfg.UID, 65534), cmp.Or(cfg.GID, 65534)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Poll = cmp.Or(cfg.Poll, 10*time.Second)
	cfg.ResolveTimeout = cmp.Or(cfg.ResolveTimeout, time.Minute)
	cfg.FetchTimeout = cmp.Or(cfg.FetchTimeout, 30*time.Minute)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 20<<30)
	cfg.MaxFiles = cmp.Or(cfg.MaxFiles, 2_000_000)
	cfg.MaxCache = cmp.Or(cfg.MaxCache, 10<<30)
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 14*24*time.Hour)
	dirs := make([]string, 0, len(cfg.Policy.Dirs))
	for _, dir := range cfg.Policy.Dirs {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || !filepath.IsAbs(dir) || real == "/" {
			return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name an existing directory other than / by its absolute path.",
				"%q cannot be allowed as a directory of repositories", bindery.Printable(dir)).Because(err)
		}
		dirs = append(dirs, real)
	}
	cfg.Policy.Dirs = dirs
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Install it: apt-get install git.", "The git program is not installed").Because(err)
	}
	if cfg.Providers == nil {
		for _, p := range bindery.DefaultProviders() {
			cfg.Providers = append(cfg.Providers, Provider{Provider: p})
		}
	}
	for _, p := range cfg.Providers {
		if err := p.Check(); err != nil {
			return nil, fmt.Errorf("source: provider %s: %w", p.ID, err)
		}
	}
	_, noLFS := exec.LookPath("git-lfs")
	s := &Sources{cfg: cfg, git: git, lfs: noLFS == nil, ready: make(chan struct{}), ended: make(chan struct{})}
	s.asking = make(chan struct{}, maxAsking)
	s.answers = answers{filepath.Join(cfg.Dir, "answers")}
	return s, nil
}

// maxAsking bounds the lookups that git does at once: a flood of links that lead nowhere must not become a flood of
// processes. Those beyond it wait for a place as long as their requests last.
const maxAsking = 32

// Run keeps the guard and git's namespaces until ctx ends. Resolve and Fetch wait for it. It can be called once.
func (s *Sources) Run(ctx context.Context) error {
	if !s.started.CompareAndSwap(false, true) {
		return errors.New("source: Run was called twice")
	}
	defer close(s.ended)
	if err := s.makeDirs(); err != nil {
		return fmt.Errorf("make the repository cache: %w", err)
	}
	guard, err := newGuard(s.cfg)
	if err != nil {
		return err
	}
	s.guard = guard
	s.openForges()
	b, err := openBox(s.boxConfig())
	if err != nil {
		return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Run `bindery doctor`; it names what this machine lacks.",
			"Git cannot be confined on this machine").Because(err)
	}
	s.box = b
	defer b.close()
	s.cleanCache(time.Now())
	close(s.ready)
	return s.guard.serve(ctx, b.listener)
}

func (s *Sources) makeDirs() error {
	for dir, own := range map[string]bool{s.cfg.Dir: false, s.reposDir(): true, s.probeDir(): true, s.answers.dir: false, filepath.Join(s.cfg.Dir, "root"): false, filepath.Join(s.cfg.Dir, "home"): false} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if !own {
			continue
		}
		if err := s.give(dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(s.cfg.Dir, "trash"))
}

// give makes git the owner of path.
func (s *Sources) give(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, s.cfg.UID, s.cfg.GID)
}

func (s *Sources) reposDir() string { return filepath.Join(s.cfg.Dir, "repos") }
func (s *Sources) probeDir() string { return filepath.Join(s.cfg.Dir, "repos", "probe") }

// Resolve finds the commit that src.Ref names and returns src with it. A ref is looked for as a branch, a tag, a name
// under refs/, a branch after "origin/", and a commit of at least four digits, in this order; forty digits are always
// a commit. A directory has no commit; it must exist.
func (s *Sources) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	if src.Provider == bindery.ProviderLocal {
		return src, checkLocal(src.URL)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ResolveTimeout)
	defer cancel()
	if src.Provider == bindery.ProviderGit {
		src.URL = s.reachable(src.URL)
	}
	if err := s.check(src); err != nil {
		return src, err
	}
	o, err := s.begin(ctx, nil)
	if err != nil {
		return src, err
	}
	defer o.end()
	if src.IsArchive() {
		return o.resolveArchive(ctx, src)
	}
	if f, parts := s.forgeOf(src); f != nil {
		return o.resolveForge(ctx, f, parts, src)
	}
	src.Commit, err = o.resolveByGit(ctx, src, false)
	return src, err
}

// Fetch puts the files of src.Commit, with submodules and a shallow .git of their own, into a new directory in scratch
// and returns it. say gets lines of progress and may be nil. A local source is its own directory.
func (s *Sources) Fetch(ctx context.Context, src bindery.Source, scratch string, say func(string)) (string, error) {
	if src.Provider == bindery.ProviderLocal {
		return src.URL, checkLocal(src.URL)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.FetchTimeout)
	defer cancel()
	if src.Provider == bindery.ProviderGit {
		src.URL = s.reachable(src.URL)
	}
	if err := s.check(src); err != nil {
		return "", err
	}
	if !src.IsPinned() {
		return "", bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Resolve the ref first.", "%q is not a commit", bindery.Printable(src.Commit))
	}
	o, err := s.begin(ctx, say)
	if err != nil {
		return "", err
	}
	defer o.end()
	dir := filepath.Join(scratch, "repo")
	get := o.fetch
	if src.IsArchive() {
		get = o.fetchArchive
	}
	if err := get(ctx, src, dir); err != nil {
		_ = os.RemoveAll(dir) // scratch is the caller's to remove; this only frees space early
		return "", err
	}
	s.cleanCache(time.Now())
	return dir, nil
}

// begin waits until Run is ready and opens an operation.
func (s *Sources) begin(ctx context.Context, say func(string)) (*op, error) {
	wait := time.NewTimer(10 * time.Second)
	defer wait.Stop()
	notRunning := bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Try again in a moment.", "Repositories cannot be read: the guard of their traffic is not running")
	select {
	case <-s.ended:
		return nil, notRunning
	case <-ctx.Done():
		return nil, ended(ctx)
	case <-wait.C:
		return nil, notRunning
	case <-s.ready:
	}
	if say == nil {
		say = func(string) {}
	}
	return &op{s: s, ticket: s.guard.admitOp(), say: say}, nil
}

func checkLocal(dir string) error {
	info, err := os.Stat(dir)
	if filepath.IsAbs(dir) && err == nil && info.IsDir() {
		return nil
	}
	return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Name an existing directory.", "%q is not a directory", bindery.Printable(dir)).Because(err)
}
