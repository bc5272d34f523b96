package sched

import (
	"math"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// State is what a Scheduler is restored from.
type State struct {
	Builds   []Build   // queued and running, in order of submission
	Failures []Failure // remembered, oldest first
	Sessions []Session // not ended, oldest first
	Rules    []Rule    // nil: those that it has
	Past     []Learn   // builds that have ended, oldest first: what such builds cost. nil: what is known already

	// What each flow had used when that was last looked at, and what has been used since by builds that have ended.
	Flows   []Flow
	FlowsAt time.Time
	Spent   []Spent // in order of time
}

// A Build is a build that is not over.
type Build struct {
	ID, Key   string
	Repo, Ref string
	Owner     string
	Requester string // who pulls it forward
	Class     bindery.Class
	Kind      string
	Quick     bool      `json:",omitzero"`
	Slow      bool      `json:",omitzero"`
	Attempt   int       `json:",omitzero"` // running, or the last one; 0 before the first
	Charged   int       `json:",omitzero"` // attempts held against it
	Running   bool      `json:",omitzero"`
	Worker    string    `json:",omitzero"` // where it runs
	Started   time.Time `json:",omitzero"` // the running attempt; zero: now
	Until     time.Time `json:",omitzero"` // not started before
	Created   time.Time // submitted; zero: now
	From      *Origin   `json:",omitempty"`
}

// An Origin is what rules want to know of a build beside its names. Most builds have none: a queued build is small.
type Origin struct {
	Spec    string // for rules with expressions; empty: repository and ref say it
	Address string // that it was asked for from; empty: its requester is all that is known
}

// A Failure answers for its key until then.
type Failure struct {
	Key, Build  string
	Row         int
	Until       time.Time
	Forced      int // retries that did not wait for it
	Quarantined bool
}

// A Session is a session that has not ended.
type Session struct {
	ID                     string
	Repo, Owner, Requester string
	Created                time.Time
	Ready                  bool
	Active                 time.Time
	Idle, Age              time.Duration
	Stopping               bool
	Waiting                bool // for a place
	RepoQuota              int  // sessions of its repository at once when it asked; 0: as configured
	Spec, Address          string
}

type build struct {
	Build
	order    int64
	seen     int64   // steps when the last forecast was made that knows its position
	since    float64 // when it was submitted, in seconds; earlier the more watchers it has
	watchers int32
	at       int32 // its place in its lane
	lane     *lane
	delayed  bool     // queued, but in no lane before Until
	pinned   bool     // asked for by commit or under several refs: nothing supersedes it
	watched  bool     // it had a watcher
	aside    aside    // a rule lets it be built aside
	mark     uint16   // number of the broad rule that holds it back; 0: none does
	yields   uint16   // so often it gave way
	alone    int64    // since when, in nanoseconds; 0: it is not
	askers   []string // requesters beside the one who pulls it
	avoid    []string // workers whose fault it was
	run      *run
	told     *promise
}

// A run is the running attempt of a build.
type run struct {
	worker   *worker
	class    bindery.Class // when it started: that bucket was charged
	started  time.Time
	moved    time.Time // last progress
	charge   float64   // expected cost
	paid     []float64 // by the flows of its owner, its requester and those who had asked for it too when it started
	disk     int64
	most     int // watchers at once
	long     bool
	turn     bool      // it is an unattended build that started before attended ones, since its class had waited for that
	stopping Outcome   // what its end will be, once it is being stopped
	why      string    // it is being stopped, in words
	spared   time.Time // it is over its age limit, which is looked at again then
	told     *promise  // when it will be done, as was known when it started; nil: it was not
	revived  bool      // somebody asked for it while it was being cancelled
}

// A Scheduler is the queue: all of what is waiting, running, remembered, admitted. It is not safe for concurrent use.
type Scheduler struct {
	cfg Config

	builds  map[string]*build // by id
	keys    map[string]*build // the one build of a key that is not over
	refs    map[refName]*build
	later   int // builds that are delayed
	order   int64
	buckets [3]*bucket
	virtual float64 // of the classes
	clock   time.Time
	workers []*worker
	slots   int // of the workers that are up
	taken   int // of them

	running [3]map[string]int // by repository, owner, requester
	longs   int               // running, in slots
	slows   int
	quicks  int

	turn    bool    // the class whose builds are looked at has its turn before more urgent ones
	fresh   int     // pairs whose lower tag was looked up in this search
	leaving *worker // a slot of it is taken for free, to see who would have it

	costs    *costs
	debtors  []debtor
	failures map[string]Failure // by key
	planned  map[ruleKey]Rule   // all rules that stand
	rules    map[ruleName]Rule  // of them those that are in force
	broad    []*broad           // of these those that are about more than one name
	marks    map[string]uint16  // numbers of broad rules that hold builds back, for good

	sessions map[string]*Session
	lobby    []*Session // that wait for a place
	vacant   bool       // a place may have become free since the lobby was asked
	places   [3]map[string]int
	admitted int
	stays    []stay // of sessions that have ended, oldest first
	hall     *hall  // how those who wait for a place stood when that was looked at
	arrivals rate   // of builds

	alarms alarms
	set    int64 // alarms set so far
	out    []Decision

	steps   int64
	origin  *Scheduler // of which this one is a fork that looks ahead
	ahead   *lookahead
	view    *forecast
	stretch         // of when builds start
	ends    stretch // of when they are done
	quits   quits
}

type refName struct{ repo, ref string }

// New returns an empty Scheduler.
func New(cfg Config) *Scheduler {
	s := &Scheduler{
		cfg: cfg.WithDefaults(), costs: &costs{repos: map[string]*law{}, kinds: map[string]*law{}}, planned: map[ruleKey]Rule{}, marks: map[string]uint16{},
		rules:   map[ruleName]Rule{},
		stretch: stretch{early: 1, late: 1.2}, ends: stretch{early: 1.5, late: 1.5},
	}
	s.clear()
	return s
}

func (s *Scheduler) clear() {
	s.builds, s.keys, s.refs = map[string]*build{}, map[string]*build{}, map[refName]*build{}
	for i, c := range []bindery.Class{bindery.Attended, bindery.Unattended, bindery.Background} {
		s.buckets[i] = newBucket(c)
	}
	for i := range s.running {
		s.running[i], s.places[i] = map[string]int{}, map[string]int{}
	}
	s.later, s.order, s.virtual, s.taken, s.longs, s.slows, s.quicks = 0, 0, 0, 0, 0, 0, 0
	s.failures, s.sessions, s.lobby, s.admitted = map[string]Failure{}, map[string]*Session{}, nil, 0
	s.alarms, s.out, s.view, s.hall, s.debtors, s.clock = nil, nil, nil, nil, nil, time.Time{}
}

// Restore replaces everything but the policy and which workers are up.
func (s *Scheduler) Restore(now time.Time, st State) {
	s.clear()
	for _, w := range s.workers {
		w.running, w.quick, w.disk = nil, 0, 0
	}
	if st.Rules != nil {
		s.planned = map[ruleKey]Rule{}
		for _, r := range st.Rules {
			s.planned[r.key()] = r
		}
	}
	s.sift(now)
	if st.Past != nil {
		s.costs = &costs{repos: map[string]*law{}, kinds: map[string]*law{}}
		for _, x := range st.Past {
			s.costs.learn(x.Repo, x.Kind, x.Cost, x.Disk)
		}
	}
	s.restoreUsage(st, now)
	for _, x := range st.Builds {
		s.restoreBuild(x, now)
	}
	s.count()
	for _, f := range st.Failures {
		s.failures[f.Key] = f
		s.wake(f.Until.Add(s.cfg.Longest), aboutFailure, f.Key)
	}
	for _, x := range st.Sessions {
		s.restoreSession(&x)
	}
}

func (s *Scheduler) restoreBuild(x Build, now time.Time) {
	s.order++
	if x.Class == "" {
		x.Class = bindery.Attended
	}
	x.Quick = x.Quick && !x.Slow
	if x.Created.IsZero() {
		x.Created = now
	}
	b := &build{Build: x, order: s.order, at: -1}
	b.age()
	s.builds[b.ID], s.keys[b.Key] = b, b
	if b.Ref != "" {
		s.refs[refName{b.Repo, b.Ref}] = b
	}
	if lost := b.Attempt - b.Charged; lost > 0 && b.Class != bindery.Attended {
		// Which of these gave way and which lost a worker is not stored.
		b.yields = uint16(min(lost, math.MaxUint16))
		if b.Running {
			b.yields--
		}
	}
	if !b.Running {
		s.enqueue(b, now)
		return
	}
	b.Running = false
	started := b.Started
	if started.IsZero() {
		started = now
	}
	s.setAside(b)
	s.occupy(b, s.worker(b.Worker), started, now)
}

// Step takes in what happened and returns what is to be done about it, in order. Time never runs backwards: a now
// before an earlier one is harmless but moves nothing on.
func (s *Scheduler) Step(now time.Time, in Input) []Decision {
	s.out = nil
	s.steps++
	s.elapse(now)
	s.ring(now)
	in.apply(s, now)
	s.place(now)
	s.seat(now)
	return s.out
}

// NextWake is when to Step with a Tick if nothing else happens before; zero when time changes nothing.
func (s *Scheduler) NextWake() time.Time {
	if len(s.alarms) == 0 {
		return time.Time{}
	}
	return s.alarms[0].at
}

func (s *Scheduler) decide(d Decision) {
	if s.origin == nil {
		s.out = append(s.out, d)
	}
}

func (s *Scheduler) bucket(c bindery.Class) *bucket { return s.buckets[rank(c)] }

// rank orders classes: the smaller the more urgent.
func rank(c bindery.Class) int {
	switch c {
	case bindery.Unattended:
		return 1
	case bindery.Background:
		return 2
	}
	return 0
}

// enqueue puts a queued build into its lane, or sets it aside until its time has come.
func (s *Scheduler) enqueue(b *build, now time.Time) {
	if b.Until.After(now) {
		b.delayed = true
		s.later++
		s.wake(b.Until, aboutBuild, b.ID)
		return
	}
	s.setAside(b)
	s.bucket(b.Class).join(s, b, now)
}

// unqueue takes a queued build out of wherever it waits.
func (s *Scheduler) unqueue(b *build, now time.Time) {
	if b.delayed {
		b.delayed = false
		s.later--
		return
	}
	q := b.lane.pair
	k := s.bucket(b.Class)
	k.leave(b)
	for d, f := range q.flow {
		k.rest(side(d), f, now)
	}
}

// requeue moves a waiting build to where it belongs now.
func (s *Scheduler) requeue(b *build, now time.Time, change func()) {
	waits := b.lane != nil
	if waits {
		s.unqueue(b, now)
	}
	change()
	if waits {
		s.enqueue(b, now)
	}
}

// forget removes a build that is over.
func (s *Scheduler) forget(b *build) {
	delete(s.builds, b.ID)
	delete(s.keys, b.Key)
	if n := (refName{b.Repo, b.Ref}); s.refs[n] == b {
		delete(s.refs, n)
	}
}

// size says which limit bounds a build.
func (s *Scheduler) size(b *build) size {
	switch {
	case b.Slow:
		return slow
	case b.Quick:
		return quick
	}
	if e := s.Estimate(b.Repo, b.Kind); e.Known && s.cfg.LongAfter > 0 && e.Quantile(0.5) > s.cfg.LongAfter {
		return long
	}
	return short
}
