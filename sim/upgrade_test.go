package sim_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sim"
)

// TestUpgrade rolls out all images of two weeks, 2,300 at least, by popularity beside the demand of the days that follow,
// with 8 slots: people who wait for builds of their own wait as long as without it, for a slot and in all, though a worker
// needs ten seconds to stop a build that gives way. What comes is what the plan foresaw, which knows the two weeks only:
// how long it takes, which share of launches is covered, how many builds there would be without the images.
// BINDERY_TRACES names the directory of the recorded launches; without it the days are generated.
func TestUpgrade(t *testing.T) {
	const weeks = 14 * 24 * time.Hour
	past, days := traces(t, start.Add(-weeks), weeks+5*24*time.Hour).Cut(weeks)
	cfg := sim.Config{Workload: past, Policies: []string{sim.Fair}, Seed: 1, Slots: 8, Stop: 10 * time.Second, Mute: true}
	busy := run(t, cfg).Policies[sim.Fair].Utilisation * 8
	cfg.Workload = days
	before := run(t, cfg).Policies[sim.Fair]
	cfg.Upgrade = &sim.Upgrade{Images: 2300, Before: past, Busy: busy, Options: bindery.RolloutOptions{Since: -1}}
	with := run(t, cfg).Policies[sim.Fair]
	up := with.Upgraded
	if up == nil || up.Total < 2300 || len(up.Plan.Covered) != 3 || len(up.Plan.Demand) != 3 || up.Paused != "" || up.Proven != up.Total || up.Seconds == 0 {
		t.Fatalf("the roll-out: %+v", up)
	}
	near := func(what string, got, want, share float64) {
		t.Helper()
		t.Logf("%s: %.0f, %.0f (%+.1f %%)", what, got, want, 100*(got/want-1))
		if math.Abs(got-want) > share*want {
			t.Errorf("%s: %.0f and %.0f differ by more than %.0f %%", what, got, want, 100*share)
		}
	}
	near("p99 of the wait of who waited, with and without, seconds", with.Waited.P99, before.Waited.P99, 0.05)
	near("p50 of it", with.Waited.P50, before.Waited.P50, 0.05)
	if all := with.Wait["attended"]["all"].P99; all > before.Wait["attended"]["all"].P99*1.05 {
		t.Errorf("p99 of the wait of all visitors: %.0f s, %.0f s without it", all, before.Wait["attended"]["all"].P99)
	}
	for i, c := range up.Plan.Covered {
		near(fmt.Sprintf("the top %d took and were foreseen to take, seconds", c.Top), up.Covered[i], c.Takes.Seconds(), 0.2)
		near("their share of launches, and as foreseen, in a hundred", 100*up.Shares[i], 100*c.Share, 0.05)
	}
	near("mean of a build, and as foreseen, seconds", up.Build, up.Plan.Build.Seconds(), 0.2)
	for i, d := range up.Plan.Demand {
		near(fmt.Sprintf("images asked for in %s, and as foreseen from %d days", d.Within, d.Days), float64(up.Asked[i]), d.Builds, 0.2)
	}
	a, b := with.BuildWait["attended"]["all"], before.BuildWait["attended"]["all"]
	t.Logf("their builds' wait for a slot: p50 %.0f, p99 %.0f, max %.0f with; p50 %.0f, p99 %.0f, max %.0f without", a.P50, a.P99, a.Max, b.P50, b.P99, b.Max)
	if a.P99 > b.P99*1.05+cfg.Stop.Seconds() || a.Max > b.Max+cfg.Stop.Seconds() {
		t.Errorf("a roll-out makes people wait for slots longer than it takes to free one")
	}
	if with.Launches.Served < before.Launches.Served {
		t.Errorf("%d launches were served, %d without it", with.Launches.Served, before.Launches.Served)
	}
}
