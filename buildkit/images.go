package buildkit

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"

	bindery "github.com/bindery-hub/bindery"
)

const (
	sessionPrefix = "session-"
	imageLabel    = "bindery.image"         // which image a session's snapshot was prepared from
	rootLabel     = "containerd.io/gc.root" // the collector leaves such a snapshot alone
)

// Image returns the image called name, or an error of kind ErrNotFound.
func (e *Engine) Image(_ context.Context, name string) (bindery.Image, error) {
	rec, err := e.records.get(name)
	return rec.Image, err
}

// Images returns all images by name.
func (e *Engine) Images(context.Context) ([]bindery.Image, error) {
	all, err := e.records.all()
	if err != nil {
		return nil, err
	}
	list := make([]bindery.Image, len(all))
	for i, r := range all {
		list[i] = r.Image
	}
	return list, nil
}

// RemoveImage forgets the image called name. Its layers stay as build cache until they are collected; sessions that
// were prepared from it go on.
func (e *Engine) RemoveImage(ctx context.Context, name string) error {
	return e.removeImage(ctx, name, nil)
}

// removeImage keeps note of why an image goes, if it is for want of room.
func (e *Engine) removeImage(ctx context.Context, name string, why *bindery.Dropped) error {
	rec, err := e.records.get(name)
	if err != nil {
		return err
	}
	if err := e.records.remove(name, why); err != nil {
		return err
	}
	if err := e.unsave(name); err != nil {
		return err
	}
	if err := e.stores.leases.Delete(ctx, leases.Lease{ID: rec.Lease}); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("drop lease: %w", err)
	}
	return nil
}

// Dropped lists the images that Collect has removed, the oldest first, but for those of which it was told to forget it.
func (e *Engine) Dropped(context.Context) ([]bindery.Dropped, error) { return e.records.dropped() }

// ForgetDropped forgets these notes up to the one with the number last.
func (e *Engine) ForgetDropped(_ context.Context, last int64) error {
	return e.records.forgetDropped(last)
}

func checkSession(id string) error {
	if ok, _ := regexp.MatchString(`^[a-z0-9][a-z0-9-]{0,62}$`, id); !ok {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use lower-case letters, digits and dashes.", "%q is not the id of a session", bindery.Printable(id))
	}
	return nil
}

// Prepare makes a writable root file system for a session from an image. Asked again it returns the same one.
func (e *Engine) Prepare(ctx context.Context, session, image string) (bindery.Rootfs, error) {
	if err := checkSession(session); err != nil {
		return bindery.Rootfs{}, err
	}
	rec, err := e.records.get(image)
	if err != nil {
		return bindery.Rootfs{}, err
	}
	key, now := sessionPrefix+session, time.Now()
	labels := map[string]string{rootLabel: now.UTC().Format(time.RFC3339), imageLabel: image}
	sn, nctx := e.snapshotter(), within(ctx)
	ms, err := sn.Prepare(nctx, key, rec.Snapshot, snapshots.WithLabels(labels))
	if errdefs.IsAlreadyExists(err) {
		info, serr := sn.Stat(nctx, key)
		if serr == nil && info.Labels[imageLabel] != image {
			return bindery.Rootfs{}, bindery.Errorf(bindery.ErrConflict, bindery.Ours, "", "Session %s was prepared from another image", session)
		}
		ms, err = sn.Mounts(nctx, key)
	}
	if err == nil { // no session outlives the machine
		ms, err = unsynced(ms)
	}
	if err != nil {
		return bindery.Rootfs{}, classify(fmt.Errorf("prepare session %s: %w", session, err))
	}
	e.records.touch(image, now)
	return bindery.Rootfs{Mounts: mountsOf(ms), Config: rec.Image.Config}, nil
}

func mountsOf(ms []mount.Mount) []bindery.Mount {
	out := make([]bindery.Mount, len(ms))
	for i, m := range ms {
		out[i] = bindery.Mount{Type: m.Type, Source: m.Source, Options: slices.Clone(m.Options)}
	}
	return out
}

// Release removes a session's root file system. One that is not there is no error.
func (e *Engine) Release(ctx context.Context, session string) error {
	if err := checkSession(session); err != nil {
		return err
	}
	err := e.snapshotter().Remove(within(ctx), sessionPrefix+session)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release session %s: %w", session, err)
	}
	// Removing only marks: the files go when the collector has run.
	return e.collectSnapshots(ctx, e.stores.meta)
}

// Prepared returns the ids of the sessions whose root file systems exist, sorted.
func (e *Engine) Prepared(ctx context.Context) ([]string, error) {
	var ids []string
	err := e.snapshotter().Walk(within(ctx), func(_ context.Context, info snapshots.Info) error {
		if id, ok := strings.CutPrefix(info.Name, sessionPrefix); ok {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	slices.Sort(ids)
	return ids, nil
}
