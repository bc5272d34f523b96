package buildkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

func tempDir(engine string) string { return filepath.Join(engine, "tmp") }

// TempIn has BuildKit and containerd keep what they need for a moment, such as mount points of layers, in the directory
// dir of an engine, which clears it whenever it is opened. They know none but the process' own, which this changes: so it
// is for the program that hosts an engine.
func TempIn(dir string) error {
	if err := mount.SetTempMountLocation(tempDir(dir)); err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	return os.Setenv("TMPDIR", tempDir(dir))
}

// clearLeftovers ends and removes the steps of an engine that was killed: BuildKit leaves a bundle for each, and runc
// a state of the same name. What it had mounted for a moment goes as well. The directory's lock says that nobody uses it
// any more.
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
	tmp := tempDir(e.cfg.Dir)
	err := mount.UnmountRecursive(tmp, unix.MNT_DETACH)
	if err == nil {
		err = os.RemoveAll(tmp)
	}
	if err != nil {
		e.cfg.Log.WarnContext(ctx, "temporary files are left", "dir", tmp, "err", err)
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
