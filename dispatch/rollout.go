package dispatch

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
	"github.com/bindery-hub/bindery/sched"
)

// rolloutRequester is who asks for the builds of a roll-out.
const rolloutRequester = "roll-out"

// launchesFor is how far back launches make an image popular.
const launchesFor = 14 * 24 * time.Hour

// A roll is the roll-out that is under way, with what the decider does not need to know.
type roll struct {
	*rollout.Rollout
	generation string
	targets    map[string]*target // by the key of the replacement
}

// A target is an image that is to be replaced.
type target struct {
	source bindery.Source
	build  string // that makes, or has made, its replacement
	image  string // the replacement, once it is there
	trying bool   // its first session is being started
}

// StartRollout begins to replace the images of older generations by those of a generation, the one that this hub is set
// to build by when name is empty.
func (d *Dispatcher) StartRollout(ctx context.Context, name string, opt bindery.RolloutOptions, who, reason string) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	if err := opt.Check(); err != nil {
		return err
	}
	opt = opt.WithDefaults()
	name = cmp.Or(name, d.cfg.Generation)
	images, err := d.storedImages(ctx, d.now().Add(-launchesFor))
	if err != nil {
		return err
	}
	d.mu.Lock()
	from := d.current()
	d.mu.Unlock()
	failures, err := d.failureRate(ctx, from, images)
	if err != nil {
		return err
	}
	var refused error
	err = d.do(ctx, func(t *turn) {
		if refused = d.mayStart(name); refused == nil {
			t.beginRoll(name, opt, images, failures, who, reason)
		}
	})
	return cmp.Or(err, refused)
}

// mayStart says what is in the way of a roll-out. It needs the state locked.
func (d *Dispatcher) mayStart(name string) error {
	g := d.generation(name)
	conflict := func(remedy, format string, args ...any) error {
		return bindery.Errorf(bindery.ErrConflict, bindery.User, remedy, format, args...)
	}
	if g == nil {
		return noSuchGeneration(name)
	}
	for _, other := range d.generations {
		if other.State.RollsOut() {
			return conflict("`bindery generation status` shows it; pause, resume or roll it back.", "The generation %s is being rolled out already", other.Name)
		}
	}
	switch {
	case g.State == bindery.GenerationCurrent:
		return conflict("Change the base, the appendix or the program first.", "The generation %s is current: there is nothing to replace", name)
	case g.Recipe.Rules != d.cfg.Recipe.Rules:
		return errOtherRules(name)
	}
	return nil
}

func errOtherRules(name string) error {
	return bindery.Errorf(bindery.ErrConflict, bindery.User, "Run the Bindery that has these rules.", "This Bindery cannot build by the generation %s: it has other rules", name)
}

// beginRoll makes a generation the one that takes over.
func (t *turn) beginRoll(name string, opt bindery.RolloutOptions, images []bindery.ImageRecord, failures float64, who, reason string) {
	d := t.d
	g := d.generation(name)
	last, from := int64(0), d.current()
	for _, x := range d.generations {
		last = max(last, x.Place)
	}
	if g.Place < last {
		g.Place = last + 1 // whatever it was before, it is the newest now
	}
	for i := range d.generations {
		if x := &d.generations[i]; x.Rebuilds() {
			if x.Name != name {
				t.endRoll()
			}
			x.Rollout.Ended = t.now
			t.saveGeneration(*x)
		}
	}
	for key, h := range d.held {
		if h.Generation == name {
			t.unhold(key)
		}
	}
	g.Rollout = &bindery.Rollout{From: from, Options: opt, By: who, Reason: reason, Started: t.now, Judged: t.now, OldRate: failures}
	t.becomes(g, bindery.GenerationCanary, who, "start roll-out", reason)
	d.roll = d.newRoll(*g, images, t.now)
	g.Rollout.Total, g.Rollout.Canary, g.Rollout.Skipped = d.roll.Total(), d.roll.Canary(), d.skipped(*g, images)
	t.saveGeneration(*g)
}

// unhold has an image tried again that was held.
func (t *turn) unhold(key string) {
	delete(t.d.held, key)
	t.unheld = append(t.unheld, key)
	t.forgiveKey(key)
}

// forgiveKey lets a key be built that has failed before.
func (t *turn) forgiveKey(key string) {
	t.forgive = append(t.forgive, key)
	t.step(sched.Forgive{Key: key})
}

// newRoll is a roll-out as it stands: what is proven, what is held, what is being built. It needs the state locked.
func (d *Dispatcher) newRoll(g bindery.Generation, images []bindery.ImageRecord, now time.Time) *roll {
	r := &roll{generation: g.Name, targets: map[string]*target{}}
	s := rollout.State{
		Stage: g.State, Resumes: g.Rollout.Resumes, Options: g.Rollout.Options, OldRate: g.Rollout.OldRate, Canary: g.Rollout.Canary, Judged: g.Rollout.Judged,
	}
	if g.Rebuilds() {
		s.Stage = bindery.GenerationRolling
	}
	chosen := selectors(g.Rollout.Only)
	building := map[string]*build{}
	for _, b := range d.builds {
		building[b.Key] = b
	}
	fresh := map[string]bindery.ImageRecord{}
	for _, rec := range images {
		if rec.Generation == g.Name {
			fresh[rec.Key] = rec
		}
	}
	for _, rec := range images {
		key := bindery.BuildKey(rec.Source, g.Name)
		have, made := fresh[key]
		switch {
		case rec.Generation == g.Name || r.targets[key] != nil || !selected(chosen, rec):
			continue
		case made && !have.Proven.IsZero() && have.Proven.Before(g.Rollout.Started):
			continue // it was replaced before
		case !made && unused(rec, g.Rollout.Options, g.Rollout.Started):
			continue
		}
		tg := &target{source: rec.Source}
		it := rollout.Item{Key: key, Launches: rec.Launches, Status: rollout.Waiting}
		if b := building[key]; b != nil {
			it.Status, tg.build = rollout.Building, b.ID
		}
		if made {
			tg.build, tg.image, it.Status = have.Build, have.Image, rollout.Built
			if !have.Proven.IsZero() {
				it.Status, it.At = rollout.Proven, have.Proven
			}
		}
		if h, ok := d.held[key]; ok && it.Status != rollout.Proven {
			it.Status, it.At = rollout.Held, h.At
		}
		r.targets[key] = tg
		s.Items = append(s.Items, it)
	}
	r.Rollout = rollout.New(s)
	return r
}

// unused reports whether nobody has launched an image for so long that it stays as it is.
func unused(rec bindery.ImageRecord, opt bindery.RolloutOptions, at time.Time) bool {
	used := rec.Created
	if rec.Used.After(used) {
		used = rec.Used
	}
	return opt.Since > 0 && at.Sub(used) > opt.Since && rec.Launches == 0
}

// skipped counts the commits whose images stay because nobody asks for them.
func (d *Dispatcher) skipped(g bindery.Generation, images []bindery.ImageRecord) int {
	seen := map[string]bool{}
	for _, rec := range images {
		key := bindery.BuildKey(rec.Source, g.Name)
		if rec.Generation != g.Name && d.roll.targets[key] == nil && unused(rec, g.Rollout.Options, g.Rollout.Started) {
			seen[key] = true
		}
	}
	return len(seen)
}

// restoreRoll takes up the roll-out that was under way. It needs the state locked.
func (d *Dispatcher) restoreRoll(images []bindery.ImageRecord, now time.Time) {
	d.roll = nil
	for _, g := range d.generations {
		if g.State.RollsOut() && g.Rollout != nil || g.Rebuilds() && g.Recipe.Rules == d.cfg.Recipe.Rules {
			d.roll = d.newRoll(g, images, now)
		}
	}
}

// weighed reads the images if the generations cannot be restored without: a roll-out is under way, or one of them is new.
func (d *Dispatcher) weighed(ctx context.Context, live bindery.Live, now time.Time) ([]bindery.ImageRecord, error) {
	known := false
	for _, g := range live.Generations {
		if g.State.RollsOut() || g.Rebuilds() {
			return d.images(ctx, now.Add(-launchesFor))
		}
		known = known || g.Name == d.cfg.Generation
	}
	if known {
		return nil, nil
	}
	return d.images(ctx, now)
}

// PauseRollout halts the roll-out: what is being built is finished, nothing more is begun.
func (d *Dispatcher) PauseRollout(ctx context.Context, name, who, reason string) error {
	return d.changeGeneration(ctx, name, "", func(t *turn, g *bindery.Generation) error {
		if d.roll == nil || !g.State.RollsOut() || g.State == bindery.GenerationPaused {
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "`bindery generation status` shows it.", "The generation %s is not being rolled out: it is %s", g.Name, g.State)
		}
		t.rolls(d.roll.Step(t.now, rollout.Pause{}))
		t.halted(g, who, cmp.Or(reason, "An operator paused it"))
		return nil
	})
}

func (t *turn) halted(g *bindery.Generation, who, why string) {
	g.Rollout.Resumes, g.Rollout.Paused = g.State, why
	t.becomes(g, bindery.GenerationPaused, who, "pause roll-out", why)
}

// ResumeRollout goes on with a roll-out that is paused. What has failed until now counts no more for the threshold.
func (d *Dispatcher) ResumeRollout(ctx context.Context, name, who, reason string) error {
	return d.changeGeneration(ctx, name, "", func(t *turn, g *bindery.Generation) error {
		if d.roll == nil || g.State != bindery.GenerationPaused {
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "Nothing is to be done.", "The generation %s is not paused: it is %s", g.Name, g.State)
		}
		if g.Recipe.Rules != d.cfg.Recipe.Rules {
			return errOtherRules(g.Name)
		}
		state := cmp.Or(g.Rollout.Resumes, bindery.GenerationCanary)
		g.Rollout.Resumes, g.Rollout.Paused, g.Rollout.Judged = "", "", t.now
		t.becomes(g, state, who, "resume roll-out", reason)
		t.rolls(d.roll.Step(t.now, rollout.Resume{}))
		return nil
	})
}

// tickRoll lets the roll-out begin what slots and pace allow.
func (t *turn) tickRoll() {
	if r := t.d.roll; r != nil {
		t.rolls(r.Step(t.now, rollout.Tick{Slots: t.d.slots()}))
	}
}

// slots counts those of all workers that are up. It needs the state locked.
func (d *Dispatcher) slots() (n int) {
	for _, m := range d.members {
		if m.known.up {
			n += m.known.slots
		}
	}
	return n
}

// rolls carries out what the roll-out has decided.
func (t *turn) rolls(ds []rollout.Decision) {
	for _, decision := range ds {
		r := t.d.roll
		if r == nil {
			return
		}
		g := t.d.generation(r.generation)
		switch d := decision.(type) {
		case rollout.Build:
			t.buildTarget(d.Key)
		case rollout.Smoke:
			t.tryTarget(d.Key)
		case rollout.Advance:
			if g.State == bindery.GenerationCanary { // who resumes it has said so already
				t.becomes(g, bindery.GenerationRolling, "hub", "advance roll-out", "Its canary was built and answered")
			}
		case rollout.Stop:
			t.halted(g, "hub", d.Why)
		case rollout.Complete:
			t.completes(g)
		}
	}
}

// completes ends a roll-out: its generation is the one that builds.
func (t *turn) completes(g *bindery.Generation) {
	rebuilt := g.Rebuilds()
	g.Rollout.Total, g.Rollout.Ended = t.d.roll.Total(), t.now // some were removed, others have joined
	t.d.roll = nil
	if rebuilt {
		t.saveGeneration(*g)
		t.note("hub", "complete rebuild", "generation "+g.Name, strings.Join(g.Rollout.Only, " "))
		return
	}
	for i := range t.d.generations {
		if before := &t.d.generations[i]; before.State == bindery.GenerationCurrent {
			t.becomes(before, bindery.GenerationOld, "hub", "retire", "Its successor "+g.Name+" is rolled out")
		}
	}
	t.becomes(g, bindery.GenerationCurrent, "hub", "complete roll-out", "")
}

// buildTarget queues the build of a replacement, in the class that takes only what is idle.
func (t *turn) buildTarget(key string) {
	d := t.d
	tg := d.roll.targets[key]
	fresh := bindery.Build{
		ID: buildID(d.cfg.Now()), Key: key, Source: tg.source, Class: bindery.Background, Evidence: "a roll-out", Requester: rolloutRequester,
		State: bindery.BuildQueued, Generation: d.roll.generation, Created: t.now,
	}
	fresh.Quick = d.cfg.Quick && d.made[directoryOf(tg.source, fresh.Generation)]
	t.fresh, t.answer, t.rejected = fresh, fresh.ID, ""
	in := submission(fresh, true)
	in.Ref = "" // a newer commit of its branch takes no image's place
	t.step(in)
	tg.build = t.answer
	switch {
	case t.rejected != "":
		t.hold(key, "build", bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Lift the ban.", "It is not built here: %s", t.rejected))
	case d.builds[t.answer] == nil: // a failure that is remembered answers
		t.hold(key, "build", bindery.Errorf(bindery.ErrStep, bindery.User, "Look at the log of the build.", "It has failed before"))
	}
}

// rolled tells the roll-out how a build has ended that may be one of its.
func (t *turn) rolled(b *build) {
	r := t.d.roll
	if r == nil || r.targets[b.Key] == nil {
		t.joins(b)
		return
	}
	tg := r.targets[b.Key]
	if tg.build != b.ID && tg.image != "" {
		return // it was made before
	}
	tg.build = b.ID
	switch {
	case b.State == bindery.BuildSucceeded && madeBy(b) == r.generation:
		tg.image = b.Result.Image
		t.rolls(r.Step(t.now, rollout.Made{Key: b.Key}))
	case b.State == bindery.BuildSucceeded: // by a worker of other rules, which is being replaced
		t.rolls(r.Step(t.now, rollout.Lost{Key: b.Key}))
	default:
		t.hold(b.Key, "build", b.Err)
	}
}

// joins has an image that was made of an older generation meanwhile replaced as well.
func (t *turn) joins(b *build) {
	r := t.d.roll
	if r == nil || t.d.generation(r.generation).Rebuilds() || b.State != bindery.BuildSucceeded || b.Source.Provider == bindery.ProviderLocal || madeBy(b) == r.generation {
		return
	}
	key := bindery.BuildKey(b.Source, r.generation)
	if r.targets[key] != nil {
		return
	}
	r.targets[key] = &target{source: b.Source}
	t.rolls(r.Step(t.now, rollout.Add{Item: rollout.Item{Key: key}}))
}

// madeBy is the generation that made the image of a build: what its worker says, else what it was asked for.
func madeBy(b *build) string {
	if b.Result != nil && b.Result.Generation != "" {
		return b.Result.Generation
	}
	return b.Generation
}

// hold gives up a replacement: the old image goes on serving, and the reason is listed.
func (t *turn) hold(key, stage string, why *bindery.Error) {
	r := t.d.roll
	tg := r.targets[key]
	if why == nil {
		why = bindery.Errorf(bindery.ErrInternal, bindery.Ours, "", "It ended without a reason")
	}
	h := bindery.Held{
		Generation: r.generation, Key: key, Source: tg.source, Build: tg.build, Stage: stage, Reason: why.Msg, Fault: why.Fault, At: t.now,
	}
	t.d.held[key] = h
	t.holds = append(t.holds, h)
	t.tellGeneration(bindery.GenerationEvent{Generation: r.generation, Event: "held", Source: tg.source, Reason: stage + ": " + why.Msg})
	t.rolls(r.Step(t.now, rollout.Failed{Key: key}))
}

// tryTarget starts a first session of a replacement. It is nobody's, and takes no visitor's place.
func (t *turn) tryTarget(key string) {
	r := t.d.roll
	tg := r.targets[key]
	if tg.trying {
		return
	}
	tg.trying = true
	generation, src, image := r.generation, tg.source, tg.image
	t.then(func() {
		t.d.spawn(func(ctx context.Context) {
			err := t.d.try(ctx, src, image)
			if ctx.Err() != nil {
				return // the next start of the hub tries again
			}
			_ = t.d.insist(ctx, func(t *turn) { t.tried(generation, key, image, err) }) // and here
		})
	})
	t.otherwise(func() { tg.trying = false })
}

// tried takes in how a first session went.
func (t *turn) tried(generation, key, image string, err error) {
	r := t.d.roll
	if r == nil || r.generation != generation || r.targets[key] == nil {
		return // it was rolled back meanwhile
	}
	tg := r.targets[key]
	tg.trying = false
	switch {
	case err == nil:
		t.started(image, false)
		t.tellGeneration(bindery.GenerationEvent{Generation: generation, Event: "proven", Source: tg.source})
		t.rolls(r.Step(t.now, rollout.Started{Key: key}))
	case errors.Is(err, bindery.ErrNotFound):
		tg.image = "" // it was removed to make room
		t.forget = append(t.forget, key)
		delete(t.d.succeeded, key)
		t.rolls(r.Step(t.now, rollout.Lost{Key: key}))
	case bindery.AsError(err).Fault == bindery.Transient && !errors.Is(err, bindery.ErrTimeout):
		t.rolls(r.Step(t.now, rollout.Lost{Key: key}))
	default:
		t.hold(key, "start", bindery.AsError(err))
	}
}
