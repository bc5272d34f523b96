package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An Input is something that happened.
type Input interface{ input() }

// The inputs.
type (
	Tick    struct{ Slots int }  // time has passed; so many slots there are
	Made    struct{ Key string } // its image is there
	Started struct{ Key string } // a session of it has answered
	Failed  struct{ Key string } // it cannot be built, or does not start
	Lost    struct{ Key string } // its build or first session came to nothing, for nobody's fault
	Add     struct{ Item Item }  // another image is to be replaced
	First   struct{ Item Item }  // one is to be replaced next, though it was held
	Drop    struct{ Key string } // one is not, any more
	Pause   struct{}
	Resume  struct{} // what has failed so far counts no more
)

func (Tick) input()    {}
func (Made) input()    {}
func (Started) input() {}
func (Failed) input()  {}
func (Lost) input()    {}
func (Add) input()     {}
func (First) input()   {}
func (Drop) input()    {}
func (Pause) input()   {}
func (Resume) input()  {}

// A Decision is something to do.
type Decision interface{ String() string }

// The decisions.
type (
	Build    struct{ Key string } // queue a background build; Made, Failed or Lost answers
	Smoke    struct{ Key string } // start a session of it; Started, Failed or Lost answers
	Advance  struct{}             // the canary is well: the rest follows
	Stop     struct{ Why string } // too much fails
	Complete struct{}             // nothing is left to do
)

func (d Build) String() string    { return "build " + d.Key }
func (d Smoke) String() string    { return "smoke " + d.Key }
func (d Advance) String() string  { return "advance" }
func (d Stop) String() string     { return "stop: " + d.Why }
func (d Complete) String() string { return "complete" }

// Step takes in what happened and says what to do. After Complete the Rollout is of no more use.
func (r *Rollout) Step(now time.Time, in Input) (out []Decision) {
	slots := 0
	switch in := in.(type) {
	case Tick:
		slots = in.Slots
	case Made:
		r.move(in.Key, Built, now, Waiting, Building)
	case Started:
		r.move(in.Key, Proven, now, Waiting, Building, Built, Starting)
	case Failed:
		r.move(in.Key, Held, now, Waiting, Building, Built, Starting)
	case Lost:
		if x := r.items[in.Key]; x != nil {
			x.notBefore = now.Add(lostPause)
			r.move(in.Key, Waiting, now, Building, Built, Starting)
		}
	case Add:
		r.add(in.Item)
	case First:
		r.bring(in.Item, now)
	case Drop:
		r.drop(in.Key)
	case Pause:
		r.halt()
	case Resume:
		if r.stage == bindery.GenerationPaused {
			r.stage, r.resumes = r.resumes, ""
			r.judged, r.proven, r.held = now, 0, 0
		}
	}
	if r.stage == bindery.GenerationPaused {
		return nil
	}
	if why := r.tooMuch(); why != "" {
		r.halt()
		return []Decision{Stop{why}}
	}
	if r.stage == bindery.GenerationCanary && r.finished() >= min(r.canary, len(r.items)) {
		r.stage = bindery.GenerationRolling
		out = append(out, Advance{})
	}
	if r.finished() == len(r.items) {
		return append(out, Complete{})
	}
	if _, ok := in.(Tick); ok {
		out = append(out, r.start(now, slots)...)
	}
	return out
}

func (r *Rollout) halt() {
	if r.stage != bindery.GenerationPaused {
		r.stage, r.resumes = bindery.GenerationPaused, r.stage
	}
}

func (r *Rollout) move(key string, to Status, now time.Time, from ...Status) {
	x := r.items[key]
	if x == nil {
		return
	}
	for _, s := range from {
		if x.Status == s {
			r.set(x, to, now)
			if to == Waiting {
				r.first = 0
			}
			return
		}
	}
}

func (r *Rollout) add(it Item) {
	if r.items[it.Key] != nil {
		return
	}
	it.Status = Waiting
	x := &item{Item: it}
	r.items[it.Key] = x
	r.order = append(r.order, x)
	r.counts[Waiting]++
}

// bring puts an item first among those that wait. What has been held waits again.
func (r *Rollout) bring(it Item, now time.Time) {
	r.add(it)
	x := r.items[it.Key]
	if x.Status == Held {
		r.set(x, Waiting, now)
	}
	if x.Status != Waiting {
		return
	}
	x.notBefore = time.Time{}
	i := slices.Index(r.order, x)
	r.order = slices.Insert(slices.Delete(r.order, i, i+1), 0, x)
	r.first = 0
}

func (r *Rollout) drop(key string) {
	x := r.items[key]
	if x == nil || x.Status == Proven || x.Status == Held {
		return
	}
	r.counts[x.Status]--
	delete(r.items, key)
	for i, y := range r.order {
		if y == x {
			r.order = append(r.order[:i], r.order[i+1:]...)
			break
		}
	}
	r.first = 0
}

func (r *Rollout) finished() int { return r.counts[Proven] + r.counts[Held] }

// start begins builds and first sessions, as far as slots and pace allow.
func (r *Rollout) start(now time.Time, slots int) (out []Decision) {
	most := r.opt.AtOnce
	if most == 0 {
		most = slots
	}
	canary := r.stage == bindery.GenerationCanary
	under, starting := r.counts[Building], r.counts[Starting]
	skipped := false
	for i := r.first; i < len(r.order) && (!canary || i < r.canary); i++ {
		x := r.order[i]
		switch {
		case x.Status == Built && starting < smokeAtOnce:
			r.set(x, Starting, now)
			starting++
			out = append(out, Smoke{x.Key})
		case x.Status == Waiting && under < most && !now.Before(r.next) && !now.Before(x.notBefore):
			r.set(x, Building, now)
			under++
			if r.opt.Pace > 0 {
				r.next = now.Add(time.Hour / time.Duration(r.opt.Pace))
			}
			out = append(out, Build{x.Key})
		}
		if x.Status == Waiting || x.Status == Building || x.Status == Built || x.Status == Starting {
			if !skipped {
				r.first, skipped = i, true
			}
			if under >= most && starting >= min(smokeAtOnce, r.counts[Built]+starting) {
				break
			}
		}
	}
	return out
}

// tooMuch says why the roll-out must stop: failures pass the old generation's by more than the threshold, and that is no
// accident, or the canary is through.
func (r *Rollout) tooMuch() string {
	n := r.proven + r.held
	limit := r.oldRate + r.opt.Threshold
	if r.held < r.opt.Failures || n == 0 || float64(r.held)/float64(n) <= limit {
		return ""
	}
	gate := r.stage == bindery.GenerationCanary && r.finished() >= min(r.canary, len(r.items))
	if !gate && byChance(r.held, n, limit) >= 0.05 {
		return ""
	}
	return fmt.Sprintf("%d of %d images failed (%.0f %%); the old generation has %.1f %%, and %.0f points more are allowed",
		r.held, n, 100*float64(r.held)/float64(n), 100*r.oldRate, 100*r.opt.Threshold)
}

// byChance is how likely k failures or more of n are where each fails with probability p.
func byChance(k, n int, p float64) float64 {
	if p <= 0 {
		return 0
	}
	if p >= 1 {
		return 1
	}
	ln := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	sum := 0.0
	for i := k; i <= n; i++ {
		sum += math.Exp(ln(n) - ln(i) - ln(n-i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(sum, 1)
}
