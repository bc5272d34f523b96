package sched_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestHonest plays a busy day and compares the interval that each waiting build was told first with its true start.
func TestHonest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := sched.New(sched.Config{MaxAge: -1, Stall: -1})
	now := start
	s.Step(now, sched.WorkerUp{Worker: "w", Slots: 8})
	type told struct{ from, likely, to time.Time }
	promised := map[string]told{}
	repo := map[string]string{}
	type end struct {
		at time.Time
		in sched.Finished
	}
	var running []end
	var errs []float64
	in, all := 0, 0
	take := func(ds []sched.Decision) {
		for _, d := range ds {
			d, ok := d.(sched.Start)
			if !ok {
				continue
			}
			if p, ok := promised[d.Build]; ok {
				all++
				if !now.Before(p.from) && !now.After(p.to) {
					in++
				}
				errs = append(errs, math.Abs(now.Sub(p.likely).Seconds()))
			}
			h := 0
			for _, c := range repo[d.Build] {
				h = h*31 + int(c)
			}
			cost := time.Duration(math.Exp(math.Log(300)+float64(h%7-3)*0.3+0.3*rng.NormFloat64()) * float64(time.Second))
			running = append(running, end{now.Add(cost), sched.Finished{Build: d.Build, Attempt: d.Attempt, Outcome: sched.Succeeded}})
		}
	}
	for i := range 700 {
		next := now.Add(time.Duration(rng.ExpFloat64() * 46 * float64(time.Second)))
		for {
			slices.SortFunc(running, func(a, b end) int { return a.at.Compare(b.at) })
			if len(running) == 0 || running[0].at.After(next) {
				break
			}
			e := running[0]
			running = running[1:]
			now = e.at
			take(s.Step(now, e.in))
		}
		now = next
		id := fmt.Sprint("b", i)
		o := int(rng.ExpFloat64() * 20)
		repo[id] = fmt.Sprint("o", o, "/", rng.IntN(3))
		take(s.Step(now, sched.Submit{Build: id, Key: id, Repo: repo[id], Owner: fmt.Sprint("o", o), Requester: fmt.Sprint("q", rng.IntN(500))}))
		if st, _ := s.Standing(now, id); st.Position > 0 && !st.To.IsZero() {
			promised[id] = told{st.From, st.Likely, st.To}
		}
	}
	slices.Sort(errs)
	share := float64(in) / float64(max(all, 1))
	t.Logf("%d of %d starts (%.0f %%) in their intervals; median error %.0f s", in, all, 100*share, errs[len(errs)/2])
	if all < 300 || share < 0.85 || share > 0.95 {
		t.Errorf("%d starts, %.2f of them in their intervals, want 0.85 to 0.95", all, share)
	}
}
