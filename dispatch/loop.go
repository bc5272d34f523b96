package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A message is something that happened or that is asked. do runs in the loop, with the state locked; it may run again
// when the transaction that it was part of failed. done gets nil once what do changed is stored.
type message struct {
	do   func(t *turn)
	done chan error
}

const mostMessages = 1000 // that share a transaction

// errStopping is what callers get when the hub goes down.
func errStopping() error {
	return bindery.Errorf(bindery.ErrNotReady, bindery.Transient, "Try again in a moment.", "The hub is restarting")
}

// Run restores the state from the store and works until ctx ends. Builds and sessions go on when it returns: the next
// Run adopts them. All other methods wait for it to have restored.
func (d *Dispatcher) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the work may outlast the loop only by what it takes to stop
	defer close(d.stopped)
	d.spawn = func(f func(ctx context.Context)) { work.Go(func() { f(ctx) }) }
	if err := d.remember(ctx); err != nil {
		return err
	}
	if err := d.restore(ctx); err != nil {
		return err
	}
	close(d.restored)
	d.spawn(d.writeBoards)
	d.spawn(d.prebuild)
	d.spawn(d.prunes)
	return d.loop(ctx)
}

func (d *Dispatcher) loop(ctx context.Context) error {
	p := newPipeline(d)
	defer p.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for trouble := backoff(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case m := <-p.inbox():
			p.take(m)
		case <-d.kick:
			p.take()
		case <-timer.C:
			p.take()
		case failure := <-p.results:
			if failure == nil {
				p.stored()
				trouble = 0
				break
			}
			err := p.failed(ctx, failure)
			if errors.Is(err, bindery.ErrLocked) {
				return err
			}
			// What was decided is to be decided again; not too fast, in case the store is in trouble.
			if err != nil || trouble.sleep(ctx) != nil {
				return nil
			}
			timer.Reset(0)
			continue
		}
		p.start(ctx)
		if wake := d.nextWake(); !wake.IsZero() {
			timer.Reset(max(wake.Sub(d.cfg.Now()), 0))
		}
	}
}

func (d *Dispatcher) nextWake() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	wake := d.sched.NextWake()
	if d.roll != nil {
		if at := d.roll.NextWake(); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	return wake
}

// now is the time of one turn, as exact as the store keeps it.
func (d *Dispatcher) now() time.Time { return d.cfg.Now().UTC().Truncate(time.Microsecond) }

// do has f run in the loop and returns when what it changed is stored.
func (d *Dispatcher) do(ctx context.Context, f func(t *turn)) error {
	m := &message{do: f, done: make(chan error, 1)}
	select {
	case d.inbox <- m:
	case <-d.stopped:
		return errStopping()
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	select {
	case err = <-m.done:
	case <-d.stopped:
		select {
		case err = <-m.done: // it was the last thing done
		default:
			return errStopping()
		}
	}
	if err != nil {
		return bindery.Errorf(bindery.ErrInternal, bindery.Transient, "Try again in a moment; if it happens again, tell the operator.",
			"The request could not be stored").Because(err)
	}
	return nil
}

// insist does f until it is stored. It returns an error only when the hub goes down or ctx ends.
func (d *Dispatcher) insist(ctx context.Context, f func(t *turn)) error {
	for wait := backoff(0); ; {
		err := d.do(ctx, f)
		if err == nil || ctx.Err() != nil || errors.Is(err, bindery.ErrNotReady) {
			return err
		}
		if err := wait.sleep(ctx); err != nil {
			return err
		}
	}
}

// ready waits until the state is there.
func (d *Dispatcher) ready(ctx context.Context) error {
	select {
	case <-d.restored:
	case <-d.stopped:
		return errStopping()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// A backoff is the last pause of something that is tried again and again.
type backoff time.Duration

const longestPause = 2 * time.Second

func (b *backoff) next() time.Duration {
	*b = min(max(*b*2, backoff(20*time.Millisecond)), backoff(longestPause))
	return time.Duration(*b)
}

func (b *backoff) sleep(ctx context.Context) error { return pause(ctx, b.next()) }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refuse tells everybody who asks for something, for a while, that it cannot be stored.
func (d *Dispatcher) refuse(ctx context.Context, failure error, while time.Duration) error {
	timer := time.NewTimer(while)
	defer timer.Stop()
	for {
		select {
		case m := <-d.inbox:
			m.done <- failure
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// failuresCount is how long after a failure stopped to answer for its key a restart still finds it, so that the next one
// is one in a row: longer, where the queue remembers longer.
const failuresCount = time.Hour

// restore makes the state what the store says, then takes up what that state wants done.
func (d *Dispatcher) restore(ctx context.Context) error {
	now := d.now()
	live, err := d.cfg.Store.Live(ctx, now.Add(-max(failuresCount, d.cfg.Policy.Longest)))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	images, err := d.weighed(ctx, live, now)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	d.mu.Lock()
	d.restoreGenerations(live, images, now)
	effects := slices.Concat(d.restoreBuilds(live), d.restoreSessions(live))
	st := restored(live)
	st.Rules, st.Past = d.restoreRules(live.Rules), d.past
	d.past = nil
	effects = append(effects, d.restoreLobby()...)
	effects = append(effects, d.restoreWorkers(live)...)
	d.restoreRoll(images, now)
	st.Sessions = append(st.Sessions, d.waiting()...)
	begin := sched.Traced{At: now, State: &st}
	if !d.traced {
		d.traced, begin.Config = true, &d.cfg.Policy
	}
	d.sched.Restore(now, st)
	d.trace(begin)
	d.mu.Unlock()
	for _, f := range effects {
		d.spawn(f)
	}
	return nil
}

// restored is the scheduler's part of the state.
func restored(live bindery.Live) (st sched.State) {
	forced := map[string]int{} // retries that were forced, by key: those that are under way count as well
	for _, b := range live.Builds {
		forced[b.Key] = max(forced[b.Key], b.Forced)
		asked := submission(b.Build, false)
		var from *sched.Origin
		if asked.Spec != "" {
			from = &sched.Origin{Spec: asked.Spec}
		}
		st.Builds = append(st.Builds, sched.Build{
			ID: b.ID, Key: b.Key, Repo: b.Source.Identity(), Ref: asked.Ref, Owner: b.Source.Owner(),
			Requester: b.Requester, Class: b.Class, Attempt: b.Attempt, Charged: b.Charged,
			Running: b.State == bindery.BuildRunning, Worker: b.Worker, Started: b.Started, Until: b.Until,
			Kind: b.Kind, Quick: b.Quick, Slow: b.Slow, Created: b.Created, From: from,
		})
	}
	st.Flows, st.FlowsAt, st.Spent = usageOf(live)
	for _, b := range live.Failed {
		st.Failures = append(st.Failures, sched.Failure{
			Key: b.Key, Build: b.ID, Row: b.Row, Until: b.Until, Forced: max(b.Forced, forced[b.Key]), Quarantined: b.Quarantined,
		})
	}
	for _, s := range live.Sessions {
		st.Sessions = append(st.Sessions, sched.Session{
			ID: s.ID, Repo: s.Source.Identity(), Owner: s.Source.Owner(), Requester: s.Requester, Created: s.Created, Ready: s.State == bindery.SessionReady, Active: s.Active,
			Idle: s.Limits.Idle, Age: s.Limits.Age, Stopping: s.State == bindery.SessionStopping, Spec: s.Source.Link(),
		})
	}
	return st
}

// publish shows what was stored to watchers and to the proxy.
func (d *Dispatcher) publish(c bindery.Changes) {
	for _, t := range c.Tails {
		if tp := d.topic(t.Build); tp != nil {
			tp.publish(t.Events)
		}
	}
	for _, b := range c.Builds {
		if b.State.Ended() {
			d.endTopic(b.ID)
		}
		if b.State != bindery.BuildQueued {
			d.rewrite(b.ID) // who waits for its start hears of it now
		}
	}
	for _, s := range c.Sessions {
		d.show(s)
	}
}

// gather takes in what is noted outside the loop because it happens too often to send a message for each time.
func (t *turn) gather() {
	d := t.d
	d.notes.Lock()
	touched, watched := d.touched, d.watched
	d.touched, d.watched = map[string]time.Time{}, map[string]int{}
	d.notes.Unlock()
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		if s := d.sessions[id]; s != nil && s.State == bindery.SessionReady {
			s.Active = touched[id]
			t.saveSession(s)
			t.step(sched.SessionActive{Session: id, At: s.Active})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(watched)) {
		t.step(sched.Watch{Build: id, Watchers: watched[id]})
	}
}
