package sim

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/rollout"
	"github.com/bindery-hub/bindery/sched"
)

// An Upgrade is a roll-out beside the demand: every image is built anew in what slots are idle, while the old ones serve.
type Upgrade struct {
	Options bindery.RolloutOptions
	Images  int       // how many there are; those beyond the workload's own are launched by nobody
	Before  *Workload // the days before, of the same specs (Workload.Cut): what is popular, and what the forecast goes by
	Busy    float64   // slots that builds of visitors took on average in these days
}

// An Upgraded is what came of an Upgrade.
type Upgraded struct {
	Plan    bindery.RolloutPlan `json:"plan"` // what was foreseen
	Total   int                 `json:"total"`
	Proven  int                 `json:"proven"`
	Held    int                 `json:"held"`
	Paused  string              `json:"paused,omitempty"`
	Seconds float64             `json:"seconds"` // until it was complete; 0: it was not
	Covered []float64           `json:"covered"` // seconds until what Plan.Covered foresees
	Build   float64             `json:"build"`   // mean seconds of a build
	Shares  []float64           `json:"shares"`  // of the window's launches of images that were there: what Plan.Covered foresees
	Asked   []int               `json:"asked"`   // specs that were asked for: builds, had the images gone, as Plan.Demand foresees
}

// upgrader is package rollout, as dispatch runs it.
type upgrader struct {
	f       *fair
	r       *rollout.Rollout
	specs   map[string]int // by key
	ranks   []string       // keys in order of popularity
	out     Upgraded
	looking time.Duration // for which a tick is set; 0: none
}

// withImages adds to a workload the images that nobody asks for.
func (u *Upgrade) withImages(w *Workload) *Workload {
	out := *w
	out.Specs = append([]Spec(nil), w.Specs...)
	n := 0
	for _, s := range w.Specs {
		if s.Known {
			n++
		}
	}
	for ; n < u.Images; n++ {
		owner := fmt.Sprintf("gh/quiet%d", n/4)
		repo := fmt.Sprintf("%s/repo%d", owner, n)
		out.Specs = append(out.Specs, Spec{Name: repo + "/master", Repo: repo, Owner: owner, Known: true})
	}
	return &out
}

func newUpgrader(f *fair) *upgrader {
	up := f.r.cfg.Upgrade
	u := &upgrader{f: f, specs: map[string]int{}}
	launches, image := make([]int, len(f.r.w.Specs)), make([]int, len(f.r.w.Specs))
	facts := rollout.Facts{Now: f.r.w.From, Options: up.Options, Window: up.Before.For, Slots: f.r.cfg.Slots, Idle: 1, Busy: up.Busy}
	for _, l := range up.Before.Launches {
		launches[l.Spec]++
	}
	s := rollout.State{Stage: bindery.GenerationCanary, Options: up.Options, Judged: f.r.w.From}
	for i, spec := range f.r.w.Specs {
		if !spec.Known {
			continue
		}
		key := fmt.Sprintf("k%d", i)
		u.specs[key] = i
		s.Items = append(s.Items, rollout.Item{Key: key, Launches: launches[i]})
	}
	slices.SortFunc(s.Items, func(a, b rollout.Item) int { return cmp.Or(b.Launches-a.Launches, cmp.Compare(a.Key, b.Key)) })
	for i, it := range s.Items {
		image[u.specs[it.Key]] = i
		u.ranks = append(u.ranks, it.Key)
		facts.Images = append(facts.Images, rollout.Candidate{Launches: it.Launches, Cost: f.r.chance.earlier(u.specs[it.Key])})
	}
	for _, l := range up.Before.Launches {
		facts.Launches = append(facts.Launches, rollout.Launched{Image: image[l.Spec], At: up.Before.From.Add(l.At)})
	}
	u.out.Plan, u.out.Total = rollout.Plan(facts), len(s.Items)
	u.out.Covered = make([]float64, len(u.out.Plan.Covered))
	u.happened(image)
	u.r = rollout.New(s)
	f.r.at(0, u.tick)
	return u
}

// happened counts what the plan foresees of the launches to come. image is the rank of each spec's image.
func (u *upgrader) happened(image []int) {
	w := u.f.r.w
	for _, spec := range u.specs {
		u.out.Build += u.f.r.specs[spec].cost.Seconds() / float64(len(u.specs))
	}
	of := 0
	top := make([]int, len(u.out.Plan.Covered))
	asked := make([]map[int]bool, len(u.out.Plan.Demand))
	for i := range asked {
		asked[i] = map[int]bool{}
	}
	for _, l := range w.Launches {
		for i, d := range u.out.Plan.Demand {
			if l.At < d.Within {
				asked[i][l.Spec] = true
			}
		}
		if !w.Specs[l.Spec].Known {
			continue
		}
		of++
		for i, c := range u.out.Plan.Covered {
			if image[l.Spec] < c.Top {
				top[i]++
			}
		}
	}
	for _, n := range top {
		u.out.Shares = append(u.out.Shares, float64(n)/float64(max(of, 1)))
	}
	for _, specs := range asked {
		u.out.Asked = append(u.out.Asked, len(specs))
	}
}

func (u *upgrader) tick() {
	u.step(rollout.Tick{Slots: u.f.r.cfg.Slots})
	if u.looking <= u.f.r.now && u.out.Seconds == 0 {
		u.looking = u.f.r.now + time.Minute
		u.f.r.at(u.looking, u.tick)
	}
}

func (u *upgrader) step(in rollout.Input) {
	if u.out.Seconds > 0 {
		return
	}
	for _, d := range u.r.Step(u.f.clock(), in) {
		switch d := d.(type) {
		case rollout.Build:
			u.f.submit(u.specs[d.Key], "roll-out", bindery.Background, nil)
		case rollout.Smoke:
			u.f.r.at(u.f.r.now+u.f.r.chance.launch(u.specs[d.Key]+1<<41), func() { u.ended(rollout.Started(d)) })
		case rollout.Stop:
			u.out.Paused = d.Why
		case rollout.Complete:
			u.out.Seconds = u.f.r.now.Seconds()
		}
	}
}

// ended takes in what became of an image, then lets the next one begin.
func (u *upgrader) ended(in rollout.Input) {
	u.step(in)
	u.step(rollout.Tick{Slots: u.f.r.cfg.Slots})
	u.out.Proven, u.out.Held = u.r.Count(rollout.Proven), u.r.Count(rollout.Held)
	for i, c := range u.out.Plan.Covered {
		if u.out.Covered[i] == 0 && u.through(c.Top) {
			u.out.Covered[i] = u.f.r.now.Seconds()
		}
	}
}

// through reports whether the most popular ones are finished.
func (u *upgrader) through(top int) bool {
	if u.out.Proven+u.out.Held < top {
		return false
	}
	for _, key := range u.ranks[:top] {
		if s, _ := u.r.Has(key); s != rollout.Proven && s != rollout.Held {
			return false
		}
	}
	return true
}

// over is told of each build that has ended.
func (u *upgrader) over(spec int, d sched.Decision) {
	key := fmt.Sprintf("k%d", spec)
	if _, ok := u.specs[key]; !ok {
		return
	}
	switch d.(type) {
	case sched.Done:
		u.ended(rollout.Made{Key: key})
	case sched.Fail:
		u.ended(rollout.Failed{Key: key})
	default:
		u.ended(rollout.Lost{Key: key})
	}
}
