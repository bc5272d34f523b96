// Package runc runs sessions as containers on this machine.
//
// Each session has a directory, which is written before anything else is made, so that whatever a crash leaves can be
// taken away by Stop. Between launcher and container stands a shim: a small process that keeps the log within its
// bounds, sees the container end, writes down how, and does not care whether the launcher lives.
package runc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Images prepares root file systems; the worker does.
type Images interface {
	Prepare(ctx context.Context, session, image string) (bindery.Rootfs, error)
	Release(ctx context.Context, session string) error
}

// Network gives containers their place in it.
type Network interface {
	Attach(ctx context.Context, id string) (netns string, addr netip.Addr, err error)
	Detach(ctx context.Context, id string) error
}

// A Bind is a file or directory of this machine that containers see, read-only.
type Bind struct{ Source, Target string }

// Config configures a Launcher.
type Config struct {
	Dir          string         // one directory per session; required
	Runtime      string         // path of runc; default: "runc", looked up in PATH
	CgroupParent string         // absolute path below which each session has its cgroup; default: /bindery/sessions
	Images       Images         // required
	Network      Network        // required
	Nameserver   string         // that containers ask; required
	Env          []string       // K=V, for every session; the image's and the launch's win over it
	Binds        []Bind         // files of this machine that sessions may read, such as its trust store
	Shim         []string       // command that calls Shim with the directory it gets as its last argument; required
	Defaults     bindery.Limits // default: 2 GiB, 1 core, 512 processes, 10 MiB of log
	Grace        time.Duration  // between asking a container to stop and killing it; default: 5s
	KeepEnded    int            // sessions whose log and exit are kept after Stop; default: 200; negative: none
	Log          *slog.Logger
}

// A Launcher starts, finds, stops containers.
type Launcher struct {
	cfg Config

	mu   sync.Mutex
	busy map[string]chan struct{} // ids that are being started or stopped
}

// New returns a launcher. It starts nothing and looks for nothing.
func New(cfg Config) (*Launcher, error) {
	if cfg.Dir == "" || cfg.Images == nil || cfg.Network == nil || cfg.Nameserver == "" || len(cfg.Shim) == 0 {
		return nil, errors.New("runc: Config.Dir, Images, Network, Nameserver, Shim are required")
	}
	if _, err := netip.ParseAddr(cfg.Nameserver); err != nil {
		return nil, fmt.Errorf("runc: Config.Nameserver: %w", err)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	cfg.Runtime = cmp.Or(cfg.Runtime, "runc")
	cfg.CgroupParent = filepath.Join("/", cmp.Or(cfg.CgroupParent, "/bindery/sessions"))
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	cfg.KeepEnded = cmp.Or(cfg.KeepEnded, 200)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Defaults = limits(cfg.Defaults, bindery.Limits{Memory: 2 << 30, CPU: 1, PIDs: 512, Log: 10 << 20})
	return &Launcher{cfg: cfg, busy: map[string]chan struct{}{}}, nil
}

// limits fills what l leaves open from d. There is no "no limit".
func limits(l, d bindery.Limits) bindery.Limits {
	positive := func(v, d int64) int64 {
		if v > 0 {
			return v
		}
		return d
	}
	l.Memory, l.PIDs, l.Log = positive(l.Memory, d.Memory), positive(l.PIDs, d.PIDs), positive(l.Log, d.Log)
	if !(l.CPU > 0) {
		l.CPU = d.CPU
	}
	return l
}

// Names of files in a session's directory, in the order in which they come about.
const (
	fileLaunch  = "launch.json" // what was asked
	fileRootfs  = "rootfs"      // mount point
	fileResolv  = "resolv.conf"
	fileHosts   = "hosts"
	fileConfig  = "config.json" // the OCI specification; with it the directory is a bundle
	fileShim    = "shim.json"   // what the shim must know
	fileLock    = "shim.lock"   // held, and filled with its id, by the shim as long as it lives
	fileStdout  = "stdout"      // pipe from the container to the shim
	fileRuncLog = "runc.log"
	filePID     = "pid" // of the container's first process; written by runc
	fileLog     = "log"
	fileExit    = "exit.json"
)

// launch is the content of launch.json.
type launch struct {
	bindery.Launch
	Address string    `json:"address,omitempty"` // host:port, once it is known
	Created time.Time `json:"created"`
}

var validID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func checkID(id string) error {
	if validID.MatchString(id) {
		return nil
	}
	return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use up to 63 small letters, digits, hyphens.", "%q is not the id of a session", id)
}

func (l *Launcher) dir(id string) string { return filepath.Join(l.cfg.Dir, id) }

func (l *Launcher) file(id, name string) string { return filepath.Join(l.cfg.Dir, id, name) }

// endedDir keeps the log and exit.json of sessions that were stopped. No session's id begins with a dot.
func (l *Launcher) endedDir() string { return filepath.Join(l.cfg.Dir, ".ended") }

// runcRoot is runc's own record of containers.
func (l *Launcher) runcRoot() string { return filepath.Join(l.cfg.Dir, ".runc") }

func (l *Launcher) cgroup(id string) string { return filepath.Join(l.cfg.CgroupParent, id) }

// own makes the caller the only one to start or stop id in this process, until it calls done.
func (l *Launcher) own(ctx context.Context, id string) (done func(), err error) {
	for {
		l.mu.Lock()
		other := l.busy[id]
		if other == nil {
			mine := make(chan struct{})
			l.busy[id] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.busy, id)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// List returns the containers that run, whoever started them.
func (l *Launcher) List(ctx context.Context) ([]bindery.Running, error) {
	ids, err := l.Known(ctx)
	if err != nil {
		return nil, err
	}
	var all []bindery.Running
	for _, id := range ids {
		if r, ok := l.running(id); ok {
			all = append(all, r)
		}
	}
	return all, nil
}

// Known returns the ids of all sessions that were not stopped, dead and half-made ones included, sorted: all that Stop has
// something to do for.
func (l *Launcher) Known(context.Context) ([]string, error) {
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && validID.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// running looks for the container of id.
func (l *Launcher) running(id string) (bindery.Running, bool) {
	p, ok := l.first(id)
	if !ok {
		return bindery.Running{}, false
	}
	var asked launch
	if err := readJSON(l.file(id, fileLaunch), &asked); err != nil {
		return bindery.Running{}, false
	}
	r := bindery.Running{ID: id, PID: p, Address: asked.Address, Started: asked.Created}
	if st, err := os.Stat(l.file(id, filePID)); err == nil {
		r.Started = st.ModTime()
	}
	return r, true
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return nil
}

// writeJSON replaces path in one step.
func writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replace(path, text)
}

func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
