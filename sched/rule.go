package sched

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Scope is what a rule is about.
type Scope string

// The scopes of rules.
const (
	OnRepo      Scope = bindery.OnRepository
	OnOwner     Scope = bindery.OnOwner
	OnRequester Scope = bindery.OnRequester
	OnNetwork   Scope = bindery.OnNetwork // addresses, by a network in CIDR notation
	OnSpec      Scope = bindery.OnSpec    // specs, by a regular expression
	OnHub       Scope = "hub"             // quotas only: of all sessions together
)

// A RuleKind is what a rule does.
type RuleKind string

// The kinds of rules. One of each kind may stand for each name and beginning.
const (
	Ban        RuleKind = bindery.RuleBan          // nothing of it is built or launched; what waits is dropped, what runs is stopped
	Pause      RuleKind = bindery.RuleHold         // what waits goes on waiting; what runs goes on
	Stay       RuleKind = bindery.RuleHoldLaunches // what is built is not launched: its launches wait, or are refused; sessions go on
	UntilBuilt RuleKind = bindery.RuleUntilBuilt   // it is built aside, at nobody's cost; the rule ends when it is built
	Weight     RuleKind = bindery.RuleWeight       // its share of the slots: an owner's or a requester's
	Quota      RuleKind = bindery.RuleQuota        // its sessions at once
)

// A Rule changes the policy for what it is about until it is lifted or expires.
type Rule struct {
	Kind   RuleKind
	Scope  Scope
	Name   string
	Value  float64   // the weight (default 1) or the quota
	From   time.Time // zero: now
	Until  time.Time // zero: until it is lifted
	Reason string    // told to those whom it concerns
}

// SetRule makes a rule, or replaces the one of its kind, scope, name and beginning.
type SetRule struct{ Rule Rule }

// LiftRule ends a rule.
type LiftRule struct {
	Kind  RuleKind
	Scope Scope
	Name  string
	From  time.Time
}

// Forgive forgets the failure that is remembered for a key: it may be built again at once.
type Forgive struct{ Key string }

// A ruleName is what one rule at most is in force for.
type ruleName struct {
	kind  RuleKind
	scope Scope
	name  string
}

// A ruleKey is what one rule at most stands for, in force or not yet.
type ruleKey struct {
	ruleName
	from int64 // microseconds; 0: it was in force at once
}

func (r Rule) name() ruleName { return ruleName{r.Kind, r.Scope, r.Name} }
func (r Rule) key() ruleKey   { return keyOf(r.name(), r.From) }

func keyOf(n ruleName, from time.Time) ruleKey {
	if from.IsZero() {
		return ruleKey{n, 0}
	}
	return ruleKey{n, from.UnixMicro()}
}

func (in SetRule) apply(s *Scheduler, now time.Time) {
	r := in.Rule
	if !r.Until.IsZero() && !r.Until.After(now) {
		return
	}
	s.planned[r.key()] = r
	s.enact(now)
}

func (in LiftRule) apply(s *Scheduler, now time.Time) {
	delete(s.planned, keyOf(ruleName{in.Kind, in.Scope, in.Name}, in.From))
	s.enact(now)
}

// enact puts in force what should be now, and obeys what has changed by that.
func (s *Scheduler) enact(now time.Time) {
	old := s.rules
	s.sift(now)
	var changed []Rule
	for n, r := range s.rules {
		if was, ok := old[n]; !ok || was != r {
			changed = append(changed, r)
		}
	}
	for n, r := range old {
		if _, ok := s.rules[n]; !ok {
			changed = append(changed, r)
		}
	}
	slices.SortFunc(changed, compareRules)
	for _, r := range changed {
		s.obey(r, now)
		if _, stands := s.rules[r.name()]; stands && r.Kind == Ban {
			s.banish(r, now)
		}
	}
}

// sift finds the rules that are in force, forgets those that have expired, and sets the alarm for the next change.
func (s *Scheduler) sift(now time.Time) {
	s.rules, s.broad = map[ruleName]Rule{}, nil
	var next time.Time
	sooner := func(at time.Time) {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for k, r := range s.planned {
		if !r.Until.IsZero() && !r.Until.After(now) {
			delete(s.planned, k)
			continue
		}
		sooner(r.From)
		sooner(r.Until)
		if r.From.After(now) {
			continue
		}
		if was, ok := s.rules[r.name()]; !ok || was.From.Before(r.From) {
			s.rules[r.name()] = r
		}
	}
	for _, r := range s.rules {
		if r.Scope == OnNetwork || r.Scope == OnSpec {
			s.broad = append(s.broad, newBroad(r))
		}
	}
	slices.SortFunc(s.broad, func(a, b *broad) int { return compareRules(a.Rule, b.Rule) })
	if len(s.broad) > 0 {
		s.recount()
	}
	if !next.IsZero() {
		s.wake(next, aboutRules, "")
	}
}

func compareRules(a, b Rule) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name), a.From.Compare(b.From))
}

// Rules returns the rules that stand, in force or not yet, in order.
func (s *Scheduler) Rules() []Rule {
	return slices.SortedFunc(maps.Values(s.planned), compareRules)
}

// A target is what rules may be about of a build or a session.
type target struct{ repo, ref, owner, requester, spec, address string }

func (b *build) target() target {
	a := target{repo: b.Repo, ref: b.Ref, owner: b.Owner, requester: b.Requester}
	if b.From != nil {
		a.spec, a.address = b.From.Spec, b.From.Address
	}
	return a
}

func (x *Session) target() target { return target{x.Repo, "", x.Owner, x.Requester, x.Spec, x.Address} }

// A broad rule is about more than one name. What it has been tried on it remembers.
type broad struct {
	Rule
	match  bindery.Matcher
	tried  map[string]bool
	places int // of a quota: sessions that have one
}

const mostTried = 10_000

func newBroad(r Rule) *broad {
	m, err := bindery.NewMatcher(string(r.Scope), r.Name)
	if err != nil {
		m = bindery.Matcher{} // the shell has refused such a rule: one of an old store is about nothing
	}
	return &broad{Rule: r, match: m, tried: map[string]bool{}}
}

func (r *broad) concerns(a target) bool {
	what := cmp.Or(a.address, a.requester) // which is a block of addresses where nothing better is known
	if r.Scope == OnSpec {
		if what = a.spec; what == "" {
			what = bindery.SpecText(a.repo, a.ref)
		}
	}
	yes, ok := r.tried[what]
	if !ok {
		if len(r.tried) >= mostTried {
			clear(r.tried)
		}
		yes = r.match.Matches(what)
		r.tried[what] = yes
	}
	return yes
}

// concerns reports whether a rule that may not be in force any more is about something.
func (s *Scheduler) concerns(r Rule, a target) bool {
	switch r.Scope {
	case OnRepo:
		return r.Name == a.repo
	case OnOwner:
		return r.Name == a.owner
	case OnRequester:
		return r.Name == a.requester
	}
	i := slices.IndexFunc(s.broad, func(b *broad) bool { return b.name() == r.name() })
	return i >= 0 && s.broad[i].concerns(a)
}

// rule finds the rule of a kind that is in force for something: that of its repository before that of its owner.
func (s *Scheduler) rule(kind RuleKind, a target) (Rule, bool) {
	if len(s.rules) == 0 {
		return Rule{}, false
	}
	for _, n := range [...]ruleName{{kind, OnRepo, a.repo}, {kind, OnOwner, a.owner}, {kind, OnRequester, a.requester}} {
		if r, ok := s.rules[n]; ok {
			return r, true
		}
	}
	for _, r := range s.broad {
		if r.Kind == kind && r.concerns(a) {
			return r.Rule, true
		}
	}
	return Rule{}, false
}

// obey puts what waits to where the rules want it, after one of them has changed.
func (s *Scheduler) obey(r Rule, now time.Time) {
	s.vacant = true // quotas count for who waits
	switch {
	case r.Kind == UntilBuilt:
		s.reconsider(now)
	case r.Kind != Pause:
	case r.Scope == OnNetwork || r.Scope == OnSpec:
		s.reconsider(now)
	default:
		s.repause(r)
	}
}

// reconsider lets builds wait anew for which a broad hold, or one that sets them aside, has come or gone.
func (s *Scheduler) reconsider(now time.Time) {
	for _, b := range slices.SortedFunc(maps.Values(s.builds), func(a, b *build) int { return cmp.Compare(a.order, b.order) }) {
		r, aside := s.rule(UntilBuilt, b.target())
		switch {
		case b.run != nil:
			if aside && !b.aside.is && !b.Quick {
				s.sideline(b, r)
			}
		case b.lane != nil && (b.mark != s.markOf(b) || aside != b.aside.is):
			s.requeue(b, now, func() {})
		}
	}
}

// repause takes lanes that are held out of all posts, and gives those that are held no more back.
func (s *Scheduler) repause(r Rule) {
	for _, k := range s.buckets {
		var found []*lane
		for l := range k.lanes {
			if s.concerns(r, l.builds[0].target()) {
				found = append(found, l)
			}
		}
		slices.SortFunc(found, func(a, b *lane) int { return cmp.Compare(a.builds[0].order, b.builds[0].order) })
		for _, l := range found {
			if paused := s.paused(l.builds[0]); paused != l.paused {
				l.paused = paused
				k.fix(l)
			}
		}
	}
}

// markOf is the broad hold that a build is under: builds of one lane are held together.
func (s *Scheduler) markOf(b *build) uint16 {
	for _, r := range s.broad {
		if r.Kind == Pause && r.concerns(b.target()) {
			if s.marks[r.Name] == 0 {
				s.marks[r.Name] = uint16(len(s.marks) + 1)
			}
			return s.marks[r.Name]
		}
	}
	return 0
}

// banish drops and stops what a ban is about.
func (s *Scheduler) banish(r Rule, now time.Time) {
	var found []*build
	for _, b := range s.builds {
		asker := r.Scope == OnRequester || r.Scope == OnNetwork
		if s.concerns(r, b.target()) && (!asker || len(b.askers) == 0) {
			found = append(found, b)
		}
	}
	slices.SortFunc(found, func(a, b *build) int { return cmp.Compare(a.order, b.order) })
	for _, b := range found {
		s.cancel(b, banText(r), now)
	}
	s.turnAway(r)
}

// noun is what people call what a rule is about.
func (sc Scope) noun() string {
	if sc == OnSpec {
		return "repository" // an expression is nothing that visitors know
	}
	return string(sc)
}

func banText(r Rule) string {
	text := "this " + r.Scope.noun() + " is not served at the moment"
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// banned says why nothing is built or launched, in words; empty: it is.
func (s *Scheduler) banned(a target) string {
	if r, ok := s.rule(Ban, a); ok {
		return banText(r)
	}
	return ""
}

// paused reports whether a build is held back by a person.
func (s *Scheduler) paused(b *build) bool {
	_, ok := s.rule(Pause, b.target())
	return ok
}

// stayed says why nothing is launched of what is built, in words; empty: it is.
func (s *Scheduler) stayed(a target) string {
	if r, ok := s.rule(Stay, a); ok {
		return fmt.Sprintf("the operator holds launches of this %s back%s", r.Scope.noun(), because(r.Reason))
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
