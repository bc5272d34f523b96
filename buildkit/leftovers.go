package buildkit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
)

// clearLeftovers ends and removes the steps of an engine that was killed: BuildKit leaves a bundle for each, and runc
// a state of the same name. The directory's lock says that nobody runs them any more.
func (e *Engine) clearLeftovers(ctx context.Context) {
	bundles, _ := filepath.Glob(filepath.Join(e.cfg.Dir, "worker", "executor", "*", "config.json"))
	for _, b := range bundles {
		dir := filepath.Dir(b)
		id := filepath.Base(dir)
		e.deleteContainer(ctx, id)
		if err := mount.UnmountAll(filepath.Join(dir, "rootfs"), 0); err != nil {
			e.cfg.Log.WarnContext(ctx, "a step's root is still mounted", "dir", dir, "err", err)
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			e.cfg.Log.WarnContext(ctx, "a step's bundle is left", "dir", dir, "err", err)
		}
	}
}

// deleteContainer makes runc forget a container. Its cgroups may be busy for as long as dead processes wait to be
// reaped by whoever: then the state goes by itself, and the cgroups when the next engine looks.
func (e *Engine) deleteContainer(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, e.cfg.Runtime, "delete", "--force", id).CombinedOutput()
	if err == nil {
		return
	}
	e.cfg.Log.DebugContext(ctx, "a step's container was not deleted", "id", id, "said", string(out), "err", err)
	if err := os.RemoveAll(filepath.Join(runcState, id)); err != nil {
		e.cfg.Log.WarnContext(ctx, "a step's state is left", "id", id, "err", err)
	}
}

// runcState is where runc keeps its containers' states unless told otherwise, and BuildKit does not tell it.
const runcState = "/run/runc"
