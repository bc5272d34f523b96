package sched_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestAllAreTold lets crowds of every kind come, asks where each waiting build stands, then plays on until all have
// started, with costs of the law that is expected where nothing is known. Each of the first thousand is told an
// interval, whose end is no absurdly long time away; positions are those of a line.
func TestAllAreTold(t *testing.T) {
	one := func(int) string { return "one" }
	each := func(i int) string { return fmt.Sprint("o", i) }
	for name, tt := range map[string]struct {
		slots, n         int
		gap              time.Duration
		owner, requester func(i int) string
	}{
		"a token for twenty owners": {4, 20, 5 * time.Second, each, one},
		"visitors behind a proxy":   {2, 100, 6 * time.Second, each, one},
		"many for one owner":        {2, 100, 6 * time.Second, one, each},
		"strangers":                 {2, 100, 6 * time.Second, each, each},
		"a thousand strangers":      {8, 1008, time.Second, each, each},
		"three thousand strangers":  {8, 3000, 100 * time.Millisecond, each, each},
		"three thousand for one":    {8, 3000, 0, one, each},
		"one's many and strangers": {4, 800, 30 * time.Second, func(i int) string {
			if i%8 == 0 {
				return fmt.Sprint("o", i)
			}
			return "one"
		}, each},
	} {
		t.Run(name, func(t *testing.T) {
			c := &told{rng: rand.New(rand.NewPCG(1, 2)), s: sched.New(sched.Config{MaxAge: -1, Stall: -1}), now: start, began: map[string]time.Time{}}
			c.step(sched.WorkerUp{Worker: "w", Slots: tt.slots})
			for i := range tt.n {
				c.until(start.Add(time.Duration(i) * tt.gap))
				id := fmt.Sprint("b", i)
				c.step(sched.Submit{Build: id, Key: id, Repo: tt.owner(i) + "/" + id, Owner: tt.owner(i), Requester: tt.requester(i)})
			}
			asked := c.now
			ends := map[string]time.Time{}
			seen := map[int]string{}
			silent, waiting := 0, 0
			for i := range tt.n {
				id := fmt.Sprint("b", i)
				st, ok := c.s.Standing(c.now, id)
				if !ok || st.Position == 0 {
					continue
				}
				waiting++
				if other := seen[st.Position]; other != "" {
					t.Fatalf("%s and %s are both number %d", other, id, st.Position)
				}
				seen[st.Position] = id
				if st.To.IsZero() {
					silent++
					if st.Position <= 1000 {
						t.Errorf("%s is number %d, and nothing is said of when it starts", id, st.Position)
					}
				}
				ends[id] = st.To
			}
			if want := max(waiting-1000, 0); silent != want {
				t.Errorf("%d of %d waiting builds are told no interval, want %d", silent, waiting, want)
			}
			for i := 1; i <= waiting; i++ {
				if seen[i] == "" {
					t.Fatalf("%d wait, nobody is number %d", waiting, i)
				}
			}
			c.until(asked.Add(10_000 * time.Hour))
			worst := 0.0
			for id, to := range ends {
				if to.IsZero() {
					continue
				}
				if c.began[id].IsZero() {
					t.Fatalf("%s never started", id)
				}
				worst = max(worst, to.Sub(asked).Hours()/(c.began[id].Sub(asked)+15*time.Minute).Hours())
			}
			t.Logf("%d wait; the end of the worst interval is %.1f times as far away as the start that came", waiting, worst)
			if worst > 4 {
				t.Errorf("an interval ends %.1f times as far away as the start that came", worst)
			}
		})
	}
}

// told is a hub whose builds take what is drawn.
type told struct {
	rng   *rand.Rand
	s     *sched.Scheduler
	now   time.Time
	began map[string]time.Time
	runs  []end
}

type end struct {
	at time.Time
	in sched.Finished
}

func (c *told) step(in sched.Input) {
	for _, d := range c.s.Step(c.now, in) {
		if d, ok := d.(sched.Start); ok {
			c.began[d.Build] = c.now
			cost := time.Duration(300 * math.Exp(c.rng.NormFloat64()) * float64(time.Second))
			c.runs = append(c.runs, end{c.now.Add(cost), sched.Finished{Build: d.Build, Attempt: d.Attempt, Outcome: sched.Succeeded}})
		}
	}
}

// until lets builds end that end by then.
func (c *told) until(at time.Time) {
	for {
		first := -1
		for i, e := range c.runs {
			if !e.at.After(at) && (first < 0 || e.at.Before(c.runs[first].at)) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		e := c.runs[first]
		c.runs = append(c.runs[:first], c.runs[first+1:]...)
		c.now = e.at
		c.step(e.in)
	}
	c.now = at
}
