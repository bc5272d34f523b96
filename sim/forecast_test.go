package sim_test

import (
	"os"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sim"
)

// TestForecasts compares what waiting builds were told with their true starts: over four weeks that begin with every
// image gone, on eight slots, as recorded if BINDERY_TRACES names the records. On two slots most waits are for the end
// of one of two builds of which nothing is known: there the intervals hold, and are wide.
func TestForecasts(t *testing.T) {
	const week = 7 * 24 * time.Hour
	slotses, length := []int{8}, 2*24*time.Hour // what is generated is drawn from one law: two days say as much
	if os.Getenv("BINDERY_TRACES") != "" {
		slotses, length = []int{8, 2}, week
	}
	for _, slots := range slotses {
		samples, inside, missed := 0, 0.0, 0.0
		for n := range 4 {
			w := traces(t, start.Add(-time.Duration(3-n)*week), length)
			cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: uint64(n + 1), Slots: slots}
			if slots == 8 {
				cfg.Wipe = w.From
			}
			e := run(t, cfg).Policies[sim.Fair].ETA
			t.Logf("%d slots, week of %s: %d forecasts, %.1f %% inside, %.1f %% early, %.1f %% late; median error %.0f %% (without floor %.0f %%), %.0f s",
				slots, w.From.Format(time.DateOnly), e.Samples, 100*e.Coverage, 100*e.Early, 100*e.Late, 100*e.MedianError, 100*e.MedianPlain, e.MedianSeconds)
			samples += e.Samples
			inside += e.Coverage * float64(e.Samples)
			missed += e.MedianError * float64(e.Samples)
		}
		if share := inside / float64(samples); samples < 300 || share < 0.85 || share > 0.95 {
			t.Errorf("%d slots: %.3f of %d starts in their intervals, want 0.85 to 0.95", slots, share, samples)
		}
		if missed /= float64(samples); slots == 8 && missed > 0.25 {
			t.Errorf("%d slots: median error %.2f, want at most 0.25", slots, missed)
		}
	}
}

// TestForecastBound compares the error of what is told with that of somebody who knows what each build will take: so much
// of it is what nobody told the hub, rather than how it reckons.
func TestForecastBound(t *testing.T) {
	w := traces(t, start, 24*time.Hour)
	cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: 1, Slots: 8, Wipe: w.From}
	usual := run(t, cfg).Policies[sim.Fair].ETA
	cfg.Foretold = true
	best := run(t, cfg).Policies[sim.Fair].ETA
	t.Logf("median error %.0f %% (%.0f s) of %d; had it known each cost: %.0f %% (%.0f s) of %d",
		100*usual.MedianPlain, usual.MedianSeconds, usual.Samples, 100*best.MedianPlain, best.MedianSeconds, best.Samples)
	if best.Samples < 50 || best.MedianPlain > 0.8*usual.MedianPlain {
		t.Errorf("who knows every cost errs by %.2f, who does not by %.2f", best.MedianPlain, usual.MedianPlain)
	}
}
