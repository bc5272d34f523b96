package dispatch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A waiter is a launch for which there is no place yet. It is nowhere but in memory: a session that has no place has
// nothing that could be lost but its turn, and its visitor is still here to ask again.
type waiter struct {
	rec  bindery.Session
	name string // in the lobby: the request, or the session's id
	came time.Time

	address string        // see Ask
	quota   int           // of its repository, see Ask
	done    chan struct{} // closed when the next two are settled
	got     *session
	no      sched.Refuse // why it gets no place
}

// admit stores a new session, as soon as there is a place for it. mine is false when the ask's request has one already.
func (d *Dispatcher) admit(ctx context.Context, b bindery.Build, ask bindery.Ask) (s *session, mine bool, err error) {
	rec := bindery.Session{
		ID: sessionID(hubSession, b.Source), Build: b.ID, Image: b.Result.Image, Source: b.Source, State: bindery.SessionPending,
		Token: Token(), Limits: d.cfg.Limits, Request: ask.Request, Requester: ask.Requester,
	}
	w := &waiter{rec: rec, name: cmp.Or(ask.Request, rec.ID), address: ask.Address, quota: ask.RepoQuota, done: make(chan struct{})}
	var refused sched.Refuse
	waits := false
	var shared *waiter // of another call with the same request
	err = d.do(ctx, func(t *turn) {
		s, mine, refused, waits = d.sessions[d.requests[ask.Request]], false, sched.Refuse{}, false
		// A pending session that nobody here brings up was an earlier process's, and is being taken down.
		if ask.Request != "" && s != nil && s.Image == rec.Image && s.alive() && (s.owned || s.State == bindery.SessionReady) {
			return
		}
		if shared = d.lobby[w.name]; shared != nil {
			return
		}
		t.refused, t.seated, w.came = sched.Refuse{}, nil, t.now
		d.lobby[w.name] = w
		in := d.asksFor(rec.Source, ask)
		in.Session, in.Idle, in.Age = rec.ID, rec.Limits.Idle, rec.Limits.Age
		t.step(in)
		if s = t.seated; s == nil {
			// A refusal has taken it out of the lobby.
			refused, waits = t.refused, d.lobby[w.name] == w
			return
		}
		mine = true
	})
	switch {
	case err != nil:
		d.unseat(ctx, w, "Its start could not be stored")
		return nil, false, err
	case refused.Reason != "":
		return nil, false, refusedError(refused, rec.Source)
	case shared != nil:
		s, err = d.wait(ctx, shared, false)
		return s, false, err
	case waits:
		s, err = d.wait(ctx, w, true)
		return s, err == nil, err
	}
	return s, mine, nil
}

// full reports whether a launch would be refused for want of a place, so that nothing is built for it.
func (d *Dispatcher) full(src bindery.Source, ask bindery.Ask) (no sched.Refuse, full bool) {
	if !ask.Launches {
		return sched.Refuse{}, false
	}
	return d.sched.Full(d.asksFor(src, ask))
}

// asksFor is what the queue must know of a session to say whether there is a place for it.
func (d *Dispatcher) asksFor(src bindery.Source, ask bindery.Ask) sched.AskSession {
	return sched.AskSession{
		Repo: src.Identity(), Owner: src.Owner(), Requester: ask.Requester,
		RepoQuota: ask.RepoQuota, Wait: d.cfg.Wait, Spec: src.Link(), Address: ask.Address,
	}
}

// wait returns when a waiter has its place. mine: it is this call's, and goes when the call does.
func (d *Dispatcher) wait(ctx context.Context, w *waiter, mine bool) (*session, error) {
	select {
	case <-w.done:
		if w.got == nil {
			return nil, refusedError(w.no, w.rec.Source)
		}
		return w.got, nil
	case <-d.stopped:
		return nil, errStopping()
	case <-ctx.Done():
		if mine {
			d.unseat(ctx, w, "Its visitor left before there was a place")
		}
		return nil, ctx.Err()
	}
}

// unseat gives up a launch that nobody wants any more, or that may have been stored although that seemed to fail:
// whichever it is, it must not stay.
func (d *Dispatcher) unseat(ctx context.Context, w *waiter, reason string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_ = d.insist(ctx, func(t *turn) { // the next start of the hub does it otherwise
		if d.lobby[w.name] == w {
			delete(d.lobby, w.name)
			t.step(sched.SessionEnded{Session: w.rec.ID})
			t.then(func() { w.no = sched.Refuse{Reason: "its visitor left"}; d.settled(w) })
		}
		if s := d.sessions[w.rec.ID]; s != nil {
			t.stop(s, reason)
		}
	})
}

// waiterOf finds who waits with a session.
func (d *Dispatcher) waiterOf(id string) *waiter {
	if w := d.lobby[id]; w != nil {
		return w
	}
	for _, w := range d.lobby {
		if w.rec.ID == id {
			return w
		}
	}
	return nil
}

// seat gives a session its place, and a record.
func (t *turn) seat(id string) {
	w := t.d.waiterOf(id)
	if w == nil {
		return // it has its record already
	}
	rec := w.rec
	rec.Created = t.now
	s := newSession(rec)
	s.owned = true
	t.d.sessions[s.ID] = s
	if s.Request != "" {
		t.d.requests[s.Request] = s.ID
	}
	t.saveSession(s)
	t.seated = s
	delete(t.d.lobby, w.name)
	t.then(func() { w.got = s; t.d.settled(w) })
	t.otherwise(func() { t.d.lobby[w.name] = w }) // its place was not stored: it goes on waiting
}

// turnAway tells a waiter that it gets no place.
func (t *turn) turnAway(d sched.Refuse) {
	t.refused = d
	w := t.d.waiterOf(d.Session)
	if w == nil {
		return
	}
	delete(t.d.lobby, w.name)
	t.then(func() { w.no = d; t.d.settled(w) })
	t.otherwise(func() { t.d.lobby[w.name] = w })
}

func (d *Dispatcher) settled(w *waiter) {
	close(w.done)
	d.rewrite(w.name)
	d.rewrite(w.rec.ID)
}

// restoreLobby gives those who wait the places that were stored although that seemed to fail.
func (d *Dispatcher) restoreLobby() (effects []func(context.Context)) {
	for name, w := range d.lobby {
		if s := d.sessions[w.rec.ID]; s != nil {
			delete(d.lobby, name)
			w.got = s
			effects = append(effects, func(context.Context) { d.settled(w) })
		}
	}
	return effects
}

// waiting is the lobby as the scheduler must know it, in the order of coming.
func (d *Dispatcher) waiting() (out []sched.Session) {
	all := slices.SortedFunc(maps.Values(d.lobby), func(a, b *waiter) int {
		return cmp.Or(a.came.Compare(b.came), cmp.Compare(a.rec.ID, b.rec.ID))
	})
	for _, w := range all {
		out = append(out, sched.Session{
			ID: w.rec.ID, Repo: w.rec.Source.Identity(), Owner: w.rec.Source.Owner(), Requester: w.rec.Requester, Created: w.came,
			Idle: w.rec.Limits.Idle, Age: w.rec.Limits.Age, Waiting: true, RepoQuota: w.quota, Spec: w.rec.Source.Link(), Address: w.address,
		})
	}
	return out
}
