package sim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
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

// strangers are people who ask for builds of their own at random, as often as two slots can just serve: they wait at times.
func strangers(length time.Duration, seed uint64) (all []crowd) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	for at := time.Duration(0); at < length-time.Hour; at += time.Duration(rnd.ExpFloat64() * 6.5 * float64(time.Minute)) {
		i := len(all)
		all = append(all, crowd{spec: fmt.Sprintf("gh/by%d/stander/main", i), cost: time.Duration(6+i%7) * time.Minute, n: 1, at: at})
	}
	return all
}

// TestWatchersAreFree has a thousand visitors of one build, on two slots that others wait for as well. These wait as if
// there was one visitor; and as if there was none, where one build more is little. In a thread pool they would wait longer.
func TestWatchersAreFree(t *testing.T) {
	for _, tt := range []struct {
		length, cost time.Duration
		little       bool
	}{{8 * time.Hour, 2 * time.Hour, false}, {48 * time.Hour, 25 * time.Minute, true}} {
		for seed := range uint64(3) {
			others := strangers(tt.length, seed)
			waits := func(watchers int) (fair, pool sim.Spread) {
				popular := crowd{spec: "gh/a/popular/main", cost: tt.cost, n: watchers, at: tt.length / 3, gap: time.Second}
				rep := run(t, sim.Config{
					Workload: gather(tt.length, append(slices.Clip(others), popular)...), Policies: []string{sim.Fair, sim.Pool2019},
					Seed: 1, Slots: 2, Threads: 4, Frontends: 1, Mute: true,
				})
				r := rep.Policies[sim.Fair]
				if want := len(others) + min(watchers, 1); r.Builds.Started != want {
					t.Errorf("%d watchers: %+v, want %d started", watchers, r.Builds, want)
				}
				return r.BuildWait["attended"]["medium"], rep.Policies[sim.Pool2019].BuildWait["attended"]["medium"]
			}
			none, _ := waits(0)
			one, poolOne := waits(1)
			many, poolMany := waits(1000)
			t.Logf("%s: p99 of others' waits %.0f s, with one visitor of another build %.0f s, with 1,000 %.0f s; in a pool with one %.0f s, with 1,000 %.0f s",
				tt.length, none.P99, one.P99, many.P99, poolOne.P99, poolMany.P99)
			if none.P99 < 60 || none.N != many.N {
				t.Errorf("others do not wait: %+v, %+v", none, many)
			}
			if many.P99 > one.P99*1.05 || many.P50 > one.P50*1.05 || many.Max > one.Max*1.05 {
				t.Errorf("others wait longer for the watchers of a build: %+v, for one %+v", many, one)
			}
			if tt.little && many.P99 > none.P99*1.05 {
				t.Errorf("others wait longer for the watchers of a build: %+v, without it %+v", many, none)
			}
			if !tt.little && poolMany.P99 < 2*poolOne.P99 {
				t.Errorf("in a pool they would not: %+v, for one %+v", poolMany, poolOne)
			}
		}
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
// else start within one slot release. First come first served finishes no more. Each of the first thousand is told when
// it starts. Those intervals are less honest than usual: at first nothing is known of builds that all take three minutes,
// and later what is known of a stranger's build is what the flood's took.
func TestFloods(t *testing.T) {
	const length = 4 * time.Hour
	for name, of := range floods {
		t.Run(name, func(t *testing.T) {
			crowds := bystanders(length, 4*time.Minute)
			rep := run(t, sim.Config{Workload: flooded(length, of, crowds...), Policies: []string{sim.Fair, sim.FIFO}, Seed: 1, Slots: 8})
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
			eta, least := r.ETA, 0.6
			if name == "repository" {
				least = 0.4
			}
			t.Logf("%.0f %% of %d starts in their intervals; median error of all %.0f %%; %d times nothing was said", 100*eta.Coverage, eta.Samples, 100*eta.MedianOfAll, eta.Silent)
			if eta.Samples < 150 || eta.Coverage < least || eta.Silent != eta.Distant {
				t.Errorf("forecasts: %+v, want at least %.1f inside, and silence only behind a thousand", eta, least)
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
