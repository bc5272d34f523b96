package sim_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sim"
)

var start = time.Date(2019, 3, 17, 8, 0, 0, 0, time.UTC)

// crowd makes a workload by hand: n visitors of a spec, gap apart, who stay. Nothing has an image.
type crowd struct {
	spec   string // provider/owner/repo/ref
	cost   time.Duration
	n      int
	at     time.Duration
	gap    time.Duration
	who    string // requester of all; default: each their own
	class  bindery.Class
	leaves bool
}

func gather(length time.Duration, crowds ...crowd) *sim.Workload {
	all := &sim.Workload{Name: "crowds", From: start, For: length}
	for _, c := range crowds {
		w := &sim.Workload{Specs: []sim.Spec{spec(c.spec, c.cost)}}
		for i := range c.n {
			w.Launches = append(w.Launches, sim.Launch{
				At: c.at + time.Duration(i)*c.gap, Requester: c.who, Class: c.class, Stays: !c.leaves,
			})
		}
		all = all.Join(w)
	}
	all.Name = "crowds"
	return all
}

func spec(name string, cost time.Duration) sim.Spec {
	var parts [3]int
	n := 0
	for i, r := range name {
		if r == '/' && n < 3 {
			parts[n] = i
			n++
		}
	}
	return sim.Spec{Name: name, Owner: name[:parts[1]], Repo: name[:parts[2]], Cost: cost}
}

func run(t testing.TB, cfg sim.Config) *sim.Report {
	t.Helper()
	rep, err := sim.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestPoolMeasured meets what was measured of BinderHub itself at a limit of four: four watchers of one build of 20
// seconds let three builds of 2 seconds wait for all of it; one watcher does not.
func TestPoolMeasured(t *testing.T) {
	for _, tt := range []struct {
		watchers int
		wait     float64
	}{{1, 0}, {4, 19}, {8, 19}} {
		crowds := []crowd{{spec: "gh/a/slow/main", cost: 20 * time.Second, n: tt.watchers}}
		for i := range 3 {
			crowds = append(crowds, crowd{spec: fmt.Sprintf("gh/b/quick%d/main", i), cost: 2 * time.Second, n: 1, at: time.Second})
		}
		rep := run(t, sim.Config{Workload: gather(time.Minute, crowds...), Policies: []string{sim.Pool2019, sim.Fair}, Slots: 4, Threads: 4, Frontends: 1})
		got := rep.Policies[sim.Pool2019].BuildWait["attended"]["all"].Max
		if got != tt.wait {
			t.Errorf("with %d watchers, the others wait %v s in the pool, want %v", tt.watchers, got, tt.wait)
		}
		if got := rep.Policies[sim.Fair].BuildWait["attended"]["all"].Max; got != 0 {
			t.Errorf("with %d watchers, the others wait %v s in the fair queue", tt.watchers, got)
		}
	}
}

// TestFirstCome has one slot, three builds of ten minutes.
func TestFirstCome(t *testing.T) {
	w := gather(time.Hour,
		crowd{spec: "gh/a/x/main", cost: 10 * time.Minute, n: 1},
		crowd{spec: "gh/b/y/main", cost: 10 * time.Minute, n: 1, at: time.Minute},
		crowd{spec: "gh/c/z/main", cost: 10 * time.Minute, n: 2, at: 2 * time.Minute, gap: time.Minute},
	)
	r := run(t, sim.Config{Workload: w, Policies: []string{sim.FIFO}, Slots: 1}).Policies[sim.FIFO]
	if got, want := r.Wait["attended"]["all"], (sim.Spread{N: 4, P50: 1140, P95: 1680, P99: 1680, Max: 1680}); got != want {
		t.Errorf("waits %+v, want %+v", got, want)
	}
	if got, want := r.BuildSlowdown["attended"]["all"].Max, 2.8; got != want {
		t.Errorf("slowdown %v, want %v", got, want)
	}
	if got, want := r.Builds, (sim.Builds{Started: 3, Finished: 3, MostRunning: 1}); got != want {
		t.Errorf("builds %+v, want %+v", got, want)
	}
	if r.Utilisation != 0.5 || r.Useful != 1 || r.Starvation.Seconds != 1080 {
		t.Errorf("used %v, useful %v, starved %+v", r.Utilisation, r.Useful, r.Starvation)
	}
}

// TestKilledForAge has a build of five hours that a pool kills after four, or after one, again and again.
func TestKilledForAge(t *testing.T) {
	w := gather(13*time.Hour, crowd{spec: "gh/a/endless/main", cost: 5 * time.Hour, n: 1})
	rep := run(t, sim.Config{Workload: w, Policies: []string{sim.Pool2019, sim.PoolNow, sim.FIFO}, Law: sim.Law{Return: 1}})
	for name, want := range map[string][2]int{sim.Pool2019: {3, 0}, sim.FIFO: {0, 1}} {
		if got := rep.Policies[name]; got.Builds.Killed != want[0] || got.Specs.Served != want[1] {
			t.Errorf("%s: %+v %+v, want %v", name, got.Builds, got.Specs, want)
		}
	}
	if got := rep.Policies[sim.PoolNow].Builds.Killed; got < 8 || got > 12 {
		t.Errorf("poolnow killed %d times in 13 hours", got)
	}
}

// TestScratchless has workers without scratch space only besides one good one.
func TestScratchless(t *testing.T) {
	w := gather(12*time.Hour, crowd{spec: "gh/a/x/main", cost: time.Hour, n: 1})
	rep := run(t, sim.Config{Workload: w, Policies: []string{sim.Pool2019, sim.Fair}, Slots: 1, Cluster: 1, Scratch: 20, Law: sim.Law{Return: 1}})
	if got := rep.Policies[sim.Pool2019].Builds.NoSpace; got < 3 {
		t.Errorf("the pool met a full disk %d times", got)
	}
	if got := rep.Policies[sim.Fair].Builds; got.NoSpace != 0 || got.Finished != 1 {
		t.Errorf("fair: %+v", got)
	}
}

// TestFullDisks has workers whose disks hold two builds of usual size, and four slots each. The fair queue reserves what
// builds took before; first come first served meets full disks.
func TestFullDisks(t *testing.T) {
	w := sim.Generate(sim.Demand{For: 6 * time.Hour, Seed: 1, Scale: 0.5})
	cfg := sim.Config{Workload: w, Policies: []string{sim.FIFO, sim.Fair}, Seed: 1, Slots: 8, Workers: 2, Disk: 16 << 30, Wipe: w.From, Mute: true}
	rep := run(t, cfg)
	fifo, fair := rep.Policies[sim.FIFO].Builds, rep.Policies[sim.Fair].Builds
	t.Logf("full disks met: %d first come first served, %d fair; builds finished %d, %d", fifo.NoSpace, fair.NoSpace, fifo.Finished, fair.Finished)
	if fifo.NoSpace < 5 || fair.NoSpace > fifo.NoSpace/4 {
		t.Errorf("full disks met: %d first come first served, %d fair", fifo.NoSpace, fair.NoSpace)
	}
	cfg.Disk, cfg.Law.Contention = 0, 0.5
	slower := run(t, cfg).Policies[sim.Fair]
	cfg.Law.Contention = 0
	if alone := run(t, cfg).Policies[sim.Fair]; slower.Utilisation < alone.Utilisation*1.2 {
		t.Errorf("slots used %.2f with contention, %.2f without", slower.Utilisation, alone.Utilisation)
	}
}

func TestAutoscale(t *testing.T) {
	var crowds []crowd
	for i := range 20 {
		crowds = append(crowds, crowd{spec: fmt.Sprintf("gh/o%d/x/main", i), cost: 10 * time.Minute, n: 1})
	}
	cfg := sim.Config{Workload: gather(3*time.Hour, crowds...), Policies: []string{sim.FIFO, sim.Fair}, Slots: 2}
	alone := run(t, cfg)
	cfg.Autoscale = sim.Autoscale{Most: 10}
	more := run(t, cfg)
	for _, name := range cfg.Policies {
		a, m := alone.Policies[name], more.Policies[name]
		if a.Builds.MostRunning != 2 || m.Builds.MostRunning != 10 || m.BuildWait["attended"]["all"].Max > a.BuildWait["attended"]["all"].Max/2 {
			t.Errorf("%s: %+v, with more workers %+v", name, a.Builds, m.Builds)
		}
	}
}

// TestConservation draws rooms and crowds: each launch that was asked for is served, has given up or waits; never do
// more builds run than there are slots; an image is built once.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := sim.Generate(sim.Demand{
			From: start, For: 2 * time.Hour, Seed: rapid.Uint64().Draw(t, "demand"),
			Scale: rapid.Float64Range(0.02, 0.3).Draw(t, "scale"), Unattended: rapid.Float64Range(0, 0.5).Draw(t, "bots"),
		})
		if len(w.Launches) == 0 {
			return
		}
		cfg := sim.Config{
			Workload: w, Policies: sim.Policies(), Seed: rapid.Uint64().Draw(t, "seed"), Slots: rapid.IntRange(1, 9).Draw(t, "slots"),
			Mute: rapid.IntRange(0, 4).Draw(t, "mute") > 0, Scratch: rapid.IntRange(0, 2).Draw(t, "scratchless"), Old: rapid.Bool().Draw(t, "old"),
			Law: sim.Law{Failing: rapid.Float64Range(0, 0.3).Draw(t, "failing"), Passing: rapid.Float64Range(0, 0.2).Draw(t, "passing")},
		}
		if rapid.Bool().Draw(t, "crashes") {
			cfg.Law.Crash = time.Hour
		}
		if rapid.Bool().Draw(t, "wiped") {
			cfg.Wipe = start.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "wipe")) * time.Minute)
		}
		rep, err := sim.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range rep.Policies {
			l, b := r.Launches, r.Builds
			if l.Asked != len(w.Launches) || l.Served+l.GaveUp+l.Waiting != l.Asked {
				t.Fatalf("%s: launches %+v of %d", name, l, len(w.Launches))
			}
			if sum := b.Finished + b.Failed + b.Killed + b.NoSpace + b.Passing + b.Stopped + b.Running; sum != b.Started {
				t.Fatalf("%s: builds %+v", name, b)
			}
			if (name == sim.Fair || name == sim.FIFO) && b.MostRunning > cfg.Slots {
				t.Fatalf("%s: %d builds in %d slots", name, b.MostRunning, cfg.Slots)
			}
		}
	})
}

// TestSameBytes runs a day twice.
func TestSameBytes(t *testing.T) {
	day := func(seed uint64) []byte {
		w := sim.Generate(sim.Demand{For: 2 * time.Hour, Seed: seed, Scale: 0.5})
		rep := run(t, sim.Config{Workload: w, Policies: sim.Policies(), Seed: seed, Wipe: w.From, Scratch: 1, Law: sim.Law{Failing: 0.1, Passing: 0.05, Crash: time.Hour}})
		text, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		var chart bytes.Buffer
		if err := rep.Chart(&chart); err != nil {
			t.Fatal(err)
		}
		if err := rep.PNG(&chart); err != nil {
			t.Fatal(err)
		}
		if err := rep.Print(&chart); err != nil {
			t.Fatal(err)
		}
		return append(text, chart.Bytes()...)
	}
	first := day(7)
	if diff := cmp.Diff(string(first), string(day(7))); diff != "" {
		t.Error(diff)
	}
	if bytes.Equal(first, day(8)) {
		t.Error("another seed gives the same day")
	}
}

// traces is where recorded launches are, on a machine that has them.
func traces(t testing.TB, from time.Time, length time.Duration) *sim.Workload {
	t.Helper()
	dir := os.Getenv("BINDERY_TRACES")
	if dir == "" {
		return sim.Generate(sim.Demand{From: from, For: length, Seed: 1})
	}
	w, err := sim.ReadTrace(os.DirFS(dir), from, length)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestChart draws two policies whose waits are equal: both curves are to be seen, the second as dashes over the first.
func TestChart(t *testing.T) {
	w := gather(time.Hour, crowd{spec: "gh/ann/a/main", cost: 10 * time.Minute, n: 30, gap: 10 * time.Second})
	var chart strings.Builder
	if err := run(t, sim.Config{Workload: w, Policies: []string{sim.FIFO, sim.Fair}, Seed: 1}).Chart(&chart); err != nil {
		t.Fatal(err)
	}
	_, curves, ok := strings.Cut(chart.String(), "Share of visitors who wait longer")
	fair, fifo := strings.Count(curves, `stroke="#009e73"`), strings.Count(curves, `stroke="#0072b2"`)
	if !ok || fair != 2 || fifo < 10 || strings.LastIndex(curves, "#009e73") > strings.LastIndex(curves, "#0072b2") {
		t.Errorf("%d lines of one curve and of its legend, %d dashes of the other, which are to come last", fair, fifo)
	}
}
