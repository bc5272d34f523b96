package sim_test

import (
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

// TestPlaces has a class of sixty come for one image, with twenty places: never more sessions than places,
// everybody has one in the end, and who comes later waits until those before are idle.
func TestPlaces(t *testing.T) {
	w := gather(24*time.Hour, crowd{spec: "gh/ann/class/main", cost: time.Minute, n: 60, gap: time.Second})
	cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1, Places: 20}
	r := run(t, cfg).Policies[sim.Fair]
	s := r.Sessions
	t.Logf("%+v", *s)
	if s.Most != 20 || s.Admitted != 60 || s.Waited != 40 || s.Refused != 0 || s.Ended != 60 {
		t.Errorf("%+v, want 60 admitted, 40 after a wait, at most 20 at once", *s)
	}
	if s.Wait.P50 < 600 || r.Launches.Served != 60 { // nobody's place is free before ten idle minutes
		t.Errorf("the median wait for a place was %.0f s, %d were served", s.Wait.P50, r.Launches.Served)
	}

	// A quota of the repository bounds it, and leaves the rest to others.
	cfg.Sched = sched.Config{RepoSessions: 5}
	cfg.Workload = w.Join(gather(24*time.Hour, crowd{spec: "gh/ben/work/main", cost: time.Minute, n: 5, at: 5 * time.Minute, gap: time.Second}))
	r = run(t, cfg).Policies[sim.Fair]
	if s := r.Sessions; s.Most != 10 || s.Waited != 55 || s.Wait.Max == 0 {
		t.Errorf("%+v, want at most five of each, and that the other's need not wait", *s)
	}

	// Who is not patient leaves the line for a place too, and is counted.
	w = gather(24*time.Hour, crowd{spec: "gh/ann/class/main", cost: time.Minute, n: 60, gap: time.Second, leaves: true})
	r = run(t, sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1, Places: 3, Law: sim.Law{Return: -1}}).Policies[sim.Fair]
	if s := r.Sessions; s.Left == 0 || s.Left != r.Launches.GaveUp || s.Admitted != r.Launches.Served || r.Launches.Waiting != 0 {
		t.Errorf("%+v of %+v", *s, r.Launches)
	}
}

// TestPlacesRefused has so many come that there is no room to wait either: they are sent away, and most come again.
func TestPlacesRefused(t *testing.T) {
	w := gather(24*time.Hour, crowd{spec: "gh/ann/class/main", cost: time.Minute, n: 60, gap: time.Second})
	cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1, Places: 20, Sched: sched.Config{Places: 10}, Law: sim.Law{Return: -1}}
	r := run(t, cfg).Policies[sim.Fair]
	if s := r.Sessions; s.Asked != 60 || s.Admitted != 30 || s.Waited != 10 || s.Refused != 30 || r.Launches.Served != 30 || r.Launches.GaveUp != 30 {
		t.Errorf("nobody comes again: %+v of %+v, want 30 of 60 served, 30 refused", *s, r.Launches)
	}
	cfg.Law.Return = 1
	r = run(t, cfg).Policies[sim.Fair]
	if s := r.Sessions; s.Asked != 60+s.Refused || s.Admitted != 60 || s.Refused < 30 || r.Launches.Served != 60 {
		t.Errorf("all come again: %+v of %+v, want 60 served", *s, r.Launches)
	}
}

// TestPlacesEnd has two ask for the only place at once, when the build is done that both wait for. It is free when the
// first has not used the session for so long as Idle says, and at the latest when the session is as old as Age says.
func TestPlacesEnd(t *testing.T) {
	w := gather(24*time.Hour, crowd{spec: "gh/ann/class/main", cost: time.Minute, n: 2, gap: time.Second})
	wait := func(cfg sim.Config) float64 {
		t.Helper()
		cfg.Workload, cfg.Policies, cfg.Seed, cfg.Places = w, []string{sim.Fair}, 1, 1
		s := run(t, cfg).Policies[sim.Fair].Sessions
		if s.Admitted != 2 || s.Waited != 1 || s.Most != 1 {
			t.Fatalf("%+v, want one of two to wait", *s)
		}
		return s.Wait.Max
	}
	short, long := wait(sim.Config{Idle: 10 * time.Minute}), wait(sim.Config{Idle: 25 * time.Minute})
	if short <= 600 || long-short != 900 {
		t.Errorf("waits of %.0f and %.0f s, want more than ten idle minutes, and fifteen minutes between the two", short, long)
	}
	if got := wait(sim.Config{Idle: 25 * time.Minute, Age: 20 * time.Minute}); got != 1200 {
		t.Errorf("a wait of %.0f s, want the end by age after twenty minutes", got)
	}
	if got := wait(sim.Config{Law: sim.Law{Stay: 1000 * time.Hour}}); got != 6*3600 {
		t.Errorf("a wait of %.0f s for who does not leave, want six hours", got)
	}
}

// TestContention has two builds of ten minutes on one worker, where each makes the other take twice as long: the second
// begins after five minutes. So the first ends after 15, the second five minutes later.
func TestContention(t *testing.T) {
	w := gather(time.Hour,
		crowd{spec: "gh/ann/a/main", cost: 10 * time.Minute, n: 1}, crowd{spec: "gh/ben/b/main", cost: 10 * time.Minute, n: 1, at: 5 * time.Minute})
	cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1, Slots: 2, Workers: 1, Law: sim.Law{Contention: 1}}
	waits := run(t, cfg).Policies[sim.Fair].Wait["attended"]["all"]
	if waits.N != 2 || waits.P50 != 900 || waits.Max != 900 {
		t.Errorf("waits of %+v, want 900 seconds twice", waits)
	}
}
