package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
)

// Invalidate has images replaced. Without force those that a selector chooses come next in the roll-out that is under
// way, and serve until then. With force they are forgotten at once: their next visitors wait for a build. With dryRun
// nothing is done. In any case it says what that costs.
func (d *Dispatcher) Invalidate(ctx context.Context, selector string, force, dryRun bool, who, reason string) (bindery.Invalidation, error) {
	sel, err := bindery.ParseSelector(selector)
	if err != nil {
		return bindery.Invalidation{}, err
	}
	if err := d.ready(ctx); err != nil {
		return bindery.Invalidation{}, err
	}
	if err := d.selectable(sel, force); err != nil {
		return bindery.Invalidation{}, err
	}
	all, err := d.judged(ctx)
	if err != nil {
		return bindery.Invalidation{}, err
	}
	var chosen []bindery.ImageRecord
	for _, r := range all {
		if r.Key != "" && sel.Selects(r) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return bindery.Invalidation{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery images ls` lists them.", "%q selects no image", bindery.Printable(sel.Text))
	}
	out, err := d.price(ctx, chosen)
	if err != nil {
		return out, err
	}
	out.Selector, out.Forced, out.Done = sel.Text, force, !dryRun
	out.Words = priceWords(out)
	switch {
	case dryRun:
		return out, nil
	case force:
		gone, _, err := d.discard(ctx, chosen, who, "invalidate image", cmp.Or(reason, sel.Text))
		out.Kept = len(chosen) - len(gone)
		return out, err
	}
	return out, d.advanceTargets(ctx, chosen, sel, who, reason)
}

// selectable refuses what can select nothing, or could only be forced.
func (d *Dispatcher) selectable(sel bindery.Selector, force bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sel.Generation != "" && d.generation(sel.Generation) == nil {
		return noSuchGeneration(sel.Generation)
	}
	if !force && d.roll == nil {
		return bindery.Errorf(bindery.ErrConflict, bindery.User, "Start one with `bindery generation start`, or use --force: then the images are dropped at once.",
			"No roll-out is under way that would replace these images while they serve")
	}
	return nil
}

// advanceTargets puts images first in the roll-out; those that it could not replace are tried again.
func (d *Dispatcher) advanceTargets(ctx context.Context, chosen []bindery.ImageRecord, sel bindery.Selector, who, reason string) error {
	var refused error
	err := d.do(ctx, func(t *turn) {
		r := d.roll
		if refused = nil; r == nil {
			refused = errNoRollout()
			return
		}
		t.note(who, "invalidate images", sel.Text, reason)
		for _, rec := range chosen {
			key := bindery.BuildKey(rec.Source, r.generation)
			if rec.Generation == r.generation {
				continue
			}
			if _, held := d.held[key]; held {
				delete(d.held, key)
				t.unheld = append(t.unheld, key)
				t.forgiveKey(key)
			}
			if r.targets[key] == nil {
				r.targets[key] = &target{source: rec.Source}
			}
			t.rolls(r.Step(t.now, rollout.First{Item: rollout.Item{Key: key, Launches: rec.Launches}}))
			t.tellGeneration(bindery.GenerationEvent{Generation: r.generation, Event: "invalidated", Source: rec.Source, Who: who, Reason: reason})
		}
	})
	return cmp.Or(err, refused)
}

// price says what dropping images costs.
func (d *Dispatcher) price(ctx context.Context, chosen []bindery.ImageRecord) (out bindery.Invalidation, err error) {
	now := d.now()
	f := rollout.Facts{Now: now, Window: launchesFor}
	builds, specs := map[string]int{}, map[string]int{}
	for _, r := range chosen {
		spec := r.Source.Spec()
		if _, ok := specs[spec]; !ok {
			specs[spec] = len(specs)
		}
		builds[r.Build] = specs[spec]
	}
	out.Images = len(chosen)
	if lib, ok := d.cfg.Store.(Librarian); ok {
		err = lib.Launched(ctx, now.Add(-launchesFor), func(build string, at time.Time, _ bool) {
			i, ok := builds[build]
			if !ok {
				return
			}
			f.Launches = append(f.Launches, rollout.Launched{Image: i, At: at})
			if now.Sub(at) <= 24*time.Hour {
				out.Launches++
			}
		})
		if err != nil {
			return out, err
		}
	}
	out.FirstHour, out.FirstDay = rollout.Demand(f, time.Hour).Builds, rollout.Demand(f, 24*time.Hour).Builds
	of, otherwise, _, err := d.costs(ctx)
	if err != nil {
		return out, err
	}
	var sum time.Duration
	for _, r := range chosen {
		cost, ok := of[r.Source.Identity()]
		if !ok {
			cost = otherwise
		}
		sum += cost
	}
	d.mu.Lock()
	slots := d.slots()
	d.mu.Unlock()
	mean := sum / time.Duration(len(chosen))
	out.Wait = time.Duration(out.FirstHour * float64(mean) / float64(max(slots, 1)))
	return out, nil
}

func priceWords(x bindery.Invalidation) string {
	if !x.Forced {
		return fmt.Sprintf("%d images come next in the roll-out; each serves until its replacement is proven.", x.Images)
	}
	return fmt.Sprintf("%d images are dropped at once. They had %d launches in the last 24 hours. On the days before, %.0f of them were asked for within an hour of now, and %.0f within a day: so many visitors' builds follow, and those of the first hour take %s at all slots.",
		x.Images, x.Launches, x.FirstHour, x.FirstDay, x.Wait.Round(time.Second))
}
