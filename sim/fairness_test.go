package sim_test

import (
	"fmt"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sim"
)

// bystanders are people who ask for builds of their own, one every few minutes.
func bystanders(length, every time.Duration) []crowd {
	var all []crowd
	for i := 0; time.Duration(i)*every < length-30*time.Minute; i++ {
		all = append(all, crowd{
			spec: fmt.Sprintf("gh/by%d/stander/main", i), cost: time.Duration(6+i%7) * time.Minute, n: 1, at: time.Minute + time.Duration(i)*every,
		})
	}
	return all
}

// TestWatchersAreFree has a thousand visitors of one build. Others wait as if there was one.
func TestWatchersAreFree(t *testing.T) {
	const length = 4 * time.Hour
	p99 := func(watchers int) (float64, *sim.Result) {
		crowds := append(bystanders(length, 4*time.Minute), crowd{spec: "gh/a/popular/main", cost: time.Hour, n: watchers, gap: time.Second})
		r := run(t, sim.Config{Workload: gather(length, crowds...), Policies: []string{sim.Fair}, Seed: 1, Slots: 4}).Policies[sim.Fair]
		return r.BuildWait["attended"]["medium"].P99, r
	}
	one, _ := p99(1)
	many, r := p99(1000)
	if r.Builds.Started != r.Builds.Finished || r.Launches.Served != r.Launches.Asked {
		t.Errorf("%+v %+v", r.Builds, r.Launches)
	}
	if many > one*1.05+1 {
		t.Errorf("others' p99 wait is %v s, with 1,000 watchers of another build %v s", one, many)
	}
}

// TestFloods has ten thousand builds of one owner, of one requester, of one repository. People who ask for something
// else start within one slot release.
func TestFloods(t *testing.T) {
	const flood = 10_000
	const length = 4 * time.Hour
	const cost = 3 * time.Minute // a slot is released at least so often
	for name, of := range map[string]func(i int) crowd{
		"owner":      func(i int) crowd { return crowd{spec: fmt.Sprintf("gh/flood/repo%d/main", i)} },
		"requester":  func(i int) crowd { return crowd{spec: fmt.Sprintf("gh/owner%d/repo/main", i), who: "one"} },
		"repository": func(i int) crowd { return crowd{spec: fmt.Sprintf("gh/flood/repo/ref%d", i)} },
	} {
		t.Run(name, func(t *testing.T) {
			crowds := bystanders(length, 4*time.Minute)
			w := gather(length, crowds...)
			var launches []sim.Launch
			for i := range flood {
				c := of(i)
				launches = append(launches, sim.Launch{Spec: len(w.Specs), Requester: c.who, Class: bindery.Attended, Stays: true})
				w.Specs = append(w.Specs, spec(c.spec, cost))
			}
			w.Launches = append(launches, w.Launches...)
			r := run(t, sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1, Slots: 8}).Policies[sim.Fair]
			// The flood's builds are small ones, the bystanders' medium ones.
			wait, slow := r.BuildWait["attended"]["medium"], r.BuildSlowdown["attended"]["medium"]
			t.Logf("%d built, slots used %.3f; bystanders: wait at most %.0f s, slowdown p99 %.2f", r.Builds.Finished, r.Utilisation, wait.Max, slow.P99)
			if r.Utilisation < 0.99 {
				t.Errorf("slots used %.3f", r.Utilisation)
			}
			if wait.N != len(crowds) || wait.Max > cost.Seconds() || slow.P99 > 2 {
				t.Errorf("bystanders: %+v, %+v", wait, slow)
			}
		})
	}
}
