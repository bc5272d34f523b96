package sched_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestSessionsHonest has sessions of one repository last an hour in the mean, those of all others three minutes, and
// compares what those who wait were told with when they had their place.
func TestSessionsHonest(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg    sched.Config
		own, n int // seconds between two sessions of the repository, sessions
	}{
		"the hub's places":        {sched.Config{Sessions: 20}, 280, 5000},
		"the repository's places": {sched.Config{RepoSessions: 3}, 1300, 5000},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			s := sched.New(tt.cfg)
			gap := func(mean float64) time.Duration { return time.Duration(rng.ExpFloat64() * mean * float64(time.Second)) }
			type promise struct{ from, to time.Time }
			told, lasts := map[string]promise{}, map[string]time.Duration{}
			type event struct {
				at time.Time
				in sched.Input
			}
			var events []event
			at := start
			for i := range tt.n {
				id, repo := fmt.Sprint("s", i), fmt.Sprint("r", i)
				if lasts[id] = gap(180); i%10 == 0 {
					repo, lasts[id] = "slow", gap(3600)
				}
				events = append(events, event{at, sched.AskSession{Session: id, Repo: repo, Wait: true}})
				at = at.Add(gap(float64(tt.own) / 10))
			}
			in, all := 0, 0
			for len(events) > 0 {
				e := slices.MinFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
				events = slices.Delete(events, slices.Index(events, e), slices.Index(events, e)+1)
				now := e.at
				for _, d := range s.Step(now, e.in) {
					d, ok := d.(sched.Admit)
					if !ok {
						continue
					}
					events = append(events, event{now.Add(lasts[d.Session]), sched.SessionEnded(d)})
					if p, ok := told[d.Session]; ok {
						if all++; !now.Before(p.from) && !now.After(p.to.Add(time.Second)) {
							in++
						}
					}
				}
				if a, ok := e.in.(sched.AskSession); ok {
					if st, _ := s.SessionStanding(now, a.Session); !st.To.IsZero() {
						told[a.Session] = promise{st.From, st.To}
					}
				}
			}
			share := float64(in) / float64(max(all, 1))
			t.Logf("%d of %d had their place in their intervals (%.0f %%)", in, all, 100*share)
			if all < 30 || share < 0.8 || share > 0.97 {
				t.Errorf("%d sessions, %.2f of them had their place in their intervals, want 0.8 to 0.97", all, share)
			}
		})
	}
}
