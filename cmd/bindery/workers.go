package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/worker"
)

// workers reaches the worker of a state directory, and starts one when there is none.
type workers struct {
	inst  instance
	spawn worker.SpawnConfig
	wants settings
}

// settings tell whether a worker that runs is the one that somebody wants. Program covers what every command needs:
// this very binary with this configuration. Policy covers what a hub adds by its flags.
type settings struct {
	Program string   `json:"program"`
	Policy  []string `json:"policy"`
}

// ourselves is the program that runs, for children that must be the same: by its path, or by what the kernel holds of
// it when its file has been replaced since.
func ourselves() string {
	const held = "/proc/self/exe"
	path, err := os.Executable()
	if err != nil {
		return held
	}
	at, err := os.Stat(path)
	if now, heldErr := os.Stat(held); err != nil || heldErr != nil || !os.SameFile(at, now) {
		return held
	}
	return path
}

// hubFile keeps the flags of the hub's worker, so that others who must start one start that.
const (
	hubFile      = "hub.worker"
	settingsFile = "worker.settings"
)

// workers describes the worker that a command wants: with the flags of policy, or those of the hub that runs here.
func (a *app) workers(policy ...string) (workers, error) {
	args := []string{"worker", "--contained", "--state-dir", a.inst.dir, "--idle-exit", a.cfg.idleExit().String()}
	if a.line.Config != "" {
		file, err := filepath.Abs(a.line.Config)
		if err != nil {
			return workers{}, err
		}
		args = append(args, "--config", file)
	}
	if a.runtime != "" {
		program, err := findRuntime(a.runtime)
		if err != nil {
			return workers{}, err
		}
		args = append(args, "--runtime", program)
	}
	if policy == nil && a.inst.hubRuns() {
		text, err := os.ReadFile(a.inst.path(hubFile))
		if err == nil {
			_ = json.Unmarshal(text, &policy) // a torn file is none: the hub will see to its worker
		}
	}
	return workers{
		inst:  a.inst,
		spawn: worker.SpawnConfig{Exe: ourselves(), Args: append(args, policy...), StateDir: a.inst.dir, Log: a.inst.path("worker.log")},
		wants: settings{a.program(), policy},
	}, nil
}

// program names this binary and everything of its configuration that a worker reads.
func (a *app) program() string {
	parts := []string{a.generation(), thisRelease().Version, a.runtime, strings.Join(trustEnv(a.cfg, a.getenv), "\n"), trustFile(a.cfg.Steps, a.getenv)}
	if info, err := os.Stat("/proc/self/exe"); err == nil {
		parts = append(parts, strconv.FormatInt(info.Size(), 10), info.ModTime().String())
	}
	text, _ := json.Marshal([]any{a.cfg.Steps, a.cfg.Cache, a.cfg.Network, a.cfg.Python, a.cfg.Base, a.cfg.Slots, a.cfg.AllowSource, a.cfg.Providers, a.cfg.Registries, a.cfg.SSH, a.cfg.Worker}) // plain data
	return bindery.Key("program", append(parts, string(text))...)
}

// client returns a client of the worker, whichever that is.
func (w workers) client(ctx context.Context) (*worker.Client, error) {
	return worker.Spawn(ctx, w.spawn)
}

// current returns a client of the worker that is wanted. Another one that builds nothing just now is replaced; a busy
// one is taken as it is.
func (w workers) current(ctx context.Context) (*worker.Client, bool, error) {
	c, err := w.client(ctx)
	if err != nil || w.fits() {
		return c, err == nil, err
	}
	if !idle(ctx, c) {
		return c, false, nil
	}
	if err := c.Drain(ctx); err != nil {
		return c, false, err
	}
	gone, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.Gone(gone); err != nil {
		return c, false, err
	}
	c, err = w.client(ctx)
	return c, err == nil && w.fits(), err
}

func (i instance) saveSettings(s settings) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(i.path(settingsFile), text)
}

// fits reports whether the running worker is the wanted one. Without flags of its own to insist on, a command takes
// any worker of its program.
func (w workers) fits() bool {
	var has settings
	text, err := os.ReadFile(w.inst.path(settingsFile))
	if err != nil || json.Unmarshal(text, &has) != nil {
		return false
	}
	if w.inst.hubRuns() && w.wants.Policy == nil {
		return true // it is the hub's to choose
	}
	return has.Program == w.wants.Program && (w.wants.Policy == nil || strings.Join(has.Policy, "\n") == strings.Join(w.wants.Policy, "\n"))
}

// hubRuns reports whether a hub holds the state directory.
func (i instance) hubRuns() bool {
	f, err := os.Open(i.path("hub.lock"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // closing unlocks
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// Prepare makes a session's root file system.
func (w workers) Prepare(ctx context.Context, session, image string) (bindery.Rootfs, error) {
	c, err := w.client(ctx)
	if err != nil {
		return bindery.Rootfs{}, err
	}
	return c.Prepare(ctx, session, image)
}

// Release removes it.
func (w workers) Release(ctx context.Context, session string) error {
	c, err := w.client(ctx)
	if err != nil {
		return err
	}
	return c.Release(ctx, session)
}

// Images lists the images of the worker.
func (w workers) Images(ctx context.Context) ([]bindery.Image, error) {
	c, err := w.client(ctx)
	if err != nil {
		return nil, err
	}
	return c.Images(ctx)
}

// RemoveImage removes one.
func (w workers) RemoveImage(ctx context.Context, name string) error {
	c, err := w.client(ctx)
	if err != nil {
		return err
	}
	return c.RemoveImage(ctx, name)
}

// Disk says where the bytes of its disk are.
func (w workers) Disk(ctx context.Context) (bindery.DiskUse, error) {
	c, err := w.client(ctx)
	if err != nil {
		return bindery.DiskUse{}, err
	}
	return c.Disk(ctx)
}

// Dropped lists the images that it removed for want of room.
func (w workers) Dropped(ctx context.Context) ([]bindery.Dropped, error) {
	c, err := w.client(ctx)
	if err != nil {
		return nil, err
	}
	return c.Dropped(ctx)
}

// ForgetDropped says that those up to a number are known.
func (w workers) ForgetDropped(ctx context.Context, last int64) error {
	c, err := w.client(ctx)
	if err != nil {
		return err
	}
	return c.ForgetDropped(ctx, last)
}

// supervise starts a new worker when the old one has died, and replaces one of another program or with other flags as
// soon as it has nothing to do. Where even a new one is another, since the configuration file has changed under us, it
// is left alone.
func (w workers) supervise(ctx context.Context, log *slog.Logger) error {
	insist := true
	for {
		var err error
		if insist && !w.fits() {
			var c *worker.Client
			var fits bool
			c, fits, err = w.current(ctx)
			if err == nil && !fits && idle(ctx, c) {
				insist = false
				log.WarnContext(ctx, "the configuration file has changed: restart the hub to use it")
			}
		} else {
			_, err = w.client(ctx)
		}
		if err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "there is no worker", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// idle reports whether the worker builds nothing.
func idle(ctx context.Context, c *worker.Client) bool {
	status, err := c.Status(ctx)
	return err == nil && !slices.ContainsFunc(status.Builds, func(b bindery.BuildAttempt) bool { return !b.Done })
}
