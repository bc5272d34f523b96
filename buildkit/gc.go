package buildkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"
)

// policy is what BuildKit keeps of its cache by itself, after every build.
func (c Config) policy() []client.PruneInfo {
	return []client.PruneInfo{{All: true, MaxUsedSpace: c.MaxCache, MinFreeSpace: c.MinFree, ReservedSpace: min(c.MaxCache, 2<<30)}}
}

// Collect writes down when images were used, and makes room if the disk is short of it: BuildKit neither counts nor
// frees what leases keep, so the images that nobody has used for longest go first, one by one. An image that a
// session runs on stays, and one that is fresh: its visitor is on the way.
func (e *Engine) Collect(ctx context.Context) error {
	if err := e.records.flush(); err != nil {
		return err
	}
	for {
		short, err := e.shortOfSpace()
		if err != nil || !short {
			return err
		}
		name, err := e.leastUsed(ctx)
		if err != nil || name == "" {
			return err
		}
		e.cfg.Log.InfoContext(ctx, "an image is removed to make room", "image", name)
		if err := e.RemoveImage(ctx, name); err != nil {
			return err
		}
		if err := e.prune(ctx); err != nil {
			return err
		}
	}
}

func (e *Engine) shortOfSpace() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(e.cfg.Dir, &st); err != nil {
		return false, fmt.Errorf("free space: %w", err)
	}
	return int64(st.Bavail)*st.Bsize < e.cfg.MinFree, nil
}

// leastUsed returns the image to go first, or "" when every image has a session or is fresh.
func (e *Engine) leastUsed(ctx context.Context) (string, error) {
	all, err := e.records.all()
	if err != nil {
		return "", err
	}
	busy := map[string]bool{}
	err = e.snapshotter().Walk(within(ctx), func(_ context.Context, info snapshots.Info) error {
		busy[info.Labels[imageLabel]] = true
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("list sessions: %w", err)
	}
	all = slices.DeleteFunc(all, func(r record) bool { return busy[r.Image.Name] || time.Since(lastUse(r)) < e.cfg.Fresh })
	if len(all) == 0 {
		return "", nil
	}
	return slices.MinFunc(all, func(a, b record) int { return lastUse(a).Compare(lastUse(b)) }).Image.Name, nil
}

// prune lets BuildKit apply its policy now.
func (e *Engine) prune(ctx context.Context) error {
	p := e.cfg.policy()[0]
	err := e.client.Prune(ctx, nil, client.WithKeepOpt(p.KeepDuration, p.ReservedSpace, p.MaxUsedSpace, p.MinFreeSpace), client.PruneAll)
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	return errors.Join(e.collectSnapshots(ctx, e.stores.meta))
}

// Prune drops all build cache that nothing holds: no image, no session, no build.
func (e *Engine) Prune(ctx context.Context) error {
	if err := e.client.Prune(ctx, nil, client.PruneAll); err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	return e.collectSnapshots(ctx, e.stores.meta)
}
