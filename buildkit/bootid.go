package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// With Config.Volatile nothing waits for the disk, so what is on it is right only as long as the machine lives. The
// file "boot" names the boot in which the stores were last open; a clean Close brings everything to the disk and
// takes the file away. If it names another boot, the machine died: whatever the stores hold may be torn.

func (e *Engine) bootFile() string { return filepath.Join(e.cfg.Dir, "boot") }

// checkBoot sets the stores aside after a machine's death and claims the directory for this boot. It returns where
// they are, else "".
func (e *Engine) checkBoot(ctx context.Context) (dead string, err error) {
	now, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	then, err := os.ReadFile(e.bootFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("boot id: %w", err)
	}
	if err == nil && strings.TrimSpace(string(then)) != strings.TrimSpace(string(now)) {
		e.cfg.Log.WarnContext(ctx, "the machine died while layers were in memory only; the build cache starts empty")
		if dead, err = e.wipe(); err != nil {
			return "", err
		}
	}
	if !e.cfg.Volatile {
		return dead, nil
	}
	return dead, writeDurably(e.bootFile(), now)
}

// wipe sets everything aside but the lock, the boot file and the bases, which were brought to the disk when they were
// made. The boot file is written anew after it: a wipe that is cut short is done again. Deleting a large cache takes
// minutes, so Run does that, when the engine works already.
func (e *Engine) wipe() (dead string, err error) {
	entries, err := os.ReadDir(e.cfg.Dir)
	if err != nil {
		return "", fmt.Errorf("wipe the build cache: %w", err)
	}
	dead, err = os.MkdirTemp(e.cfg.Dir, deadPrefix)
	if err != nil {
		return "", fmt.Errorf("wipe the build cache: %w", err)
	}
	keep := []string{filepath.Base(e.bootFile()), filepath.Base(e.lock.Path())}
	for _, d := range entries {
		p := filepath.Join(e.cfg.Dir, d.Name())
		if slices.Contains(keep, d.Name()) || strings.HasPrefix(d.Name(), deadPrefix) || p == filepath.Clean(e.cfg.BaseDir) {
			continue
		}
		if err := os.Rename(p, filepath.Join(dead, d.Name())); err != nil {
			return "", fmt.Errorf("wipe the build cache: %w", err)
		}
	}
	if !e.cfg.Volatile {
		return dead, os.Remove(e.bootFile())
	}
	return dead, nil
}

const (
	deadPrefix   = "dead-"
	buriedLevels = 4 // dead-*/worker/snapshots/snapshots: below are single layers
)

// bury deletes what wipe has set aside, until ctx ends; what is left then is for the next engine.
func (e *Engine) bury(ctx context.Context) {
	dead, _ := filepath.Glob(filepath.Join(e.cfg.Dir, deadPrefix+"*"))
	for _, dir := range dead {
		if err := removeSlowly(ctx, dir, buriedLevels); err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "an old build cache is left", "dir", dir, "err", err)
		}
	}
}

// removeSlowly is os.RemoveAll, but looks at ctx between the directories of the first levels.
func removeSlowly(ctx context.Context, dir string, levels int) error {
	if levels == 0 {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := filepath.Join(dir, d.Name())
		if d.IsDir() {
			err = removeSlowly(ctx, p, levels-1)
		} else {
			err = os.Remove(p)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// settleBoot brings everything to the disk and releases the claim.
func (e *Engine) settleBoot() error {
	if !e.cfg.Volatile {
		return nil
	}
	if err := syncDir(e.cfg.Dir); err != nil {
		return err
	}
	if err := os.Remove(e.bootFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// syncDir waits until the file system of dir is on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// writeDurably replaces a small file, all or nothing.
func writeDurably(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// Usage returns the bytes that the engine's files take, and those that are free beside them.
func (e *Engine) Usage(ctx context.Context) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(e.cfg.Dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space: %w", err)
	}
	du, err := e.client.DiskUsage(ctx)
	if err != nil {
		return 0, 0, bindery.AsError(fmt.Errorf("disk usage: %w", err))
	}
	for _, d := range du {
		size += d.Size
	}
	return size, int64(st.Bavail) * st.Bsize, nil
}
