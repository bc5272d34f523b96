package runc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stop ends the container of id, first by asking, and takes away everything that belongs to it. Its log and how it ended
// stay readable until Config.KeepEnded others have been stopped after it. A Stop that returns an error is to be repeated;
// one of a session that is gone does nothing.
func (l *Launcher) Stop(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	done, err := l.own(ctx, id)
	if err != nil {
		return err
	}
	defer done()
	if err := l.end(ctx, id); err != nil {
		return err
	}
	return l.clean(ctx, id)
}

// end ends the container and waits until its shim has written how.
func (l *Launcher) end(ctx context.Context, id string) error {
	if err := l.settle(ctx, id); err != nil {
		return err
	}
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := l.signal(id, s); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		if pid, ok := l.first(id); ok {
			if err := within(ctx, l.cfg.Grace, pid); err != nil {
				return err
			}
		}
	}
	if pid, ok := l.shim(id); ok { // it has at most the last of the log to write
		return within(ctx, 5*time.Second, pid)
	}
	return nil
}

// settle waits while a shim is still busy making the container: until there is something to end.
func (l *Launcher) settle(ctx context.Context, id string) error {
	short, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		_, busy := l.shim(id)
		_, runs := l.first(id)
		if _, over := l.exit(id); !busy || runs || over {
			return nil
		}
		select {
		case <-short.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// within waits for the end of a process, but no longer than d. That the time is over is no error.
func within(ctx context.Context, d time.Duration, pid int) error {
	short, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := processEnd(short, pid); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

// deleteContainer has runc forget the container, and kill it if it still lives: all of it, for its cgroup goes too.
func (l *Launcher) deleteContainer(ctx context.Context, id string) error {
	if _, err := os.Stat(filepath.Join(l.runcRoot(), id)); errors.Is(err, fs.ErrNotExist) {
		return l.removeCgroup(id)
	}
	cmd := exec.CommandContext(ctx, l.cfg.Runtime, "--root", l.runcRoot(), "delete", "--force", id)
	if out, err := cmd.CombinedOutput(); err != nil && !bytes.Contains(out, []byte("does not exist")) {
		return fmt.Errorf("runc delete: %w: %s", err, strings.TrimSpace(string(out)))
	}
	// A runc that was killed early has left a directory without a state in it, which it does not know how to delete.
	if err := os.RemoveAll(filepath.Join(l.runcRoot(), id)); err != nil {
		return err
	}
	return l.removeCgroup(id)
}

// removeCgroup removes what a killed runc may have left of the session's cgroup, processes included.
func (l *Launcher) removeCgroup(id string) error {
	paths := []string{filepath.Join(cgroupRoot, l.cgroup(id))}
	if !unified() {
		paths, _ = filepath.Glob(filepath.Join(cgroupRoot, "*", l.cgroup(id)))
	}
	for _, p := range paths {
		for range 50 { // processes that were killed take a moment to be gone
			err := unix.Rmdir(p)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("remove cgroup: %w", err)
			}
			killAll(p)
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

func killAll(cgroup string) {
	text, err := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	if err != nil {
		return
	}
	for field := range strings.FieldsSeq(string(text)) {
		if pid, ok := number(field); ok && pid > 1 {
			_ = unix.Kill(int(pid), unix.SIGKILL)
		}
	}
}

// keep moves what outlives the session to the directory of ended ones, and forgets the oldest there.
func (l *Launcher) keep(id string) error {
	if _, err := os.Stat(l.file(id, fileLog)); err != nil || l.cfg.KeepEnded < 0 {
		return nil // it never ran
	}
	to := filepath.Join(l.endedDir(), id)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{fileLog, fileExit} {
		if err := os.Rename(l.file(id, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep %s: %w", name, err)
		}
	}
	return l.forget()
}

func (l *Launcher) forget() error {
	entries, err := os.ReadDir(l.endedDir())
	if err != nil || len(entries) <= l.cfg.KeepEnded {
		return err
	}
	type ended struct {
		name string
		when time.Time
	}
	all := make([]ended, 0, len(entries))
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			all = append(all, ended{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b ended) int { return cmp.Or(a.when.Compare(b.when), strings.Compare(a.name, b.name)) })
	for _, e := range all[:max(0, len(all)-l.cfg.KeepEnded)] {
		if err := os.RemoveAll(filepath.Join(l.endedDir(), e.name)); err != nil {
			return err
		}
	}
	return nil
}
