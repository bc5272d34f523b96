package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/identity"
	"github.com/moby/sys/user"
)

// stepExecutor runs build steps as BuildKit's executor does, and adds what must not be part of a step's definition:
// the machine's trust store, proxies and package indexes, and how many processes it may have; and it dates what the step
// has written.
type stepExecutor struct {
	executor.Executor
	trust  Trust
	dir    string // of the files that trust needs
	cgroup string // of all steps
	pids   int64  // of each
}

// Run runs one step.
func (x *stepExecutor) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, p executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	m := &stepRoot{Mountable: root.Src}
	root.Src = m
	began := time.Now()
	done, err := m.done(ctx, p.Meta.Env)
	if err != nil {
		return nil, err
	}
	var rec resourcestypes.Recorder
	if !done {
		rec, err = x.run(ctx, id, root, mounts, p, started)
	} else if started != nil {
		close(started)
	}
	if err == nil && slices.Contains(p.Meta.Env, epochVariable+"="+epochText()) {
		err = m.setClock(began)
	}
	return rec, err
}

func (x *stepExecutor) run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, p executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	p.Meta.Env = addMissing(p.Meta.Env, x.trust.env())
	mounts = append(slices.Clone(mounts), executor.Mount{Src: hostDir(x.dir), Dest: trustMount, Readonly: true})
	id = cmp.Or(id, identity.NewID())
	tellContainer(ctx, id)
	uncap, err := capStep(x.cgroup, id, x.pids)
	if err != nil {
		return nil, err
	}
	rec, err := x.Executor.Run(ctx, id, root, mounts, p, started)
	if err != nil {
		uncap()
		return nil, err
	}
	return rec, nil
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

// stepRoot is a step's root file system. It learns where what the step writes is kept.
type stepRoot struct {
	executor.Mountable
	upper []string
}

// Mount mounts the root for one step.
func (r *stepRoot) Mount(ctx context.Context, readonly bool) (executor.MountableRef, error) {
	ref, err := r.Mountable.Mount(ctx, readonly)
	if err != nil || readonly {
		return ref, err
	}
	return &stepMount{ref, r}, nil
}

// unlessVariable names a file to a step that has nothing to do if the step before it has left that file. Nothing runs
// then, and the file is taken away.
const unlessVariable = "BINDERY_UNLESS"

// done reports whether there was such a file.
func (r *stepRoot) done(ctx context.Context, env []string) (was bool, err error) {
	i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, unlessVariable+"=/") })
	if i < 0 {
		return false, nil
	}
	ref, err := r.Mount(ctx, false)
	if err != nil {
		return false, fmt.Errorf("mount a step's files: %w", err)
	}
	ms, release, err := ref.Mount()
	if err != nil {
		return false, fmt.Errorf("mount a step's files: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	if len(ms) != 1 || ms[0].Type != "bind" {
		return false, nil
	}
	dir, err := os.OpenRoot(ms[0].Source) // no link in it leads out of it
	if err != nil {
		return false, fmt.Errorf("look into a step's files: %w", err)
	}
	defer dir.Close()
	return dir.Remove(strings.TrimPrefix(env[i], unlessVariable+"=/")) == nil, nil
}

type stepMount struct {
	executor.MountableRef
	root *stepRoot
}

// Mount returns the mounts. BuildKit has mounted the overlay already, and says where only.
func (m *stepMount) Mount() ([]mount.Mount, func() error, error) {
	ms, release, err := m.MountableRef.Mount()
	if err != nil {
		return nil, nil, err
	}
	for _, one := range ms {
		if one.Type != "bind" {
			continue
		}
		info, err := mount.Lookup(one.Source)
		if err != nil || info.FSType != "overlay" || info.Mountpoint != one.Source {
			continue
		}
		for o := range strings.SplitSeq(info.VFSOptions, ",") {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok && !slices.Contains(m.root.upper, dir) {
				m.root.upper = append(m.root.upper, dir)
			}
		}
	}
	return ms, release, nil
}
