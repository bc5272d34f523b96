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

	bindery "github.com/bindery-hub/bindery"
)

// policy is what BuildKit keeps of its cache by itself, after every build.
func (c Config) policy() []client.PruneInfo {
	return []client.PruneInfo{{All: true, MaxUsedSpace: c.MaxCache, MinFreeSpace: c.MinFree, ReservedSpace: min(c.MaxCache, 2<<30)}}
}

// Collect writes down when images were used, and makes room if the disk is short of it: BuildKit neither counts nor
// frees what leases keep, so the images that nobody has used for longest go first, one by one. An image that a
// session runs on stays, and one that is fresh: its visitor is on the way. Dropped tells of those that went.
func (e *Engine) Collect(ctx context.Context) error {
	if err := e.records.flush(); err != nil {
		return err
	}
	for {
		free, err := e.freeSpace()
		if err != nil || free >= e.cfg.MinFree {
			return err
		}
		img, err := e.leastUsed(ctx)
		if err != nil || img.Name == "" {
			return err
		}
		why := bindery.Dropped{Time: time.Now().UTC(), Image: img.Name, Source: img.Source, Used: img.Used, Free: free, Wanted: e.cfg.MinFree}
		e.cfg.Log.InfoContext(ctx, "an image is removed to make room", "image", why.Image, "reason", why.Why())
		if err := e.removeImage(ctx, why.Image, &why); err != nil {
			return err
		}
		if err := e.prune(ctx); err != nil {
			return err
		}
	}
}

func (e *Engine) freeSpace() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(e.cfg.Dir, &st); err != nil {
		return 0, fmt.Errorf("free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// leastUsed returns the image to go first, or none when every image has a session or is fresh.
func (e *Engine) leastUsed(ctx context.Context) (bindery.Image, error) {
	all, err := e.records.all()
	if err != nil {
		return bindery.Image{}, err
	}
	busy := map[string]bool{}
	err = e.snapshotter().Walk(within(ctx), func(_ context.Context, info snapshots.Info) error {
		busy[info.Labels[imageLabel]] = true
		return nil
	})
	if err != nil {
		return bindery.Image{}, fmt.Errorf("list sessions: %w", err)
	}
	all = slices.DeleteFunc(all, func(r record) bool { return busy[r.Image.Name] || time.Since(lastUse(r)) < e.cfg.Fresh })
	if len(all) == 0 {
		return bindery.Image{}, nil
	}
	return slices.MinFunc(all, func(a, b record) int { return lastUse(a).Compare(lastUse(b)) }).Image, nil
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
