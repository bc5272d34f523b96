package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A Librarian is a Store that lists images and launches: roll-outs and retention go by them.
type Librarian interface {
	// Images returns all images that answer for keys. Launches counts those of the same commit since a time, without the
	// canary's.
	Images(ctx context.Context, since time.Time) ([]bindery.ImageRecord, error)
	// Launched calls f for each session that was admitted since a time, in order, but for the canary's.
	Launched(ctx context.Context, since time.Time, f func(build string, at time.Time, failed bool)) error
}

// A shelf is in which order generations are looked through for an image, and which one builds what has none. It is
// replaced, never changed: whoever asks for a build reads it without a lock.
type shelf struct {
	order   []string // the newest that serves first; what was withdrawn last
	serving int      // so many of them were not withdrawn
	builder bindery.Generation
}

// shelve makes the shelf of the generations that are known.
func (d *Dispatcher) shelve() {
	all := slices.Clone(d.generations)
	slices.SortFunc(all, func(a, b bindery.Generation) int {
		return cmp.Or(compareBool(a.State == bindery.GenerationWithdrawn, b.State == bindery.GenerationWithdrawn), cmp.Compare(b.Place, a.Place))
	})
	s := &shelf{}
	var own, current bindery.Generation
	for _, g := range all {
		s.order = append(s.order, g.Name)
		if g.State != bindery.GenerationWithdrawn {
			s.serving++
		}
		if g.Name == d.cfg.Generation {
			own = g
		}
		if g.State == bindery.GenerationCurrent {
			current = g
		}
	}
	// Who waits for a first build gets it from the generation that is proven, as long as the worker has its rules: a new
	// one may break it, and nothing older would be there. Of other rules, the worker's own are all that can be had.
	s.builder = own
	if own.State != bindery.GenerationCurrent && current.Name != "" && current.Recipe.Rules == own.Recipe.Rules {
		s.builder = current
	}
	d.shelf.Store(s)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// enrolled returns the generations that are new or other than they were stored, once a hub runs that is set to build by
// own. Of the first ones that it hears of, the newest that has images is current.
func enrolled(known []bindery.Generation, images []bindery.ImageRecord, own bindery.Recipe, now time.Time) (out []bindery.Generation) {
	place, have, current := int64(0), map[string]bool{}, ""
	for _, g := range known {
		if g.State.RollsOut() && g.State != bindery.GenerationPaused && g.Recipe.Rules != own.Rules {
			r := *g.Rollout
			g.Rollout = &r
			g.Rollout.Resumes, g.Rollout.Paused = g.State, "The Bindery that runs now has other rules and cannot build by it"
			g.State, g.Changed = bindery.GenerationPaused, now
			out = append(out, g)
		}
		place, have[g.Name] = max(place, g.Place), true
		if g.State == bindery.GenerationCurrent {
			current = g.Name
		}
	}
	add := func(name string, r bindery.Recipe, created time.Time) {
		place++
		have[name] = true
		out = append(out, bindery.Generation{Name: name, State: bindery.GenerationOld, Place: place, Recipe: r, Created: created, Changed: now})
	}
	// Images from before generations were kept in a table: the oldest first.
	slices.SortStableFunc(images, func(a, b bindery.ImageRecord) int { return a.Created.Compare(b.Created) })
	for _, r := range images {
		if r.Generation != "" && !have[r.Generation] && r.Generation != own.Generation() {
			add(r.Generation, bindery.Recipe{Rules: r.Generation}, r.Created)
		}
	}
	name := own.Generation()
	if have[name] {
		return out
	}
	others := slices.ContainsFunc(images, func(r bindery.ImageRecord) bool { return r.Generation != name && r.Generation != "" })
	add(name, own, now)
	out[len(out)-1].State = bindery.GenerationNew
	switch {
	case !others: // nothing that it would have to take over
		out[len(out)-1].State = bindery.GenerationCurrent
		for _, g := range known {
			if g.State == bindery.GenerationCurrent {
				g.State, g.Changed = bindery.GenerationOld, now
				out = append(out, g)
			}
		}
	case current == "":
		out[max(len(out)-2, 0)].State = bindery.GenerationCurrent
	}
	return out
}

// images lists the images, where the store can.
func (d *Dispatcher) images(ctx context.Context, since time.Time) ([]bindery.ImageRecord, error) {
	lib, ok := d.cfg.Store.(Librarian)
	if !ok {
		return nil, nil
	}
	return lib.Images(ctx, since)
}

// storedImages lists the images once what is decided by now is stored: else a generation may have taken over by what nobody
// can read yet.
func (d *Dispatcher) storedImages(ctx context.Context, since time.Time) ([]bindery.ImageRecord, error) {
	if err := d.do(ctx, func(*turn) {}); err != nil {
		return nil, err
	}
	return d.images(ctx, since)
}

// enroll stores the generations that nobody had heard of.
func (t *turn) enroll() {
	for _, g := range t.d.enrolling {
		t.saveGeneration(g)
		t.tellGeneration(bindery.GenerationEvent{Generation: g.Name, Event: "state", State: g.State, Who: "hub"})
	}
	t.d.enrolling = nil
}

// generation finds a generation by its name. It needs the state locked.
func (d *Dispatcher) generation(name string) *bindery.Generation {
	for i := range d.generations {
		if d.generations[i].Name == name {
			return &d.generations[i]
		}
	}
	return nil
}

// current is the name of the current generation, if there is one. It needs the state locked.
func (d *Dispatcher) current() string {
	for _, g := range d.generations {
		if g.State == bindery.GenerationCurrent {
			return g.Name
		}
	}
	return ""
}

// recipeOf is what a worker is asked to build a generation by; nil: what it has. It needs the state locked.
func (d *Dispatcher) recipeOf(name string) *bindery.Recipe {
	g := d.generation(name)
	if g == nil {
		return nil
	}
	r := g.Recipe
	return &r
}

// become moves a generation to a state, and says so in the audit log.
func (t *turn) becomes(g *bindery.Generation, state bindery.GenerationState, who, did, reason string) {
	g.State, g.Changed = state, t.now
	t.saveGeneration(*g)
	t.note(who, did, "generation "+g.Name, reason)
	t.tellGeneration(bindery.GenerationEvent{Generation: g.Name, Event: "state", State: state, Who: who, Reason: reason})
	t.d.shelve()
}

// saveGeneration stores a copy: the record goes on changing.
func (t *turn) saveGeneration(g bindery.Generation) {
	if g.Rollout != nil {
		r := *g.Rollout
		g.Rollout = &r
	}
	t.generations = slices.DeleteFunc(t.generations, func(x bindery.Generation) bool { return x.Name == g.Name })
	t.generations = append(t.generations, g)
}

// tellGeneration tells whoever archives events, once this turn is stored.
func (t *turn) tellGeneration(e bindery.GenerationEvent) {
	e.Time = t.now
	if f := t.d.cfg.Generations; f != nil {
		t.then(func() { f(e) })
	}
}

// restoreGenerations makes the generations what is stored, and adds those that are not: the next turn stores them. It
// needs the state locked.
func (d *Dispatcher) restoreGenerations(live bindery.Live, images []bindery.ImageRecord, now time.Time) {
	d.generations = slices.Clone(live.Generations)
	d.enrolling = enrolled(live.Generations, images, d.cfg.Recipe, now)
	for _, g := range d.enrolling {
		if old := d.generation(g.Name); old != nil {
			*old = g
		} else {
			d.generations = append(d.generations, g)
		}
	}
	d.held = map[string]bindery.Held{}
	for _, h := range live.Held {
		d.held[h.Key] = h
	}
	d.shelve()
}

// proven finds the image that serves a commit: of the newest generation that has one that was started, else of the
// newest that has one at all. What was withdrawn is looked at last.
func (d *Dispatcher) proven(ctx context.Context, src bindery.Source) (best bindery.Known, err error) {
	found := false
	s := d.shelf.Load()
	for i, g := range s.order {
		if found && i >= s.serving {
			break
		}
		k, err := d.cfg.Store.Known(ctx, bindery.BuildKey(src, g))
		if errors.Is(err, bindery.ErrNotFound) {
			continue
		}
		if err != nil {
			return k, err
		}
		if !k.Proven.IsZero() {
			return k, nil
		}
		if !found {
			best, found = k, true
		}
	}
	if !found {
		return best, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Build it.", "There is no image of it")
	}
	return best, nil
}

// started notes that a session of an image has answered: now it may take an older one's place.
func (t *turn) started(image string, visitor bool) {
	t.starts = append(t.starts, bindery.Started{Image: image, At: t.now, Visitor: visitor})
}

// Rollback takes a generation back at once: the one before it serves and builds again, as far as it has images; the
// withdrawn one serves only what no other can. An empty name means the one that rolls out, else the current one.
func (d *Dispatcher) Rollback(ctx context.Context, name, who, reason string) error {
	return d.changeGeneration(ctx, name, bindery.GenerationCurrent, func(t *turn, g *bindery.Generation) error {
		if !g.State.RollsOut() && g.State != bindery.GenerationCurrent && !(g.State == bindery.GenerationNew && g.Rollout != nil) {
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "Nothing is to be done.", "The generation %s does not serve: it is %s", g.Name, g.State)
		}
		var before *bindery.Generation
		if g.Rollout != nil {
			before = d.generation(g.Rollout.From)
		}
		if before == nil {
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "Start a roll-out of another generation instead.", "There is no generation before %s to go back to", g.Name)
		}
		if d.roll != nil && d.roll.generation == g.Name {
			t.endRoll()
		}
		g.Rollout.Ended = t.now
		t.becomes(g, bindery.GenerationWithdrawn, who, "roll back", reason)
		if before.State != bindery.GenerationCurrent {
			t.becomes(before, bindery.GenerationCurrent, who, "go back to", reason)
		}
		return nil
	})
}

// changeGeneration does something to a generation. An empty name means the one that rolls out, else the one in a state.
func (d *Dispatcher) changeGeneration(ctx context.Context, name string, otherwise bindery.GenerationState, f func(*turn, *bindery.Generation) error) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	var refused error
	err := d.do(ctx, func(t *turn) {
		g := d.generation(name)
		if name == "" {
			g = d.which(otherwise)
		}
		switch {
		case g != nil:
			refused = f(t, g)
		case name == "":
			refused = errNoRollout()
		default:
			refused = noSuchGeneration(name)
		}
	})
	return cmp.Or(err, refused)
}

// which is the generation that rolls out, else the one in a state. It needs the state locked.
func (d *Dispatcher) which(otherwise bindery.GenerationState) (g *bindery.Generation) {
	for i := range d.generations {
		if d.generations[i].State.RollsOut() {
			return &d.generations[i]
		}
		if d.generations[i].State == otherwise {
			g = &d.generations[i]
		}
	}
	return g
}

func errNoRollout() error {
	return bindery.Errorf(bindery.ErrConflict, bindery.User, "`bindery generation ls` lists the generations.", "No generation is being rolled out")
}

func noSuchGeneration(name string) error {
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery generation ls` lists them.", "There is no generation %q", bindery.Printable(name))
}

// endRoll forgets the roll-out that is under way; builds that it has queued or running are stopped.
func (t *turn) endRoll() {
	r := t.d.roll
	if r == nil {
		return
	}
	t.d.roll = nil
	for _, b := range t.d.inPlace() {
		if b.Generation == r.generation && b.Class == bindery.Background && b.Requester == rolloutRequester {
			t.step(sched.Cancel{Build: b.ID})
		}
	}
}

// inPlace lists the builds that are not over, in order: what is done to one may end it.
func (d *Dispatcher) inPlace() []*build {
	out := make([]*build, 0, len(d.builds))
	for _, b := range d.builds {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *build) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
