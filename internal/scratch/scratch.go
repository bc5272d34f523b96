// Package scratch makes the directories that tests keep whole machines' states in. A run that is killed cannot clean up
// after itself; the next one does it.
package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// parent is on a real file system as a rule: overlays stack neither on overlays nor on tmpfs.
const parent = "/var/tmp"

// newborn is how long a directory may be there without its lock.
const newborn = time.Minute

// A Dir belongs to one run of one package's tests.
type Dir struct {
	Path string
	lock *os.File
}

// New makes a directory for a run, and removes those of runs with the same name that are over. What such a run has on
// the machine besides files and mounts is for clear to take away.
func New(name string, clear func(dir string)) (*Dir, error) {
	if err := sweep(name, clear); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, "bindery-"+name+"-")
	if err != nil {
		return nil, err
	}
	lock, err := os.Create(lockOf(path))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) { // another run swept a lock that nobody held yet
			return New(name, clear)
		}
		return nil, err
	}
	return &Dir{Path: path, lock: lock}, nil
}

// Remove unmounts what is mounted in the directory and removes it.
func (d *Dir) Remove() error {
	defer d.lock.Close()
	return remove(d.Path)
}

func lockOf(path string) string { return filepath.Join(path, ".lock") }

func sweep(name string, clear func(dir string)) error {
	dirs, err := filepath.Glob(filepath.Join(parent, "bindery-"+name+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		lock, err := abandoned(dir)
		if err != nil {
			return err
		}
		if lock == nil {
			continue
		}
		if clear != nil {
			clear(dir)
		}
		if err := errors.Join(remove(dir), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// abandoned returns the lock of a directory whose run is over, taken, and nil where it may go on.
func abandoned(dir string) (*os.File, error) {
	lock, err := os.OpenFile(lockOf(dir), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) { // another run swept it
			return nil, nil
		}
		if err != nil || time.Since(info.ModTime()) < newborn { // about to take its lock
			return nil, err
		}
		lock, err = os.Create(lockOf(dir)) // killed before it took it
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, lock.Close() // it is in use
	}
	return lock, nil
}

// remove takes down every mount that is in a directory, or made of what is in it, and then the directory.
func remove(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines) // the last mounted first
	for _, line := range lines {
		if strings.Contains(line, dir+"/") {
			_ = syscall.Unmount(strings.Fields(line)[4], syscall.MNT_DETACH) // what stays mounted fails the removal
		}
	}
	return os.RemoveAll(dir)
}
