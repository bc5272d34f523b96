package sched

import (
	"cmp"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// State is what a Scheduler is restored from.
type State struct {
	Builds   []Build   // queued and running, in order of submission
	Failures []Failure // remembered, oldest first
	Sessions []Session // not ended, oldest first
}

// A Build is a build that is not over.
type Build struct {
	ID, Key string
	Class   bindery.Class
	Attempt int // running, or the last one; 0 before the first
	Charged int // attempts held against it
	Running bool
	Worker  string    // where it runs
	Until   time.Time // not started before
}

// A Failure answers for its key until then.
type Failure struct {
	Key, Build string
	Row        int
	Until      time.Time
}

// A Session is a session that has not ended.
type Session struct {
	ID        string
	Created   time.Time
	Ready     bool
	Active    time.Time
	Idle, Age time.Duration
	Stopping  bool
}

type build struct {
	Build
	order    int64
	watchers int
	delayed  bool // queued, but not in the line before Until
	unwanted bool // runs, and is being stopped
}

type worker struct {
	name    string
	slots   int
	up      bool
	running []*build // in order of submission
}

// A Scheduler is the queue: all of what is waiting, running, remembered, admitted. It is not safe for concurrent use.
type Scheduler struct {
	cfg Config

	builds  map[string]*build // by id
	keys    map[string]*build // the one build of a key that is not over
	ready   line
	later   int // builds that are delayed
	order   int64
	workers []*worker // by name

	failures map[string]Failure // by key
	sessions map[string]*Session

	alarms alarms
	set    int64 // alarms set so far
	out    []Decision
}

// New returns an empty Scheduler.
func New(cfg Config) *Scheduler {
	s := &Scheduler{cfg: cfg.withDefaults()}
	s.clear()
	return s
}

func (s *Scheduler) clear() {
	*s = Scheduler{
		cfg: s.cfg, builds: map[string]*build{}, keys: map[string]*build{},
		failures: map[string]Failure{}, sessions: map[string]*Session{},
	}
}

// Restore replaces everything but the policy and which workers are up.
func (s *Scheduler) Restore(now time.Time, st State) {
	workers := s.workers
	s.clear()
	for _, w := range workers {
		w.running = nil
	}
	s.workers = workers
	for _, x := range st.Builds {
		s.order++
		b := &build{Build: x, order: s.order}
		s.builds[b.ID], s.keys[b.Key] = b, b
		if b.Running {
			w := s.worker(b.Worker)
			w.running = append(w.running, b)
			continue
		}
		s.enqueue(b, now)
	}
	for _, f := range st.Failures {
		s.failures[f.Key] = f
		s.wake(f.Until.Add(s.cfg.Longest), aboutFailure, f.Key)
	}
	for _, x := range st.Sessions {
		s.sessions[x.ID] = &x
		s.watchSession(&x)
	}
}

// Step takes in what happened and returns what is to be done about it, in order. Time never runs backwards: a now
// before an earlier one is harmless but moves nothing on.
func (s *Scheduler) Step(now time.Time, in Input) []Decision {
	s.out = nil
	s.ring(now)
	in.apply(s, now)
	s.place()
	return s.out
}

// NextWake is when to Step with a Tick if nothing else happens before; zero when time changes nothing.
func (s *Scheduler) NextWake() time.Time {
	if len(s.alarms) == 0 {
		return time.Time{}
	}
	return s.alarms[0].at
}

func (s *Scheduler) decide(d Decision) { s.out = append(s.out, d) }

// enqueue puts a queued build into the line, or sets it aside until its time has come.
func (s *Scheduler) enqueue(b *build, now time.Time) {
	if b.Until.After(now) {
		b.delayed = true
		s.later++
		s.wake(b.Until, aboutBuild, b.ID)
		return
	}
	s.ready.insert(b)
}

// place starts the oldest ready builds while there are slots.
func (s *Scheduler) place() {
	for {
		b, w := s.ready.first(), s.freest()
		if b == nil || w == nil {
			return
		}
		s.ready.remove(b)
		b.Running, b.Worker = true, w.name
		b.Attempt++
		w.add(b)
		s.decide(Start{Build: b.ID, Attempt: b.Attempt, Worker: w.name})
	}
}

// freest is the ready worker with the most free slots, the first by name of several; nil when all slots are taken.
func (s *Scheduler) freest() *worker {
	var best *worker
	for _, w := range s.workers {
		if w.up && w.free() > 0 && (best == nil || w.free() > best.free()) {
			best = w
		}
	}
	return best
}

func (w *worker) free() int { return w.slots - len(w.running) }

func (w *worker) add(b *build) {
	i, _ := slices.BinarySearchFunc(w.running, b, func(x, y *build) int { return cmp.Compare(x.order, y.order) })
	w.running = slices.Insert(w.running, i, b)
}

// worker finds a worker by name, or makes one that is not up.
func (s *Scheduler) worker(name string) *worker {
	i, found := slices.BinarySearchFunc(s.workers, name, func(w *worker, name string) int { return cmp.Compare(w.name, name) })
	if !found {
		s.workers = slices.Insert(s.workers, i, &worker{name: name})
	}
	return s.workers[i]
}

// forget removes a build that is over.
func (s *Scheduler) forget(b *build) {
	delete(s.builds, b.ID)
	delete(s.keys, b.Key)
}
