package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A build is the record of a build that is not over, and how far its events are stored.
type build struct {
	bindery.Build
	seq  int64         // of the newest event
	read int64         // the worker's number of the last event read of this attempt
	end  bindery.Event // the worker's last event of this attempt, while the scheduler decides what follows from it
}

// mostKnown bounds what is remembered about builds that have just succeeded.
const mostKnown = 10_000

// Submit returns the build that answers an ask: one that succeeded already, one under way, one whose failure is still
// remembered (unless ask.Retry), or a new one. A source without a commit is resolved first.
func (d *Dispatcher) Submit(ctx context.Context, ask bindery.Ask) (bindery.Build, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.Build{}, err
	}
	src := ask.Source
	local := src.Provider == bindery.ProviderLocal
	if src.Commit == "" && !local {
		var err error
		if src, err = d.Resolve(ctx, src); err != nil {
			return bindery.Build{}, err
		}
	}
	// The files of a directory change under their name: only a build that is under way answers for it.
	if !local {
		b, err := d.known(ctx, src)
		if err == nil || !errors.Is(err, bindery.ErrNotFound) {
			return b, err
		}
	}
	builder := d.shelf.Load().builder.Name
	fresh := bindery.Build{
		ID: buildID(d.cfg.Now()), Key: bindery.BuildKey(src, builder), Generation: builder, Source: src, Class: ask.Class, Evidence: ask.Evidence, Requester: ask.Requester,
		State: bindery.BuildQueued,
	}
	if fresh.Class == "" {
		fresh.Class = bindery.Attended
	}
	var got answer
	err := d.do(ctx, func(t *turn) { got = t.submit(fresh, ask) })
	switch {
	case err != nil:
		return bindery.Build{}, err
	case got.err != nil:
		return bindery.Build{}, got.err
	case got.build.ID != "":
		return got.build, nil
	}
	return d.cfg.Store.Build(ctx, got.id)
}

// An answer is what a turn made of an ask: the build that answers it, by its ID alone if it has ended, or why none does.
type answer struct {
	id    string
	build bindery.Build
	err   error
}

// submit asks the scheduler for a fresh build, unless one of its key has succeeded since that was looked up.
func (t *turn) submit(fresh bindery.Build, ask bindery.Ask) answer {
	d, src := t.d, fresh.Source
	local := src.Provider == bindery.ProviderLocal
	fresh.Created = t.now
	fresh.Quick = d.cfg.Quick && !local && d.made[directoryOf(src, fresh.Generation)]
	t.fresh, t.answer = fresh, fresh.ID
	if id, ok := d.succeeded[fresh.Key]; ok && !local {
		t.answer = id
	} else if no, full := d.full(src, ask); full {
		return answer{err: refusedError(no, src)}
	} else {
		t.rejected = ""
		in := submission(fresh, ask.Retry || local)
		in.Address = ask.Address
		t.step(in)
		if t.rejected != "" {
			return answer{err: bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", "It is not built here: %s", t.rejected)}
		}
	}
	got := answer{id: t.answer}
	if b := d.builds[t.answer]; b != nil {
		got.build = b.Build
	}
	return got
}

// submission is what the scheduler must know of a build.
func submission(b bindery.Build, retry bool) sched.Submit {
	in := sched.Submit{
		Build: b.ID, Key: b.Key, Repo: b.Source.Identity(), Ref: b.Source.Ref, Owner: b.Source.Owner(), Requester: b.Requester,
		Class: b.Class, Quick: b.Quick, Kind: b.Kind, Retry: retry,
	}
	if bindery.IsCommit(in.Ref) || b.Source.Provider == bindery.ProviderLocal {
		in.Ref, in.Spec = "", b.Source.Link()
	}
	if in.Ref != "" && b.Source.Subdir != "" {
		in.Ref += ", directory " + b.Source.Subdir // a newer commit of one directory replaces no other one
		in.Spec = b.Source.Link()
	}
	return in
}

// known returns the build whose image answers for a commit.
func (d *Dispatcher) known(ctx context.Context, src bindery.Source) (bindery.Build, error) {
	k, err := d.proven(ctx, src)
	if err != nil {
		return bindery.Build{}, err
	}
	if !d.promise(k.Result.Image) {
		return bindery.Build{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Build it.", "Its image is being removed")
	}
	return d.cfg.Store.Build(ctx, k.Build)
}

// Cancel stops a build that nobody wants: at once when it is queued, as soon as its worker has stopped it otherwise.
func (d *Dispatcher) Cancel(ctx context.Context, id string) error {
	if _, err := d.Build(ctx, id); err != nil {
		return err
	}
	return d.do(ctx, func(t *turn) { t.step(sched.Cancel{Build: id}) })
}

// Build returns the record of a build.
func (d *Dispatcher) Build(ctx context.Context, id string) (bindery.Build, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.Build{}, err
	}
	return d.cfg.Store.Build(ctx, id)
}

// Standing says where a build stands in the queue; the zero Standing when it runs or has ended.
func (d *Dispatcher) Standing(ctx context.Context, id string) (bindery.Standing, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.Standing{}, err
	}
	d.mu.Lock()
	st, ok := d.sched.Standing(d.now(), id)
	d.mu.Unlock()
	if ok {
		return st, nil
	}
	_, err := d.cfg.Store.Build(ctx, id)
	return bindery.Standing{}, err
}

func (t *turn) queue(b bindery.Build, d sched.Queue) {
	b.Forced = d.Forced
	x := &build{Build: b}
	t.d.builds[b.ID] = x
	t.d.openTopic(b.ID, 0)
	t.save(x)
	t.say(x, bindery.Event{Phase: bindery.PhaseWaiting, Message: "Waiting for build to start...\n"})
}

func (t *turn) start(b *build, d sched.Start) {
	b.State, b.Attempt, b.Worker, b.read = bindery.BuildRunning, d.Attempt, d.Worker, 0
	b.Started, b.Until = t.now, time.Time{}
	b.Quick, b.Slow = d.Quick, d.Slow
	t.save(b)
	if d.Attempt > 1 {
		t.say(b, bindery.Event{Phase: bindery.PhaseWaiting, Message: fmt.Sprintf("Attempt %d starts.\n", d.Attempt)})
	}
	if d.Reason != "" {
		t.say(b, bindery.Event{Phase: bindery.PhaseWaiting, Message: "It starts in the slow lane: " + d.Reason + ".\n"})
	}
	f := follower{id: b.ID, attempt: b.Attempt, worker: b.Worker, req: t.d.request(b)}
	t.then(func() { t.d.spawn(t.d.follow(f)) })
}

func (t *turn) again(b *build, d sched.Again) {
	b.State, b.Worker, b.Charged, b.Until = bindery.BuildQueued, "", d.Charged, d.Until
	b.Slow = d.Slow
	b.Quick = b.Quick && d.Outcome != sched.NotQuick
	t.save(b)
	text := "The worker was lost; the build starts again.\n"
	switch {
	case d.Slow:
		text = "The build took too long; it waits for the slow lane now, where it may take longer.\n"
	case d.Outcome == sched.GaveWay:
		text = "The build made room for one that a person waits for; it starts again when a slot is free.\n"
	case d.Outcome == sched.NotQuick:
		text = b.end.Err.Msg + "; it waits for a slot now.\n"
	case d.Outcome == sched.NoSpace:
		text = "The worker's disk is full or broken; the build goes on elsewhere, or when that is mended.\n"
	case d.Outcome != sched.WorkerGone:
		text = "The attempt failed for a reason that may pass; the build is tried again.\n"
		if b.end.Err != nil {
			text = b.end.Err.Msg + "\n" + text
		}
	}
	t.say(b, bindery.Event{Phase: bindery.PhaseWaiting, Message: text})
}

func (t *turn) succeed(b *build) {
	b.State, b.Result = bindery.BuildSucceeded, b.end.Result
	t.d.learnMade(b.Build)
	t.over(b, b.end)
	if b.Source.Provider == bindery.ProviderLocal {
		return
	}
	k := bindery.Known{Key: b.Key, Build: b.ID, Result: *b.Result}
	k.Result.Generation = cmp.Or(k.Result.Generation, b.Generation)
	k = t.honest(b, k)
	t.known = append(t.known, k)
	if k.Key != b.Key {
		return
	}
	if len(t.d.succeeded) >= mostKnown {
		clear(t.d.succeeded) // the store knows them all
	}
	t.d.succeeded[b.Key] = b.ID
}

// honest puts an image under the key of the generation that made it: a worker that an older program left behind builds by
// its own rules, whatever it is asked for.
func (t *turn) honest(b *build, k bindery.Known) bindery.Known {
	made := k.Result.Generation
	if b.Generation == "" || made == b.Generation {
		return k
	}
	k.Key = bindery.BuildKey(b.Source, made)
	if t.d.generation(made) == nil {
		first := int64(1)
		for _, g := range t.d.generations {
			first = min(first, g.Place)
		}
		g := bindery.Generation{Name: made, State: bindery.GenerationOld, Place: first - 1, Recipe: bindery.Recipe{Rules: made}, Created: t.now, Changed: t.now}
		t.d.generations = append(t.d.generations, g)
		t.saveGeneration(g)
		t.d.shelve()
	}
	return k
}

func (t *turn) fail(b *build, d sched.Fail) {
	b.State, b.Err, b.Charged, b.Row, b.Until = bindery.BuildFailed, b.end.Err, d.Charged, d.Row, d.Until
	b.Forced, b.Quarantined = d.Forced, d.Quarantined
	t.over(b, b.end)
}

func (t *turn) drop(b *build, d sched.Drop) {
	b.State = bindery.BuildCancelled
	msg := "The build was cancelled"
	if d.Reason != "" && d.Reason != "it was cancelled" {
		msg += ": " + d.Reason
	}
	b.Err = bindery.Errorf(bindery.ErrCancelled, bindery.User, "Start it again if you want it after all.", "%s", msg)
	t.over(b, bindery.Event{Phase: bindery.PhaseFailed, Message: b.Err.Msg + "\n", Err: b.Err})
}

func (t *turn) over(b *build, last bindery.Event) {
	b.Ended = t.now
	t.say(b, last)
	t.save(b)
	delete(t.d.builds, b.ID)
	t.rolled(b)
	if rec := b.Build; t.d.cfg.Ended != nil {
		t.then(func() { t.d.cfg.Ended(rec) })
	}
}

// ended takes in the last event of the running attempt.
func (t *turn) ended(b *build, e bindery.Event) {
	b.end = e
	in := sched.Finished{Build: b.ID, Attempt: b.Attempt, Outcome: outcome(e)}
	if b.Quick && e.Err != nil && e.Err.Kind == bindery.ErrNotReady {
		in.Outcome = sched.NotQuick
	}
	if e.Result != nil && e.Result.Kind != "" {
		b.Kind, in.Kind = e.Result.Kind, e.Result.Kind
	}
	if e.Result != nil {
		b.Disk = beside * e.Result.Size
		in.Disk = b.Disk
	}
	t.step(in)
}

// beside is how much a build takes on its worker's disk against its image: downloads and caches lie beside the layers.
const beside = 2

// request is what a worker is asked for the running attempt of a build.
func (d *Dispatcher) request(b *build) bindery.BuildRequest {
	return bindery.BuildRequest{ID: b.ID, Attempt: b.Attempt, Source: b.Source, Quick: b.Quick, Recipe: d.recipeOf(b.Generation)}
}

// A directory is what environments are made of: a repository, or a part of it, by a generation.
type directory struct{ repo, subdir, generation string }

func directoryOf(src bindery.Source, generation string) directory {
	return directory{src.Identity(), src.Subdir, generation}
}

// learnMade notes that there is an environment of a directory. The next commit of it is tried as a quick build: most
// commits change nothing that an environment is made of. Whether that is so the worker says when it has seen the files.
func (d *Dispatcher) learnMade(b bindery.Build) {
	if b.Result == nil || !b.Result.Copies || b.Source.Provider == bindery.ProviderLocal {
		return
	}
	if len(d.made) >= mostKnown {
		clear(d.made)
	}
	d.made[directoryOf(b.Source, b.Result.Generation)] = true
}

// outcome reads whose fault the end of an attempt was.
func outcome(e bindery.Event) sched.Outcome {
	switch {
	case e.Err == nil:
		return sched.Succeeded
	case e.Err.Kind == bindery.ErrWorkerLost:
		return sched.WorkerGone
	case e.Err.Kind == bindery.ErrNoSpace && e.Err.Fault != bindery.User:
		return sched.NoSpace
	case e.Err.Kind == bindery.ErrCancelled:
		return sched.WasCancelled
	case e.Err.Fault == bindery.User:
		return sched.UserFault
	case e.Err.Fault == bindery.Ours:
		return sched.OurFault
	}
	return sched.MayPass
}

// restoreBuilds replaces the records of builds; it returns the followers that are missing.
func (d *Dispatcher) restoreBuilds(live bindery.Live) (effects []func(context.Context)) {
	d.builds = make(map[string]*build, len(live.Builds))
	clear(d.succeeded)
	for _, l := range live.Builds {
		b := &build{Build: l.Build, seq: l.Seq, read: l.Read}
		d.builds[b.ID] = b
		d.openTopic(b.ID, b.seq)
		if _, followed := d.following.Load(attempt{b.ID, b.Attempt}); b.State == bindery.BuildRunning && !followed {
			effects = append(effects, d.follow(follower{
				id: b.ID, attempt: b.Attempt, worker: b.Worker, read: b.read, req: d.request(b),
			}))
		}
	}
	d.endTopicsBut(d.builds)
	return effects
}
