package sched

import "time"

// A stay is a session that had a place, and how long it kept it.
type stay struct {
	*Session
	lasted time.Duration
}

const (
	mostStays = 1000 // that are remembered
	fewStays  = 3    // of a quota: less says nothing of when the next place becomes free
)

// A hall is how those stand who wait for a place, each in the line of those who wait for the same places.
type hall struct {
	at    time.Time
	steps int64
	of    map[*Session]waiter
	ends  map[ruleName]turnover
}

type waiter struct {
	position int
	reason   string
	quota    ruleName // whose places it waits for: its own, or else the hub's; zero: it is held
}

// A turnover is how the places of one quota become free.
type turnover struct {
	held, ended float64       // sessions
	spent       time.Duration // in all of them, so far
}

// perSecond is how many end, if all that is known of them is how long they took. What goes on for long counts, too: where
// sessions do not end, the next one is not expected soon.
func (t turnover) perSecond() (rate float64, known bool) {
	if t.held == 0 || t.ended < fewStays || t.spent <= 0 {
		return 0, false
	}
	return t.held * t.ended / t.spent.Seconds(), true
}

// lookAtLobby is how those stand who wait for a place: if they are many, as it was up to a second ago.
func (s *Scheduler) lookAtLobby(now time.Time, x *Session) *hall {
	if h := s.hall; h != nil && (h.steps == s.steps || len(s.lobby) > fewWaiting && now.Sub(h.at) < staleAfter) {
		if _, ok := h.of[x]; ok {
			return h
		}
	}
	h := &hall{at: now, steps: s.steps, of: make(map[*Session]waiter, len(s.lobby)), ends: map[ruleName]turnover{}}
	s.hall = h
	lines := map[ruleName]int{}
	for _, x := range s.lobby {
		w := waiter{reason: s.stayed(x.target())}
		if w.reason == "" {
			if w.reason, w.quota = s.ownFull(x); w.reason == "" {
				w.reason, _ = s.noPlace(x)
				w.quota = ruleName{Quota, OnHub, ""}
			}
			h.ends[w.quota] = turnover{}
		}
		lines[w.quota]++
		w.position = lines[w.quota]
		h.of[x] = w
	}
	for _, x := range s.sessions {
		if !x.Waiting {
			s.tally(h, x, turnover{1, 0, now.Sub(x.Created)})
		}
	}
	for _, x := range s.stays {
		s.tally(h, x.Session, turnover{0, 1, x.lasted})
	}
	return h
}

// tally counts a session for the quotas that somebody waits for.
func (s *Scheduler) tally(h *hall, x *Session, t turnover) {
	add := func(n ruleName) {
		if sum, ok := h.ends[n]; ok {
			h.ends[n] = turnover{sum.held + t.held, sum.ended + t.ended, sum.spent + t.spent}
		}
	}
	for _, n := range [...]ruleName{{Quota, OnHub, ""}, {Quota, OnRepo, x.Repo}, {Quota, OnOwner, x.Owner}, {Quota, OnRequester, x.Requester}} {
		add(n)
	}
	for _, r := range s.broad {
		if r.Kind == Quota && r.concerns(x.target()) {
			add(r.name())
		}
	}
}
