package buildkit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/snapshot"
)

// When an overlay is unmounted, the kernel brings to the disk all that was written to the file system below it, whoever wrote
// it: the end of a step waited for what every other build had written. Mounted as volatile it does not, and programs in it that ask
// for their files to be on the disk, as dpkg does for each, are answered at once. The kernel refuses to mount the same
// overlay again until its mark is gone: the kernel cannot know that nothing was torn meanwhile, but bootid.go does.
const (
	volatileOption = "volatile"
	volatileMark   = "work/incompat" // in the working directory of an overlay
)

// unsynced returns ms with overlays that can be written to as volatile, ready to be mounted once.
func unsynced(ms []mount.Mount) ([]mount.Mount, error) {
	ms = slices.Clone(ms)
	for i, m := range ms {
		if workDir(m) != "" {
			ms[i].Options = append(slices.Clone(m.Options), volatileOption)
		}
	}
	return ms, unmark(ms)
}

// unmark lets overlays be mounted again.
func unmark(ms []mount.Mount) error {
	var errs []error
	for _, m := range ms {
		if dir := workDir(m); dir != "" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, volatileMark)))
		}
	}
	return errors.Join(errs...)
}

// workDir is the working directory of an overlay that can be written to, or "".
func workDir(m mount.Mount) string {
	if m.Type != "overlay" {
		return ""
	}
	for _, o := range m.Options {
		if dir, ok := strings.CutPrefix(o, "workdir="); ok {
			return dir
		}
	}
	return ""
}

// stepSnapshots are what steps write to. They can be mounted whatever an engine left that was killed, volatile or not.
type stepSnapshots struct {
	snapshot.Snapshotter
	volatile bool
}

// Mounts returns what a snapshot is mounted by.
func (s stepSnapshots) Mounts(ctx context.Context, key string) (snapshot.Mountable, error) {
	m, err := s.Snapshotter.Mounts(ctx, key)
	if err != nil {
		return nil, err
	}
	return stepMountable{m, s.volatile}, nil
}

type stepMountable struct {
	snapshot.Mountable
	volatile bool
}

// Mount returns the mounts, to be mounted once before they are released.
func (m stepMountable) Mount() ([]mount.Mount, func() error, error) {
	ms, release, err := m.Mountable.Mount()
	if err != nil {
		return nil, nil, err
	}
	if m.volatile {
		ms, err = unsynced(ms)
	} else {
		err = unmark(ms)
	}
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	return ms, func() error {
		return errors.Join(unmark(ms), release()) // others may mount it, who do not know of the mark
	}, nil
}
