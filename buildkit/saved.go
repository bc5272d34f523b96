package buildkit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"

	bindery "github.com/bindery-hub/bindery"
)

// With Config.Volatile a machine's death tears what was not on the disk yet, the databases first of all. But an image
// that launches must not be lost with the build cache: else a power cut makes every image "not built" at once. So the
// file "saved" lists the images all of whose layers were on the disk before it was written, with the directories of
// their layers. After a death these directories are moved into new stores, and all else is wiped.

const savedFile = "saved.json"

type savedImage struct {
	Record record   `json:"record"`
	Layers []string `json:"layers"` // directories of their own files below Config.Dir, the lowest first
}

// saved is what the file says now. A name leaves it before anything of its image is deleted.
type saved struct {
	changed chan struct{} // holds one when there may be images to be saved

	mu     sync.Mutex
	images map[string]savedImage // replaced, never changed
}

func newSaved() saved {
	return saved{changed: make(chan struct{}, 1), images: map[string]savedImage{}}
}

// look asks for images to be saved, at once or together with those of the next moment.
func (s *saved) look() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// saveImages saves images whenever that is asked for, until ctx ends.
func (e *Engine) saveImages(ctx context.Context) {
	for {
		select {
		case <-e.saved.changed:
			if err := e.save(ctx); err != nil && ctx.Err() == nil {
				e.cfg.Log.WarnContext(ctx, "images would not outlive the machine", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// save brings everything to the disk, then lists the images that were there before.
func (e *Engine) save(ctx context.Context) error {
	all, err := e.records.all()
	if err != nil {
		return err
	}
	e.saved.mu.Lock()
	known := e.saved.images
	e.saved.mu.Unlock()
	list := map[string]savedImage{}
	for _, rec := range all {
		if img, ok := known[rec.Image.Name]; ok && img.Record.Lease == rec.Lease {
			list[rec.Image.Name] = img
			continue
		}
		dirs, err := e.layers(ctx, rec.Snapshot)
		if err != nil {
			if _, gone := e.records.get(rec.Image.Name); gone == nil {
				return err
			}
			continue // it was removed meanwhile
		}
		list[rec.Image.Name] = savedImage{Record: rec, Layers: dirs}
	}
	if err := syncDir(e.cfg.Dir); err != nil {
		return err
	}
	e.saved.mu.Lock()
	defer e.saved.mu.Unlock()
	for name, img := range list {
		if rec, err := e.records.get(name); err != nil || rec.Lease != img.Record.Lease {
			delete(list, name)
		}
	}
	return e.writeSaved(list)
}

// unsave takes an image from the list. It comes before the image's lease ends.
func (e *Engine) unsave(name string) error {
	e.saved.mu.Lock()
	defer e.saved.mu.Unlock()
	if _, ok := e.saved.images[name]; !ok {
		return nil
	}
	rest := map[string]savedImage{}
	for n, img := range e.saved.images {
		if n != name {
			rest[n] = img
		}
	}
	return e.writeSaved(rest)
}

func (e *Engine) writeSaved(list map[string]savedImage) error {
	b, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("saved images: %w", err)
	}
	if err := writeDurably(filepath.Join(e.cfg.Dir, savedFile), b); err != nil {
		return err
	}
	e.saved.images = list
	return nil
}

func readSaved(dir string) (map[string]savedImage, error) {
	list := map[string]savedImage{}
	b, err := os.ReadFile(filepath.Join(dir, savedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("saved images: %w", err)
	}
	return list, nil
}

// openSaved reads the list and drops what a killed engine was about to remove.
func (e *Engine) openSaved() error {
	list, err := readSaved(e.cfg.Dir)
	if err != nil {
		return err
	}
	e.saved.images = list
	for name, img := range list {
		if rec, err := e.records.get(name); err != nil || rec.Lease != img.Record.Lease {
			if err := e.unsave(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// layers returns the directories that hold the files of a snapshot and its parents, the lowest first.
func (e *Engine) layers(ctx context.Context, snapshot string) ([]string, error) {
	key, nctx := lookPrefix+rand.Text(), within(ctx)
	labels := map[string]string{rootLabel: time.Now().UTC().Format(time.RFC3339)}
	ms, err := e.snapshotter().View(nctx, key, snapshot, snapshots.WithLabels(labels))
	if err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	err = e.snapshotter().Remove(within(context.WithoutCancel(ctx)), key)
	if err != nil {
		return nil, fmt.Errorf("layers: %w", err)
	}
	var dirs []string
	for _, m := range ms {
		if m.Type != "overlay" {
			dirs = append(dirs, m.Source)
		}
		for _, o := range m.Options {
			if list, ok := strings.CutPrefix(o, "lowerdir="); ok {
				dirs = append(dirs, strings.Split(list, ":")...)
			}
		}
	}
	slices.Reverse(dirs)
	for i := range dirs {
		if dirs[i], err = filepath.Rel(e.cfg.Dir, dirs[i]); err != nil {
			return nil, fmt.Errorf("layers: %w", err)
		}
	}
	return dirs, nil
}

// revive takes over the saved images of stores that were set aside. One that cannot be is left out: it is built again.
func (e *Engine) revive(ctx context.Context, dead string) error {
	list, err := readSaved(dead)
	if err != nil || len(list) == 0 {
		return err
	}
	lease, err := e.stores.leases.Create(ctx, leases.WithRandomID())
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	defer e.stores.leases.Delete(context.WithoutCancel(ctx), lease)
	r := reviver{e: e, dead: dead, moved: map[string]string{}}
	lctx := leases.WithLease(within(ctx), lease.ID)
	for name, img := range list {
		rec := img.Record
		if rec.Snapshot, err = r.chain(lctx, img.Layers); err == nil {
			err = e.keep(ctx, rec)
		}
		if err != nil {
			e.cfg.Log.WarnContext(ctx, "an image did not outlive the machine", "image", name, "err", err)
		}
	}
	e.cfg.Log.InfoContext(ctx, "images outlived the machine", "images", len(list), "layers", len(r.moved))
	return nil
}

// A reviver moves layers from stores that were set aside into the new ones.
type reviver struct {
	e     *Engine
	dead  string
	moved map[string]string // snapshots by the old directories: images share layers
}

func (r *reviver) chain(ctx context.Context, dirs []string) (snapshot string, err error) {
	if len(dirs) == 0 {
		return "", errors.New("it has no layers")
	}
	for _, dir := range dirs {
		next, ok := r.moved[dir]
		if !ok {
			if next, err = r.layer(ctx, dir, snapshot); err != nil {
				return "", err
			}
			r.moved[dir] = next
		}
		snapshot = next
	}
	return snapshot, nil
}

// layer makes a snapshot on parent out of a directory.
func (r *reviver) layer(ctx context.Context, dir, parent string) (string, error) {
	if !filepath.IsLocal(dir) {
		return "", fmt.Errorf("layer %s: %w", dir, bindery.ErrInvalid)
	}
	old, sn := filepath.Join(r.dead, dir), r.e.snapshotter()
	if info, err := os.Lstat(old); err != nil || !info.IsDir() {
		return "", errors.Join(fmt.Errorf("layer %s is no directory", dir), err)
	}
	name := "revived-" + rand.Text()
	ms, err := sn.Prepare(ctx, name+"-open", parent)
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", dir, err)
	}
	upper, err := upperOf(ms)
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Remove(upper), os.Rename(old, upper)); err != nil {
		return "", fmt.Errorf("layer %s: %w", dir, err)
	}
	if err := sn.Commit(ctx, name, name+"-open"); err != nil {
		return "", fmt.Errorf("layer %s: %w", dir, err)
	}
	return name, nil
}

// upperOf is the directory that an active snapshot writes to.
func upperOf(ms []mount.Mount) (string, error) {
	for _, m := range ms {
		if m.Type == "bind" {
			return m.Source, nil
		}
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				return dir, nil
			}
		}
	}
	return "", errors.New("a snapshot has no directory of its own")
}
