package sched_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// TestDone lets repositories be built again and again, each by a log-normal law of its own, and compares what is told of
// a build when it starts, and at some time while it runs, with its end. Of first builds only the longest is told.
func TestDone(t *testing.T) {
	for _, vary := range []float64{0.1, 0.3, 0.5} { // sigma of the logarithm between two builds of one repository
		t.Run(fmt.Sprint(vary), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			s := sched.New(sched.Config{MaxAge: -1, Stall: -1})
			now := start
			s.Step(now, sched.WorkerUp{Worker: "w", Slots: 1})
			var at, midway, first tally
			for i := range 3000 {
				repo := int(rng.ExpFloat64() * 200)
				median := 300 * math.Exp(0.8*rand.New(rand.NewPCG(5, uint64(repo))).NormFloat64())
				cost := time.Duration(median * math.Exp(vary*rng.NormFloat64()) * float64(time.Second))
				id := fmt.Sprint("b", i)
				s.Step(now, sched.Submit{Build: id, Key: id, Repo: fmt.Sprint("o/", repo), Owner: "o", Requester: "q"})
				done := now.Add(cost)
				at.hear(t, s, id, now, done, &first)
				between := now.Add(time.Duration(rng.Float64() * float64(cost)))
				midway.hear(t, s, id, between, done, &first)
				now = done
				s.Step(now, sched.Finished{Build: id, Attempt: 1, Outcome: sched.Succeeded})
			}
			for what, got := range map[string]tally{"when it starts": at, "while it runs": midway, "of first builds": first} {
				share := got.in / got.all
				t.Logf("told %s: %.0f of %.0f ends (%.1f %%) in their intervals", what, got.in, got.all, 100*share)
				if got.all < 300 || share < 0.85 || share > 0.95 {
					t.Errorf("told %s: %.3f of %.0f ends in their intervals, want 0.85 to 0.95", what, share, got.all)
				}
			}
		})
	}
}

// A tally counts the ends that came when it was told.
type tally struct{ all, in float64 }

func (y *tally) hear(t *testing.T, s *sched.Scheduler, id string, now, done time.Time, first *tally) {
	t.Helper()
	st, ok := s.Standing(now, id)
	r := st.Run
	if !ok || st.Position != 0 || r.Since.After(now) || r.Since.IsZero() {
		t.Fatalf("%s runs: %+v", id, st)
	}
	if r.To.IsZero() {
		return // too little is known
	}
	if r.From.IsZero() {
		y = first
	} else if r.Least >= r.Most || r.From.After(r.Likely) || r.Likely.After(r.To) {
		t.Fatalf("%s at %v: %+v", id, now, r)
	}
	if y.all++; !done.Before(r.From) && !done.After(r.To) {
		y.in++
	}
}

// TestCourse has what is told of one build, by what is known of its repository and by how long it has run.
func TestCourse(t *testing.T) {
	learnt := func(repo string, costs ...time.Duration) (all []sched.Input) {
		for _, c := range costs {
			all = append(all, sched.Learn{Repo: repo, Cost: c})
		}
		return all
	}
	minutes := func(n ...int) (all []time.Duration) {
		for _, n := range n {
			all = append(all, time.Duration(n)*time.Minute)
		}
		return all
	}
	for name, tt := range map[string]struct {
		known []sched.Input
		quick bool
		ran   time.Duration
		want  string // least, most, then from, likely and to from now on
	}{
		"a hub that has built nothing":       {nil, false, 0, "0s 0s, nothing"},
		"nine builds, of others":             {learnt("x", minutes(4, 4, 4, 4, 4, 4, 4, 4, 4)...), false, 0, "0s 0s, nothing"},
		"ten":                                {learnt("x", minutes(4, 4, 4, 4, 4, 4, 4, 4, 4, 4)...), false, 0, "0s 10m7s, 10m8s"},
		"which are no help":                  {learnt("x", minutes(1, 600, 1, 600, 1, 600, 1, 600, 1, 600)...), false, 0, "0s 0s, nothing"},
		"one of the repository":              {learnt("o/r", minutes(4)...), false, 0, "1m49s 9m9s, 1m49s 4m5s 9m10s"},
		"after two minutes":                  {learnt("o/r", minutes(4)...), false, 2 * time.Minute, "1m49s 9m9s, 6s 2m6s 7m11s"},
		"when it takes longer than usual":    {learnt("o/r", minutes(4)...), false, 10 * time.Minute, "1m49s 9m9s, 0s 44s 5m35s"},
		"and much longer":                    {learnt("o/r", minutes(4)...), false, 3 * time.Hour, "1m49s 9m9s, 1m13s 1h30m0s 2h58m47s"},
		"many of the repository":             {learnt("o/r", minutes(4, 4, 4, 4, 4, 4, 4, 4, 4, 4)...), false, 0, "2m40s 5m59s, 2m40s 4m0s 6m0s"},
		"a quick one, which has no such law": {learnt("o/r", minutes(4)...), true, 0, "0s 0s, nothing"},
	} {
		s := sched.New(sched.Config{MaxAge: -1, Stall: -1})
		for _, in := range append(tt.known, sched.WorkerUp{Worker: "w", Slots: 1}, sched.Submit{Build: "b", Key: "k", Repo: "o/r", Owner: "o", Requester: "q", Quick: tt.quick}) {
			s.Step(start, in)
		}
		now := start.Add(tt.ran)
		st, _ := s.Standing(now, "b")
		if got := courseText(st.Run, now); got != tt.want {
			t.Errorf("%s: told %q, want %q", name, got, tt.want)
		}
	}
}

func courseText(r bindery.Run, now time.Time) string {
	text := fmt.Sprint(r.Least, " ", r.Most, ", ")
	if r.To.IsZero() {
		return text + "nothing"
	}
	if r.From.IsZero() {
		return text + fmt.Sprint(r.To.Sub(now))
	}
	return text + fmt.Sprint(r.From.Sub(now), " ", r.Likely.Sub(now), " ", r.To.Sub(now))
}
