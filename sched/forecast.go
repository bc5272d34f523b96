package sched

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A forecast says when what waits will start, and in which order. It comes from playing the scheduler itself forward again and again, each
// time over other costs and other newcomers. It is never read by a decision.
type forecast struct {
	at    time.Time
	steps int64
	seen  map[string]outlook // by build
	far   []int64            // spots of those who are not in it, in order; nil: not looked at yet
	blind bool               // there are no slots: only the order is known
}

type outlook struct {
	position         int
	told             bool    // it starts in most plays, and those say when
	from, likely, to float64 // seconds after the forecast was made
}

const (
	mostAhead   = 1000 // waiting builds that a forecast looks at
	mostStarts  = 8000 // builds started in all plays of one forecast, about
	fewestPlays = 8
	mostPlays   = 40
	staleAfter  = time.Second
	fewWaiting  = 64 // so few are looked at afresh after every step
)

// A lookahead is what a fork of the scheduler does in place of the world.
type lookahead struct {
	now    time.Time
	began  time.Time
	rng    uint64
	mean   bool // every build takes what is expected, nobody comes
	runs   ends
	wanted map[string]bool // that have not started
	starts map[string]float64
	order  []string
	ghosts int
	most   int       // newcomers that may still come: those who wait are played to the end
	next   time.Time // a newcomer comes
	every  float64   // mean seconds between two
}

type end struct {
	at  time.Time
	b   *build
	run *run // that ends; the build may have given way meanwhile
	n   int
}

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return cmp.Or(e[i].at.Compare(e[j].at), e[i].n-e[j].n) < 0 }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (a *lookahead) uniform() float64 {
	a.rng += 0x9e3779b97f4a7c15
	return (float64(mixed(a.rng)>>11) + 0.5) / (1 << 53)
}

// outlooks returns a forecast that is at most a second old.
func (s *Scheduler) outlooks(now time.Time) *forecast {
	waiting := s.Waiting()
	if v := s.view; v != nil && (v.steps == s.steps || waiting > fewWaiting && now.Sub(v.at) < staleAfter) {
		return v
	}
	chosen := s.nearest()
	f := &forecast{at: now, steps: s.steps, seen: make(map[string]outlook, len(chosen)), blind: s.slots == 0}
	s.view = f
	first := s.play(chosen, now, 0)
	for i, id := range first.order {
		f.seen[id] = outlook{position: i + 1}
		s.builds[id].seen = s.steps
	}
	if f.blind || len(chosen) == 0 {
		return f
	}
	plays := min(max(mostStarts/len(chosen), fewestPlays), mostPlays)
	starts := make(map[string][]float64, len(chosen))
	for i := range plays {
		for id, at := range s.play(chosen, now, i+1).starts {
			starts[id] = append(starts[id], at)
		}
	}
	for id, o := range f.seen {
		x := starts[id]
		if len(x) <= plays/2 {
			continue
		}
		slices.Sort(x)
		o.told = true
		o.from, o.likely, o.to = at(x, 0.05), at(x, 0.5), at(x, 0.95)
		f.seen[id] = o
	}
	return f
}

// at is a quantile of sorted numbers.
func at(x []float64, p float64) float64 {
	i := p * float64(len(x)-1)
	lo := int(i)
	if lo+1 >= len(x) {
		return x[lo]
	}
	return x[lo] + (i-float64(lo))*(x[lo+1]-x[lo])
}

// nearest chooses the waiting builds that a forecast looks at: of the flows with the lowest tags the first ones, of each
// as many, or all that it has.
func (s *Scheduler) nearest() (chosen []*build) {
	for _, k := range s.buckets {
		for z := range k.lots {
			posts := k.lots[z].first(mostAhead, nil)
			for i, n := range shares(mostAhead, posts, (*post).waiting) {
				pairs := posts[i].pairs.first(n, nil)
				for j, m := range shares(n, pairs, (*pair).waiting) {
					chosen = pairs[j].first(m, chosen)
				}
			}
		}
	}
	if s.later > 0 {
		for _, b := range s.builds {
			if b.delayed && !s.paused(b) {
				chosen = append(chosen, b)
			}
		}
	}
	slices.SortFunc(chosen, func(a, b *build) int {
		if a.lane != nil && b.lane != nil {
			if c := cmp.Or(rank(a.Class)-rank(b.Class), cmp.Compare(a.tag(), b.tag())); c != 0 {
				return c
			}
		}
		return cmp.Compare(a.order, b.order)
	})
	return chosen[:min(len(chosen), mostAhead)]
}

// position says which in the line a waiting build is. Who is not in a forecast comes after all who are, by class, then in
// order of coming; what is held comes last.
func (s *Scheduler) position(f *forecast, b *build) int {
	if o, ok := f.seen[b.ID]; ok {
		return o.position
	}
	if f.far == nil {
		f.far = s.beyond(f)
	}
	held := b.lane == nil && s.paused(b) || b.lane != nil && b.lane.paused
	i, _ := slices.BinarySearch(f.far, spot(rank(b.Class), held, b))
	return len(f.seen) + i + 1
}

// beyond lists the spots of those who are not in a forecast.
func (s *Scheduler) beyond(f *forecast) []int64 {
	far := make([]int64, 0, s.Waiting())
	for i, k := range s.buckets {
		for l := range k.lanes {
			for _, b := range l.builds {
				if b.seen != f.steps {
					far = append(far, spot(i, l.paused, b))
				}
			}
		}
	}
	if s.later > 0 {
		for _, b := range s.builds {
			if b.delayed && b.seen != f.steps {
				far = append(far, spot(rank(b.Class), s.paused(b), b))
			}
		}
	}
	slices.Sort(far)
	return far
}

// spot is a number that is lower for what comes first.
func spot(rank int, held bool, b *build) int64 {
	if held {
		rank = 3
	}
	return int64(rank)<<48 + b.order
}

// shares deals room out to those who have so many waiting, one to each in turn.
func shares[T any](room int, to []T, waiting func(T) int) []int {
	has, gets := make([]int, len(to)), make([]int, len(to))
	for i, x := range to {
		has[i] = waiting(x)
	}
	for dealt := true; dealt; {
		dealt = false
		for i := range to {
			if room > 0 && gets[i] < has[i] {
				gets[i]++
				room--
				dealt = true
			}
		}
	}
	return gets
}

func (l *lane) waiting() int {
	if l.paused {
		return 0
	}
	return len(l.builds)
}

// waiting counts no further than a forecast looks.
func (q *pair) waiting() (n int) {
	for _, l := range q.lanes {
		if n += l.waiting(); n >= mostAhead {
			break
		}
	}
	return n
}

func (p *post) waiting() (n int) {
	for _, q := range p.pairs {
		if n += q.waiting(); n >= mostAhead {
			break
		}
	}
	return n
}

// first appends n builds of a pair to out, the first ones of each of its first lanes.
func (q *pair) first(n int, out []*build) []*build {
	lanes := q.lanes.first(n, nil)
	for i, m := range shares(n, lanes, (*lane).waiting) {
		out = lanes[i].builds.first(m, out)
	}
	return out
}

// play runs a fork of the scheduler until all chosen builds have started.
func (s *Scheduler) play(chosen []*build, now time.Time, n int) *lookahead {
	a := &lookahead{
		now: now, began: now, rng: mixed(s.cfg.Seed ^ uint64(s.steps)<<16 ^ uint64(n)), mean: n == 0,
		wanted: make(map[string]bool, len(chosen)), starts: make(map[string]float64, len(chosen)), most: len(chosen) + 100,
	}
	if r := s.arrivals.perSecond(now); r > 0.0001 && !a.mean {
		a.every = 1 / r
		a.arrive()
	}
	f := s.fork(a, chosen)
	f.place(now)
	for len(a.wanted) > 0 {
		at := time.Time{}
		if len(a.runs) > 0 {
			at = a.runs[0].at
		}
		if wake := f.NextWake(); !wake.IsZero() && (at.IsZero() || wake.Before(at)) {
			at = wake
		}
		if !a.next.IsZero() && (at.IsZero() || a.next.Before(at)) {
			at = a.next
		}
		if at.IsZero() {
			break
		}
		a.now = at
		f.elapse(at)
		f.ring(at)
		if !a.next.IsZero() && !a.next.After(at) {
			f.newcomer()
		}
		for len(a.runs) > 0 && !a.runs[0].at.After(at) {
			e := heap.Pop(&a.runs).(end)
			if e.b.run == e.run {
				f.settle(e.b, false, at)
				f.place(at)
			}
		}
		f.place(at)
	}
	return a
}

// arrive draws when the next newcomer comes, if one does.
func (a *lookahead) arrive() {
	a.next = time.Time{}
	if a.ghosts < a.most {
		a.next = a.now.Add(seconds(-math.Log(a.uniform()) * a.every))
	}
}

// newcomer lets somebody come of whom nothing is known.
func (s *Scheduler) newcomer() {
	a := s.ahead
	a.ghosts++
	name := fmt.Sprint("\x00", a.ghosts)
	s.order++
	b := &build{order: s.order, at: -1, Build: Build{ID: name, Key: name, Repo: name, Owner: name, Requester: name, Class: bindery.Attended, Created: a.now}}
	b.age()
	s.enqueue(b, a.now)
	a.arrive()
}

// fork copies what a forecast needs: the flows' tags are copied when they are met.
func (s *Scheduler) fork(a *lookahead, chosen []*build) *Scheduler {
	f := &Scheduler{cfg: s.cfg, costs: s.costs, rules: s.rules, broad: s.broad, marks: maps.Clone(s.marks), origin: s, ahead: a, virtual: s.virtual, order: s.order, clock: a.now}
	f.builds, f.keys = map[string]*build{}, map[string]*build{}
	for i, k := range s.buckets {
		f.buckets[i] = newBucket(k.class)
		f.buckets[i].virtual, f.buckets[i].served, f.buckets[i].tag = k.virtual, k.served, k.tag
	}
	for i := range f.running {
		f.running[i] = map[string]int{}
	}
	for _, w := range s.workers {
		c := &worker{name: w.name, slots: w.slots, up: w.up, full: w.full, space: w.space}
		f.workers = append(f.workers, c)
		for _, b := range w.running {
			f.resume(b, c)
		}
	}
	if s.slots == 0 {
		f.workers = append(f.workers, &worker{name: "\x00", slots: 1, up: true})
	}
	f.count()
	for _, b := range chosen {
		a.wanted[b.ID] = true
		c := &build{Build: b.Build, order: b.order, watchers: b.watchers, since: b.since, at: -1, askers: b.askers, avoid: b.avoid, aside: b.aside, yields: b.yields}
		f.builds[c.ID] = c
		f.enqueue(c, a.now)
	}
	return f
}

// resume makes a copy of a running build run in the fork, without charging it again.
func (s *Scheduler) resume(b *build, w *worker) {
	r := *b.run
	r.worker = w
	c := &build{Build: b.Build, order: b.order, at: -1, askers: b.askers, yields: b.yields, run: &r}
	k := s.bucket(r.class)
	for d, name := range []string{b.Owner, b.Requester} {
		f := k.flow(s, side(d), name, s.ahead.now)
		if f.busy++; f.busy == 1 {
			f.load = max(1, float32(s.weight(side(d).scope(), name)))
			k.load[d] += float64(f.load)
		}
	}
	for i, f := range s.payers(c, k, s.ahead.now)[:len(r.paid)] {
		k.pay(f, r.paid[i], f.tag)
	}
	w.add(c)
	s.account(c, +1)
	s.ahead.run(s, c)
}

// run draws how long a build goes on that runs.
func (a *lookahead) run(s *Scheduler, b *build) {
	ran := a.now.Sub(b.run.started)
	e := s.Estimate(b.Repo, b.Kind)
	var left time.Duration
	switch {
	case !a.mean && s.quit(b):
		left = time.Millisecond
	case b.Quick:
		left = 100 * time.Millisecond
	case a.mean:
		left = max(e.Quantile(0.5)-ran, ran/4, time.Second)
	default:
		left = e.rest(ran, a.uniform())
	}
	heap.Push(&a.runs, end{at: a.now.Add(left), b: b, run: b.run, n: len(a.starts) + len(a.runs)})
}

// quits is how often those who wait for a build all leave before it starts: so many in so many seconds of waiting.
type quits struct{ left, waited float64 }

// quitMemory is the number of builds that count.
const quitMemory = 200

func (q *quits) learn(waited time.Duration, left bool) {
	q.left, q.waited = q.left*(1-1.0/quitMemory), q.waited*(1-1.0/quitMemory)+waited.Seconds()
	if left {
		q.left++
	}
}

// quit draws whether a build that starts in a forecast would have been given up by then, so that its slot stays free.
func (s *Scheduler) quit(b *build) bool {
	a, q := s.ahead, s.origin.quits
	if q.left == 0 || b.run.started.Before(a.began) || rank(b.Class) != 0 {
		return false
	}
	begin := a.began
	if b.Created.After(begin) {
		begin = b.Created
	}
	return a.uniform() > math.Exp(-q.left/q.waited*a.now.Sub(begin).Seconds())
}

// judge is told of every start: the fork takes it down, the scheduler compares it with what was promised.
func (s *Scheduler) judge(b *build, now time.Time) {
	if a := s.ahead; a != nil {
		if a.wanted[b.ID] {
			delete(a.wanted, b.ID)
			a.starts[b.ID] = now.Sub(a.began).Seconds()
			a.order = append(a.order, b.ID)
		}
		return
	}
	if b.Attempt == 1 && rank(b.Class) == 0 {
		s.quits.learn(now.Sub(b.Created), false)
	}
	if b.told != nil {
		s.stretch.learn(b.told, now, learning)
		b.told = nil
	}
}

// A promise is an interval that those who wait for a build are told. That of its start is one of all that they were told
// since, drawn anew every few minutes. Who has waited for long was told more than once, and later intervals are not as good
// as the first.
type promise struct {
	from, to time.Time
	at       time.Time // drawn last
	n        int       // so many
}

const promiseEvery = 5 * time.Minute

// promised notes what those who wait for a build are told now.
func (s *Scheduler) promised(b *build, from, to, now time.Time) {
	p := b.told
	if p == nil {
		p = &promise{}
		b.told = p
	} else if now.Sub(p.at) < promiseEvery {
		return
	}
	p.n++
	p.at = now
	if mixed(s.cfg.Seed^uint64(b.order)<<20^uint64(p.n))%uint64(p.n) == 0 {
		p.from, p.to = from, to
	}
}

// stretch widens the intervals so that one true start, or end, in twenty is earlier, one in twenty later than they say.
type stretch struct{ early, late float64 }

const (
	missed     = 0.04
	learning   = 0.04
	learnsEnds = 0.3 // on most hubs few builds are of repositories that were built before
)

func (x *stretch) learn(p *promise, came time.Time, rate float64) {
	step := func(f float64, miss bool) float64 {
		d := -missed
		if miss {
			d = 1 - missed
		}
		return min(max(f*math.Exp(rate*d), 0.3), 10)
	}
	x.early = step(x.early, came.Before(p.from))
	x.late = step(x.late, came.After(p.to))
}
