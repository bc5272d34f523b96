package sim_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sim"
)

// TestForecasts compares what waiting builds were told with their true starts, and running ones with their ends: over four weeks that begin with every
// image gone, on eight slots, and over the same weeks as usual on two, as recorded if BINDERY_TRACES names the records.
// What builds take is drawn three times for each week. On two slots most waits are for the end of one of two builds of
// which nothing is known: there the intervals hold, and are wide.
func TestForecasts(t *testing.T) {
	slotses := []int{8}
	recorded := os.Getenv("BINDERY_TRACES") != ""
	if recorded {
		slotses = []int{8, 2}
	}
	ends := func(where string, f forecasts) {
		share, within := f.done/f.ends, f.within/f.guessed
		if share < 0.85 || share > 0.95 || within < 0.85 || within > 0.95 {
			t.Errorf("%s: %.3f of %.0f ends in their intervals, %.3f of %.0f by their latest time, want 0.85 to 0.95", where, share, f.ends, within, f.guessed)
		}
	}
	for _, slots := range slotses {
		all := fourWeeks(t, slots, sim.ForetoldNothing, func(from string, own forecasts) {
			if recorded {
				ends(fmt.Sprint(slots, " slots, week of ", from), own)
			}
			if share := own.inside / own.n; recorded && (own.n < 200 || share < 0.85 || share > 0.95) {
				t.Errorf("%d slots, week of %s: %.3f of %.0f starts in their intervals, want 0.85 to 0.95", slots, from, share, own.n)
			}
			if miss := own.missed / own.named; recorded && slots == 8 && (own.named < 50 || miss > 0.25) {
				t.Errorf("%d slots, week of %s: median error %.3f of %.0f, want at most 0.25", slots, from, miss, own.named)
			}
		})
		if share := all.inside / all.n; all.n < 300 || share < 0.85 || share > 0.95 {
			t.Errorf("%d slots: %.3f of %.0f starts in their intervals, want 0.85 to 0.95", slots, share, all.n)
		}
		if miss := all.missed / all.named; slots == 8 && (all.named < 100 || miss > 0.25) {
			t.Errorf("%d slots: median error %.3f of %.0f, want at most 0.25", slots, miss, all.named)
		}
		if miss := all.miss / all.long; slots == 8 && (all.long < all.n/2 || miss > 0.25) {
			t.Errorf("%d slots: median error %.3f of %.0f that say two minutes or more, want at most 0.25 and half of %.0f", slots, miss, all.long, all.n)
		}
		if all.ends < 500 || all.guessed < 300 {
			t.Errorf("%d slots: %.0f and %.0f forecasts of ends", slots, all.ends, all.guessed)
		}
		ends(fmt.Sprint(slots, " slots"), all)
	}
}

// TestForecastBound compares the error of what is told with that of two who know more: one knows the law that costs are drawn
// from, as well as who guesses can, the other what each build will take. Who knows the law errs as much as the hub, so that is
// what guessing comes to; the rest of the error is in what nobody told it.
func TestForecastBound(t *testing.T) {
	slotses := []int{8}
	if os.Getenv("BINDERY_TRACES") != "" {
		slotses = []int{8, 2}
	}
	for _, slots := range slotses {
		var errs [3]float64
		for i := range errs {
			all := fourWeeks(t, slots, sim.Foresight(i), nil)
			if all.n < 200 {
				t.Errorf("%d slots: %.0f forecasts", slots, all.n)
			}
			errs[i] = all.likely / all.n
		}
		usual, law, costs := errs[sim.ForetoldNothing], errs[sim.ForetoldLaw], errs[sim.ForetoldCosts]
		if usual > 1.1*law || costs > 0.8*usual {
			t.Errorf("%d slots: errors of %.3f as usual, %.3f for who knows the law, %.3f for who knows the costs; want the first two alike and the last smaller", slots, usual, law, costs)
		}
	}
}

// fourWeeks adds up the forecasts of four weeks, and tells each of them. Of what is generated, which is drawn from one
// law, two days say as much.
func fourWeeks(t *testing.T, slots int, foretold sim.Foresight, each func(from string, own forecasts)) (all forecasts) {
	t.Helper()
	const week = 7 * 24 * time.Hour
	length, draws := 2*24*time.Hour, 1
	if os.Getenv("BINDERY_TRACES") != "" {
		length, draws = week, 3
	}
	for n := range 4 {
		w := traces(t, start.Add(-time.Duration(3-n)*week), length)
		var own forecasts
		for draw := range draws {
			cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: uint64(n + 1 + 100*draw), Slots: slots, Foretold: foretold}
			if slots == 8 {
				cfg.Wipe = w.From
			}
			own.add(run(t, cfg).Policies[sim.Fair])
		}
		all.join(own)
		from := w.From.Format(time.DateOnly)
		t.Logf("%d slots, foresight %d, week of %s: %s", slots, foretold, from, own)
		if each != nil {
			each(from, own)
		}
	}
	t.Logf("%d slots, foresight %d, all: %s", slots, foretold, all)
	return all
}

// forecasts adds up what was measured of forecasts, by their numbers.
// ends and done are of those that are told an interval, guessed and within of those that are told the latest time.
type forecasts struct {
	n, inside, early, named, missed, likely, seconds, long, miss, short float64
	ends, done, guessed, within                                         float64
}

func (f *forecasts) add(r *sim.Result) {
	e, n, named, long := r.ETA, float64(r.ETA.Samples), float64(r.ETA.Named), float64(r.ETA.Long)
	ends, guessed := float64(r.Ends.Samples), float64(r.Ends.Guessed)
	f.join(forecasts{
		n, n * e.Coverage, n * e.Early, named, named * e.MedianError, n * e.MedianOfAll, n * e.MedianSeconds,
		long, long * e.LongError, (n - long) * e.ShortSeconds,
		ends, ends * r.Ends.Coverage, guessed, guessed * r.Ends.Within,
	})
}

func (f *forecasts) join(o forecasts) {
	f.n, f.inside, f.early, f.named = f.n+o.n, f.inside+o.inside, f.early+o.early, f.named+o.named
	f.missed, f.likely, f.seconds = f.missed+o.missed, f.likely+o.likely, f.seconds+o.seconds
	f.long, f.miss, f.short = f.long+o.long, f.miss+o.miss, f.short+o.short
	f.ends, f.done, f.guessed, f.within = f.ends+o.ends, f.done+o.done, f.guessed+o.guessed, f.within+o.within
}

func (f forecasts) String() string {
	return fmt.Sprintf("%.0f forecasts, %.1f %% inside, %.1f %% early; median error %.1f %% of the %.0f that name a beginning, %.1f %% of the %.0f that say two minutes or more, %.0f s of the others, %.0f %% (%.0f s) of all; ends: %.0f, %.1f %% inside, and %.0f of which the latest time is told, %.1f %% by then",
		f.n, 100*f.inside/f.n, 100*f.early/f.n, 100*f.missed/f.named, f.named, 100*f.miss/f.long, f.long, f.short/(f.n-f.long), 100*f.likely/f.n, f.seconds/f.n,
		f.ends, 100*f.done/f.ends, f.guessed, 100*f.within/f.guessed)
}
