package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A session is the record of a session that has not ended, with what this process knows beside it.
type session struct {
	bindery.Session
	owned    bool           // a call of Launch in this process brings it up
	watched  bool           // a goroutine waits for its container to end
	falling  bool           // a goroutine takes it down
	died     *bindery.Error // how it died before it was ready
	up       chan struct{}  // closed when it is ready
	down     chan struct{}  // closed when it is stopping or over
	over     chan struct{}  // closed when it has ended
	upOnce   bool
	downOnce bool
}

// become takes over what can change in a record. The rest never does, and is read without a lock.
func (s *session) become(rec bindery.Session) {
	s.State, s.Address, s.Reason, s.Exit = rec.State, rec.Address, rec.Reason, rec.Exit
	s.Ready, s.Active, s.Ended = rec.Ready, rec.Active, rec.Ended
}

func newSession(s bindery.Session) *session {
	return &session{Session: s, up: make(chan struct{}), down: make(chan struct{}), over: make(chan struct{})}
}

// announce wakes who waits for the state that has been stored.
func (s *session) announce(state bindery.SessionState) {
	if state == bindery.SessionReady && !s.upOnce {
		s.upOnce = true
		close(s.up)
	}
	if (state == bindery.SessionStopping || state == bindery.SessionEnded) && !s.downOnce {
		s.downOnce = true
		close(s.down)
	}
	if state == bindery.SessionEnded {
		close(s.over)
	}
}

// A shown session is what the proxy and the lists see: a copy of what is stored.
type shown struct {
	session bindery.Session
	active  atomic.Int64 // microseconds; of the last traffic
	told    atomic.Int64 // the last of them that the loop was told
}

// show replaces what is seen of a session by what was stored.
func (d *Dispatcher) show(s bindery.Session) {
	if s.State == bindery.SessionEnded {
		d.shown.Delete(s.ID)
		return
	}
	fresh := &shown{session: s}
	if old, ok := d.shown.Load(s.ID); ok {
		fresh.active.Store(old.(*shown).active.Load())
		fresh.told.Store(old.(*shown).told.Load())
	}
	d.shown.Store(s.ID, fresh)
}

// Address returns where the server of a ready session answers. It is cheap: call it per request.
func (d *Dispatcher) Address(id string) (addr string, ok bool) {
	v, ok := d.shown.Load(id)
	if !ok || v.(*shown).session.State != bindery.SessionReady {
		return "", false
	}
	return v.(*shown).session.Address, true
}

// tellEvery is how exactly the loop and the store know when a session was last used.
const tellEvery = 10 * time.Second

// Active notes that a session had traffic just now. It is cheap: call it per request and per message.
func (d *Dispatcher) Active(id string) {
	v, ok := d.shown.Load(id)
	if !ok {
		return
	}
	now, s := d.now(), v.(*shown)
	s.active.Store(now.UnixMicro())
	told := s.told.Load()
	if now.UnixMicro()-told < tellEvery.Microseconds() || !s.told.CompareAndSwap(told, now.UnixMicro()) {
		return
	}
	d.notes.Lock()
	d.touched[id] = now
	d.notes.Unlock()
	d.wakeLoop()
}

// wakeLoop has the loop take in what was noted.
func (d *Dispatcher) wakeLoop() {
	select {
	case d.kick <- struct{}{}:
	default: // it has been woken already
	}
}

// Session returns the record of a session, ended ones included.
func (d *Dispatcher) Session(ctx context.Context, id string) (bindery.Session, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.Session{}, err
	}
	if v, ok := d.shown.Load(id); ok {
		return v.(*shown).now(), nil
	}
	return d.cfg.Store.Session(ctx, id)
}

func (s *shown) now() bindery.Session {
	out := s.session
	if us := s.active.Load(); us > out.Active.UnixMicro() {
		out.Active = time.UnixMicro(us).UTC()
	}
	return out
}

// Sessions lists the sessions that have not ended, oldest first, without their tokens.
func (d *Dispatcher) Sessions(ctx context.Context) ([]bindery.Session, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	var out []bindery.Session
	d.shown.Range(func(_, v any) bool {
		s := v.(*shown).now()
		s.Token = ""
		out = append(out, s)
		return true
	})
	slices.SortFunc(out, func(a, b bindery.Session) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// StopSession takes a session down, for a reason in words, and returns when it has ended. A session that has ended
// already is no error.
func (d *Dispatcher) StopSession(ctx context.Context, id, reason string) error {
	return d.endSession(ctx, id, reason, func(*turn, *session) {})
}

// OustSession is StopSession for an operator: the audit log keeps who did it, and why. The session's visitor reads the
// reason.
func (d *Dispatcher) OustSession(ctx context.Context, id, who, reason string) error {
	return d.endSession(ctx, id, cmp.Or(reason, "Stopped by "+who), func(t *turn, s *session) {
		if s.alive() {
			t.note(who, "stop session", s.ID+" of "+s.Source.Identity(), reason)
		}
	})
}

func (d *Dispatcher) endSession(ctx context.Context, id, reason string, before func(*turn, *session)) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	var over chan struct{}
	err := d.insist(ctx, func(t *turn) {
		over = nil
		if s := d.sessions[id]; s != nil {
			over = s.over
			before(t, s)
			t.stop(s, reason)
		}
	})
	if err != nil {
		return err
	}
	if over == nil {
		_, err := d.cfg.Store.Session(ctx, id)
		return err
	}
	select {
	case <-over:
		return nil
	case <-d.stopped:
		return errStopping()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop begins to take a session down.
func (t *turn) stop(s *session, reason string) {
	if s.State == bindery.SessionEnded {
		return
	}
	if s.State != bindery.SessionStopping {
		s.State, s.Reason = bindery.SessionStopping, reason
		t.saveSession(s)
		t.step(sched.SessionStopping{Session: s.ID})
		t.then(func() { s.announce(bindery.SessionStopping) })
	}
	t.then(func() { t.d.spawn(t.d.takeDown(s)) })
}

// takeDown returns the work of stopping a container until that is done, and noting it.
func (d *Dispatcher) takeDown(s *session) func(context.Context) {
	return func(ctx context.Context) {
		d.mu.Lock()
		twice := s.falling
		s.falling = true
		d.mu.Unlock()
		if twice {
			return
		}
		for wait := backoff(0); ; {
			err := d.cfg.Launcher.Stop(ctx, s.ID)
			if err == nil {
				break
			}
			d.cfg.Log.WarnContext(ctx, "a session cannot be stopped", "session", s.ID, "error", err)
			if wait.sleep(ctx) != nil {
				return
			}
		}
		_ = d.insist(ctx, func(t *turn) { // the next start of the hub does it otherwise
			if d.sessions[s.ID] == s && s.State != bindery.SessionEnded {
				t.gone(s)
			}
		})
	}
}

// gone ends a session whose container is no more.
func (t *turn) gone(s *session) {
	s.State, s.Ended = bindery.SessionEnded, t.now
	t.saveSession(s)
	t.step(sched.SessionEnded{Session: s.ID})
	// It stays listed until that is stored: whoever waits for it must be found if the transaction fails.
	t.then(func() {
		t.d.unlist(s)
		s.announce(bindery.SessionEnded)
	})
}

func (d *Dispatcher) unlist(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, s.ID)
	if d.requests[s.Request] == s.ID {
		delete(d.requests, s.Request)
	}
}

// alive reports whether a session is there or coming.
func (s *session) alive() bool {
	return s.State == bindery.SessionPending || s.State == bindery.SessionReady
}

// watchContainer returns the work of waiting until a session's container ends.
func (d *Dispatcher) watchContainer(s *session) func(context.Context) {
	return func(ctx context.Context) {
		d.mu.Lock()
		twice := s.watched
		s.watched = true
		d.mu.Unlock()
		if twice {
			return
		}
		for wait := backoff(0); ; {
			exit, err := d.cfg.Launcher.Wait(ctx, s.ID)
			if errors.Is(err, bindery.ErrNotFound) {
				exit, err = bindery.Exit{Code: -1, Time: d.now()}, nil
			}
			if err == nil {
				d.exited(ctx, s, exit)
				return
			}
			if wait.sleep(ctx) != nil {
				return
			}
		}
	}
}

// exited notes that the server of a session has ended by itself, or as it was told to.
func (d *Dispatcher) exited(ctx context.Context, s *session, exit bindery.Exit) {
	d.mu.Lock()
	starting := s.State == bindery.SessionPending
	d.mu.Unlock()
	last := ""
	if starting {
		last = d.lastWords(ctx, s.ID)
	}
	_ = d.insist(ctx, func(t *turn) { // the next start of the hub finds out otherwise
		if d.sessions[s.ID] != s || s.State == bindery.SessionEnded {
			return
		}
		s.Exit = &exit
		t.saveSession(s)
		switch s.State {
		case bindery.SessionPending:
			s.died = diedError(exit, s.Limits, last)
			t.stop(s, s.died.Msg)
		case bindery.SessionReady:
			t.stop(s, exitReason(exit, s.Limits))
		}
	})
}

// exitReason says in words how a ready session ended.
func exitReason(exit bindery.Exit, l bindery.Limits) string {
	switch {
	case exit.OutOfMemory:
		return "It ran out of memory" + limitWords(l)
	case exit.Code < 0:
		return "It ended while nobody looked"
	case exit.Code > 128:
		return fmt.Sprintf("Its server was ended by signal %d", exit.Code-128)
	}
	return fmt.Sprintf("Its server ended with exit code %d", exit.Code)
}

func limitWords(l bindery.Limits) string {
	if l.Memory <= 0 {
		return ""
	}
	return fmt.Sprintf(": it may use %d MiB", l.Memory>>20)
}

// diedError is what a visitor is told whose session died before it answered.
func diedError(exit bindery.Exit, l bindery.Limits, last string) *bindery.Error {
	if exit.OutOfMemory {
		return bindery.Errorf(bindery.ErrOutOfMemory, bindery.User, "Let the repository's start script use less memory."+last,
			"The session ran out of memory while it was starting%s", limitWords(l))
	}
	how := fmt.Sprintf("exit code %d", exit.Code)
	if exit.Code > 128 {
		how = fmt.Sprintf("signal %d", exit.Code-128)
	}
	return bindery.Errorf(bindery.ErrSessionDied, bindery.User, "Look at the repository's start script and at the server that it installs."+last,
		"The session ended before its server answered (%s)", how)
}

// restoreSessions replaces the records of sessions. What this process is bringing up or taking down goes on; the rest
// is looked at: see adopt.
func (d *Dispatcher) restoreSessions(live bindery.Live) (effects []func(context.Context)) {
	old := d.sessions
	d.sessions, d.requests = make(map[string]*session, len(live.Sessions)), map[string]string{}
	var orphans []*session
	for _, rec := range live.Sessions {
		s := old[rec.ID]
		if s == nil {
			s = newSession(rec)
		}
		s.become(rec)
		d.sessions[s.ID] = s
		if s.Request != "" {
			d.requests[s.Request] = s.ID
		}
		d.show(rec)
		s.announceStored()
		if s.State == bindery.SessionStopping {
			effects = append(effects, d.takeDown(s))
		} else if !s.owned && !s.watched {
			orphans = append(orphans, s)
		}
	}
	for id, s := range old {
		if d.sessions[id] == nil {
			d.show(bindery.Session{ID: id, State: bindery.SessionEnded})
			s.announce(bindery.SessionEnded)
		}
	}
	if len(orphans) > 0 {
		effects = append(effects, func(ctx context.Context) { d.adopt(ctx, orphans) })
	}
	return effects
}

// announceStored wakes who waits for a state that was stored although its transaction seemed to fail.
func (s *session) announceStored() {
	if s.State != bindery.SessionPending {
		s.announce(s.State)
	}
}
