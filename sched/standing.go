package sched

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Standing says where a build that is not over stands, or how far it is. What runs is looked up, nothing is played for it.
func (s *Scheduler) Standing(now time.Time, id string) (bindery.Standing, bool) {
	b := s.builds[id]
	if b == nil {
		return bindery.Standing{}, false
	}
	if b.run != nil {
		return bindery.Standing{Run: s.course(b, now)}, true
	}
	f := s.outlooks(now)
	st := bindery.Standing{Position: s.position(f, b)}
	st.Reason = s.reason(b, st.Position-1, now)
	o, told := f.seen[id]
	if !told || !o.told {
		return st, true // it is held, or has come since, or so many are ahead that nobody looked when it starts
	}
	early, late := (o.likely-o.from)*s.stretch.early, (o.to-o.likely)*s.stretch.late
	after := func(x float64) time.Time {
		at := f.at.Add(seconds(max(x, 0))).Truncate(time.Second)
		if at.Before(now) {
			return now
		}
		return at
	}
	st.From, st.Likely, st.To = after(o.likely-early-1), after(o.likely), after(o.likely+late+1)
	s.promised(b, st.From, st.To, now)
	return st, true
}

// Of a repository of which nothing is known, builds are told what all builds take, once so many have been seen, and unless
// the longest take so much longer than the median that nobody can plan by it.
const (
	fewBuilds = 10
	farApart  = 4
)

// course says how far a running build is.
func (s *Scheduler) course(b *build, now time.Time) bindery.Run {
	r := bindery.Run{Since: b.run.started}
	if b.Quick || b.run.stopping != "" {
		return r // it is over in a moment
	}
	e := s.Estimate(b.Repo, b.Kind)
	after := func(p float64) time.Time {
		return now.Add(e.rest(max(now.Sub(r.Since), 0), p)).Truncate(time.Second)
	}
	if !e.Known {
		if most := e.Quantile(0.9); s.costs.all.n >= fewBuilds && most <= farApart*e.Quantile(0.5) {
			r.Most, r.To = most.Truncate(time.Second), after(0.9).Add(time.Second)
		}
		return r
	}
	early, late := s.tails()
	r.Least, r.Most = e.Quantile(early).Truncate(time.Second), e.Quantile(late).Truncate(time.Second)
	r.From, r.Likely, r.To = after(early), after(0.5), after(late).Add(time.Second)
	return r
}

// tails are the shares of builds between which the interval lies that is told: a twentieth at both ends, by the law that
// builds of one repository have. How often it was wrong makes it wider or narrower.
func (s *Scheduler) tails() (early, late float64) {
	normal := func(z float64) float64 { return 0.5 * (1 + math.Erf(z/math.Sqrt2)) }
	return normal(-1.645 * s.ends.early), normal(1.645 * s.ends.late)
}

// reason says which rule holds a build back, in words.
func (s *Scheduler) reason(b *build, ahead int, now time.Time) string {
	if b.delayed {
		return fmt.Sprintf("An attempt failed for a reason that may pass; the next one starts in %s", max(b.Until.Sub(now), 0).Round(time.Second))
	}
	if r, ok := s.rule(Pause, b.target()); ok {
		return fmt.Sprintf("The operator holds this %s back%s", r.Scope.noun(), because(r.Reason))
	}
	if r, ok := s.rule(UntilBuilt, b.target()); ok && b.aside.is {
		text := asideText(r)
		return strings.ToUpper(text[:1]) + text[1:]
	}
	workers := 0
	for _, w := range s.workers {
		if w.up {
			workers++
		}
	}
	z := s.size(b)
	longest := part(s.cfg.LongShare, s.slots)
	switch {
	case workers == 0:
		return "No worker is ready; " + others(ahead)
	case z == quick:
		return fmt.Sprintf("All places for quick builds are taken (%d); %s", s.cfg.Quick, others(ahead))
	case s.slots == 0:
		return "The workers have no slots; " + others(ahead)
	case z == slow && s.slows > 0:
		return "It took too long once, so it waits for the slow lane, where one build runs at a time; " + others(ahead)
	case (z == long || z == slow) && s.longs >= longest:
		return fmt.Sprintf("It is a long build, and as many of them run as may (%d of %d slots); %s", longest, s.slots, others(ahead))
	case b.Class == bindery.Unattended && s.bucket(b.Class).running >= part(s.cfg.UnattendedShare, s.slots):
		return fmt.Sprintf("No person waits for it, and as many of such builds run as may (%d of %d slots); %s", part(s.cfg.UnattendedShare, s.slots), s.slots, others(ahead))
	case b.Class == bindery.Unattended && s.taken >= s.slots:
		return "No person waits for it, and persons take every slot; " + others(ahead)
	case b.Class == bindery.Background && s.slots-s.taken > 0:
		return "It takes only slots that nobody else needs; " + others(ahead)
	case s.taken < s.slots && s.shunned(b):
		return "The workers that have a slot free failed it before, so it waits for another one; " + others(ahead)
	case s.taken < s.slots:
		return "No worker has room on its disk for it; " + others(ahead)
	}
	text := fmt.Sprintf("Every slot is taken (%d); ", s.slots)
	// Caps bind only while others wait.
	k := s.bucket(b.Class)
	alone := func(d side) bool {
		return k.waiting <= int(b.lane.pair.flow[d].busy)-s.running[1+d][b.lane.pair.flow[d].name]
	}
	switch {
	case alone(byOwner) || alone(byRequester):
	case s.overRepo(b.Repo):
		text = fmt.Sprintf("This repository has its share of the slots (%d of %d); ", s.running[0][b.Repo], s.slots)
	case s.over(byOwner, b.Owner):
		text = fmt.Sprintf("This owner has its share of the slots (%d of %d); ", s.running[1][b.Owner], s.slots)
	case s.over(byRequester, b.Requester):
		text = fmt.Sprintf("Who asks has a share of the slots already (%d of %d); ", s.running[2][b.Requester], s.slots)
	}
	return text + others(ahead)
}

// shunned reports whether there is room for a build where it does not go any more.
func (s *Scheduler) shunned(b *build) bool {
	return s.avoidable(b) && slices.ContainsFunc(s.workers, func(w *worker) bool {
		return w.up && w.busy() < w.slots && w.fits(s.diskOf(b.Repo)) && slices.Contains(b.avoid, w.name)
	})
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

// SessionStanding says where a session stands that waits for a place: the zero Standing when it has one.
func (s *Scheduler) SessionStanding(now time.Time, id string) (bindery.Standing, bool) {
	x := s.sessions[id]
	if x == nil {
		return bindery.Standing{}, false
	}
	if !x.Waiting {
		return bindery.Standing{}, true
	}
	h := s.lookAtLobby(now, x)
	w := h.of[x]
	st := bindery.Standing{Position: w.position, Reason: "Waiting for a place: " + w.reason}
	if r, known := h.ends[w.quota].perSecond(); known {
		// So many places must become free. Sessions end independently of each other; how often is a guess from few.
		n := float64(st.Position)
		width := 1.645 * math.Sqrt(n+n*n/h.ends[w.quota].ended)
		after := func(n float64) time.Time { return now.Add(seconds(n / r)).Truncate(time.Second) }
		st.From, st.Likely, st.To = after(max(n-width, 0.05*n)), after(n), after(n+width+1)
	}
	return st, true
}

// Waiting is the number of builds that wait.
func (s *Scheduler) Waiting() int {
	n := s.later
	for _, k := range s.buckets {
		n += k.waiting
	}
	return n
}

// Counts says how much is queued and running, for reports.
func (s *Scheduler) Counts() (queued, running, sessions int) {
	queued = s.Waiting()
	return queued, len(s.builds) - queued, s.admitted
}
