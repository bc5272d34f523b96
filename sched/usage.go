package sched

import (
	"cmp"
	"math"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Flow is what one owner or requester had used at a time, beyond what was served then.
type Flow struct {
	Class bindery.Class
	Scope Scope // OnOwner or OnRequester
	Name  string
	Ahead float64 // slot-seconds by weight
}

// A Spent cost is what a build took that has ended.
type Spent struct {
	Class            bindery.Class
	Owner, Requester string
	Cost             time.Duration
	At               time.Time // when it ended
}

// mostFlows bounds what is written down: those that are far ahead matter.
const mostFlows = 2000

// Usage is by how much each flow is ahead now, for a later Restore. What runs is left out: it is charged again when it is
// restored.
func (s *Scheduler) Usage(now time.Time) (out []Flow) {
	for _, k := range s.buckets {
		for d, scope := range []Scope{OnOwner, OnRequester} {
			for _, f := range k.flows[d] {
				ahead := f.tag - k.virtual
				if f.busy == 0 {
					ahead = k.debt(s, f, now)
				}
				if f.pays != nil {
					ahead -= f.pays.sum
				}
				if ahead > 1 {
					out = append(out, Flow{Class: k.class, Scope: scope, Name: f.name, Ahead: math.Round(ahead*10) / 10})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(b.Ahead, a.Ahead), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Name, b.Name))
	})
	return out[:min(len(out), mostFlows)]
}

// restoreUsage gives flows the tags that they had at a time, and charges what has been spent since.
func (s *Scheduler) restoreUsage(st State, now time.Time) {
	at := st.FlowsAt
	if at.IsZero() || at.After(now) {
		at = now
	}
	for _, x := range st.Flows {
		d := byOwner
		if x.Scope == OnRequester {
			d = byRequester
		}
		f := s.bucket(x.Class).flow(s, d, x.Name, at)
		f.tag, f.left = max(x.Ahead, 0), at.UnixNano()
	}
	for _, x := range st.Spent {
		k := s.bucket(x.Class)
		own := k.flow(s, byOwner, x.Owner, x.At)
		own.tag, own.left = k.virtual+k.debt(s, own, x.At)+x.Cost.Seconds()/s.weight(OnOwner, x.Owner), x.At.UnixNano()
		q := k.flow(s, byRequester, x.Requester, x.At)
		k.setTag(q, k.due(s, q, x.At)+x.Cost.Seconds()/s.weight(OnRequester, x.Requester))
	}
}
