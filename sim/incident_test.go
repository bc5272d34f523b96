package sim_test

import (
	"slices"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

const demo = "gh/jupyterlab/jupyterlab-demo"

func incident(w *sim.Workload) sim.Config {
	return sim.Config{
		Workload: w, Policies: []string{sim.Pool2019, sim.FIFO, sim.Fair}, Seed: 1, Slots: 8, Frontends: 2, Wipe: w.From,
		Costs: map[string]time.Duration{demo: 12 * time.Hour}, Scratch: 1,
	}
}

// TestIncident is the day that every image was gone. BINDERY_TRACES names the directory of the recorded launches;
// without it a generated day of that shape shows the same.
func TestIncident(t *testing.T) {
	cfg := incident(traces(t, start, 24*time.Hour))
	waiting, watchers := 0, 0
	cfg.Look = func(_ time.Time, v sched.View) {
		waiting = max(waiting, len(v.Waiting))
		for _, b := range v.Running {
			watchers = max(watchers, b.Watchers)
		}
	}
	rep := run(t, cfg)
	// docs/incident-2019-03-24.md: too few for alerts about a queue that grows or a build that hundreds wait for.
	if t.Logf("at most %d builds wait, %d watch one", waiting, watchers); cfg.Workload.Name == "recorded launches" && (waiting != 8 || watchers != 196) {
		t.Errorf("at most %d builds wait, %d watch one; 8 and 196 were seen", waiting, watchers)
	}
	pool, fair := rep.Policies[sim.Pool2019], rep.Policies[sim.Fair]
	if share := float64(pool.Specs.Served) / float64(pool.Specs.Asked); share > 0.82 {
		t.Errorf("the pool serves %d of %d specs", pool.Specs.Served, pool.Specs.Asked)
	}
	if cfg.Workload.Name == "recorded launches" && (pool.Specs.Served < 376 || pool.Specs.Served > 392) {
		t.Errorf("the pool serves %d specs; 380 to 388 were seen", pool.Specs.Served)
	}
	bursts(t, pool)
	if pool.Builds.Killed < 4 {
		t.Errorf("the pool killed %d builds", pool.Builds.Killed)
	}
	most := 3 // a visitor who comes in the last minutes may miss the build by seconds
	if cfg.Workload.Name == "recorded launches" {
		most = 1 // its one visitor leaves a minute and a half before the image is there
	}
	if missed := len(fair.Specs.Missed); missed > most {
		t.Errorf("fair misses %d specs that could be served: %v", missed, fair.Specs.Missed)
	}
	if fair.Builds.Killed != 0 || fair.Builds.NoSpace != 0 || fair.Builds.Stopped != 0 || fair.Builds.Repeated != 0 {
		t.Errorf("fair: %+v", fair.Builds)
	}
	// Nobody but the demo's own visitors waits behind it: p99 of others, and the longest wait of an owner's for a first
	// slot. A generated day has busier hours than the recorded one.
	late, first, longest := 2.25, 12.0, 55*time.Minute
	if cfg.Workload.Name == "recorded launches" {
		late, first, longest = 1.25, 6, 40*time.Minute
	}
	if f := fair.Others; f.AfterFirstHour.P99 > late || f.FirstVisitors.P99 > first {
		t.Errorf("slowdown p99 of visitors after the first hour %v, want at most %v; of other specs' first ones %v, at most %v",
			f.AfterFirstHour.P99, late, f.FirstVisitors.P99, first)
	}
	if p, f := pool.Others.AfterFirstHour.P99, fair.Others.AfterFirstHour.P99; f > p/100 {
		t.Errorf("slowdown of visitors after the first hour: p99 %v in the pool, %v in the fair queue", p, f)
	}
	if p, f := pool.Starvation.Seconds, fair.Starvation.Seconds; f > longest.Seconds() || f > p/3 {
		t.Errorf("an owner has no slot for %v s in the fair queue, want at most %v; for %v s in the pool", f, longest, p)
	}
}

// bursts checks that builds come in bursts four hours apart, with one or two running before each: down to one.
func bursts(t *testing.T, r *sim.Result) {
	t.Helper()
	per := int(time.Hour.Seconds() / r.Series.Step)
	running := func(from, to float64) []int {
		var all []int
		for _, s := range r.Series.Samples[int(from*float64(per)):int(to*float64(per))] {
			all = append(all, s.Running)
		}
		return all
	}
	least := 100
	for _, h := range []float64{4, 8, 12} {
		before, after := running(h-1, h), running(h, h+0.5)
		least = min(least, slices.Min(before))
		if slices.Min(before) > 2 {
			t.Errorf("at least %d builds run in the hour before %v h", slices.Min(before), h)
		}
		if slices.Max(after) < 20 {
			t.Errorf("no burst after %v h: before %v, after %v", h, before, after)
		}
	}
	if least != 1 {
		t.Errorf("running builds fall to %d, not to one", least)
	}
}

// TestOldGeneration serves what there was: nobody waits.
func TestOldGeneration(t *testing.T) {
	cfg := incident(traces(t, start, 24*time.Hour))
	cfg.Policies, cfg.Old = []string{sim.Fair}, true
	r := run(t, cfg).Policies[sim.Fair]
	if r.Specs.Served != r.Specs.Asked || r.Launches.Served != r.Launches.Asked {
		t.Errorf("%+v %+v", r.Specs, r.Launches)
	}
	if got := r.Wait["attended"]["all"].Max; got != 0 {
		t.Errorf("somebody waits %v s", got)
	}
}

// TestWeekIsQuick holds a week under the half minute that it may take, with room to spare.
func TestWeekIsQuick(t *testing.T) {
	w := traces(t, start, 7*24*time.Hour)
	began := time.Now()
	rep := run(t, sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1})
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("a week of %d launches takes %s", len(w.Launches), took)
	}
	if r := rep.Policies[sim.Fair]; r.Launches.Served < r.Launches.Asked*99/100 {
		t.Errorf("%+v", r.Launches)
	}
}
