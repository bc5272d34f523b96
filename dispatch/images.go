package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
)

// Shelves hold the images that workers have made.
type Shelves interface {
	Images(ctx context.Context) ([]bindery.Image, error)
	RemoveImage(ctx context.Context, name string) error
	Disk(ctx context.Context) (bindery.DiskUse, error)
}

// promisedFor is how long an image stays that somebody was told of: the launch follows.
const promisedFor = 10 * time.Minute

// promise notes that somebody was told of an image. ok is false when it is being removed.
func (d *Dispatcher) promise(image string) (ok bool) {
	now := d.cfg.Now()
	d.notes.Lock()
	defer d.notes.Unlock()
	if d.removing[image] {
		return false
	}
	if len(d.answered) > mostKnown {
		for name, at := range d.answered {
			if now.Sub(at) > promisedFor {
				delete(d.answered, name)
			}
		}
	}
	d.answered[image] = now
	return true
}

// Library lists the images, the most popular first, at most limit of them, and where the disk went.
func (d *Dispatcher) Library(ctx context.Context, limit int) (bindery.Library, error) {
	images, err := d.judged(ctx)
	if err != nil {
		return bindery.Library{}, err
	}
	out := bindery.Library{Images: images}
	if d.cfg.Shelves != nil {
		disk, err := d.cfg.Shelves.Disk(ctx)
		if err == nil {
			for i := range images {
				images[i].Size = disk.Own[images[i].Image]
			}
			out.Disk = &disk
		} else if ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "the worker does not say where its disk went", "error", err)
		}
	}
	slices.SortStableFunc(images, func(a, b bindery.ImageRecord) int {
		return cmp.Or(compareBool(a.Key == "", b.Key == ""), cmp.Compare(a.Rank, b.Rank), strings.Compare(a.Generation, b.Generation))
	})
	if out.Images == nil {
		out.Images = []bindery.ImageRecord{}
	}
	if more := len(images) - limit; more > 0 {
		out.Images, out.More = images[:limit], more
	}
	return out, nil
}

// judged returns all images with what each is for, those of `bindery build` included.
func (d *Dispatcher) judged(ctx context.Context) ([]bindery.ImageRecord, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	images, err := d.images(ctx, d.now().Add(-launchesFor))
	if err != nil {
		return nil, err
	}
	if images, err = d.withShelves(ctx, images); err != nil {
		return nil, err
	}
	order, withdrawn := d.lookOrder()
	rollout.Judge(images, order, withdrawn)
	busy := d.sessionsOf()
	d.mu.Lock()
	defer d.mu.Unlock()
	why := map[string]string{}
	for _, h := range d.held {
		why[h.Source.Spec()] = "its replacement by " + h.Generation + " failed (" + h.Stage + "): " + h.Reason
	}
	for i := range images {
		images[i].Sessions = busy[images[i].Image]
		if images[i].State == rollout.StateServing {
			images[i].Why = why[images[i].Source.Spec()]
		}
	}
	return images, nil
}

// withShelves adds what workers have and no key answers for.
func (d *Dispatcher) withShelves(ctx context.Context, images []bindery.ImageRecord) ([]bindery.ImageRecord, error) {
	if d.cfg.Shelves == nil {
		return images, nil
	}
	held, err := d.cfg.Shelves.Images(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, r := range images {
		known[r.Image] = true
	}
	for _, i := range held {
		if !known[i.Name] {
			images = append(images, bindery.ImageRecord{Image: i.Name, Source: i.Source, Created: i.Created, Used: i.Used})
		}
	}
	return images, nil
}

// lookOrder is in which order generations are looked through for an image, and which are withdrawn.
func (d *Dispatcher) lookOrder() (order []string, withdrawn map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	withdrawn = map[string]bool{}
	for _, g := range d.generations {
		withdrawn[g.Name] = g.State == bindery.GenerationWithdrawn
	}
	return d.shelf.Load().order, withdrawn
}

// sessionsOf counts the sessions on each image.
func (d *Dispatcher) sessionsOf() map[string]int {
	n := map[string]int{}
	d.shown.Range(func(_, v any) bool {
		n[v.(*shown).session.Image]++
		return true
	})
	return n
}

// RemoveImage removes an image, by its name or the end of it, for good: the next launch builds it again unless another
// generation has one. One that is in use stays.
func (d *Dispatcher) RemoveImage(ctx context.Context, name, who, reason string) error {
	images, err := d.judged(ctx)
	if err != nil {
		return err
	}
	var records []bindery.ImageRecord
	for _, r := range images {
		if r.Image == name || strings.TrimPrefix(r.Image, "bindery/") == name {
			records = append(records, r)
		}
	}
	if len(records) == 0 {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery images ls` lists them.", "There is no image %q", bindery.Printable(name))
	}
	gone, why, err := d.discard(ctx, records, who, "remove image", reason)
	if err == nil && len(gone) == 0 {
		err = bindery.Errorf(bindery.ErrConflict, bindery.User, "Wait until it is idle, or stop its sessions.", "The image %s is in use: %s", records[0].Image, why)
	}
	return err
}

// Prune removes the images that a rule of retention does not keep; with dryRun it says which those are.
func (d *Dispatcher) Prune(ctx context.Context, r bindery.Retention, dryRun bool, who, reason string) (bindery.Pruned, error) {
	if r.Unused < 0 || r.Superseded < 0 || r.Top < 0 || r.Generations < 0 {
		return bindery.Pruned{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give times and numbers that are not negative.", "The rule of retention cannot be meant")
	}
	lib, err := d.Library(ctx, int(^uint(0)>>1))
	if err != nil {
		return bindery.Pruned{}, err
	}
	order, _ := d.lookOrder()
	out := bindery.Pruned{DryRun: dryRun, Removed: rollout.Retain(lib.Images, r, order, d.now())}
	if !dryRun {
		if out.Removed, _, err = d.discard(ctx, out.Removed, who, "prune image", reason); err != nil {
			return out, err
		}
	}
	if out.Removed == nil {
		out.Removed = []bindery.ImageRecord{}
	}
	counted := map[string]bool{}
	for _, x := range out.Removed {
		if !counted[x.Image] {
			out.Bytes += x.Size
		}
		counted[x.Image] = true
	}
	out.Kept = len(lib.Images) - len(out.Removed)
	return out, nil
}

// discard forgets images and has their workers remove them; what is in use stays, and why says by whom.
func (d *Dispatcher) discard(ctx context.Context, records []bindery.ImageRecord, who, did, reason string) (gone []bindery.ImageRecord, why string, err error) {
	err = d.do(ctx, func(t *turn) {
		gone, why = nil, ""
		done := map[string]bool{}
		for _, r := range records {
			if use := t.use(r.Image); use != "" && !done[r.Image] {
				why = use
				continue
			}
			gone = append(gone, r)
			if r.Key != "" {
				t.forget = append(t.forget, r.Key)
				delete(d.succeeded, r.Key)
			}
			if done[r.Image] {
				continue
			}
			done[r.Image] = true
			t.note(who, did, r.Image+" of "+r.Source.Identity(), cmp.Or(reason, r.Why))
			t.tellGeneration(bindery.GenerationEvent{Generation: r.Generation, Event: "removed", Source: r.Source, Who: who, Reason: cmp.Or(reason, r.Why)})
			t.withhold(r.Image)
		}
	})
	if err != nil {
		return nil, "", err
	}
	for _, r := range gone {
		d.unshelve(ctx, r.Image)
	}
	return gone, why, nil
}

// use says what an image is needed for at this moment; empty: nothing.
func (t *turn) use(image string) string {
	d := t.d
	for _, s := range d.sessions {
		if s.Image == image {
			return "a session runs on it"
		}
	}
	for _, w := range d.lobby {
		if w.rec.Image == image {
			return "a launch waits for its place"
		}
	}
	if d.roll != nil {
		for _, tg := range d.roll.targets {
			if tg.trying && tg.image == image {
				return "its first session is being started"
			}
		}
	}
	d.notes.Lock()
	defer d.notes.Unlock()
	if at, ok := d.answered[image]; ok && t.now.Sub(at) < promisedFor {
		return "a launch of it has been promised"
	}
	return ""
}

// withhold keeps an image from being promised any more.
func (t *turn) withhold(image string) {
	d := t.d
	d.notes.Lock()
	d.removing[image] = true
	d.notes.Unlock()
	t.otherwise(func() { d.notRemoving(image) })
}

func (d *Dispatcher) notRemoving(image string) {
	d.notes.Lock()
	defer d.notes.Unlock()
	delete(d.removing, image)
}

// unshelve has the workers remove an image that is forgotten. If that fails, or the hub dies, it is listed as one that
// nobody answers for, and can be removed again.
func (d *Dispatcher) unshelve(ctx context.Context, image string) {
	defer d.notRemoving(image)
	if d.cfg.Shelves == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := d.cfg.Shelves.RemoveImage(ctx, image); err != nil && !errors.Is(err, bindery.ErrNotFound) {
		d.cfg.Log.WarnContext(ctx, "a forgotten image is still there", "image", image, "error", err)
	}
}

// pruneEvery is how often images that retention does not keep are removed.
const pruneEvery = time.Hour

// prunes removes them, where the operator has said what is to be kept.
func (d *Dispatcher) prunes(ctx context.Context) {
	if d.cfg.Retention == nil {
		return
	}
	for pause(ctx, pruneEvery) == nil {
		done, err := d.Prune(ctx, *d.cfg.Retention, false, "hub", "")
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "images cannot be pruned", "error", err)
		} else if len(done.Removed) > 0 {
			d.cfg.Log.InfoContext(ctx, "images were pruned", "images", len(done.Removed), "bytes", done.Bytes)
		}
	}
}
