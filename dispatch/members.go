package dispatch

import (
	"cmp"
	"context"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A member is a worker with what this process knows of it. The hub's own has no address.
type member struct {
	record bindery.WorkerRecord
	conn   Worker
	view   bindery.WorkerView // as it was seen last
	known  told

	full     bool // its disk was, under a build
	fullAt   time.Time
	fullFree int64 // the least room that was seen since

	lost    bool               // its builds were given up
	emptied time.Time          // when it was last told to make room
	dropped bindery.Dropped    // the last image that it told of, for who watches it
	stop    context.CancelFunc // of who watches it; nil: nobody yet
	gone    bool               // it was removed
}

// told is what the scheduler knows of a worker.
type told struct {
	name  string
	up    bool
	slots int
	free  int64
}

// differs reports whether the scheduler should hear of it.
func (a told) differs(b told) bool {
	return a.up != b.up || a.up && (a.name != b.name || a.slots != b.slots || moreDisk(a.free, b.free))
}

// moreDisk reports whether a worker's free space has changed by so much that the scheduler should know.
func moreDisk(old, now int64) bool {
	const much = 1 << 30
	return now-old > much || old-now > much
}

func (m *member) own() bool { return m.record.Address == "" }

// name is what builds know it by: the hub's own says it itself.
func (m *member) name() string {
	if m.own() {
		return cmp.Or(m.view.Name, m.record.Name)
	}
	return m.record.Name
}

func (m *member) wants() told {
	return told{name: m.name(), up: m.view.State == bindery.WorkerReady, slots: m.view.Slots, free: m.view.DiskFree}
}

// see takes in what the worker answered.
func (m *member) see(l look, minimums func(string) bindery.Minimums, now time.Time) {
	v := &m.view
	v.Up = l.err == nil
	if v.Up {
		v.WorkerStatus, v.Seen = l.status, now
		v.Found = l.found
		v.Running = 0
		for _, a := range l.status.Builds {
			if !a.Done {
				v.Running++
			}
		}
	}
	v.Wanted = minimums(m.pool())
	if v.Up {
		v.Problems = m.problems(l)
	}
	if m.full {
		m.fullFree = min(m.fullFree, v.DiskFree)
		if v.Up && m.roomAgain(now) {
			m.full = false
		}
	}
	m.judge(now)
}

func (m *member) pool() string { return cmp.Or(m.record.Pool, m.view.Pool) }

// problems names what keeps it from building.
func (m *member) problems(l look) []bindery.Problem {
	out := []bindery.Problem{}
	if !m.own() && l.status.Name != m.record.Name {
		out = append(out, bindery.Problem{Check: bindery.CheckName, Measured: "it calls itself " + bindery.Printable(l.status.Name), Wanted: m.record.Name,
			Remedy: "Remove it with `bindery workers rm`, and let it join again."})
	}
	if !m.own() && !m.record.Shared {
		out = append(out, bindery.Problem{Check: bindery.CheckImages, Measured: "its images are on another machine", Wanted: "images that sessions of this hub can start from",
			Remedy: "This hub starts sessions on its own machine, from the disks of its workers: run the worker there. Images do not travel yet."})
	}
	if l.proves {
		wanted := m.view.Wanted
		if m.view.State == bindery.WorkerRefused {
			wanted = wanted.Raised()
		}
		out = append(out, wanted.Judge(l.found)...)
	}
	return out
}

// shortOfRoom reports whether it lacks what emptying its cache may give it.
func (m *member) shortOfRoom() bool {
	return m.view.Up && (m.full || slices.ContainsFunc(m.view.Problems, func(p bindery.Problem) bool {
		return p.Check == bindery.CheckFree || p.Check == bindery.CheckInodes
	})) && proves(m.conn)
}

func proves(w Worker) bool {
	_, ok := w.(Prover)
	return ok
}

// judge decides what state it is in.
func (m *member) judge(now time.Time) {
	switch {
	case !m.view.Up:
		m.become(bindery.WorkerAway, "It does not answer", now)
	case m.record.Drained:
		m.become(bindery.WorkerDrained, m.record.Reason, now)
	case len(m.view.Problems) > 0:
		m.become(bindery.WorkerRefused, bindery.ProblemText(m.view.Problems), now)
	case m.full:
		m.become(bindery.WorkerFull, "Its disk was full under a build", now)
	default:
		m.become(bindery.WorkerReady, "", now)
	}
}

func (m *member) become(state bindery.WorkerState, reason string, now time.Time) {
	if m.view.State != state {
		m.view.Since = now
	}
	m.view.State, m.view.Reason = state, reason
}

// tryAgain is how long a worker whose disk was full is left alone although its free space has not grown: its cache may
// have been emptied by what is not seen from here.
const tryAgain = 5 * time.Minute

// roomAgain reports whether a worker whose disk was full may be used again.
func (m *member) roomAgain(now time.Time) bool {
	return m.view.DiskFree > m.fullFree && moreDisk(m.fullFree, m.view.DiskFree) || now.Sub(m.fullAt) >= tryAgain
}

// awayFor is how long a worker that has joined may be silent before its builds start again elsewhere. The hub's own is
// started again in a second, and says itself what it has lost.
const awayFor = time.Minute

// hopeless reports whether what runs there will not end well: its disk is read-only or hangs, or the worker has been
// silent for long.
func (m *member) hopeless(now time.Time) bool {
	switch m.view.State {
	case bindery.WorkerAway:
		return !m.own() && now.Sub(m.view.Since) >= awayFor
	case bindery.WorkerRefused:
		return slices.ContainsFunc(m.view.Problems, func(p bindery.Problem) bool {
			return p.Check == bindery.CheckReadOnly || p.Check == bindery.CheckPreflight && !m.view.Found.At.IsZero()
		})
	}
	return false
}

// tellOf tells the scheduler what has changed of a worker.
func (t *turn) tellOf(m *member) {
	if hopeless := m.hopeless(t.now); !m.gone && hopeless != m.lost {
		m.lost = hopeless
		if hopeless && m.name() != "" {
			m.known.up = false
			t.step(sched.WorkerLost{Worker: m.name()}) // what it has of them is settled when it answers again
		}
	}
	want, known := m.wants(), m.known
	if m.gone || !want.differs(known) {
		return
	}
	if known.up && (!want.up || want.name != known.name) {
		t.step(sched.WorkerDown{Worker: known.name})
	}
	m.known = want
	if !want.up {
		return
	}
	in := sched.WorkerUp{Worker: want.name, Slots: want.slots}
	if want.free > 0 {
		// However little there is, one build of unknown size may try: if it does not fit it says so.
		in.Disk = max(want.free, t.d.cfg.Policy.Disk)
	}
	t.step(in)
}

// find returns the worker of a name, or nil. It needs the state locked.
func (d *Dispatcher) find(name string) *member {
	for _, m := range d.members {
		if m.name() == name {
			return m
		}
	}
	return nil
}

// at returns the worker that has a build. One that nobody knows any more had it: then the hub's own says that it is lost.
func (d *Dispatcher) at(name string) Worker {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.find(name); m != nil {
		return m.conn
	}
	return d.cfg.Worker
}

// restoreWorkers makes the members those that are stored, and returns the work of watching the new ones.
func (d *Dispatcher) restoreWorkers(live bindery.Live) (effects []func(context.Context)) {
	own := d.members[0]
	own.record = bindery.WorkerRecord{}
	kept := []*member{own}
	for _, r := range live.Workers {
		if r.Address == "" {
			own.record = r
			continue
		}
		i := slices.IndexFunc(d.members, func(m *member) bool { return m.record.Name == r.Name && m.record.Address == r.Address })
		if i >= 0 {
			d.members[i].record = r
			kept = append(kept, d.members[i])
		} else if m := d.reach(r); m != nil {
			kept = append(kept, m)
		}
	}
	for _, m := range d.members {
		if !slices.Contains(kept, m) {
			m.end()
		}
	}
	d.members = kept
	for _, m := range d.members {
		m.judge(d.now())
		if m.stop == nil {
			effects = append(effects, d.lookAfter(m))
		}
	}
	d.tokens = map[string]bindery.JoinToken{}
	for _, t := range live.Tokens {
		d.tokens[t.ID] = t
	}
	return effects
}

func (m *member) end() {
	m.gone = true
	if m.stop != nil {
		m.stop()
	}
}

// connectTo makes a member of a record.
func (d *Dispatcher) connectTo(r bindery.WorkerRecord) (*member, error) {
	if d.cfg.Connect == nil {
		return nil, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the hub's own worker.", "No worker can join this hub")
	}
	conn, err := d.cfg.Connect(r)
	if err != nil {
		return nil, err
	}
	m := &member{record: r, conn: conn}
	m.view.Name, m.view.State, m.view.Problems = r.Name, bindery.WorkerAway, []bindery.Problem{}
	return m, nil
}

// reach is connectTo for what is stored; nil: there is no way to it.
func (d *Dispatcher) reach(r bindery.WorkerRecord) *member {
	m, err := d.connectTo(r)
	if err != nil {
		d.cfg.Log.Error("there is no way to a worker", "worker", r.Name, "error", err)
		return nil
	}
	return m
}
