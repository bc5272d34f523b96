package sched_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

var start = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// A mirror keeps what a store would: rows that only inputs and decisions change. It complains about decisions that no
// row allows.
type mirror struct {
	builds   map[string]*row
	order    []string // of submission
	failures map[string]sched.Failure
	failed   []string // keys, oldest first
	spent    []sched.Spent
	sessions map[string]*sched.Session
	admitted []string
	wrong    []string
}

type row struct {
	sched.Build
	over  bool
	avoid []string // workers that failed it
}

func newMirror() *mirror {
	return &mirror{builds: map[string]*row{}, failures: map[string]sched.Failure{}, sessions: map[string]*sched.Session{}}
}

func (m *mirror) complain(format string, args ...any) {
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

func (m *mirror) take(now time.Time, in sched.Input, out []sched.Decision) {
	m.hear(now, in)
	for _, d := range out {
		m.obey(now, in, d)
	}
	if in, ok := in.(sched.SessionEnded); ok {
		delete(m.sessions, in.Session)
	}
}

// hear notes what an input alone changes.
func (m *mirror) hear(now time.Time, in sched.Input) {
	switch in := in.(type) {
	case sched.SessionReady:
		if x := m.sessions[in.Session]; x != nil && !x.Ready && !x.Waiting {
			x.Ready, x.Active = true, now
		}
	case sched.SessionActive:
		if x := m.sessions[in.Session]; x != nil && in.At.After(x.Active) {
			x.Active = in.At
		}
	}
}

func (m *mirror) obey(now time.Time, in sched.Input, d sched.Decision) {
	switch d := d.(type) {
	case sched.Queue:
		s := in.(sched.Submit)
		m.builds[d.Build] = &row{Build: sched.Build{
			ID: s.Build, Key: s.Key, Repo: s.Repo, Ref: s.Ref, Owner: s.Owner, Requester: s.Requester, Class: s.Class, Quick: s.Quick,
		}}
		m.order = append(m.order, d.Build)
	case sched.Join:
		if r := m.builds[d.Existing]; r == nil || r.over {
			m.complain("%s: it is not alive", d)
		}
	case sched.Start:
		r := m.builds[d.Build]
		if r == nil || r.over || r.Running || d.Attempt != r.Attempt+1 || r.Until.After(now) {
			m.complain("%s: row %+v", d, r)
			return
		}
		r.Running, r.Worker, r.Attempt, r.Started, r.Quick = true, d.Worker, d.Attempt, now, d.Quick
	case sched.Promote:
		m.live(d.Build, d).Class = d.Class
	case sched.Again:
		r := m.live(d.Build, d)
		if d.Outcome == sched.WorkerGone || d.Outcome == sched.NoSpace || d.Outcome == sched.OurFault {
			r.avoid = append(r.avoid, r.Worker)
		}
		r.Running, r.Worker, r.Charged, r.Until, r.Slow = false, "", d.Charged, d.Until, d.Slow
		r.Quick = r.Quick && d.Outcome != sched.NotQuick
	case sched.Slow:
		if r := m.live(d.Build, d); !r.Running || r.Attempt != d.Attempt || r.Slow && d.Reason == "" {
			m.complain("%s: row %+v", d, r)
		}
		m.live(d.Build, d).Slow = true
	case sched.Done:
		m.spend(now, d.Build)
		m.end(d.Build, d)
		delete(m.failures, m.builds[d.Build].Key)
	case sched.Drop:
		m.end(d.Build, d)
	case sched.Fail:
		if d.Outcome == sched.UserFault {
			m.spend(now, d.Build)
		}
		m.end(d.Build, d)
		key := m.builds[d.Build].Key
		m.failures[key] = sched.Failure{Key: key, Build: d.Build, Row: d.Row, Until: d.Until, Quarantined: d.Quarantined}
		m.failed = append(m.failed, key)
	case sched.Admit:
		if x := m.sessions[d.Session]; x == nil {
			m.ask(now, in.(sched.AskSession))
		} else if x.Waiting {
			x.Waiting, x.Created = false, now
		}
	case sched.Hold:
		if m.sessions[d.Session] == nil {
			m.ask(now, in.(sched.AskSession))
			m.sessions[d.Session].Waiting = true
		}
	case sched.Refuse:
		delete(m.sessions, d.Session)
	case sched.Stop:
		if x := m.sessions[d.Session]; x == nil || x.Stopping {
			m.complain("%s: it is not there or is stopped already", d)
			return
		}
		m.sessions[d.Session].Stopping = true
	}
}

func (m *mirror) ask(now time.Time, s sched.AskSession) {
	m.sessions[s.Session] = &sched.Session{
		ID: s.Session, Repo: s.Repo, Owner: s.Owner, Requester: s.Requester, Created: now, Idle: s.Idle, Age: s.Age, RepoQuota: s.RepoQuota,
	}
	m.admitted = append(m.admitted, s.Session)
}

func (m *mirror) live(id string, d sched.Decision) *row {
	r := m.builds[id]
	if r == nil || r.over {
		m.complain("%s: it is not alive", d)
		return &row{}
	}
	return r
}

func (m *mirror) end(id string, d sched.Decision) {
	r := m.live(id, d)
	r.over, r.Running = true, false
}

// spend notes what a build took that ends by its own doing.
func (m *mirror) spend(now time.Time, id string) {
	if r := m.builds[id]; r.Running && !r.Quick {
		m.spent = append(m.spent, sched.Spent{Class: r.Class, Owner: r.Owner, Requester: r.Requester, Cost: now.Sub(r.Started), At: now})
	}
}

func (m *mirror) spentSince(at time.Time) []sched.Spent {
	i := slices.IndexFunc(m.spent, func(x sched.Spent) bool { return x.At.After(at) })
	if i < 0 {
		return nil
	}
	return m.spent[i:]
}

// forget is what a restart does: rows do not say whom a build avoids.
func (m *mirror) forget() {
	for _, r := range m.builds {
		r.avoid = nil
	}
}

// state is what a restart would find in the store.
func (m *mirror) state() sched.State {
	var st sched.State
	for _, id := range m.order {
		if r := m.builds[id]; !r.over {
			st.Builds = append(st.Builds, r.Build)
		}
	}
	seen := map[string]bool{}
	for _, key := range m.failed {
		if f, ok := m.failures[key]; ok && !seen[key] {
			seen[key] = true
			st.Failures = append(st.Failures, f)
		}
	}
	for _, id := range m.admitted {
		if x := m.sessions[id]; x != nil {
			st.Sessions = append(st.Sessions, *x)
		}
	}
	return st
}
