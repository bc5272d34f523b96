package sched

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Scope is what a rule is about.
type Scope string

// The scopes of rules.
const (
	OnRepo      Scope = "repository"
	OnOwner     Scope = "owner"
	OnRequester Scope = "requester"
	OnHub       Scope = "hub" // quotas only: of all sessions together
)

// A RuleKind is what a rule does.
type RuleKind string

// The kinds of rules. One of each kind may stand for each name.
const (
	Ban    RuleKind = "ban"           // nothing of it is built or launched; what waits is dropped, what runs is stopped
	Pause  RuleKind = "hold"          // what waits goes on waiting; what runs goes on
	Stay   RuleKind = "hold-launches" // what is built is not launched: its launches wait, or are refused; sessions go on
	Weight RuleKind = "weight"        // its share of the slots: an owner's or a requester's
	Quota  RuleKind = "quota"         // its sessions at once
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

type ruleName struct {
	kind  RuleKind
	scope Scope
	name  string
}

func (r Rule) name() ruleName { return ruleName{r.Kind, r.Scope, r.Name} }

func (in SetRule) apply(s *Scheduler, now time.Time) {
	r := in.Rule
	if !r.Until.IsZero() && !r.Until.After(now) {
		return
	}
	s.rules[r.name()] = r
	s.obey(r.Scope, r.Name, now)
	if r.Kind == Ban {
		s.banish(r, now)
	}
	s.wakeRules()
}

func (in LiftRule) apply(s *Scheduler, now time.Time) {
	delete(s.rules, ruleName{in.Kind, in.Scope, in.Name})
	s.obey(in.Scope, in.Name, now)
}

// wakeRules sets the alarm for the rule that expires first.
func (s *Scheduler) wakeRules() {
	var first time.Time
	for _, r := range s.rules {
		if !r.Until.IsZero() && (first.IsZero() || r.Until.Before(first)) {
			first = r.Until
		}
	}
	if !first.IsZero() {
		s.wake(first, aboutRules, "")
	}
}

func (s *Scheduler) expire(now time.Time) {
	var over []Rule
	for _, r := range s.rules {
		if !r.Until.IsZero() && !r.Until.After(now) {
			over = append(over, r)
		}
	}
	slices.SortFunc(over, compareRules)
	for _, r := range over {
		delete(s.rules, r.name())
		s.obey(r.Scope, r.Name, now)
	}
	s.wakeRules()
}

func compareRules(a, b Rule) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
}

// Rules returns the rules that stand, in order.
func (s *Scheduler) Rules() []Rule {
	return slices.SortedFunc(maps.Values(s.rules), compareRules)
}

// concerns reports whether a rule on something is about a build of that repository, owner, requester.
func (sc Scope) concerns(name, repo, owner, requester string) bool {
	return name == map[Scope]string{OnRepo: repo, OnOwner: owner, OnRequester: requester}[sc]
}

// obey puts lanes to where the rules want them: held lanes are in no post.
func (s *Scheduler) obey(scope Scope, name string, _ time.Time) {
	s.vacant = true // quotas count for who waits
	for _, k := range s.buckets {
		for z := range k.lanes {
			var found []*lane
			for n, l := range k.lanes[z] {
				if scope.concerns(name, n.repo, n.owner, n.requester) {
					found = append(found, l)
				}
			}
			slices.SortFunc(found, func(a, b *lane) int { return cmp.Compare(a.builds[0].order, b.builds[0].order) })
			for _, l := range found {
				paused := s.paused(l.builds[0])
				if paused && l.at >= 0 {
					k.drop(l)
				} else if !paused && l.at < 0 {
					k.hold(l)
				}
			}
		}
	}
}

// banish drops and stops what a ban is about.
func (s *Scheduler) banish(r Rule, now time.Time) {
	var found []*build
	for _, b := range s.builds {
		if r.Scope.concerns(r.Name, b.Repo, b.Owner, b.Requester) && (r.Scope != OnRequester || len(b.askers) == 0) {
			found = append(found, b)
		}
	}
	slices.SortFunc(found, func(a, b *build) int { return cmp.Compare(a.order, b.order) })
	for _, b := range found {
		s.cancel(b, banText(r), now)
	}
	s.turnAway(r)
}

func banText(r Rule) string {
	text := "this " + string(r.Scope) + " is not served at the moment"
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// banned says why nothing is built or launched, in words; empty: it is.
func (s *Scheduler) banned(repo, owner, requester string) string {
	if len(s.rules) == 0 {
		return ""
	}
	for _, n := range []ruleName{{Ban, OnRepo, repo}, {Ban, OnOwner, owner}, {Ban, OnRequester, requester}} {
		if r, ok := s.rules[n]; ok {
			return banText(r)
		}
	}
	return ""
}

// paused reports whether a build is held back by a person.
func (s *Scheduler) paused(b *build) bool {
	_, ok := s.pause(b)
	return ok
}

func (s *Scheduler) pause(b *build) (Rule, bool) {
	if len(s.rules) == 0 {
		return Rule{}, false
	}
	for _, n := range []ruleName{{Pause, OnRepo, b.Repo}, {Pause, OnOwner, b.Owner}, {Pause, OnRequester, b.Requester}} {
		if r, ok := s.rules[n]; ok {
			return r, true
		}
	}
	return Rule{}, false
}

// stayed says why nothing is launched of what is built, in words; empty: it is.
func (s *Scheduler) stayed(repo, owner, requester string) string {
	if len(s.rules) == 0 {
		return ""
	}
	for _, n := range []ruleName{{Stay, OnRepo, repo}, {Stay, OnOwner, owner}, {Stay, OnRequester, requester}} {
		if r, ok := s.rules[n]; ok {
			return fmt.Sprintf("the operator holds launches of this %s back%s", r.Scope, because(r.Reason))
		}
	}
	return ""
}

func (s *Scheduler) weight(scope Scope, name string) float64 {
	if len(s.rules) == 0 {
		return 1
	}
	if r, ok := s.rules[ruleName{Weight, scope, name}]; ok && r.Value > 0 {
		return r.Value
	}
	return 1
}
