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

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/sys/user"
)

// stepExecutor runs build steps as BuildKit's executor does, and adds what must not be part of a step's definition:
// the machine's trust store, proxies and package indexes, and the way its root file system is mounted.
type stepExecutor struct {
	executor.Executor
	volatile bool
	trust    Trust
	dir      string // of the files that trust needs
}

// Run runs one step.
func (x *stepExecutor) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, p executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	p.Meta.Env = addMissing(p.Meta.Env, x.trust.env())
	mounts = append(slices.Clone(mounts), executor.Mount{Src: hostDir(x.dir), Dest: trustMount, Readonly: true})
	if !x.volatile {
		return x.Executor.Run(ctx, id, root, mounts, p, started)
	}
	m := &volatileRoot{Mountable: root.Src}
	root.Src = m
	rec, err := x.Executor.Run(ctx, id, root, mounts, p, started)
	return rec, errors.Join(err, m.settle())
}

// Exec runs another process in a step that runs.
func (x *stepExecutor) Exec(ctx context.Context, id string, p executor.ProcessInfo) error {
	p.Meta.Env = addMissing(p.Meta.Env, x.trust.env())
	return x.Executor.Exec(ctx, id, p)
}

// systemBundle is where Debian keeps its certificates. An image that names it to a program asks for what is usual.
const systemBundle = "/etc/ssl/certs/ca-certificates.crt"

// addMissing appends those of more that env does not set: what a repository sets itself wins. Naming the system's own
// certificates counts as not set: Nix has to be told of them in the image, and here they are the machine's.
func addMissing(env, more []string) []string {
	set := map[string]bool{}
	var out []string
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		if v == systemBundle && slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, k+"=") }) {
			continue
		}
		set[k] = true
		out = append(out, kv)
	}
	for _, kv := range more {
		if k, _, _ := strings.Cut(kv, "="); !set[k] {
			out = append(out, kv)
		}
	}
	return out
}

// hostDir is a directory of this machine as the source of a mount.
type hostDir string

// Mount returns the directory itself, never writable.
func (d hostDir) Mount(context.Context, bool) (executor.MountableRef, error) {
	return hostMount(d), nil
}

type hostMount string

// Mount returns a read-only bind mount.
func (d hostMount) Mount() ([]mount.Mount, func() error, error) {
	return []mount.Mount{{Type: "bind", Source: string(d), Options: []string{"rbind", "ro"}}}, func() error { return nil }, nil
}

// IdentityMapping is nil: ids are the machine's.
func (hostMount) IdentityMapping() *user.IdentityMapping { return nil }

// volatileRoot mounts a step's root with overlayfs' "volatile": fsync then costs nothing, and dpkg calls it for
// every file. The kernel leaves a mark that forbids to mount such a layer ever again; settle takes it away, since
// only a crash of the machine makes the layer doubtful, and checkBoot sees to that.
type volatileRoot struct {
	executor.Mountable
	work []string
}

// Mount mounts the root for one step.
func (v *volatileRoot) Mount(ctx context.Context, readonly bool) (executor.MountableRef, error) {
	r, err := v.Mountable.Mount(ctx, readonly)
	if err != nil || readonly {
		return r, err
	}
	return &volatileMount{r, v}, nil
}

type volatileMount struct {
	executor.MountableRef
	v *volatileRoot
}

// Mount returns the mounts with the option added.
func (m *volatileMount) Mount() ([]mount.Mount, func() error, error) {
	ms, release, err := m.MountableRef.Mount()
	if err != nil {
		return nil, nil, err
	}
	ms = slices.Clone(ms)
	for i := range ms {
		for _, o := range ms[i].Options {
			if dir, ok := strings.CutPrefix(o, "workdir="); ok && ms[i].Type == "overlay" {
				ms[i].Options = append(slices.Clone(ms[i].Options), "volatile")
				m.v.work = append(m.v.work, dir)
			}
		}
	}
	return ms, release, nil
}

func (v *volatileRoot) settle() error {
	var errs []error
	for _, dir := range v.work {
		err := os.RemoveAll(filepath.Join(dir, "work", "incompat"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("settle a step's layer: %w", err))
		}
	}
	return errors.Join(errs...)
}
