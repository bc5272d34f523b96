package sched

import (
	"cmp"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A View is a copy of what the queue holds, for people to look at.
type View struct {
	Slots, Taken int
	Running      []Seen // oldest first
	Waiting      []Seen // in the order in which they will start, as far as that was looked at
	More         int    // that wait behind those
	Shares       []Share
	Failures     []Failure // that answer now, those that answer longest last
	Lobby        []Session
	Sessions     int // that have a place
}

// A Seen build is one of a View.
type Seen struct {
	Build
	Watchers int
	Expected time.Duration
	Stopping string           // why, in words
	Standing bindery.Standing // while it waits
}

// A Share is what one flow has of the slots.
type Share struct {
	Scope            Scope // OnOwner or OnRequester
	Name             string
	Class            bindery.Class
	Running, Waiting int
	Ahead            float64 // slot-seconds by weight, beyond what is served now
	Weight           float64
}

// View looks at the queue, and at no more than so many builds of those that wait and so many flows. Like Standing it
// changes nothing that a decision reads.
func (s *Scheduler) View(now time.Time, most int) View {
	v := View{Slots: s.slots, Taken: s.taken, Sessions: s.admitted}
	for _, w := range s.workers {
		for _, b := range w.running {
			x := s.see(b)
			x.Stopping = b.run.why
			if b.run.stopping != "" && x.Stopping == "" {
				x.Stopping = string(b.run.stopping)
			}
			v.Running = append(v.Running, x)
		}
	}
	slices.SortFunc(v.Running, func(a, b Seen) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	v.Waiting, v.More = s.viewWaiting(now, most)
	v.Shares = s.shares(most)
	for _, f := range s.failures {
		if f.Until.After(now) {
			v.Failures = append(v.Failures, f)
		}
	}
	slices.SortFunc(v.Failures, func(a, b Failure) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.Key, b.Key)) })
	for _, x := range s.lobby {
		v.Lobby = append(v.Lobby, *x)
	}
	return v
}

func (s *Scheduler) see(b *build) Seen {
	return Seen{Build: b.Build, Watchers: int(b.watchers), Expected: s.Estimate(b.Repo, b.Kind).Quantile(0.5)}
}

func (s *Scheduler) viewWaiting(now time.Time, most int) (out []Seen, more int) {
	f := s.outlooks(now)
	var waiting []*build
	at := map[*build]int{}
	for _, b := range s.builds {
		if b.run == nil {
			waiting = append(waiting, b)
			at[b] = s.position(f, b)
		}
	}
	slices.SortFunc(waiting, func(a, b *build) int { return cmp.Or(at[a]-at[b], cmp.Compare(a.order, b.order)) })
	for _, b := range waiting[:min(len(waiting), most)] {
		x := s.see(b)
		x.Standing, _ = s.Standing(now, b.ID)
		out = append(out, x)
	}
	return out, len(waiting) - len(out)
}

// shares are the flows that have something waiting or running, the busiest first.
func (s *Scheduler) shares(most int) (out []Share) {
	for _, k := range s.buckets {
		for d, scope := range []Scope{OnOwner, OnRequester} {
			for _, f := range k.flows[d] {
				if f.busy > 0 {
					out = append(out, Share{Scope: scope, Name: f.name, Class: k.class, Waiting: int(f.busy), Ahead: f.tag - k.virtual, Weight: s.weight(scope, f.name)})
				}
			}
		}
	}
	running := map[Share]int{}
	for _, w := range s.workers {
		for _, b := range w.running {
			if !b.Quick {
				running[Share{Scope: OnOwner, Name: b.Owner, Class: b.run.class}]++
				running[Share{Scope: OnRequester, Name: b.Requester, Class: b.run.class}]++
			}
		}
	}
	for i, x := range out {
		out[i].Running = running[Share{Scope: x.Scope, Name: x.Name, Class: x.Class}]
		out[i].Waiting = max(x.Waiting-out[i].Running, 0) // quick ones that run count as waiting: it is a blink
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), b.Running-a.Running, b.Waiting-a.Waiting, cmp.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class))
	})
	return out[:min(len(out), 2*most)]
}
