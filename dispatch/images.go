package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
)

// A Keeper is a Worker that keeps the images that it has made. *worker.Client is one.
type Keeper interface {
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
	out := bindery.Library{Images: images, Disk: d.account(ctx, images)}
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
	images, err := d.storedImages(ctx, d.now().Add(-launchesFor))
	if err != nil {
		return nil, err
	}
	images = d.withKept(ctx, images)
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

// withKept says which workers have each image, and adds what they have and no key answers for.
func (d *Dispatcher) withKept(ctx context.Context, images []bindery.ImageRecord) []bindery.ImageRecord {
	held, _ := askKeepers(ctx, d, "list its images", Keeper.Images)
	at := map[string][]string{}
	for _, h := range held {
		for _, i := range h.said {
			at[i.Name] = append(at[i.Name], h.worker)
		}
	}
	known := map[string]bool{}
	for i := range images {
		known[images[i].Image] = true
		images[i].Workers = at[images[i].Image]
	}
	for _, h := range held {
		for _, i := range h.said {
			if !known[i.Name] {
				known[i.Name] = true
				images = append(images, bindery.ImageRecord{Image: i.Name, Source: i.Source, Created: i.Created, Used: i.Used, Workers: at[i.Name]})
			}
		}
	}
	return images
}

// account adds up where the disks of all workers went, and gives the images their sizes. nil: no worker says.
func (d *Dispatcher) account(ctx context.Context, images []bindery.ImageRecord) *bindery.DiskUse {
	said, silent := askKeepers(ctx, d, "say where its disk went", Keeper.Disk)
	if len(said) == 0 {
		return nil
	}
	all := bindery.DiskUse{Own: map[string]int64{}, Silent: silent}
	for _, s := range said {
		all.Add(s.said)
	}
	for i := range images {
		images[i].Size = all.Own[images[i].Image]
	}
	return &all
}

// kept is what a worker answered of what it keeps.
type kept[T any] struct {
	worker string
	said   T
}

// askWithin is how long a worker may take to answer for its images.
const askWithin = time.Minute

// askKeepers asks all workers that keep images at once, the hub's own first in the answers. silent are the others: who
// is away is not waited for, and lists of what the rest have are better than none.
func askKeepers[T any](ctx context.Context, d *Dispatcher, what string, ask func(Keeper, context.Context) (T, error)) (answers []kept[T], silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	keepers, silent := d.keepers()
	said, errs := make([]T, len(keepers)), make([]error, len(keepers))
	var work sync.WaitGroup
	for i, k := range keepers {
		work.Go(func() { said[i], errs[i] = ask(k.Keeper, ctx) })
	}
	work.Wait()
	for i, k := range keepers {
		if errs[i] != nil {
			d.cfg.Log.WarnContext(ctx, "a worker does not "+what, "worker", k.name, "error", errs[i])
			silent = append(silent, k.name)
			continue
		}
		answers = append(answers, kept[T]{k.name, said[i]})
	}
	return answers, silent
}

type namedKeeper struct {
	name string
	Keeper
}

// keepers lists the workers that keep images, and the names of those that are away. The hub's own is asked anyway: that
// starts it.
func (d *Dispatcher) keepers() (here []namedKeeper, away []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.members {
		k, ok := m.conn.(Keeper)
		switch {
		case !ok:
		case m.own() || m.view.Up:
			here = append(here, namedKeeper{m.name(), k})
		default:
			away = append(away, m.name())
		}
	}
	return here, away
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
	gone, why, err := d.discard(ctx, records, images, who, "remove image", reason)
	if err == nil && len(gone) == 0 {
		err = bindery.Errorf(bindery.ErrConflict, bindery.User, "Wait until it is idle, or stop its sessions.", "The image %s is in use: %s", records[0].Image, why)
	}
	return err
}

// Prune removes the images that a rule of retention does not keep; with dryRun it says which those are. What the rule
// leaves out is as the hub is set.
func (d *Dispatcher) Prune(ctx context.Context, r bindery.Retention, dryRun bool, who, reason string) (bindery.Pruned, error) {
	if r.Unused < 0 || r.Superseded < 0 || r.Top < 0 || r.Generations < 0 {
		return bindery.Pruned{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give times and numbers that are not negative.", "The rule of retention cannot be meant")
	}
	r = r.Or(d.cfg.Retention)
	lib, err := d.Library(ctx, int(^uint(0)>>1))
	if err != nil {
		return bindery.Pruned{}, err
	}
	order, _ := d.lookOrder()
	out := bindery.Pruned{DryRun: dryRun, Removed: rollout.Retain(lib.Images, r, order, d.now())}
	if !dryRun {
		if out.Removed, _, err = d.discard(ctx, out.Removed, lib.Images, who, "prune image", reason); err != nil {
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

// discard forgets some of all images and has their workers remove them; what is in use stays, and why says by whom.
func (d *Dispatcher) discard(ctx context.Context, records, all []bindery.ImageRecord, who, did, reason string) (gone []bindery.ImageRecord, why string, err error) {
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
		t.dropTargets(gone, all)
	})
	if err != nil {
		return nil, "", err
	}
	for _, r := range gone {
		d.unshelve(ctx, r.Image)
	}
	return gone, why, nil
}

// dropTargets takes out of a roll-out the images of which nothing is left to replace, unless that has begun. Who asks for
// one again has it built, and it joins then.
func (t *turn) dropTargets(gone, all []bindery.ImageRecord) {
	roll := t.d.roll
	if roll == nil {
		return
	}
	removed, left := map[string]bool{}, map[string]bool{} // keys, commits
	for _, r := range gone {
		removed[r.Key] = true
	}
	for _, r := range all {
		left[r.Source.Spec()] = left[r.Source.Spec()] || r.Key != "" && !removed[r.Key]
	}
	for _, r := range gone {
		key := bindery.BuildKey(r.Source, roll.generation)
		if status, ok := roll.Has(key); !ok || status != rollout.Waiting || left[r.Source.Spec()] {
			continue
		}
		delete(roll.targets, key)
		t.rolls(roll.Step(t.now, rollout.Drop{Key: key}))
		if t.d.roll != roll {
			return // that was the last one
		}
	}
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

// unshelve has the workers that have it remove an image that is forgotten. If that fails, or the hub dies, or one is
// away, it is listed as one that nobody answers for, and can be removed again.
func (d *Dispatcher) unshelve(ctx context.Context, image string) {
	defer d.notRemoving(image)
	askKeepers(context.WithoutCancel(ctx), d, "remove the forgotten image "+image, func(k Keeper, ctx context.Context) (struct{}, error) {
		err := k.RemoveImage(ctx, image)
		if errors.Is(err, bindery.ErrNotFound) {
			err = nil
		}
		return struct{}{}, err
	})
}

// pruneEvery is how often images that retention does not keep are removed.
const pruneEvery = time.Hour

// prunes removes them, where the operator has said so.
func (d *Dispatcher) prunes(ctx context.Context) {
	if !d.cfg.Prunes {
		return
	}
	for pause(ctx, pruneEvery) == nil {
		done, err := d.Prune(ctx, bindery.Retention{}, false, "hub", "")
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "images cannot be pruned", "error", err)
		} else if len(done.Removed) > 0 {
			d.cfg.Log.InfoContext(ctx, "images were pruned", "images", len(done.Removed), "bytes", done.Bytes)
		}
	}
}
