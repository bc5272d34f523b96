// Package rollout decides how a new generation of images takes over from an old one: a pure function of state, time, input.
package rollout

import (
	"cmp"
	"math"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Status is how far one image is.
type Status string

// The statuses of an image. What is proven or held is finished.
const (
	Waiting  Status = "waiting"
	Building Status = "building"
	Built    Status = "built"    // it waits for its first session
	Starting Status = "starting" // that is being started
	Proven   Status = "proven"   // built and started: it serves
	Held     Status = "held"     // it could not be; the old image goes on serving
)

// An Item is an image that is to be replaced, by the key of its replacement.
type Item struct {
	Key      string
	Launches int // of late: the more, the sooner
	Status   Status
	At       time.Time // when it was finished
}

// State is what a Rollout goes on from.
type State struct {
	Stage   bindery.GenerationState // canary, rolling or paused
	Resumes bindery.GenerationState // while it is paused: what it was before
	Options bindery.RolloutOptions
	OldRate float64   // share of failures that the old generation has
	Canary  int       // items that go first; 0: as Options has it
	Judged  time.Time // outcomes before it do not count
	Items   []Item
}

// A Rollout is one generation taking over. It is not safe for use by several at once.
type Rollout struct {
	opt     bindery.RolloutOptions
	oldRate float64
	stage   bindery.GenerationState
	resumes bindery.GenerationState
	canary  int
	judged  time.Time
	items   map[string]*item
	order   []*item // in which they are built, the canary first
	first   int     // no item before it waits
	counts  map[Status]int
	proven  int // since judged
	held    int
	next    time.Time // no build is started before it
}

type item struct {
	Item
	notBefore time.Time
}

// smokeAtOnce is how many first sessions are started at a time: they take memory beside visitors' ones.
const smokeAtOnce = 2

// lostPause is how long an image rests whose build came to nothing for nobody's fault.
const lostPause = time.Minute

// New makes a Rollout. Items whose builds or first sessions nobody knows of any more are to be given as waiting or built.
func New(s State) *Rollout {
	r := &Rollout{
		opt: s.Options.WithDefaults(), oldRate: s.OldRate, stage: s.Stage, resumes: s.Resumes, canary: s.Canary, judged: s.Judged,
		items: make(map[string]*item, len(s.Items)), counts: map[Status]int{},
	}
	for _, it := range s.Items {
		if r.items[it.Key] != nil {
			continue
		}
		it.Status = cmp.Or(it.Status, Waiting)
		x := &item{Item: it}
		r.items[it.Key] = x
		r.order = append(r.order, x)
		r.counts[it.Status]++
		r.count(x)
	}
	slices.SortFunc(r.order, func(a, b *item) int {
		return cmp.Or(cmp.Compare(b.Launches, a.Launches), cmp.Compare(a.Key, b.Key))
	})
	if r.canary == 0 {
		r.canary = canaryOf(len(r.order), r.opt)
	}
	r.sample()
	return r
}

// sample puts the canary first: those that were begun already, then some of all ranks, so that it is like the rest.
func (r *Rollout) sample() {
	var front, rest []*item
	for _, x := range r.order {
		if x.Status != Waiting {
			front = append(front, x)
		} else {
			rest = append(rest, x)
		}
	}
	var later []*item
	for i, first := range sampled(len(rest), r.canary-len(front)) {
		if first {
			front = append(front, rest[i])
		} else {
			later = append(later, rest[i])
		}
	}
	r.order, r.first = append(front, later...), 0
}

// canaryOf is how many of n images go first.
func canaryOf(n int, opt bindery.RolloutOptions) int {
	return min(n, max(3, int(math.Ceil(opt.Canary*float64(n)))))
}

// sampled marks want of n ranks, at equal distances.
func sampled(n, want int) []bool {
	out := make([]bool, n)
	for k := range min(max(want, 0), n) {
		out[k*n/min(want, n)] = true
	}
	return out
}

// count takes a finished item into what is judged.
func (r *Rollout) count(x *item) {
	if x.At.Before(r.judged) {
		return
	}
	switch x.Status {
	case Proven:
		r.proven++
	case Held:
		r.held++
	}
}

func (r *Rollout) set(x *item, to Status, now time.Time) {
	r.counts[x.Status]--
	r.counts[to]++
	x.Status = to
	if to == Proven || to == Held {
		x.At = now
		r.count(x)
	}
}

// Stage returns what the generation is, and while it is paused what it will be when it is resumed.
func (r *Rollout) Stage() (stage, resumes bindery.GenerationState) { return r.stage, r.resumes }

// Canary returns how many items go first.
func (r *Rollout) Canary() int { return r.canary }

// Count returns how many items have a status.
func (r *Rollout) Count(s Status) int { return r.counts[s] }

// Total returns how many items there are.
func (r *Rollout) Total() int { return len(r.items) }

// Has returns how far an item is; ok: there is one.
func (r *Rollout) Has(key string) (s Status, ok bool) {
	if x := r.items[key]; x != nil {
		return x.Status, true
	}
	return "", false
}

// Covered is the share of launches that go to replaced images.
func (r *Rollout) Covered() float64 {
	proven, all := 0, 0
	for _, x := range r.items {
		all += x.Launches
		if x.Status == Proven {
			proven += x.Launches
		}
	}
	if all == 0 {
		return 0
	}
	return float64(proven) / float64(all)
}

// NextWake returns when Step is to be called again if nothing happens; zero: not at all.
func (r *Rollout) NextWake() time.Time {
	if r.stage == bindery.GenerationPaused || r.counts[Waiting] == 0 {
		return time.Time{}
	}
	wake := r.next
	for _, x := range r.order[min(r.first, len(r.order)):] {
		if x.Status == Waiting && !x.notBefore.IsZero() && (wake.IsZero() || x.notBefore.Before(wake)) {
			wake = x.notBefore
		}
	}
	return wake
}
