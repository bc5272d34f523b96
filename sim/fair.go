package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// fair is package sched, as dispatch runs it: what happens goes in, decisions come out and are carried out.
type fair struct {
	r      *room
	s      *sched.Scheduler
	inputs []sched.Input // not taken in yet
	busy   bool
	wake   time.Duration // for which an event is set; 0: none
	n      int
	live   map[string]*record
	bySpec map[int]*record
	looked time.Duration // when a forecast was asked for last
	roll   *upgrader     // nil: no roll-out
	asking *visitor      // whose submission is being decided
}

// A record is a build that is not over.
type record struct {
	id       string
	order    int
	spec     int
	watchers []*visitor
	attempt  *attempt
	number   int // of the attempt
	etas     []eta
	ends     []eta         // of its attempt
	told     time.Duration // when its last forecast was asked for
}

// told again, a waiting build's forecast is a sample of its own.
const forecasts = 5 * time.Minute

// Where many builds are, forecasts are asked for more rarely: each plays the whole queue forward.
const (
	crowded = 64
	rarely  = 15 * time.Second
)

func newFair(r *room) *fair {
	cfg := r.cfg.Sched
	cfg.Seed = r.cfg.Seed
	if r.cfg.Places > 0 {
		cfg.Sessions = r.cfg.Places
	}
	f := &fair{r: r, s: sched.New(cfg), live: map[string]*record{}, bySpec: map[int]*record{}}
	f.remember()
	if r.cfg.Places > 0 {
		r.places = &places{f: f, live: map[string]*visitor{}}
	}
	if r.cfg.Upgrade != nil {
		f.roll = newUpgrader(f)
	}
	r.at(forecasts, f.look)
	if r.cfg.Look != nil {
		r.at(0, f.show)
	}
	return f
}

// remember tells the scheduler what a hub knows that has been there before: what builds took of the specs that had an
// image. Given costs are news to it.
func (f *fair) remember() {
	learn := func(repo string, cost time.Duration, disk int64) {
		f.s.Step(f.r.w.From, sched.Learn{Repo: repo, Cost: cost, Disk: disk})
	}
	for n := 1; f.r.cfg.Foretold == ForetoldLaw && n <= 500; n++ { // as many as count of all
		learn(fmt.Sprint("elsewhere/", n), f.r.chance.build(-n), 0)
	}
	for i := range f.r.w.Specs {
		s := &f.r.w.Specs[i]
		for n := 0; f.r.cfg.Foretold == ForetoldCosts && n < 12; n++ { // as many as count of one repository
			learn(s.Repo, f.r.specs[i].cost, f.r.chance.disk(i))
		}
		if s.Known && f.r.cfg.Foretold != ForetoldCosts {
			learn(s.Repo, f.r.chance.earlier(i), f.r.chance.disk(i))
		}
	}
}

func (f *fair) clock() time.Time { return f.r.w.From.Add(f.r.now) }

func (f *fair) ask(v *visitor) {
	f.submit(v.spec, v.requester, v.class, v)
}

// prepare asks for the new image of a spec whose old one serves. The old one serves all who come meanwhile: one
// request is enough.
func (f *fair) prepare(spec int) {
	if f.bySpec[spec] == nil {
		f.submit(spec, "bindery", bindery.Background, nil)
	}
}

func (f *fair) submit(spec int, requester string, class bindery.Class, v *visitor) {
	f.n++
	s := &f.r.w.Specs[spec]
	ref := strings.TrimPrefix(s.Name, s.Repo)
	f.asking = v
	f.step(sched.Submit{
		Build: fmt.Sprintf("b%d", f.n), Key: fmt.Sprintf("k%d", spec), Repo: s.Repo, Ref: strings.TrimPrefix(ref, "/"),
		Owner: s.Owner, Requester: requester, Class: class,
	})
	f.asking = nil
}

func (f *fair) leave(v *visitor) {
	b := f.bySpec[v.spec]
	if b == nil {
		return
	}
	b.watchers = without(b.watchers, v)
	f.step(sched.Watch{Build: b.id, Watchers: len(b.watchers)})
}

func (f *fair) ended(a *attempt, out sched.Outcome) {
	b := f.bySpec[a.spec]
	if b == nil || b.attempt != a {
		return
	}
	b.attempt = nil
	for i := range b.ends { // what fails has its end when it likes
		if b.ends[i].start = f.r.now; out == sched.Succeeded {
			f.r.meter.ends = append(f.r.meter.ends, b.ends[i])
		}
	}
	if out != sched.WorkerGone { // of which WorkerLost tells
		f.step(sched.Finished{Build: b.id, Attempt: b.number, Outcome: out, Disk: a.disk})
	}
}

// ready tells of a worker. One without scratch space never passes the preflight: it is never up.
func (f *fair) ready(n *node) {
	if n.scratch {
		f.step(sched.WorkerUp{Worker: n.name(), Slots: n.slots, Disk: f.r.cfg.Disk})
	}
}

func (f *fair) gone(n *node) { f.step(sched.WorkerLost{Worker: n.name()}) }
func (f *fair) grows() bool  { return f.waiting() > 0 }

func (f *fair) waiting() int {
	n := 0
	for _, b := range f.live {
		if b.attempt == nil {
			n++
		}
	}
	return n
}

func (n *node) name() string { return fmt.Sprintf("w%03d", n.id) }

// step takes one input in, then those that its decisions cause.
func (f *fair) step(in sched.Input) {
	f.inputs = append(f.inputs, in)
	if f.busy {
		return
	}
	f.busy = true
	for len(f.inputs) > 0 {
		in := f.inputs[0]
		f.inputs = f.inputs[1:]
		for _, d := range f.s.Step(f.clock(), in) {
			f.obey(in, d)
		}
		if sub, ok := in.(sched.Submit); ok && (len(f.live) < crowded || f.r.now-f.looked >= rarely) {
			f.forecast(sub.Build)
		}
	}
	f.busy = false
	f.setWake()
}

// setWake wakes the scheduler when it wants to be.
func (f *fair) setWake() {
	next := f.s.NextWake()
	if next.IsZero() {
		return
	}
	at := max(next.Sub(f.r.w.From), f.r.now+time.Millisecond)
	if f.wake > f.r.now && f.wake <= at {
		return
	}
	f.wake = at
	f.r.at(at, func() {
		if f.wake == at {
			f.wake = 0
			f.step(sched.Tick{})
		}
	})
}

func (f *fair) obey(in sched.Input, d sched.Decision) {
	switch d := d.(type) {
	case sched.Queue:
		sub := in.(sched.Submit)
		var spec int
		fmt.Sscanf(sub.Key, "k%d", &spec)
		b := &record{id: d.Build, order: f.n, spec: spec}
		f.live[b.id], f.bySpec[spec] = b, b
		f.attach(b)
	case sched.Join:
		f.attach(f.live[d.Existing])
	case sched.Recall, sched.Reject:
		if f.asking != nil {
			f.r.refuse(f.asking)
		}
	case sched.Start:
		b := f.live[d.Build]
		b.number = d.Attempt
		b.attempt = f.r.start(b.spec, f.node(d.Worker), 0)
		f.settle(b)
		b.ends = nil
		f.foretell(b)
	case sched.Abort:
		f.abort(f.live[d.Build], d)
	case sched.Drain:
		n := f.node(d.Worker)
		f.r.at(f.r.now+time.Minute, func() { // it has cleaned up
			if n.up {
				f.ready(n)
			}
		})
	case sched.Admit:
		f.r.places.admit(d.Session)
	case sched.Hold:
		f.r.places.hold(d.Session)
	case sched.Refuse:
		f.r.places.refuse(d.Session)
	case sched.Stop:
		f.r.places.stop(d.Session)
	case sched.Done:
		f.over(d.Build, d, f.r.serve)
	case sched.Fail:
		f.over(d.Build, d, f.r.refuse)
	case sched.Drop:
		f.over(d.Build, d, f.r.refuse)
	}
}

// attach makes the one who asks a watcher.
func (f *fair) attach(b *record) {
	if f.asking == nil {
		return
	}
	b.watchers = append(b.watchers, f.asking)
	f.inputs = append(f.inputs, sched.Watch{Build: b.id, Watchers: len(b.watchers)})
}

func (f *fair) abort(b *record, d sched.Abort) {
	if b == nil || b.attempt == nil || b.number != d.Attempt {
		return
	}
	a := b.attempt
	stop := func() {
		f.r.stop(a)
		b.attempt = nil
		f.inputs = append(f.inputs, sched.Finished{Build: b.id, Attempt: d.Attempt, Outcome: sched.WasCancelled})
	}
	if f.r.cfg.Stop == 0 {
		stop()
		return
	}
	f.r.at(f.r.now+f.r.cfg.Stop, func() {
		if b.attempt == a {
			stop()
			f.step(sched.Tick{})
		}
	})
}

func (f *fair) over(id string, d sched.Decision, tell func(*visitor)) {
	b := f.live[id]
	delete(f.live, id)
	delete(f.bySpec, b.spec)
	for _, v := range b.watchers {
		tell(v)
	}
	if f.roll != nil {
		f.roll.over(b.spec, d)
	}
}

func (f *fair) node(name string) *node {
	var id int
	fmt.Sscanf(name, "w%d", &id)
	return f.r.nodes[id]
}

// look reports that what runs makes progress, then asks for new forecasts of what waits.
func (f *fair) look() {
	now := slices.SortedFunc(maps.Values(f.live), func(a, b *record) int { return a.order - b.order })
	for _, b := range now {
		if b.attempt != nil {
			f.step(sched.Progress{Build: b.id, Attempt: b.number})
			f.foretell(b)
		}
	}
	step := 1 + len(now)/crowded
	for i, b := range now {
		if b.attempt == nil && f.live[b.id] == b && i%step == 0 && f.r.now-b.told >= forecasts {
			f.forecast(b.id)
		}
	}
	f.r.at(f.r.now+forecasts, f.look)
}

// mostSeen is how many waiting builds, and flows, who looks sees: as many as a hub lists.
const mostSeen = 1000

// show shows the queue to who looks.
func (f *fair) show() {
	f.r.cfg.Look(f.clock(), f.s.View(f.clock(), mostSeen))
	f.r.at(f.r.now+every, f.show)
}

// forecast notes when a waiting build is said to start.
func (f *fair) forecast(id string) {
	b := f.live[id]
	if b == nil || b.attempt != nil || f.r.cfg.Mute {
		return
	}
	st, ok := f.s.Standing(f.clock(), id)
	b.told, f.looked = f.r.now, f.r.now
	if !ok || st.From.IsZero() {
		f.r.meter.silent++
		if st.Position > 1000 {
			f.r.meter.distant++
		}
		return
	}
	since := func(t time.Time) time.Duration { return t.Sub(f.r.w.From) }
	b.etas = append(b.etas, eta{said: f.r.now, from: since(st.From), likely: since(st.Likely), to: since(st.To), named: st.Plannable(f.clock())})
}

// foretell notes when a running build is said to be done: when it starts, and again and again while it runs.
func (f *fair) foretell(b *record) {
	st, ok := f.s.Standing(f.clock(), b.id)
	if !ok || st.Run.Since.IsZero() || f.r.cfg.Mute {
		return
	}
	if st.Run.To.IsZero() {
		f.r.meter.mute++
		return
	}
	e := eta{said: f.r.now, to: st.Run.To.Sub(f.r.w.From), named: !st.Run.From.IsZero()}
	if e.named {
		e.from = st.Run.From.Sub(f.r.w.From)
	}
	b.ends = append(b.ends, e)
}

// settle compares forecasts with the start that has come.
func (f *fair) settle(b *record) {
	for _, e := range b.etas {
		e.start, e.over = f.r.now, true
		f.r.meter.etas = append(f.r.meter.etas, e)
	}
	b.etas = nil
}
