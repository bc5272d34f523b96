package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Facts are what a plan is reckoned from.
type Facts struct {
	Now      time.Time
	From, To string
	Options  bindery.RolloutOptions
	Images   []Candidate
	Launches []Launched    // in order of time, of images that are there
	Window   time.Duration // that the launches are of
	Slots    int           // of all workers
	Idle     int           // of them that background builds leave idle
	Busy     float64       // of them that builds of visitors held, on average
}

// A Candidate is a commit whose image is of an older generation.
type Candidate struct {
	Launches int // in the window
	Cost     time.Duration
	Skip     bool // nobody launched it for long
}

// Launched is a launch of the image with an index.
type Launched struct {
	Image int
	At    time.Time
}

// Plan says what a roll-out costs and brings.
func Plan(f Facts) bindery.RolloutPlan {
	p := bindery.RolloutPlan{
		At: f.Now, From: f.From, To: f.To, Images: len(f.Images), Window: f.Window, Launches: len(f.Launches), Slots: f.Slots,
		Demand: []bindery.Demand{}, Covered: []bindery.Coverage{}, Notes: []string{},
	}
	opt := f.Options.WithDefaults()
	todo := slices.Clone(f.Images)
	todo = slices.DeleteFunc(todo, func(c Candidate) bool { return c.Skip })
	p.Rolled, p.Skipped = len(todo), len(f.Images)-len(todo)
	slices.SortStableFunc(todo, func(a, b Candidate) int { return cmp.Compare(b.Launches, a.Launches) })
	at := float64(max(f.Slots-f.Idle, 0))
	if opt.AtOnce > 0 {
		at = min(at, float64(opt.AtOnce))
	}
	p.Background = max(0, min(at, float64(f.Slots-f.Idle)-f.Busy))
	for _, within := range []time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour} {
		p.Demand = append(p.Demand, Demand(f, within))
	}
	covers(&p, todo, opt)
	if p.Background == 0 && p.Rolled > 0 {
		p.Notes = append(p.Notes, "No slot is ever idle: the roll-out would not move. Add a worker.")
	}
	if len(p.Demand) > 0 && p.Demand[0].Days < 3 {
		p.Notes = append(p.Notes, fmt.Sprintf("The figures of demand are those of %d days before only: they are rough.", p.Demand[2].Days))
	}
	return p
}

// covers fills in how long it takes, and what is covered when. todo is in order of popularity; the canary goes first.
func covers(p *bindery.RolloutPlan, todo []Candidate, opt bindery.RolloutOptions) {
	if len(todo) == 0 {
		return
	}
	ends := schedule(p.Background, todo, opt)
	var sum time.Duration
	launches, covered := 0, 0
	for _, c := range todo {
		sum += c.Cost
		launches += c.Launches
	}
	p.Build = sum / time.Duration(len(todo))
	for i, c := range todo {
		covered += c.Launches
		p.Takes = max(p.Takes, ends[i])
		if n := i + 1; n == 100 || n == 1000 || n == len(todo) {
			share := 1.0
			if launches > 0 {
				share = float64(covered) / float64(launches)
			}
			p.Covered = append(p.Covered, bindery.Coverage{Top: n, Share: share, Takes: p.Takes})
		}
	}
}

// schedule says when each image would be replaced: they start one after another as slots become free.
func schedule(slots float64, todo []Candidate, opt bindery.RolloutOptions) []time.Duration {
	ends := make([]time.Duration, len(todo))
	if slots <= 0 {
		return ends
	}
	var before time.Duration // slot time of those that started earlier
	n := 0
	start := func(i int) {
		at := time.Duration(float64(before) / slots)
		if opt.Pace > 0 {
			at = max(at, time.Duration(n)*time.Hour/time.Duration(opt.Pace))
		}
		before += todo[i].Cost
		ends[i] = at + todo[i].Cost
		n++
	}
	first := sampled(len(todo), canaryOf(len(todo), opt))
	for i := range todo {
		if first[i] {
			start(i)
		}
	}
	for i := range todo {
		if !first[i] {
			start(i)
		}
	}
	return ends
}

// Demand counts the images that were asked for within some time of this time of day, on each of the days before: on those
// of the same kind, since people want twice as much on a weekday as at a weekend, or on all if there are fewer than two.
func Demand(f Facts, within time.Duration) bindery.Demand {
	var all, alike []int
	for day := 1; ; day++ {
		from := f.Now.AddDate(0, 0, -day)
		if from.Before(f.Now.Add(-f.Window)) {
			break
		}
		to := from.Add(within)
		lo, _ := slices.BinarySearchFunc(f.Launches, from, func(l Launched, t time.Time) int { return l.At.Compare(t) })
		seen := map[int]bool{}
		for _, l := range f.Launches[lo:] {
			if !l.At.Before(to) {
				break
			}
			seen[l.Image] = true
		}
		if len(f.Launches) == 0 || f.Launches[0].At.After(to) {
			break // the history begins later
		}
		all = append(all, len(seen))
		if weekend(from) == weekend(f.Now) {
			alike = append(alike, len(seen))
		}
	}
	if len(alike) < 2 {
		alike = all
	}
	total := 0
	for _, n := range alike {
		total += n
	}
	return bindery.Demand{Within: within, Days: len(alike), Builds: float64(total) / float64(max(len(alike), 1))}
}

func weekend(t time.Time) bool { return t.Weekday() == time.Saturday || t.Weekday() == time.Sunday }
