package sched

import (
	"fmt"
	"strings"
	"time"
)

func (in AskSession) apply(s *Scheduler, now time.Time) {
	if x := s.sessions[in.Session]; x != nil {
		s.decide(Admit{Session: in.Session})
		return
	}
	if most := max(s.cfg.Sessions, 0); len(s.sessions) >= most {
		s.decide(Refuse{Session: in.Session, Reason: fmt.Sprintf("all places for sessions are taken (%d)", most)})
		return
	}
	x := &Session{ID: in.Session, Created: now, Idle: in.Idle, Age: in.Age}
	s.sessions[x.ID] = x
	s.watchSession(x)
	s.decide(Admit{Session: x.ID})
}

func (in SessionReady) apply(s *Scheduler, now time.Time) {
	if x := s.sessions[in.Session]; x != nil && !x.Ready {
		x.Ready, x.Active = true, now
		s.watchSession(x)
	}
}

func (in SessionActive) apply(s *Scheduler, _ time.Time) {
	if x := s.sessions[in.Session]; x != nil && in.At.After(x.Active) {
		x.Active = in.At // the alarm that is set looks again when it rings
	}
}

func (in SessionStopping) apply(s *Scheduler, _ time.Time) {
	if x := s.sessions[in.Session]; x != nil {
		x.Stopping = true
	}
}

func (in SessionEnded) apply(s *Scheduler, _ time.Time) { delete(s.sessions, in.Session) }

// deadline is when a session is culled, if nothing happens, with the reason; zero: never.
func (x *Session) deadline() (at time.Time, reason string) {
	if x.Stopping {
		return time.Time{}, ""
	}
	if x.Age > 0 {
		at, reason = x.Created.Add(x.Age), "it reached its age limit of "+words(x.Age)
	}
	if x.Ready && x.Idle > 0 {
		if idle := x.Active.Add(x.Idle); at.IsZero() || idle.Before(at) {
			at, reason = idle, "nobody used it for "+words(x.Idle)
		}
	}
	return at, reason
}

func (s *Scheduler) watchSession(x *Session) {
	if at, _ := x.deadline(); !at.IsZero() {
		s.wake(at, aboutSession, x.ID)
	}
}

// cull stops a session whose time has come; otherwise it sets the next alarm.
func (s *Scheduler) cull(id string, now time.Time) {
	x := s.sessions[id]
	if x == nil {
		return
	}
	at, reason := x.deadline()
	if at.IsZero() {
		return
	}
	if at.After(now) {
		s.wake(at, aboutSession, id)
		return
	}
	x.Stopping = true
	s.decide(Stop{Session: id, Reason: reason})
}

// words writes a duration for people: "1h", "10m", "1m30s".
func words(d time.Duration) string {
	s := d.Round(time.Second).String()
	if cut, ok := strings.CutSuffix(s, "m0s"); ok {
		s = cut + "m"
	}
	if cut, ok := strings.CutSuffix(s, "h0m"); ok {
		s = cut + "h"
	}
	return s
}
