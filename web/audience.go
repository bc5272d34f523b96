package web

import (
	"cmp"
	"context"
	"errors"
	"sync"

	bindery "github.com/bindery-hub/bindery"
)

// audiences are those who follow builds, each under its build. A build's events are read and encoded once for all of
// them, and none of them has a goroutine that waits for the next: that is what makes watching cheap.
type audiences struct {
	s *Server

	mu  sync.Mutex
	all map[string]*audience
}

// An audience has one member at least. A member has been sent all events up to its watch's after, which is not behind
// last.
type audience struct {
	of   *audiences
	id   string
	stop context.CancelFunc

	mu      sync.Mutex
	last    int64         // the members have been sent the events up to this one
	phase   bindery.Phase // of the last one that does not end the build
	stands  []byte        // for who joins
	members map[*watch]member
}

// A member is let go of by whoever takes it out of the audience.
type member struct {
	next   func(error) // goes on with its stream
	leave  func()      // it does not count as a watcher any more; nil: what the audience reads counts for it
	unhook func() bool // from the end of its context
}

// errBehind sends a member away who was too slow to be told all that the others were.
var errBehind = errors.New("the reader is too far behind")

func (m member) goOn(err error) {
	m.unhook()
	if m.leave != nil {
		m.leave()
	}
	go m.next(err)
}

// join takes a stream into the audience of its build, unless it is behind those who are there; then it must be told the
// events up to that number first. When the build's events have ended or the stream's context has, next is called.
func (as *audiences) join(ctx context.Context, wa *watch, next func(error)) (behind int64, joined bool) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a := as.all[wa.build.ID]
	m := member{next: next}
	if a == nil {
		a = as.open(ctx, wa)
	} else {
		m.leave = as.s.cfg.Builds.Watch(a.id)
		a.mu.Lock()
	}
	defer a.mu.Unlock()
	if wa.after < a.last {
		go m.leave()
		return a.last, false
	}
	m.unhook = context.AfterFunc(ctx, func() {
		if m, ok := a.remove(wa); ok {
			m.goOn(ctx.Err())
		}
	})
	a.members[wa] = m
	if a.stands != nil {
		wa.st.offer(a.stands)
	}
	return 0, true
}

// open makes a build's audience, and returns with its lock held: its first member must be in before it is told anything.
func (as *audiences) open(ctx context.Context, first *watch) *audience {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	a := &audience{of: as, id: first.build.ID, stop: stop, last: first.after, members: map[*watch]member{}}
	as.all[a.id] = a
	after := first.after
	a.mu.Lock()
	as.s.streams.Go(func() { a.run(ctx, after) })
	return a
}

// remove takes a member out. An audience without members ends.
func (a *audience) remove(wa *watch) (m member, ok bool) {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok = a.members[wa]; !ok {
		return m, false
	}
	delete(a.members, wa)
	if len(a.members) == 0 {
		a.close()
	}
	for other, o := range a.members {
		if m.leave == nil && o.leave != nil { // now what the audience reads counts for another
			m.leave, o.leave = o.leave, nil
			a.members[other] = o
			break
		}
	}
	return m, true
}

// close is called with both locks held.
func (a *audience) close() {
	if a.of.all[a.id] == a {
		delete(a.of.all, a.id)
	}
	a.stop()
}

// run reads what follows event number after, until the build's events end or the audience does.
func (a *audience) run(ctx context.Context, after int64) {
	defer a.stop()
	var failed error
	stop, watched := func() {}, after > 0
	if watched {
		stop = a.watchQueue(ctx)
	}
	for e, err := range a.of.s.cfg.Builds.Events(ctx, a.id, after) {
		if err != nil {
			failed = err
			break
		}
		a.tell(e)
		if !watched {
			stop, watched = a.watchQueue(ctx), true
		}
	}
	stop()
	a.of.mu.Lock()
	a.mu.Lock()
	a.close()
	left := a.members
	a.members = nil
	a.mu.Unlock()
	a.of.mu.Unlock()
	for _, m := range left {
		m.goOn(failed)
	}
}

// tell sends an event to everybody.
func (a *audience) tell(e bindery.Event) {
	plain, numbered := buildLine(a.id, e, false), buildLine(a.id, e, true)
	a.mu.Lock()
	if a.last = e.Seq; !e.Last() {
		a.phase = e.Phase
	}
	var slow []*watch
	for wa := range a.members {
		line := plain
		if wa.numbered {
			line = numbered
		}
		switch {
		case e.Seq <= wa.after:
		case line != nil && !wa.st.offer(line):
			slow = append(slow, wa)
		default:
			wa.after = e.Seq
		}
	}
	a.mu.Unlock()
	for _, wa := range slow {
		if m, ok := a.remove(wa); ok {
			m.goOn(errBehind)
		}
	}
}

// watchQueue tells everybody where the build stands or when it will be done, at once and whenever that changes, until it is
// over or stop is called. What comes before, "Waiting for build to start...", is part of the build's own story.
func (a *audience) watchQueue(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer a.stand(nil, nil)
		said := ""
		for at, err := range a.of.s.cfg.Builds.Standings(ctx, a.id) {
			if err != nil {
				return // the stream itself says what is wrong
			}
			if at.Position == 0 && at.Reason == "" && at.Run.To.IsZero() {
				a.stand(nil, nil)
				continue // the story has said already that it waits, or that it runs
			}
			ev := a.of.s.standing(bindery.PhaseWaiting, "Waiting for build to start", at)
			if ev.Run != nil { // it is no phase of its own
				a.mu.Lock()
				ev.Phase = cmp.Or(a.phase, ev.Phase)
				a.mu.Unlock()
			}
			line, err := eventLine("", ev)
			if err != nil {
				return // its fields are plain
			}
			if ev.Run == nil || ev.Message != said {
				said = ev.Message
				a.stand(line, nil)
				continue
			}
			ev.Message = ""
			times, err := eventLine("", ev)
			if err != nil {
				return
			}
			a.stand(line, times)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// stand tells everybody, and those who come later. When only times have changed since, our own page alone is sent them:
// other clients would print the same words again.
func (a *audience) stand(line, times []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stands = line; line == nil {
		return
	}
	for wa := range a.members { // who is too far behind is found by the next event
		switch {
		case times == nil:
			wa.st.offer(line)
		case wa.numbered:
			wa.st.offer(times)
		}
	}
}
