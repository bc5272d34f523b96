package sim

import (
	"cmp"
	"math"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Report is what a comparison found. It is the shape of `bindery sim run --json`.
type Report struct {
	Workload  string             `json:"workload"`
	From      time.Time          `json:"from"`
	Length    float64            `json:"for_seconds"`
	Seed      uint64             `json:"seed"`
	Slots     int                `json:"slots"`
	Frontends int                `json:"frontends"`
	Order     []string           `json:"order"` // of the policies, as asked for
	Policies  map[string]*Result `json:"policies"`
}

// A Result is what came of one policy.
type Result struct {
	Specs    Specs    `json:"specs"`
	Launches Launches `json:"launches"`
	Builds   Builds   `json:"builds"`
	Seconds  float64  `json:"seconds"` // that the simulation took

	// In seconds, by class, then size. A wait lasts from the first time that a visitor asks until there is an image,
	// or until they give up; it is long for those who are still waiting too.
	Wait     Table  `json:"wait_seconds"`
	Waited   Spread `json:"waited_seconds"` // of people who found no image: the rest do not wait
	Slowdown Table  `json:"slowdown"`       // (wait + launch) / (the same, had the build started when it was first asked for)

	// The same of builds: for how long somebody waited until their first start; until their image, over their cost.
	BuildWait     Table `json:"build_wait_seconds"`
	BuildSlowdown Table `json:"build_slowdown"`

	// Of specs whose cost was not given: their first visitors, and all visitors who come an hour after the beginning
	// or later.
	Others Others `json:"others"`

	Jain        Jain       `json:"jain"`
	Requesters  Jain       `json:"jain_requesters"`
	Starvation  Starvation `json:"starvation"`
	Utilisation float64    `json:"utilisation"` // of the slots that are always there
	Useful      float64    `json:"useful"`      // share of that in builds that made an image
	ETA         ETA        `json:"eta"`
	Ends        Ends       `json:"ends"`
	Series      Series     `json:"series"`

	Sessions *Sessions `json:"sessions,omitempty"` // where places are counted
	Upgraded *Upgraded `json:"upgraded,omitempty"`

	waits []float64 // of all visitors, in order, for the chart
}

// Specs counts specs.
type Specs struct {
	Asked    int      `json:"asked"`
	Served   int      `json:"served"`   // to at least one visitor
	Possible int      `json:"possible"` // if every build had started at once
	Missed   []string `json:"missed"`   // would have been served then, and were not
}

// Launches counts visitors. Those asked are served, gave up or wait.
type Launches struct {
	Asked   int `json:"asked"`
	Served  int `json:"served"`
	GaveUp  int `json:"gave_up"`
	Waiting int `json:"waiting"` // at the end of the window, those between two tries included
}

// Builds counts attempts.
type Builds struct {
	Started     int `json:"started"`
	Finished    int `json:"finished"` // with an image
	Failed      int `json:"failed"`   // by the repository's fault
	Killed      int `json:"killed"`   // for their age
	NoSpace     int `json:"no_space"`
	Passing     int `json:"passing"` // failed for a reason that passes
	Stopped     int `json:"stopped"` // by the policy, or with their worker
	Repeated    int `json:"repeated"`
	Running     int `json:"running"` // at the end of the window
	MostRunning int `json:"most_running"`
}

// A Spread is quantiles of many values.
type Spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// A Table holds a spread for each class and size of builds: small (to 5 minutes), medium (to 20), large, and all.
type Table map[string]map[string]Spread

// Others is slowdown of what was not given a cost.
type Others struct {
	FirstVisitors  Spread `json:"first_visitors"`
	AfterFirstHour Spread `json:"after_first_hour"`
}

// Jain is the Jain index of slot time over owners, or over requesters, in hours through which at least two had builds
// waiting all the time. The one who asks for a spec first is its requester.
type Jain struct {
	Windows int     `json:"windows"`
	Mean    float64 `json:"mean"`
	Min     float64 `json:"min"`
}

// Starvation is the longest time that an owner had builds waiting and none running.
type Starvation struct {
	Seconds float64 `json:"seconds"`
	Owner   string  `json:"owner"`
}

// ETA compares what waiting builds were told with what came.
type ETA struct {
	Samples  int     `json:"samples"`
	Coverage float64 `json:"coverage"` // starts inside the interval
	Early    float64 `json:"early"`    // before it
	Late     float64 `json:"late"`     // after it

	// The page names a beginning where it can be planned by (Standing.Plannable); other intervals read "within 3 minutes".
	// Of those that name one: how far the interval's middle is from the start, over the wait that was left. Of all: the
	// same of the likely start, over that wait and in seconds.
	Named         int     `json:"named"`
	MedianError   float64 `json:"median_error"`
	MedianOfAll   float64 `json:"median_error_of_all"`
	MedianSeconds float64 `json:"median_error_seconds"`

	// The same of the likely start where that is two minutes ahead or more; of the others, where a few seconds make a large
	// share, the seconds.
	Long         int     `json:"long"`
	LongError    float64 `json:"median_error_of_long"`
	ShortSeconds float64 `json:"median_error_seconds_of_short"`

	Silent  int `json:"silent"`  // times that nothing could be said
	Distant int `json:"distant"` // of these, so many since a thousand builds or more were ahead
}

// Ends compares what running builds were told, at their start and every few minutes, with the end that came: of those that
// made an image.
type Ends struct {
	Samples  int     `json:"samples"`
	Coverage float64 `json:"coverage"` // ends inside the interval
	Early    float64 `json:"early"`
	Late     float64 `json:"late"`

	// Where nothing is known of the repository only the interval's end is told.
	Guessed int     `json:"guessed"`
	Within  float64 `json:"within"` // of these, ends before it
	Silent  int     `json:"silent"` // times that nothing was told
}

// Series is the state of the room at equal steps.
type Series struct {
	Step    float64  `json:"step_seconds"`
	Samples []Sample `json:"samples"`
}

func newReport(cfg Config) *Report {
	return &Report{
		Workload: cfg.Workload.Name, From: cfg.Workload.From, Length: cfg.Workload.For.Seconds(), Seed: cfg.Seed,
		Slots: cfg.Slots, Frontends: cfg.Frontends, Order: cfg.Policies, Policies: map[string]*Result{},
	}
}

// result sums a room up. alone is the room in which every build started at once.
func (r *room) result(alone *room) *Result {
	res := &Result{}
	r.countSpecs(res, alone)
	r.countVisitors(res)
	r.countBuilds(res)
	m := &r.meter
	res.Builds = Builds{
		Started: m.started, Finished: m.succeeded, Failed: m.failed, Killed: m.killed, NoSpace: m.full, Passing: m.passed,
		Stopped: m.stops, Repeated: m.repeats, Running: m.running, MostRunning: m.most,
	}
	res.Jain, res.Requesters = m.flows[0].result(), m.flows[1].result()
	starved, name := m.starvation(r.now)
	res.Starvation = Starvation{Seconds: starved.Seconds(), Owner: name}
	res.Utilisation = m.busy.Seconds() / (float64(r.cfg.Slots) * r.w.For.Seconds())
	if m.busy > 0 {
		res.Useful = m.useful.Seconds() / m.busy.Seconds()
	}
	res.ETA, res.Ends = m.honesty(), m.endings()
	res.Series = m.series()
	if r.places != nil {
		res.Sessions = r.places.result()
	}
	if f, ok := r.policy.(*fair); ok && f.roll != nil {
		out := f.roll.out
		res.Upgraded = &out
	}
	return res
}

func (r *room) countSpecs(res *Result, alone *room) {
	res.Specs.Missed = []string{}
	for i := range r.specs {
		if r.specs[i].asked {
			res.Specs.Asked++
		}
		if r.specs[i].served {
			res.Specs.Served++
		}
		if alone.specs[i].served {
			res.Specs.Possible++
			if !r.specs[i].served {
				res.Specs.Missed = append(res.Specs.Missed, r.w.Specs[i].Name)
			}
		}
	}
}

func (r *room) countVisitors(res *Result) {
	waits, slow := table{}, table{}
	var late, waited []float64
	for i := range r.visitors {
		v := &r.visitors[i]
		res.Launches.Asked++
		end := v.done
		switch v.state {
		case served:
			res.Launches.Served++
		case gaveUp:
			res.Launches.GaveUp++
		default:
			res.Launches.Waiting++
			end = r.now
		}
		s := &r.specs[v.spec]
		wait, launch := end-v.asked, r.chance.launch(v.luck)
		slowdown := float64(wait+launch) / float64(v.alone+launch)
		waits.add(v.class, s.cost, wait.Seconds())
		if v.class == bindery.Attended && wait > 0 {
			waited = append(waited, wait.Seconds())
		}
		slow.add(v.class, s.cost, slowdown)
		res.waits = append(res.waits, wait.Seconds())
		if v.asked >= time.Hour && !s.special {
			late = append(late, slowdown)
		}
	}
	slices.Sort(res.waits)
	res.Wait, res.Slowdown = waits.spread(), slow.spread()
	res.Waited, res.Others.AfterFirstHour = spreadOf(waited), spreadOf(late)
}

func (r *room) countBuilds(res *Result) {
	waits, slow := table{}, table{}
	var first []float64
	for i := range r.specs {
		s := &r.specs[i]
		if !s.needed {
			continue
		}
		s.need(r.now)
		begun := s.begun
		if !s.started {
			begun = s.needs
		}
		// Those who left before their build was to end did not make it faster.
		slowdown := max(1, float64(s.needs)/float64(s.cost))
		waits.add(s.class, s.cost, begun.Seconds())
		slow.add(s.class, s.cost, slowdown)
		if !s.special && s.class != bindery.Background {
			first = append(first, slowdown)
		}
	}
	res.BuildWait, res.BuildSlowdown = waits.spread(), slow.spread()
	res.Others.FirstVisitors = spreadOf(first)
}

// table gathers values by class and size.
type table map[string]map[string][]float64

func size(cost time.Duration) string {
	switch {
	case cost <= 5*time.Minute:
		return "small"
	case cost <= 20*time.Minute:
		return "medium"
	}
	return "large"
}

func (t table) add(class bindery.Class, cost time.Duration, x float64) {
	c := string(class)
	if t[c] == nil {
		t[c] = map[string][]float64{}
	}
	for _, s := range []string{size(cost), "all"} {
		t[c][s] = append(t[c][s], x)
	}
}

func (t table) spread() Table {
	out := Table{}
	for c, sizes := range t {
		out[c] = map[string]Spread{}
		for s, xs := range sizes {
			out[c][s] = spreadOf(xs)
		}
	}
	return out
}

func spreadOf(xs []float64) Spread {
	if len(xs) == 0 {
		return Spread{}
	}
	xs = slices.Sorted(slices.Values(xs))
	return Spread{N: len(xs), P50: quantile(xs, 0.5), P95: quantile(xs, 0.95), P99: quantile(xs, 0.99), Max: xs[len(xs)-1]}
}

// quantile is the smallest value that a share q of all do not exceed.
func quantile(sorted []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// longSaid is what a forecast says at least for which its error is a share of the wait.
const longSaid = 2 * time.Minute

func (m *meter) honesty() ETA {
	e := ETA{Silent: m.silent, Distant: m.distant, Samples: len(m.etas)}
	if e.Samples == 0 {
		return e
	}
	n := float64(e.Samples)
	var middles, likely, secs, long, short []float64
	for _, x := range m.etas {
		switch { // forecasts are shown to the second
		case x.start < x.from-time.Second:
			e.Early += 1 / n
		case x.start > x.to+time.Second:
			e.Late += 1 / n
		default:
			e.Coverage += 1 / n
		}
		left := max(x.start-x.said, time.Second).Seconds()
		miss := (x.likely - x.start).Abs().Seconds()
		secs, likely = append(secs, miss), append(likely, miss/left)
		if x.likely-x.said >= longSaid {
			long = append(long, miss/left)
		} else {
			short = append(short, miss)
		}
		if x.named {
			middles = append(middles, ((x.from+x.to)/2-x.start).Abs().Seconds()/left)
		}
	}
	e.Named, e.Long = len(middles), len(long)
	e.LongError, e.ShortSeconds = spreadOf(long).P50, spreadOf(short).P50
	e.MedianError, e.MedianOfAll, e.MedianSeconds = spreadOf(middles).P50, spreadOf(likely).P50, spreadOf(secs).P50
	return e
}

func (m *meter) endings() Ends {
	e := Ends{Silent: m.mute}
	for _, x := range m.ends {
		early, late := x.named && x.start < x.from-time.Second, x.start > x.to
		switch {
		case !x.named:
			e.Guessed++
			if !late {
				e.Within++
			}
			continue
		case early:
			e.Early++
		case late:
			e.Late++
		}
		e.Samples++
	}
	n := float64(max(e.Samples, 1))
	e.Early, e.Late, e.Within = e.Early/n, e.Late/n, e.Within/float64(max(e.Guessed, 1))
	if e.Samples > 0 {
		e.Coverage = 1 - e.Early - e.Late
	}
	return e
}

// series thins the samples out to at most 300.
func (m *meter) series() Series {
	step := cmp.Or((len(m.samples)+299)/300, 1)
	s := Series{Step: (time.Duration(step) * every).Seconds()}
	for i := 0; i < len(m.samples); i += step {
		s.Samples = append(s.Samples, m.samples[i])
	}
	return s
}
