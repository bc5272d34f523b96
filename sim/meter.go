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

	owners  []owner
	windows int
	jain    float64 // sum over the windows
	worst   float64

	samples []Sample
	etas    []eta
	silent  int // times that a waiting build was told nothing
}

// An owner is the flow of an account's builds.
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
	ids := map[string]int{}
	for i := range r.w.Specs {
		name := r.w.Specs[i].Owner
		id, ok := ids[name]
		if !ok {
			id = len(m.owners)
			ids[name] = id
			m.owners = append(m.owners, owner{name: name})
		}
		r.specs[i].owner = id
	}
	m.worst = 1
}

// every is how often a sample is taken.
const every = time.Minute

// until counts what has passed since the last call.
func (m *meter) until(r *room, to time.Duration) {
	for next := time.Duration(len(m.samples)) * every; next <= to && next < r.w.For; next += every {
		m.samples = append(m.samples, Sample{m.wanted, m.pendings(), m.running, m.launching})
		if next > 0 && next%window == 0 {
			m.share(next)
		}
	}
	m.busy += time.Duration(m.running) * (to - m.last)
	m.last = to
}

func (m *meter) pendings() int {
	n := 0
	for i := range m.owners {
		n += m.owners[i].pending
	}
	return n
}

// share adds the Jain index of a window: over owners that were backlogged all the time.
func (m *meter) share(now time.Duration) {
	sum, squares, n := 0.0, 0.0, 0
	for i := range m.owners {
		o := &m.owners[i]
		o.use(now)
		if o.pending > 0 && o.since <= now-window {
			x := (o.used - o.before).Seconds()
			sum, squares, n = sum+x, squares+x*x, n+1
		}
		o.before = o.used
	}
	if n < 2 || squares == 0 {
		return
	}
	j := sum * sum / (float64(n) * squares)
	m.windows++
	m.jain += j
	m.worst = min(m.worst, j)
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
	o := &m.owners[r.specs[id].owner]
	o.use(r.now)
	m.change(r, id, func(s *spec) { s.running += n; o.running += n })
}

// change changes a spec and notes what that means for its owner.
func (m *meter) change(r *room, id int, do func(*spec)) {
	s := &r.specs[id]
	o := &m.owners[s.owner]
	s.need(r.now)
	before, starved := s.pending(), o.pending > 0 && o.running == 0
	do(s)
	if after := s.pending(); after != before {
		if after {
			if o.pending++; o.pending == 1 {
				o.since = r.now
			}
		} else {
			o.pending--
		}
	}
	switch now := o.pending > 0 && o.running == 0; {
	case now && !starved:
		o.starved = r.now
	case !now && starved:
		o.longest = max(o.longest, r.now-o.starved)
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
	for _, o := range m.owners {
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
	over             bool // it started; else it was dropped or still waits
}
