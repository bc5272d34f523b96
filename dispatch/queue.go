package dispatch

import (
	"context"
	"errors"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// mostListed bounds the waiting builds, and the shares, that Queue lists.
const mostListed = 1000

// Queue returns what the queue holds, all of it at one moment.
func (d *Dispatcher) Queue(ctx context.Context) (bindery.Queue, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.Queue{}, err
	}
	d.mu.Lock()
	now := d.now()
	v := d.sched.View(now, mostListed)
	q := bindery.Queue{
		At: now, Slots: v.Slots, Taken: v.Taken, More: v.More, Sessions: v.Sessions, Rules: d.standingRules(now),
		Running: []bindery.QueuedBuild{}, Waiting: []bindery.QueuedBuild{}, Shares: []bindery.Share{},
		Failures: []bindery.RecentFailure{}, Lobby: []bindery.WaitingSession{},
	}
	see := func(x sched.Seen) bindery.QueuedBuild {
		out := bindery.QueuedBuild{
			Asker: x.Requester, Kind: x.Kind, Watchers: x.Watchers, Expected: x.Expected, Quick: x.Quick, Slow: x.Slow,
			Stopping: x.Stopping, Standing: x.Standing,
		}
		if b := d.builds[x.ID]; b != nil {
			out.Build = b.Build
		}
		out.Age = max(now.Sub(out.Created), 0)
		if x.Running {
			out.Age = max(now.Sub(out.Started), 0)
		}
		return out
	}
	for _, x := range v.Running {
		q.Running = append(q.Running, see(x))
	}
	for _, x := range v.Waiting {
		q.Waiting = append(q.Waiting, see(x))
	}
	for _, x := range v.Lobby {
		st, _ := d.sched.SessionStanding(now, x.ID)
		q.Lobby = append(q.Lobby, bindery.WaitingSession{ID: x.ID, Repo: x.Repo, Asker: x.Requester, Age: now.Sub(x.Created), Standing: st})
	}
	d.mu.Unlock()
	for _, x := range v.Shares {
		q.Shares = append(q.Shares, bindery.Share{
			Scope: string(x.Scope), Name: x.Name, Class: x.Class, Running: x.Running, Waiting: x.Waiting,
			Share: float64(x.Running) / float64(max(v.Slots, 1)), Ahead: x.Ahead, Weight: x.Weight,
		})
	}
	for _, f := range v.Failures {
		x := bindery.RecentFailure{Key: f.Key, Build: f.Build, Row: f.Row, Until: f.Until, Forced: f.Forced, Quarantined: f.Quarantined}
		if b, err := d.cfg.Store.Build(ctx, f.Build); err == nil {
			x.Source, x.Err = b.Source, b.Err
		}
		q.Failures = append(q.Failures, x)
	}
	return q, ctx.Err()
}

// CancelBuild stops a build for an operator: at once when it is queued, as soon as its worker has stopped it otherwise.
func (d *Dispatcher) CancelBuild(ctx context.Context, id, who, reason string) error {
	b, err := d.Build(ctx, id)
	if err != nil {
		return err
	}
	over := false
	err = d.do(ctx, func(t *turn) {
		if over = d.builds[id] == nil; over {
			return
		}
		t.note(who, "cancel build", id+" of "+b.Source.Identity(), reason)
		t.step(sched.Cancel{Build: id})
	})
	if err == nil && over {
		err = bindery.Errorf(bindery.ErrConflict, bindery.User, "Nothing is to be done.", "The build %q has ended already", bindery.Printable(id))
	}
	return err
}

// RetryBuild builds again, for an operator, what a build was about: no failure, no quarantine and no budget of retries
// stands in the way. It returns the new build, or the one that is under way.
func (d *Dispatcher) RetryBuild(ctx context.Context, id, who, reason string) (bindery.Build, error) {
	b, err := d.Build(ctx, id)
	if err != nil {
		return bindery.Build{}, err
	}
	if b.State == bindery.BuildSucceeded {
		if _, err := d.cfg.Store.Known(ctx, b.Key); !errors.Is(err, bindery.ErrNotFound) {
			return b, bindery.Errorf(bindery.ErrConflict, bindery.User, "Launch it.", "The build %q has succeeded: its image is there", bindery.Printable(id)).Because(err)
		}
	}
	err = d.do(ctx, func(t *turn) {
		t.note(who, "retry build", id+" of "+b.Source.Identity(), reason)
		t.forgive = append(t.forgive, b.Key)
		t.step(sched.Forgive{Key: b.Key})
	})
	if err != nil {
		return bindery.Build{}, err
	}
	return d.Submit(ctx, bindery.Ask{Source: b.Source, Requester: b.Requester, Class: b.Class, Retry: true})
}

// ForgiveBuild forgets, for an operator, that a build failed: its failure answers nobody any more. Nothing is built by
// that.
func (d *Dispatcher) ForgiveBuild(ctx context.Context, id, who, reason string) error {
	b, err := d.Build(ctx, id)
	if err != nil {
		return err
	}
	if b.State != bindery.BuildFailed {
		return bindery.Errorf(bindery.ErrConflict, bindery.User, "Nothing is to be done.", "The build %q has not failed", bindery.Printable(id))
	}
	return d.do(ctx, func(t *turn) {
		t.note(who, "forgive build", id+" of "+b.Source.Identity(), reason)
		t.forgive = append(t.forgive, b.Key)
		t.step(sched.Forgive{Key: b.Key})
	})
}
