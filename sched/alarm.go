package sched

import (
	"container/heap"
	"time"
)

// An alarm calls attention to one thing at one time. It may be stale: whoever it wakes looks at the thing again.
type alarm struct {
	at   time.Time
	n    int64 // order of setting, so that equal times ring in the same order always
	what subject
	id   string
}

type subject int

const (
	aboutBuild subject = iota
	aboutRun
	aboutLeaving
	aboutFailure
	aboutSession
	aboutRules
	aboutDebts
)

type alarms []alarm

func (a alarms) Len() int { return len(a) }
func (a alarms) Less(i, j int) bool {
	if c := a[i].at.Compare(a[j].at); c != 0 {
		return c < 0
	}
	return a[i].n < a[j].n
}
func (a alarms) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)   { *a = append(*a, x.(alarm)) }
func (a *alarms) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*a = old[:len(old)-1]
	return last
}

func (s *Scheduler) wake(at time.Time, what subject, id string) {
	s.set++
	heap.Push(&s.alarms, alarm{at: at, n: s.set, what: what, id: id})
}

// ring handles everything that is due.
func (s *Scheduler) ring(now time.Time) {
	for len(s.alarms) > 0 && !s.alarms[0].at.After(now) {
		a := heap.Pop(&s.alarms).(alarm)
		switch a.what {
		case aboutBuild:
			if b := s.builds[a.id]; b != nil && b.delayed && !b.Until.After(now) {
				b.delayed = false
				s.later--
				s.bucket(b.Class).join(s, b, now)
			}
		case aboutRun:
			if b := s.builds[a.id]; b != nil && b.run != nil {
				s.inspect(b, now)
			}
		case aboutLeaving:
			if b := s.builds[a.id]; b != nil {
				s.abandon(b, now)
			}
		case aboutFailure:
			// The row of failures is remembered a while longer than the failure answers.
			if f, ok := s.failures[a.id]; ok && !f.Until.Add(s.cfg.Longest).After(now) {
				delete(s.failures, a.id)
			}
		case aboutSession:
			s.cull(a.id, now)
		case aboutRules:
			s.enact(now)
		case aboutDebts:
			s.forgive(now)
		}
	}
}
