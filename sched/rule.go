package sched

import "time"

// A Scope is what a rule is about.
type Scope string

// The scopes of rules.
const (
	OnRepo      Scope = "repository"
	OnOwner     Scope = "owner"
	OnRequester Scope = "requester"
)

// A RuleKind is what a rule does.
type RuleKind string

// The kinds of rules. One of each kind may stand for each name.
const (
	Ban    RuleKind = "ban"    // nothing of it is built or launched; what waits is dropped, what runs is stopped
	Pause  RuleKind = "hold"   // what waits goes on waiting; what runs goes on
	Weight RuleKind = "weight" // its share of the slots: an owner's or a requester's
	Quota  RuleKind = "quota"  // its sessions at once
)

// A Rule changes the policy for one repository, owner or requester until it is lifted or expires.
type Rule struct {
	Kind   RuleKind
	Scope  Scope
	Name   string
	Value  float64   // the weight (default 1) or the quota
	Until  time.Time // zero: until it is lifted
	Reason string    // told to those whom it concerns
}

// SetRule makes a rule, or replaces the one of its kind, scope and name.
type SetRule struct{ Rule Rule }

// LiftRule ends a rule.
type LiftRule struct {
	Kind  RuleKind
	Scope Scope
	Name  string
}

// Forgive forgets the failure that is remembered for a key: it may be built again at once.
type Forgive struct{ Key string }

func (in SetRule) apply(s *Scheduler, now time.Time)  {}
func (in LiftRule) apply(s *Scheduler, now time.Time) {}
func (in Forgive) apply(s *Scheduler, now time.Time)  {}
func (in Progress) apply(s *Scheduler, now time.Time) {}
func (in Learn) apply(s *Scheduler, now time.Time)    {}
