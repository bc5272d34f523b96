package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
)

// Invalidate has images replaced. Without force those that a selector chooses are built anew in idle slots, and serve
// until their replacements are proven: next in the roll-out that is under way, else in one of their own. With force they
// are forgotten at once: their next visitors wait for a build. With dryRun nothing is done. In any case it says what that
// costs.
func (d *Dispatcher) Invalidate(ctx context.Context, selector string, force, dryRun bool, who, reason string) (bindery.Invalidation, error) {
	sel, err := bindery.ParseSelector(selector)
	if err != nil {
		return bindery.Invalidation{}, err
	}
	if err := d.ready(ctx); err != nil {
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
	by, next, err := "", false, error(nil)
	if !force {
		if by, next, err = d.rebuilder(); err == nil {
			chosen, err = replaceable(chosen, all, by)
		}
		if err != nil {
			return bindery.Invalidation{}, err
		}
	}
	out, err := d.price(ctx, chosen)
	if err != nil {
		return out, err
	}
	out.Selector, out.Forced, out.Done = sel.Text, force, !dryRun
	out.Words = priceWords(out, by, next)
	switch {
	case dryRun:
		return out, nil
	case force:
		gone, _, err := d.discard(ctx, chosen, all, who, "invalidate image", cmp.Or(reason, sel.Text))
		out.Kept = len(chosen) - len(gone)
		return out, err
	}
	return out, d.replace(ctx, chosen, all, by, sel, who, reason)
}

// rebuilder is the generation by which images are built again: the one that is rolled out; else the one that this hub is
// set to build by, unless that was rolled back or is older than the current one. next: a roll-out is under way.
func (d *Dispatcher) rebuilder() (name string, next bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.roll != nil {
		return d.roll.generation, true, nil
	}
	g := d.generation(d.cfg.Generation)
	if g == nil || g.State != bindery.GenerationNew && g.State != bindery.GenerationCurrent {
		g = d.which(bindery.GenerationCurrent)
	}
	switch {
	case g == nil:
		return "", false, errNoRollout()
	case g.Recipe.Rules != d.cfg.Recipe.Rules:
		return "", false, errOtherRules(g.Name)
	}
	return g.Name, false, nil
}

// replaceable leaves of the chosen images, one for each commit, those of which a generation has no proven image yet.
func replaceable(chosen, all []bindery.ImageRecord, by string) (out []bindery.ImageRecord, err error) {
	settled := map[string]bool{}
	for _, r := range all {
		if r.Generation == by && !r.Proven.IsZero() {
			settled[r.Source.Spec()] = true
		}
	}
	for _, r := range chosen {
		if spec := r.Source.Spec(); r.Generation != by && !settled[spec] {
			settled[spec] = true
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, bindery.Errorf(bindery.ErrConflict, bindery.User, "Change the base or the appendix, where a line is enough, and start a roll-out; or use --force: then they are dropped at once.",
			"The generation %s has made these images already, and would make the same ones again", by)
	}
	return out, nil
}

// replace puts images first in the roll-out, or in one of their own if none is under way. What was held is tried again.
func (d *Dispatcher) replace(ctx context.Context, chosen, all []bindery.ImageRecord, by string, sel bindery.Selector, who, reason string) error {
	var refused error
	err := d.do(ctx, func(t *turn) {
		g := d.generation(by)
		if refused = nil; g == nil || d.roll != nil && d.roll.generation != by || d.roll == nil && g.State.RollsOut() {
			refused = bindery.Errorf(bindery.ErrConflict, bindery.User, "Try again.", "Another roll-out has begun meanwhile")
			return
		}
		t.note(who, "invalidate images", sel.Text, reason)
		for _, rec := range chosen {
			if key := bindery.BuildKey(rec.Source, by); d.held[key].Key != "" {
				t.unhold(key)
			}
			t.tellGeneration(bindery.GenerationEvent{Generation: by, Event: "invalidated", Source: rec.Source, Who: who, Reason: reason})
		}
		if d.roll == nil {
			t.beginRebuild(g, all, sel, who, reason)
			return
		}
		for _, rec := range chosen {
			key := bindery.BuildKey(rec.Source, by)
			if d.roll.targets[key] == nil {
				d.roll.targets[key] = &target{source: rec.Source}
			}
			t.rolls(d.roll.Step(t.now, rollout.First{Item: rollout.Item{Key: key, Launches: rec.Launches}}))
		}
		if g.Rebuilds() {
			g.Rollout.Only = append(slices.Clone(g.Rollout.Only), sel.Text)
			t.saveGeneration(*g)
		}
	})
	return cmp.Or(err, refused)
}

// beginRebuild begins a roll-out of chosen images. Nobody takes over: the generation stays what it is. Failures do not
// stop it, since somebody wants these images.
func (t *turn) beginRebuild(g *bindery.Generation, images []bindery.ImageRecord, sel bindery.Selector, who, reason string) {
	from := ""
	if g.Rollout != nil {
		from = g.Rollout.From
	} else if current := t.d.which(bindery.GenerationCurrent); current != nil && current.Name != g.Name {
		from = current.Name
	}
	g.Rollout = &bindery.Rollout{
		From: from, Only: []string{sel.Text}, By: who, Reason: reason, Started: t.now, Judged: t.now,
		Options: bindery.RolloutOptions{Since: -1, Threshold: 1}.WithDefaults(),
	}
	t.d.roll = t.d.newRoll(*g, images, t.now)
	g.Rollout.Total = t.d.roll.Total()
	t.saveGeneration(*g)
}

// selectors are what texts that were stored say.
func selectors(texts []string) (out []bindery.Selector) {
	for _, text := range texts {
		if sel, err := bindery.ParseSelector(text); err == nil { // it was checked before it was stored
			out = append(out, sel)
		}
	}
	return out
}

// selected reports whether one of some selectors selects an image; of none, all do.
func selected(by []bindery.Selector, rec bindery.ImageRecord) bool {
	return len(by) == 0 || slices.ContainsFunc(by, func(s bindery.Selector) bool { return s.Selects(rec) })
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
	out.Build = sum
	mean := sum / time.Duration(len(chosen))
	out.Wait = time.Duration(out.FirstHour * float64(mean) / float64(max(slots, 1)))
	return out, nil
}

// priceWords says what it costs. by is the generation that replaces what serves until then, next of the roll-out that is
// under way.
func priceWords(x bindery.Invalidation, by string, next bool) string {
	if !x.Forced {
		where := "are built anew by the generation " + by
		if next {
			where = "come next in the roll-out of " + by
		}
		return fmt.Sprintf("%d images %s, which takes about %s of idle slots. Each serves until its replacement is proven: no visitor waits.", x.Images, where, x.Build.Round(time.Second))
	}
	return fmt.Sprintf("%d images are dropped at once. They had %d launches in the last 24 hours. On the days before, %.0f of them were asked for within an hour of now, and %.0f within a day: so many visitors' builds follow, and those of the first hour take %s at all slots.",
		x.Images, x.Launches, x.FirstHour, x.FirstDay, x.Wait.Round(time.Second))
}
