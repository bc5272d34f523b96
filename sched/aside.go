package sched

import (
	"slices"

	bindery "github.com/bindery-hub/bindery"
)

// An aside build is under a hold that lasts until it is built. It waits for the slow lane, in the class of builds that
// nobody waits for, so that it takes no slot that another build wants and nobody's share pays for it. Here is what it
// was before.
type aside struct {
	is   bool
	rank uint8 // of its class
	slow bool
}

func (b *build) asideNow() aside { return aside{true, uint8(rank(b.Class)), b.Slow} }

// setAside does to a build that is about to wait what the rules want.
func (s *Scheduler) setAside(b *build) {
	_, want := s.rule(UntilBuilt, b.target())
	switch want = want && !b.Quick; {
	case want && !b.aside.is:
		b.aside = b.asideNow()
		b.Class, b.Slow = bindery.Background, true
	case !want && b.aside.is:
		b.Class, b.Slow = s.buckets[b.aside.rank].class, b.aside.slow
		b.aside = aside{}
	}
}

// sideline makes a running build one of the slow lane, at nobody's cost. It keeps its slot: what it has done so far is
// what the rule is there to save.
func (s *Scheduler) sideline(b *build, r Rule) {
	b.aside = b.asideNow()
	b.Class = bindery.Background
	if !b.Slow {
		b.Slow = true
		s.slows++
		s.markLong(b)
	}
	s.decide(Slow{Build: b.ID, Attempt: b.Attempt, Reason: asideText(r)})
}

func asideText(r Rule) string {
	return "the operator lets launches of this " + r.Scope.noun() + " wait until it is built, aside from all others" + because(r.Reason)
}

// built ends the holds that lasted until something like this was built.
func (s *Scheduler) built(b *build) (over []Rule) {
	for _, r := range s.planned {
		if r.Kind == UntilBuilt && s.rules[r.name()] == r && s.concerns(r, b.target()) {
			over = append(over, r)
		}
	}
	slices.SortFunc(over, compareRules)
	for _, r := range over {
		delete(s.planned, r.key())
		s.decide(Lifted{Rule: r, Build: b.ID})
	}
	return over
}
