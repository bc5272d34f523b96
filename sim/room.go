package sim

import (
	"container/heap"
	"context"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A policy decides which builds run. The room tells it what happens.
type policy interface {
	ask(v *visitor)                      // somebody wants an image that is not there
	prepare(spec int)                    // nobody waits for it, but it is to be built: the old image serves meanwhile
	leave(v *visitor)                    // somebody who asked has gone
	ended(a *attempt, out sched.Outcome) // a build that it started
	ready(n *node)                       // a worker has come
	gone(n *node)                        // a worker has gone, and all that ran on it; each of those ended as lost
	waiting() int                        // builds that have no slot
	grows() bool                         // the autoscaler may add a worker for what waits
}

// A room is one simulation: machines, specs, visitors and a clock.
type room struct {
	cfg    Config
	w      *Workload
	chance chance
	policy policy
	places *places // nil: as many sessions as anybody wants

	now    time.Duration
	events events
	n      int64

	specs    []spec
	visitors []visitor
	people   int // of them so far
	nodes    []*node
	meter    meter
}

// A spec is what the room knows about one.
type spec struct {
	image, old bool // there is one of this generation; one of the old generation serves
	cost       time.Duration
	special    bool // its cost is given, not drawn

	asked    bool
	first    time.Duration // when it was first asked for and had no image
	needed   bool          // it was, ever
	needs    time.Duration // how long somebody needed it since then, up to at: it waits for nobody when all have gone
	at       time.Duration
	begun    time.Duration // needs, when its first build started
	started  bool
	built    bool
	attempts int
	served   bool
	flow     [2]int // in the meter: its owner's, its requester's
	wanted   int    // visitors who wait
	running  int    // attempts
	class    bindery.Class
}

// A node is a worker.
type node struct {
	id      int
	slots   int // at most so many builds; 0: no limit
	scratch bool
	up      bool
	added   bool // by the autoscaler
	idle    time.Duration
	used    int64 // bytes of its disk
	running []*attempt
}

// An attempt is one running build.
type attempt struct {
	spec, n int
	node    *node
	began   time.Duration
	disk    int64
	live    bool
	left    time.Duration // that it would take alone, from since on
	since   time.Duration
	plans   int     // of its end; the last one counts
	slow    float64 // so many times as long does it take beside others; 0: not known yet
	out     sched.Outcome
}

type event struct {
	at time.Duration
	n  int64
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

func newRoom(cfg Config) *room {
	w := cfg.Workload
	r := &room{cfg: cfg, w: w, chance: chance{seed: cfg.Seed, law: cfg.Law}}
	r.specs = make([]spec, len(w.Specs))
	wiped := !cfg.Wipe.IsZero() && !cfg.Wipe.After(w.From)
	for i := range w.Specs {
		s := &r.specs[i]
		s.cost = w.Specs[i].Cost
		if s.cost == 0 {
			s.cost = r.chance.build(i)
		}
		for name, cost := range cfg.Costs {
			if w.Specs[i].is(name) {
				s.cost, s.special = cost, true
			}
		}
		// After a wipe everything that is asked for had an image before it.
		s.image = w.Specs[i].Known && !wiped
		s.old = cfg.Old && (wiped || w.Specs[i].Known)
	}
	r.meter.begin(r)
	return r
}

// at does something later.
func (r *room) at(at time.Duration, do func()) {
	r.n++
	heap.Push(&r.events, event{at: max(at, r.now), n: r.n, do: do})
}

// run plays the window. Nobody comes after its end, and nothing that ends after it counts.
func (r *room) run(ctx context.Context) error {
	r.openNodes()
	if wipe := r.cfg.Wipe.Sub(r.w.From); !r.cfg.Wipe.IsZero() && wipe > 0 {
		r.at(wipe, r.wipe)
	}
	r.visitors = make([]visitor, len(r.w.Launches))
	next := 0
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		// Arrivals are in order already: they need no heap.
		if next < len(r.w.Launches) && (len(r.events) == 0 || r.w.Launches[next].At <= r.events[0].at) {
			r.advance(r.w.Launches[next].At)
			r.arrive(next)
			next++
			continue
		}
		if len(r.events) == 0 || r.events[0].at >= r.w.For {
			r.advance(r.w.For)
			return nil
		}
		e := heap.Pop(&r.events).(event)
		r.advance(e.at)
		e.do()
	}
}

func (r *room) advance(to time.Duration) {
	r.meter.until(r, to)
	r.now = to
}

func (r *room) wipe() {
	for i := range r.specs {
		s := &r.specs[i]
		s.old = r.cfg.Old && (s.image || s.old)
		s.image, s.needed, s.started, s.built, s.needs = false, false, false, false, 0
	}
}

// openNodes brings up the workers that are there from the beginning.
func (r *room) openNodes() {
	for i := range r.cfg.Workers {
		slots := r.cfg.Slots / r.cfg.Workers
		if i < r.cfg.Slots%r.cfg.Workers {
			slots++
		}
		r.open(&node{slots: slots, scratch: true})
	}
	for range r.cfg.Scratch {
		r.open(&node{slots: max(1, r.cfg.Slots/r.cfg.Workers)})
	}
	if r.cfg.Autoscale.Most > 0 {
		r.at(0, r.scale)
	}
}

func (r *room) open(n *node) {
	n.id, n.up, n.idle = len(r.nodes), true, r.now
	r.nodes = append(r.nodes, n)
	if mean := r.cfg.Law.Crash; mean > 0 {
		r.crashLater(n, 0)
	}
	r.policy.ready(n)
}

// crashLater ends a worker at a time that the law draws. It is back after a minute.
func (r *room) crashLater(n *node, times int) {
	r.at(r.now+exponential(r.chance.about("crash", n.id, times), r.cfg.Law.Crash), func() {
		if !n.up {
			return
		}
		r.close(n)
		r.at(r.now+time.Minute, func() {
			n.up = true
			r.policy.ready(n)
			r.crashLater(n, times+1)
		})
	})
}

// close takes a worker away with everything that runs on it.
func (r *room) close(n *node) {
	n.up = false
	lost := n.running
	n.running, n.used = nil, 0
	for _, a := range lost {
		a.live = false
		r.meter.stopped(r, a)
	}
	r.policy.gone(n)
	for _, a := range lost {
		r.policy.ended(a, sched.WorkerGone)
	}
}

// scale looks every half minute whether workers are wanted or idle.
func (r *room) scale() {
	as, slots := r.cfg.Autoscale, 0
	for _, n := range r.nodes {
		if n.up && n.scratch {
			slots += n.slots
		}
		if n.up && n.added && len(n.running) == 0 && r.now-n.idle >= as.Idle {
			r.close(n)
		}
	}
	for slots+2 <= as.Most && r.policy.grows() && r.meter.booting*2 < r.policy.waiting() && slots+2*r.meter.booting+2 <= as.Most {
		r.meter.booting++
		r.at(r.now+as.Delay, func() {
			r.meter.booting--
			r.open(&node{slots: 2, scratch: true, added: true})
		})
	}
	r.at(r.now+30*time.Second, r.scale)
}

// start runs a build on a worker. The policy is told of its end; a limit of 0 is none.
func (r *room) start(id int, n *node, limit time.Duration) *attempt {
	s := &r.specs[id]
	s.attempts++
	a := &attempt{spec: id, n: s.attempts, node: n, began: r.now, disk: r.chance.disk(id), live: true}
	n.running = append(n.running, a)
	n.used += a.disk
	r.meter.begun(r, a)
	if !s.started {
		s.started, s.begun = true, s.needs
	}
	a.left, a.out = r.fate(a)
	if limit > 0 {
		r.at(r.now+limit, func() {
			if a.live {
				r.end(a, sched.TooOld)
			}
		})
	}
	r.pace(n)
	return a
}

// pace lets the builds of a worker go on as fast as they do beside so many others, after one has begun or ended.
func (r *room) pace(n *node) {
	slow := 1 + r.cfg.Law.Contention*float64(len(n.running)-1)
	for _, a := range n.running {
		if a.slow == slow {
			continue
		}
		if a.slow > 0 {
			a.left -= time.Duration(float64(r.now-a.since) / a.slow)
		}
		a.since, a.slow = r.now, slow
		a.plans++
		plan := a.plans
		r.at(r.now+max(time.Duration(float64(a.left)*slow), time.Millisecond), func() {
			if a.live && a.plans == plan {
				r.end(a, a.out)
			}
		})
	}
}

// fate is how long an attempt would run and how it would end.
func (r *room) fate(a *attempt) (time.Duration, sched.Outcome) {
	cost := r.specs[a.spec].cost
	if share, ok := r.chance.broken(a.spec); ok {
		return time.Duration(share * float64(cost)), sched.UserFault
	}
	if share, ok := r.chance.passing(a.spec, a.n); ok {
		return time.Duration(share * float64(cost)), sched.MayPass
	}
	if r.cfg.Disk > 0 && a.node.used > r.cfg.Disk && a.node.scratch {
		return cost / 2, sched.NoSpace // who comes last finds it full
	}
	if !a.node.scratch {
		return min(cost, r.chance.full(a.spec, a.n)), sched.NoSpace
	}
	return cost, sched.Succeeded
}

func (r *room) end(a *attempt, out sched.Outcome) {
	r.drop(a)
	s := &r.specs[a.spec]
	if out == sched.Succeeded {
		s.need(r.now)
		s.image, s.old, s.built = true, false, true
	}
	r.meter.finished(r, a, out)
	r.policy.ended(a, out)
}

// stop ends an attempt that nobody wants any more. The policy is not told.
func (r *room) stop(a *attempt) {
	r.drop(a)
	r.meter.stopped(r, a)
}

func (r *room) drop(a *attempt) {
	a.live = false
	a.node.used -= a.disk
	for i, x := range a.node.running {
		if x == a {
			a.node.running = append(a.node.running[:i], a.node.running[i+1:]...)
			break
		}
	}
	a.node.idle = r.now
	r.pace(a.node)
}
