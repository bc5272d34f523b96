package sched

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

func (in AskSession) apply(s *Scheduler, now time.Time) {
	if x := s.sessions[in.Session]; x != nil {
		if x.Waiting {
			reason, _ := s.noPlace(x)
			s.decide(Hold{Session: x.ID, Reason: reason})
			return
		}
		s.decide(Admit{Session: in.Session})
		return
	}
	if reason := s.banned(target{in.Repo, "", in.Owner, in.Requester, in.Spec, in.Address}); reason != "" {
		s.decide(Refuse{Session: in.Session, Reason: reason})
		return
	}
	x := &Session{
		ID: in.Session, Repo: in.Repo, Owner: in.Owner, Requester: in.Requester, Created: now, Idle: in.Idle, Age: in.Age,
		RepoQuota: in.RepoQuota, Spec: in.Spec, Address: in.Address,
	}
	// Who comes later does not overtake those who wait, unless only their own quotas hold them.
	reason, full, waits := s.room(x, in.Wait)
	switch {
	case reason == "":
		s.sessions[x.ID] = x
		s.admit(x, now)
	case waits:
		x.Waiting = true
		s.sessions[x.ID] = x
		s.lobby = append(s.lobby, x)
		s.decide(Hold{Session: x.ID, Reason: reason})
	default:
		s.decide(Refuse{Session: x.ID, Reason: reason, Full: full})
	}
}

// room says why there is no place for a session that asks, as noPlace does, and whether it waits for one. Over the quota
// that it brought for its repository it does not, those counted who wait for the same: BinderHub, whose quota that is,
// refuses at once.
func (s *Scheduler) room(x *Session, wait bool) (reason string, full Scope, waits bool) {
	reason, full = s.noPlace(x)
	if reason == "" || !wait {
		return reason, full, false
	}
	if x.RepoQuota != 0 && !s.granted(x) {
		taken := s.places[0][x.Repo]
		for _, y := range s.lobby {
			if y.Repo == x.Repo {
				taken++
			}
		}
		if taken >= x.RepoQuota {
			return fmt.Sprintf("all places of this repository are taken, or waited for (%d)", x.RepoQuota), OnRepo, false
		}
	}
	return reason, full, len(s.lobby) < max(s.cfg.Places, 0)
}

// Full says whether a session that asked now would be turned away for want of a place; nothing is reserved.
func (s *Scheduler) Full(in AskSession) (no Refuse, full bool) {
	reason, scope, waits := s.room(&Session{Repo: in.Repo, Owner: in.Owner, Requester: in.Requester, RepoQuota: in.RepoQuota, Spec: in.Spec, Address: in.Address}, in.Wait)
	if scope == "" || waits {
		return Refuse{}, false
	}
	return Refuse{Session: in.Session, Reason: reason, Full: scope}, true
}

// admit reserves the places of a session.
func (s *Scheduler) admit(x *Session, now time.Time) {
	x.Waiting, x.Created = false, now
	s.reserve(x, 1)
	s.watchSession(x)
	s.decide(Admit{Session: x.ID})
}

func (s *Scheduler) reserve(x *Session, n int) {
	s.admitted += n
	for _, r := range s.broad {
		if r.Kind == Quota && r.concerns(x.target()) {
			r.places += n
		}
	}
	for i, name := range []string{x.Repo, x.Owner, x.Requester} {
		if s.places[i][name] += n; s.places[i][name] == 0 {
			delete(s.places[i], name)
		}
	}
}

// noPlace says which quota leaves no place for a session, in words; empty: there is a place. The scope is the quota's.
func (s *Scheduler) noPlace(x *Session) (reason string, full Scope) {
	if reason := s.stayed(x.target()); reason != "" {
		return reason, ""
	}
	if most := max(s.cfg.Sessions, 0); s.admitted >= most {
		return fmt.Sprintf("all places for sessions are taken (%d)", most), OnHub
	}
	reason, quota := s.ownFull(x)
	return reason, quota.scope
}

// ownFull says which quota narrower than the hub's leaves no place for a session, in words, and names it.
func (s *Scheduler) ownFull(x *Session) (reason string, full ruleName) {
	limits := []int{s.cfg.RepoSessions, s.cfg.OwnerSessions, s.cfg.RequesterSessions}
	scopes := []Scope{OnRepo, OnOwner, OnRequester}
	if r := s.broadFull(x); r != nil {
		return "all places of what an operator's quota is about are taken", r.name()
	}
	own := s.granted(x)
	for i, name := range []string{x.Repo, x.Owner, x.Requester} {
		if name == "" {
			continue
		}
		most, bound := limits[i], limits[i] != 0
		if scopes[i] == OnRepo && x.RepoQuota != 0 {
			most, bound = x.RepoQuota, true
		}
		if own && scopes[i] != OnRequester {
			bound = false
		}
		if r, ok := s.rules[ruleName{Quota, scopes[i], name}]; ok {
			most, bound = int(r.Value), true
		}
		if bound && s.places[i][name] >= max(most, 0) {
			return fmt.Sprintf("all places of this %s are taken (%d)", scopes[i], max(most, 0)), ruleName{Quota, scopes[i], name}
		}
	}
	return "", ruleName{}
}

// granted reports whether an operator's own quota is about the repository, the owner or the spec of a session: then
// those of the configuration for its repository and its owner do not count.
func (s *Scheduler) granted(x *Session) bool {
	for _, n := range [...]ruleName{{Quota, OnRepo, x.Repo}, {Quota, OnOwner, x.Owner}} {
		if _, ok := s.rules[n]; ok {
			return true
		}
	}
	return slices.ContainsFunc(s.broad, func(r *broad) bool { return r.Kind == Quota && r.Scope == OnSpec && r.concerns(x.target()) })
}

// broadFull is a broad quota that leaves no place for a session; nil: none does.
func (s *Scheduler) broadFull(x *Session) *broad {
	for _, r := range s.broad {
		if r.Kind == Quota && r.concerns(x.target()) && r.places >= int(r.Value) {
			return r
		}
	}
	return nil
}

// recount counts the places that broad quotas are about.
func (s *Scheduler) recount() {
	for _, r := range s.broad {
		for _, x := range s.sessions {
			if r.Kind == Quota && !x.Waiting && r.concerns(x.target()) {
				r.places++
			}
		}
	}
}

// seat admits those who wait and for whom there is a place, the first to come first.
func (s *Scheduler) seat(now time.Time) {
	if len(s.lobby) == 0 || !s.vacant {
		return
	}
	s.vacant = false
	s.lobby = slices.DeleteFunc(s.lobby, func(x *Session) bool {
		if reason, _ := s.noPlace(x); reason != "" {
			return false
		}
		s.admit(x, now)
		return true
	})
}

// turnAway refuses those who wait and whom a ban is about, and stops those who are in.
func (s *Scheduler) turnAway(r Rule) {
	concerned := func(x *Session) bool { return s.concerns(r, x.target()) }
	s.lobby = slices.DeleteFunc(s.lobby, func(x *Session) bool {
		if !concerned(x) {
			return false
		}
		delete(s.sessions, x.ID)
		s.decide(Refuse{Session: x.ID, Reason: banText(r)})
		return true
	})
	var in []*Session
	for _, x := range s.sessions {
		if concerned(x) && !x.Stopping {
			in = append(in, x)
		}
	}
	slices.SortFunc(in, func(a, b *Session) int { return strings.Compare(a.ID, b.ID) })
	for _, x := range in {
		x.Stopping = true
		s.decide(Stop{Session: x.ID, Reason: banText(r)})
	}
}

func (s *Scheduler) restoreSession(x *Session) {
	s.sessions[x.ID] = x
	if x.Waiting {
		s.lobby = append(s.lobby, x)
		s.vacant = true
		return
	}
	s.reserve(x, 1)
	s.watchSession(x)
}

func (in SessionReady) apply(s *Scheduler, now time.Time) {
	if x := s.sessions[in.Session]; x != nil && !x.Ready && !x.Waiting {
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

func (in SessionEnded) apply(s *Scheduler, now time.Time) {
	x := s.sessions[in.Session]
	if x == nil {
		return
	}
	delete(s.sessions, x.ID)
	if x.Waiting {
		s.lobby = slices.DeleteFunc(s.lobby, func(y *Session) bool { return y == x })
		return
	}
	s.reserve(x, -1)
	s.vacant = true
	if s.stays = append(s.stays, stay{x, now.Sub(x.Created)}); len(s.stays) > mostStays {
		s.stays = s.stays[1:]
	}
}

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
	if x == nil || x.Waiting {
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

// A rate counts events, of which old ones count less.
type rate struct {
	n    float64
	last time.Time
}

const rateMemory = 30 * time.Minute

func (r *rate) count(now time.Time, n float64) {
	r.n = r.fade(now) + n
	r.last = now
}

func (r *rate) fade(now time.Time) float64 {
	if r.last.IsZero() {
		return 0
	}
	return r.n * math.Exp(-max(now.Sub(r.last), 0).Seconds()/rateMemory.Seconds())
}

// perSecond is how often it happens now.
func (r *rate) perSecond(now time.Time) float64 { return r.fade(now) / rateMemory.Seconds() }
