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
	if r.Builds.Started != len(bystanders(length, 4*time.Minute))+1 || r.Builds.Started != r.Builds.Finished || r.Launches.Served != r.Launches.Asked {
		t.Errorf("%+v %+v", r.Builds, r.Launches)
	}
	if many > one*1.05+1 {
		t.Errorf("others' p99 wait is %v s, with 1,000 watchers of another build %v s", one, many)
	}
}

// heavy are five owners, each with one requester, who have builds waiting through the whole window.
func heavy(n int) (all []crowd) {
	for o := range 5 {
		for i := range n {
			all = append(all, crowd{spec: fmt.Sprintf("gh/heavy%d/repo%d/main", o, i), cost: time.Duration(6+i%13) * time.Minute / 2, n: 1, who: fmt.Sprint("heavy", o)})
		}
	}
	return all
}

// flooded is a workload of ten thousand builds of three minutes, and of others.
func flooded(length time.Duration, of func(i int) crowd, others ...crowd) *sim.Workload {
	w := gather(length, others...)
	var launches []sim.Launch
	for i := range 10_000 {
		c := of(i)
		launches = append(launches, sim.Launch{Spec: len(w.Specs), Requester: c.who, Class: bindery.Attended, Stays: true})
		w.Specs = append(w.Specs, spec(c.spec, 3*time.Minute))
	}
	w.Launches = append(launches, w.Launches...)
	return w
}

var floods = map[string]func(i int) crowd{
	"owner": func(i int) crowd {
		return crowd{spec: fmt.Sprintf("gh/flood/repo%d/main", i), who: fmt.Sprint("many", i)}
	},
	"requester": func(i int) crowd { return crowd{spec: fmt.Sprintf("gh/owner%d/repo/main", i), who: "one"} },
	"repository": func(i int) crowd {
		return crowd{spec: fmt.Sprintf("gh/flood/repo/ref%d", i), who: fmt.Sprint("many", i)}
	},
}

// TestFloods has ten thousand builds of one owner, of one requester, of one repository. People who ask for something
// else start within one slot release. First come first served finishes no more.
func TestFloods(t *testing.T) {
	const length = 4 * time.Hour
	for name, of := range floods {
		t.Run(name, func(t *testing.T) {
			crowds := bystanders(length, 4*time.Minute)
			rep := run(t, sim.Config{Workload: flooded(length, of, crowds...), Policies: []string{sim.Fair, sim.FIFO}, Seed: 1, Slots: 8, Mute: true})
			r, fifo := rep.Policies[sim.Fair], rep.Policies[sim.FIFO]
			// The flood's builds are small ones, the bystanders' medium ones.
			wait, slow := r.BuildWait["attended"]["medium"], r.BuildSlowdown["attended"]["medium"]
			t.Logf("%d built, slots used %.3f; bystanders: wait at most %.0f s, slowdown p99 %.2f (first come first served: %.1f)",
				r.Builds.Finished, r.Utilisation, wait.Max, slow.P99, fifo.BuildSlowdown["attended"]["medium"].P99)
			if done, other := r.Utilisation*r.Useful, fifo.Utilisation*fifo.Useful; done < 0.99*other {
				t.Errorf("slots used for images %.4f, first come first served %.4f", done, other)
			}
			if wait.N != len(crowds) || wait.Max > 180 || slow.P99 > 2 {
				t.Errorf("bystanders: %+v, %+v", wait, slow)
			}
		})
	}
}

// TestFloodShares has five more who all have more builds than can be made, beside the flood: slot time is shared
// evenly over owners, or over requesters where the flood is one requester's.
func TestFloodShares(t *testing.T) {
	const length = 6 * time.Hour
	for name, of := range floods {
		t.Run(name, func(t *testing.T) {
			rep := run(t, sim.Config{Workload: flooded(length, of, heavy(150)...), Policies: []string{sim.Fair, sim.FIFO}, Seed: 1, Slots: 8, Mute: true})
			r, fifo := rep.Policies[sim.Fair], rep.Policies[sim.FIFO]
			got, other := r.Jain, fifo.Jain
			if name == "requester" {
				got, other = r.Requesters, fifo.Requesters
			}
			t.Logf("Jain index %.3f, at least %.3f in %d hours; first come first served: %.3f", got.Mean, got.Min, got.Windows, other.Mean)
			if got.Windows < 5 || got.Min < 0.95 {
				t.Errorf("Jain index %+v", got)
			}
			if done, other := r.Utilisation*r.Useful, fifo.Utilisation*fifo.Useful; done < 0.99*other {
				t.Errorf("slots used for images %.4f, first come first served %.4f", done, other)
			}
		})
	}
}

// TestBots adds a third of traffic that nobody waits for. People wait as if there were none: on a small hub where a tenth
// of the bots want repositories that nobody else wants, on one whose images are all gone and where all bots do.
// One build more or less for bots changes the order of all that follow, so that the second is a mean over days.
func TestBots(t *testing.T) {
	for _, tt := range []struct {
		slots, days int
		crawl       float64
	}{{2, 1, 0.1}, {8, 16, 1}} {
		p99 := func(bots float64) (builds, visitors float64, last *sim.Result) {
			for day := range tt.days {
				seed := uint64(day + 3)
				w := sim.Generate(sim.Demand{From: start, For: 8 * time.Hour, Seed: seed, Unattended: bots, Crawl: tt.crawl})
				cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: seed, Slots: tt.slots, Mute: true}
				if tt.slots == 8 {
					cfg.Wipe = start
				}
				last = run(t, cfg).Policies[sim.Fair]
				builds += last.BuildWait["attended"]["all"].P99 / float64(tt.days)
				visitors += last.Wait["attended"]["all"].P99 / float64(tt.days)
			}
			return builds, visitors, last
		}
		builds, visitors, without := p99(0)
		botsBuilds, botsVisitors, with := p99(0.5)
		t.Logf("%d slots: p99 of builds' waits %.0f s, with bots %.0f s; of visitors' %.0f s, %.0f s; slots used %.2f, %.2f; %d stops",
			tt.slots, builds, botsBuilds, visitors, botsVisitors, without.Utilisation, with.Utilisation, with.Builds.Stopped)
		if builds == 0 || botsBuilds > 1.05*builds || botsVisitors > 1.05*visitors+1 {
			t.Errorf("%d slots: people wait longer for the bots", tt.slots)
		}
		if bots := with.BuildWait["unattended"]["all"]; bots.N < 30 || with.Utilisation < without.Utilisation*1.1 {
			t.Errorf("%d slots: nothing was built for the bots: %+v", tt.slots, bots)
		}
	}
}
