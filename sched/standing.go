package sched

import (
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Standing says where a build that is not over stands: the zero Standing when it runs.
func (s *Scheduler) Standing(now time.Time, id string) (bindery.Standing, bool) {
	b := s.builds[id]
	if b == nil {
		return bindery.Standing{}, false
	}
	if b.Running {
		return bindery.Standing{}, true
	}
	if b.delayed {
		return bindery.Standing{
			Position: s.ready.n + s.earlier(b) + 1,
			Reason:   fmt.Sprintf("An attempt failed for a reason that may pass; the next one starts in %s", max(b.Until.Sub(now), 0).Round(time.Second)),
		}, true
	}
	ahead := s.ready.rank(b)
	return bindery.Standing{Position: ahead + 1, Reason: s.reason(ahead)}, true
}

func (s *Scheduler) reason(ahead int) string {
	workers, slots := 0, 0
	for _, w := range s.workers {
		if w.up {
			workers++
			slots += w.slots
		}
	}
	switch {
	case workers == 0:
		return "No worker is ready; " + others(ahead)
	case slots == 0:
		return "The workers have no slots; " + others(ahead)
	}
	return fmt.Sprintf("Every slot is taken (%d); %s", slots, others(ahead))
}

func others(n int) string {
	switch n {
	case 0:
		return "this build is next"
	case 1:
		return "1 build is ahead"
	}
	return fmt.Sprintf("%d builds are ahead", n)
}

// earlier counts the delayed builds whose time comes before b's. There are few of them.
func (s *Scheduler) earlier(b *build) int {
	n := 0
	for _, a := range s.alarms {
		if a.what != aboutBuild {
			continue
		}
		x := s.builds[a.id]
		if x == nil || x == b || !x.delayed || !x.Until.Equal(a.at) {
			continue
		}
		if c := x.Until.Compare(b.Until); c < 0 || c == 0 && x.order < b.order {
			n++
		}
	}
	return n
}

// Counts says how much is queued and running, for reports.
func (s *Scheduler) Counts() (queued, running, sessions int) {
	queued = s.ready.n + s.later
	return queued, len(s.builds) - queued, len(s.sessions)
}
