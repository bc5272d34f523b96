package sim_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sim"
)

// A load is four weeks of demand: on how many slots, how much of each week, how often what builds take is drawn anew, and
// whether every image is gone when a week begins.
type load struct {
	slots  int
	gone   bool
	length time.Duration
	draws  int
}

func (l load) String() string { return fmt.Sprintf("%d slots", l.slots) }

const week = 7 * 24 * time.Hour

// loads are: every image gone on slots that suffice, and where many wait; and usual weeks on two slots, of those that
// BINDERY_TRACES names the records of. Of what is generated, which is drawn from one law and is busier, a day or two say as
// much.
func loads() (few, many load, usual []load) {
	if os.Getenv("BINDERY_TRACES") == "" {
		return load{8, true, 2 * 24 * time.Hour, 1}, load{5, true, 24 * time.Hour, 1}, nil
	}
	return load{8, true, week, 3}, load{4, true, week, 3}, []load{{2, false, week, 3}}
}

// TestForecasts compares what waiting builds were told with their true starts, and running ones with their ends. Where
// many wait most waits are the sum of many builds, so that a likely start is worth telling; where few do, it is where it is
// said to be two minutes away or more. On two slots most waits are for the end of one of two builds of which nothing is
// known: there the intervals hold, and are wide.
func TestForecasts(t *testing.T) {
	recorded := os.Getenv("BINDERY_TRACES") != ""
	few, many, usual := loads()
	for _, l := range append([]load{few, many}, usual...) {
		all := fourWeeks(t, l, sim.ForetoldNothing, func(from string, own forecasts) {
			of := fmt.Sprintf("%v, week of %s", l, from)
			if l == many {
				own.inside(t, of, 1000)
				own.near(t, of, "likely starts", own.likely, own.n, 1000)
			}
			if recorded {
				own.inside(t, of, 200)
				own.over(t, of, 100)
			}
			if recorded && l.gone {
				own.near(t, of, "starts that a page names", own.missed, own.named, 50)
			}
		})
		of := l.String()
		all.inside(t, of, 500)
		all.over(t, of, 300)
		if l.gone {
			all.near(t, of, "starts that a page names", all.missed, all.named, 100)
			all.near(t, of, "starts that are two minutes away or more", all.miss, all.long, all.n/2)
		}
	}
}

// TestForecastBound compares the error of what is told with that of two who know more: one knows the law that costs are drawn
// from, as well as who guesses can, the other what each build will take. Who knows the law errs as much as the hub, so that is
// what guessing comes to; the rest of the error is in what nobody told it.
func TestForecastBound(t *testing.T) {
	few, _, usual := loads()
	for _, l := range append([]load{few}, usual...) {
		var errs [3]float64
		for i := range errs {
			all := fourWeeks(t, l, sim.Foresight(i), nil)
			if all.n < 200 {
				t.Errorf("%v: %.0f forecasts", l, all.n)
			}
			errs[i] = all.likely / all.n
		}
		usual, law, costs := errs[sim.ForetoldNothing], errs[sim.ForetoldLaw], errs[sim.ForetoldCosts]
		if usual > 1.1*law || costs > 0.8*usual {
			t.Errorf("%v: errors of %.3f as usual, %.3f for who knows the law, %.3f for who knows the costs; want the first two alike and the last smaller", l, usual, law, costs)
		}
	}
}

// fourWeeks adds up the forecasts of four weeks, and tells each of them.
func fourWeeks(t *testing.T, l load, foretold sim.Foresight, each func(from string, own forecasts)) (all forecasts) {
	t.Helper()
	for n := range 4 {
		w := traces(t, start.Add(-time.Duration(3-n)*week), l.length)
		var own forecasts
		for draw := range l.draws {
			cfg := sim.Config{Workload: w, Policies: []string{sim.Fair}, Seed: uint64(n + 1 + 100*draw), Slots: l.slots, Foretold: foretold}
			if l.gone {
				cfg.Wipe = w.From
			}
			own.add(run(t, cfg).Policies[sim.Fair])
		}
		all.join(own)
		from := w.From.Format(time.DateOnly)
		t.Logf("%v, foresight %d, week of %s: %s", l, foretold, from, own)
		if each != nil {
			each(from, own)
		}
	}
	t.Logf("%v, foresight %d, all: %s", l, foretold, all)
	return all
}

// forecasts adds up what was measured of forecasts, by their numbers.
// ends and done are of those that are told an interval, guessed and within of those that are told the latest time.
type forecasts struct {
	n, in, early, named, missed, likely, seconds, long, miss, short float64
	ends, done, guessed, within                                     float64
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
	f.n, f.in, f.early, f.named = f.n+o.n, f.in+o.in, f.early+o.early, f.named+o.named
	f.missed, f.likely, f.seconds = f.missed+o.missed, f.likely+o.likely, f.seconds+o.seconds
	f.long, f.miss, f.short = f.long+o.long, f.miss+o.miss, f.short+o.short
	f.ends, f.done, f.guessed, f.within = f.ends+o.ends, f.done+o.done, f.guessed+o.guessed, f.within+o.within
}

// inside checks that nine starts in ten come in their intervals, of least at least.
func (f forecasts) inside(t *testing.T, of string, least float64) {
	t.Helper()
	if share := f.in / f.n; f.n < least || share < 0.85 || share > 0.95 {
		t.Errorf("%s: %.3f of %.0f starts in their intervals, want 0.85 to 0.95 of %.0f at least", of, share, f.n, least)
	}
}

// over checks the same of the ends of builds that run, and of the latest times of those of which only that is known.
func (f forecasts) over(t *testing.T, of string, least float64) {
	t.Helper()
	share, within := f.done/f.ends, f.within/f.guessed
	if f.ends < least || f.guessed < least || share < 0.85 || share > 0.95 || within < 0.85 || within > 0.95 {
		t.Errorf("%s: %.3f of %.0f ends in their intervals, %.3f of %.0f by their latest time, want 0.85 to 0.95 of %.0f at least", of, share, f.ends, within, f.guessed, least)
	}
}

// near checks that half of n likely starts miss by a quarter of the wait at most; missed is the median error n times.
func (f forecasts) near(t *testing.T, of, what string, missed, n, least float64) {
	t.Helper()
	if miss := missed / n; n < least || miss > 0.25 {
		t.Errorf("%s: median error %.3f of %.0f %s, want at most 0.25 of %.0f at least", of, miss, n, what, least)
	}
}

func (f forecasts) String() string {
	return fmt.Sprintf("%.0f forecasts, %.1f %% inside, %.1f %% early; median error %.1f %% of the %.0f that name a beginning, %.1f %% of the %.0f that say two minutes or more, %.0f s of the others, %.0f %% (%.0f s) of all; ends: %.0f, %.1f %% inside, and %.0f of which the latest time is told, %.1f %% by then",
		f.n, 100*f.in/f.n, 100*f.early/f.n, 100*f.missed/f.named, f.named, 100*f.miss/f.long, f.long, f.short/(f.n-f.long), 100*f.likely/f.n, f.seconds/f.n,
		f.ends, 100*f.done/f.ends, f.guessed, 100*f.within/f.guessed)
}
