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

// Generations lists the generations, the newest first, with how far each is.
func (d *Dispatcher) Generations(ctx context.Context) ([]bindery.RolloutStatus, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	images, err := d.images(ctx, d.now())
	if err != nil {
		return nil, err
	}
	n := map[string]int{}
	for _, r := range images {
		n[r.Generation]++
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []bindery.RolloutStatus{}
	for _, g := range d.generations {
		st := d.statusOf(g)
		st.Images = n[g.Name]
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b bindery.RolloutStatus) int { return cmp.Compare(b.Place, a.Place) })
	return out, nil
}

// Generation says how one generation stands: an empty name means the one that rolls out, else the current one.
func (d *Dispatcher) Generation(ctx context.Context, name string) (bindery.RolloutStatus, error) {
	all, err := d.Generations(ctx)
	if err != nil {
		return bindery.RolloutStatus{}, err
	}
	found := -1
	for i, g := range all {
		switch {
		case g.Name == name || name == "" && g.State.RollsOut():
			return g, nil
		case name == "" && g.State == bindery.GenerationCurrent:
			found = i
		}
	}
	if found < 0 {
		return bindery.RolloutStatus{}, noSuchGeneration(name)
	}
	return all[found], nil
}

// statusOf needs the state locked.
func (d *Dispatcher) statusOf(g bindery.Generation) bindery.RolloutStatus {
	st := bindery.RolloutStatus{Generation: g, Serving: d.shelf.Load().builder.Name == g.Name, Held: []bindery.Held{}}
	if g.Rollout != nil {
		r := *g.Rollout
		st.Rollout = &r
	}
	for _, h := range d.held {
		if h.Generation == g.Name {
			st.Held = append(st.Held, h)
		}
	}
	slices.SortFunc(st.Held, func(a, b bindery.Held) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	r := d.roll
	if r == nil || r.generation != g.Name {
		if st.Rollout != nil {
			of := slices.DeleteFunc(slices.Clone(st.Held), func(h bindery.Held) bool { return h.At.Before(st.Rollout.Started) })
			st.Proven = max(0, st.Rollout.Total-len(of))
		}
		return st
	}
	st.Proven, st.Building, st.Starting, st.Waiting = r.Count(rollout.Proven), r.Count(rollout.Building), r.Count(rollout.Built)+r.Count(rollout.Starting), r.Count(rollout.Waiting)
	st.Rollout.Total, st.Covered = r.Total(), r.Covered()
	finished, now := st.Proven+r.Count(rollout.Held), d.now()
	if g.State != bindery.GenerationPaused && finished >= 5 {
		rate := now.Sub(st.Rollout.Started) / time.Duration(finished)
		st.Done = now.Add(rate * time.Duration(r.Total()-finished))
	}
	return st
}

// failureRate is how likely it was in the last week that a build of a generation, or then a launch of what it built, failed:
// what a roll-out tries of each image. Only commits that it has an image of count, for only these are replaced, and
// nothing that the canary did.
func (d *Dispatcher) failureRate(ctx context.Context, generation string, images []bindery.ImageRecord) (float64, error) {
	keys, builds := map[string]bool{}, map[string]bool{}
	for _, r := range images {
		if r.Generation == generation {
			keys[r.Key], builds[r.Build] = true, true
		}
	}
	var built, launched tally
	since := d.now().Add(-7 * 24 * time.Hour)
	if h, ok := d.cfg.Store.(Historian); ok {
		past, err := h.Past(ctx, mostPast)
		if err != nil {
			return 0, err
		}
		for _, b := range past {
			if keys[b.Key] && b.Ended.After(since) && b.State != bindery.BuildCancelled && b.Requester != bindery.CanaryRequester {
				built.count(b.State == bindery.BuildFailed)
			}
		}
	}
	if lib, ok := d.cfg.Store.(Librarian); ok {
		err := lib.Launched(ctx, since, func(build string, _ time.Time, bad bool) {
			if builds[build] {
				launched.count(bad)
			}
		})
		if err != nil {
			return 0, err
		}
	}
	return built.rate() + (1-built.rate())*launched.rate(), nil
}

// A tally counts failures.
type tally struct{ all, failed int }

func (t *tally) count(failed bool) {
	t.all++
	if failed {
		t.failed++
	}
}

func (t *tally) rate() float64 { return float64(t.failed) / float64(max(t.all, 1)) }

// PlanRollout says what a roll-out of a generation would cost and bring, the one that this hub is set to build by when
// name is empty. slots: at so many slots; 0: at those that there are.
func (d *Dispatcher) PlanRollout(ctx context.Context, name string, opt bindery.RolloutOptions, slots int) (bindery.RolloutPlan, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.RolloutPlan{}, err
	}
	if err := opt.Check(); err != nil {
		return bindery.RolloutPlan{}, err
	}
	f := rollout.Facts{Now: d.now(), Options: opt.WithDefaults(), Window: launchesFor, To: cmp.Or(name, d.cfg.Generation), Idle: max(d.cfg.Policy.Idle, 0)}
	d.mu.Lock()
	f.Slots = cmp.Or(slots, d.slots())
	g := d.generation(f.To)
	f.From = d.current()
	d.mu.Unlock()
	if g == nil {
		return bindery.RolloutPlan{}, noSuchGeneration(name)
	}
	whole, err := d.facts(ctx, &f)
	if err != nil {
		return bindery.RolloutPlan{}, err
	}
	p := rollout.Plan(f)
	p.Notes = append(p.Notes, whole...)
	if f.From == f.To {
		p.Notes = append(p.Notes, "The generation "+f.To+" is current already: nothing is to be replaced until the base, the appendix or the program changes.")
	}
	return p, nil
}

// facts fills in images, launches and what builds cost.
func (d *Dispatcher) facts(ctx context.Context, f *rollout.Facts) (notes []string, err error) {
	images, err := d.images(ctx, f.Now.Add(-launchesFor))
	if err != nil {
		return nil, err
	}
	costs, guessed, busy, err := d.costs(ctx)
	if err != nil {
		return nil, err
	}
	f.Busy = busy
	replaced := map[string]bool{}
	for _, r := range images {
		if r.Generation == f.To && !r.Proven.IsZero() {
			replaced[r.Source.Spec()] = true
		}
	}
	index, builds := map[string]int{}, map[string]int{} // of specs, of builds
	for _, r := range images {
		spec := r.Source.Spec()
		if r.Generation == f.To || replaced[spec] {
			continue
		}
		i, ok := index[spec]
		if !ok {
			i = len(f.Images)
			index[spec] = i
			cost, known := costs[r.Source.Identity()]
			if !known {
				cost = guessed
			}
			f.Images = append(f.Images, rollout.Candidate{Launches: r.Launches, Cost: cost, Skip: true})
		}
		f.Images[i].Skip = f.Images[i].Skip && unused(r, f.Options, f.Now)
		builds[r.Build] = i
	}
	if lib, ok := d.cfg.Store.(Librarian); ok {
		err = lib.Launched(ctx, f.Now.Add(-launchesFor), func(build string, at time.Time, _ bool) {
			if i, ok := builds[build]; ok {
				f.Launches = append(f.Launches, rollout.Launched{Image: i, At: at})
			}
		})
	}
	if len(costs) == 0 && len(f.Images) > 0 {
		notes = append(notes, fmt.Sprintf("No build has been measured yet: each is taken to last %s.", guessed))
	}
	return notes, err
}

// costs is what builds of each repository have cost lately, what one of unknown cost is taken for, and how many slots
// builds that somebody waited for have held on average.
func (d *Dispatcher) costs(ctx context.Context) (of map[string]time.Duration, otherwise time.Duration, busy float64, err error) {
	of, otherwise = map[string]time.Duration{}, d.cfg.Policy.Guess
	h, ok := d.cfg.Store.(Historian)
	if !ok {
		return of, otherwise, 0, nil
	}
	past, err := h.Past(ctx, mostPast)
	if err != nil {
		return nil, 0, 0, err
	}
	now := d.now()
	since := now.Add(-launchesFor)
	var sum, held time.Duration
	n, first := 0, now
	for _, b := range past {
		cost := costOf(b)
		if cost <= 0 {
			continue
		}
		if b.State == bindery.BuildSucceeded && b.Requester != bindery.CanaryRequester { // that one's are small, and many
			of[b.Source.Identity()] = cost
			sum += cost
			n++
		}
		if b.Ended.After(since) && b.Class != bindery.Background {
			held += cost
			if b.Started.Before(first) {
				first = b.Started
			}
		}
	}
	if n > 0 {
		otherwise = sum / time.Duration(n)
	}
	if span := max(now.Sub(first), 24*time.Hour); held > 0 {
		busy = held.Seconds() / span.Seconds()
	}
	return of, otherwise, busy, nil
}
