package sim

import (
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// window is how long a flow must be backlogged without a break for its share to count in the Jain index.
const window = time.Hour

// A meter counts while a room runs.
type meter struct {
	wanted    int // visitors who wait
	launching int
	running   int
	most      int // running at once
	booting   int // workers

	started, succeeded, failed, passed, killed, full, stops int
	repeats                                                 int // attempts after a spec's first

	last   time.Duration // up to which is counted
	busy   time.Duration // of all builds
	useful time.Duration // of builds that made an image

	flows [2]flows // of owners, of requesters

	samples []Sample
	etas    []eta
	ends    []eta // of running builds that made an image, in place of their start
	mute    int   // times that a running build was told nothing
	silent  int   // times that a waiting build was told nothing
	distant int   // of these, so many that a thousand were ahead
}

// Flows are all owners, or all requesters: who asked for a spec first is its requester.
type flows struct {
	all     []owner
	ids     map[string]int
	windows int
	jain    float64 // sum over the windows
	worst   float64
}

// of finds a flow by name, or makes one.
func (f *flows) of(name string) int {
	id, ok := f.ids[name]
	if !ok {
		id = len(f.all)
		f.ids[name] = id
		f.all = append(f.all, owner{name: name})
	}
	return id
}

// An owner is the flow of an account's builds, or of a requester's.
type owner struct {
	name    string
	pending int           // specs that somebody waits for and nobody builds
	since   time.Duration // it has some
	running int
	starved time.Duration // it has some pending and none running
	longest time.Duration
	used    time.Duration // slot time, up to at
	at      time.Duration
	before  time.Duration // used, when the window began
}

// A Sample is the state of a room at one time.
type Sample struct {
	Wanted    int `json:"wanted"`  // visitors who wait for a build
	Queued    int `json:"queued"`  // builds that are wanted and do not run
	Running   int `json:"running"` // builds
	Launching int `json:"launching"`
}

func (m *meter) begin(r *room) {
	for i := range m.flows {
		m.flows[i] = flows{ids: map[string]int{}, worst: 1}
	}
	nobody := m.flows[1].of("")
	for i := range r.w.Specs {
		r.specs[i].flow = [2]int{m.flows[0].of(r.w.Specs[i].Owner), nobody}
	}
}

// every is how often a sample is taken.
const every = time.Minute

// until counts what has passed since the last call.
func (m *meter) until(r *room, to time.Duration) {
	for next := time.Duration(len(m.samples)) * every; next <= to && next < r.w.For; next += every {
		m.samples = append(m.samples, Sample{m.wanted, m.pendings(), m.running, m.launching})
		if next > 0 && next%window == 0 {
			m.flows[0].share(next)
			m.flows[1].share(next)
		}
	}
	m.busy += time.Duration(m.running) * (to - m.last)
	m.last = to
}

func (m *meter) pendings() int {
	n := 0
	for i := range m.flows[0].all {
		n += m.flows[0].all[i].pending
	}
	return n
}

// share adds the Jain index of a window: over those that were backlogged all the time.
func (f *flows) share(now time.Duration) {
	sum, squares, n := 0.0, 0.0, 0
	for i := range f.all {
		o := &f.all[i]
		o.use(now)
		if o.pending > 0 && o.since <= now-window && o.name != "" {
			x := (o.used - o.before).Seconds()
			sum, squares, n = sum+x, squares+x*x, n+1
		}
		o.before = o.used
	}
	if n < 2 || squares == 0 {
		return
	}
	j := sum * sum / (float64(n) * squares)
	f.windows++
	f.jain += j
	f.worst = min(f.worst, j)
}

func (f *flows) result() Jain {
	if f.windows == 0 {
		return Jain{}
	}
	return Jain{Windows: f.windows, Mean: f.jain / float64(f.windows), Min: f.worst}
}

func (o *owner) use(now time.Duration) {
	o.used += time.Duration(o.running) * (now - o.at)
	o.at = now
}

// want notes that n more visitors wait for a spec.
func (m *meter) want(r *room, id, n int) {
	m.wanted += n
	m.change(r, id, func(s *spec) { s.wanted += n })
}

func (m *meter) run(r *room, id, n int) {
	m.running += n
	m.most = max(m.most, m.running)
	for side, flow := range r.specs[id].flow {
		m.flows[side].all[flow].use(r.now)
	}
	m.change(r, id, func(s *spec) { s.running += n })
}

// change changes a spec and notes what that means for its owner and its requester.
func (m *meter) change(r *room, id int, do func(*spec)) {
	s := &r.specs[id]
	s.need(r.now)
	before, ran := s.pending(), s.running
	do(s)
	after := s.pending()
	for side, flow := range s.flow {
		m.flows[side].all[flow].change(before, after, s.running-ran, r.now)
	}
}

// change notes that one of the owner's specs waits or does not wait any more, and that more or fewer attempts run.
func (o *owner) change(before, after bool, runs int, now time.Duration) {
	starved := o.pending > 0 && o.running == 0
	o.running += runs
	switch {
	case after && !before:
		if o.pending++; o.pending == 1 {
			o.since = now
		}
	case before && !after:
		o.pending--
	}
	switch is := o.pending > 0 && o.running == 0; {
	case is && !starved:
		o.starved = now
	case !is && starved:
		o.longest = max(o.longest, now-o.starved)
	}
}

// need counts how long a spec has been needed: while somebody waits, or in the background until it is built.
func (s *spec) need(now time.Duration) {
	if s.needed && !s.built && (s.wanted > 0 || s.class == bindery.Background) {
		s.needs += now - s.at
	}
	s.at = now
}

func (s *spec) pending() bool { return s.wanted > 0 && s.running == 0 && !s.image }

func (m *meter) begun(r *room, a *attempt) {
	m.started++
	if a.n > 1 {
		m.repeats++
	}
	m.run(r, a.spec, 1)
}

func (m *meter) finished(r *room, a *attempt, out sched.Outcome) {
	m.run(r, a.spec, -1)
	switch out {
	case sched.Succeeded:
		m.succeeded++
		m.useful += r.now - a.began
	case sched.UserFault:
		m.failed++
	case sched.TooOld:
		m.killed++
	case sched.NoSpace:
		m.full++
	default:
		m.passed++
	}
}

func (m *meter) stopped(r *room, a *attempt) {
	m.run(r, a.spec, -1)
	m.stops++
}

// starvation is the longest time that an owner had builds pending and none running.
func (m *meter) starvation(now time.Duration) (time.Duration, string) {
	most, name := time.Duration(0), ""
	for _, o := range m.flows[0].all {
		t := o.longest
		if o.pending > 0 && o.running == 0 {
			t = max(t, now-o.starved)
		}
		if t > most {
			most, name = t, o.name
		}
	}
	return most, name
}

// An eta is one forecast of a build's start, and what came of it.
type eta struct {
	said             time.Duration
	from, likely, to time.Duration
	start            time.Duration
	named            bool // a page names the interval's beginning
	over             bool // it started; else it was dropped or still waits
}
