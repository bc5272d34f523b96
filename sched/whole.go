package sched

import (
	"cmp"
	"maps"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Whole is all that a scheduler knows at one moment. One that is made of it goes on as the first one does: from there on
// both decide the same on the same inputs, to the byte. So it holds the heaps in the order in which they lie, not what they
// could be sorted into, and sums of floats, not what they were added up from. What is not in it follows from what is: the
// names of lanes from their builds, numbers from what they count.
//
// It shares nothing with the scheduler that changes later: it can be written down while that one goes on.
type Whole struct {
	Config  Config
	Steps   int64
	Clock   time.Time
	Order   int64         // builds so far
	Set     int64         // alarms so far
	Virtual float64       // of the classes
	Turn    bool          `json:",omitzero"`
	Vacant  bool          `json:",omitzero"`
	Builds  []wholeBuild  // in order of coming
	Classes [3]wholeClass // by rank
	Workers []wholeWorker // by name
	Debtors []wholeDebtor `json:",omitzero"`
	Alarms  []wholeAlarm  `json:",omitzero"`

	Failures []Failure         `json:",omitzero"` // by key
	Rules    []wholeRule       `json:",omitzero"` // in order
	Marks    map[string]uint16 `json:",omitzero"`

	Sessions []Session   `json:",omitzero"` // by id
	Lobby    []string    `json:",omitzero"` // ids
	Stays    []wholeStay `json:",omitzero"`

	All      wholeLaw
	Most     float64    `json:",omitzero"`
	Repos    []wholeLaw `json:",omitzero"` // oldest first
	Kinds    []wholeLaw `json:",omitzero"` // by name
	Arrivals wholeRate
	Quits    [2]float64
	Ends     [2]float64

	Asked *Asked `json:",omitempty"`
}

// Asked is what a scheduler knows by having been asked where builds stand: what it has told, and how well that held.
// Questions are no inputs, so who only takes in what a trace says does not know it. It widens forecasts.
type Asked struct {
	Early, Late float64
	Told        []wholePromise `json:",omitzero"`
}

// The keys of flows and lanes are short, for there may be one for each build.
type (
	wholeBuild struct {
		Build
		Order    int64
		Watchers int32       `json:",omitzero"`
		Latest   bool        `json:",omitzero"` // of its ref
		Delayed  bool        `json:",omitzero"`
		Pinned   bool        `json:",omitzero"`
		Watched  bool        `json:",omitzero"`
		Aside    *wholeAside `json:",omitempty"`
		Mark     uint16      `json:",omitzero"`
		Yields   uint16      `json:",omitzero"`
		Alone    int64       `json:",omitzero"`
		Askers   []string    `json:",omitzero"`
		Avoid    []string    `json:",omitzero"`
		Run      *wholeRun   `json:",omitempty"`
	}
	wholeAside struct {
		Rank uint8
		Slow bool
	}
	wholeRun struct {
		Class    bindery.Class
		Started  time.Time
		Moved    time.Time
		Charge   float64
		Paid     []float64 `json:",omitzero"`
		Disk     int64     `json:",omitzero"`
		Most     int       `json:",omitzero"`
		Long     bool      `json:",omitzero"`
		Turn     bool      `json:",omitzero"`
		Stopping Outcome   `json:",omitzero"`
		Why      string    `json:",omitzero"`
		Spared   time.Time `json:",omitzero"`
		Revived  bool      `json:",omitzero"`
		From, To time.Time `json:",omitzero"` // when it will be done
	}
	wholePromise struct {
		Build    int64 // its order
		From, To time.Time
		At       time.Time
		N        int
	}

	wholeClass struct {
		Virtual float64
		Served  float64
		Load    [2]float64
		Tag     float64
		Flows   [2][]wholeFlow       // by name
		Lots    [sizes][][]wholePair // posts as they lie, and their pairs as these do
		Paused  [sizes][]wholePair   // that are at no post, by order of their first builds
	}
	wholeFlow struct {
		Name string      `json:"n"`
		Tag  float64     `json:"t,omitzero"`
		Left int64       `json:"l"`
		Busy int32       `json:"b,omitzero"`
		Load float32     `json:"w,omitzero"`
		Pays *wholePayer `json:"p,omitempty"`
	}
	wholePayer struct {
		At     int // among those of its class
		Builds int
		Sum    float64
	}
	wholePair struct {
		Lanes  [][]int64 `json:"b"`           // orders of builds, all as they lie
		Paused []int     `json:"p,omitempty"` // lanes
		Side   side      `json:"s,omitzero"`
		Other  float64   `json:"o,omitzero"`
	}
	wholeDebtor struct {
		Class bindery.Class
		Side  side
		Name  string
		Swept *wholeFlow `json:",omitempty"` // the flow itself, if another one has its name by now, or none
	}

	wholeWorker struct {
		Name  string
		Slots int
		Up    bool
		Full  bool  `json:",omitzero"`
		Space int64 `json:",omitzero"`
	}
	wholeAlarm struct {
		At   time.Time
		N    int64
		What subject
		ID   string `json:",omitzero"`
	}
	wholeRule struct {
		Rule
		InForce bool
	}
	wholeStay struct {
		Session
		Lasted time.Duration
	}
	wholeLaw struct {
		Name     string `json:",omitzero"`
		N        float64
		Mean     float64
		Variance float64
		Disk     int64 `json:",omitzero"`
	}
	wholeRate struct {
		N    float64
		Last time.Time
	}
)

// Whole is all that s knows. It changes nothing of s.
func (s *Scheduler) Whole() *Whole {
	w := &Whole{
		Config: s.cfg, Steps: s.steps, Clock: s.clock, Order: s.order, Set: s.set, Virtual: s.virtual, Turn: s.turn, Vacant: s.vacant,
		Builds: make([]wholeBuild, 0, len(s.builds)), Marks: maps.Clone(s.marks),
		Failures: slices.Collect(maps.Values(s.failures)),
		All:      s.costs.all.whole(""), Most: s.costs.most, Arrivals: wholeRate{s.arrivals.n, s.arrivals.last}, Quits: [2]float64{s.quits.left, s.quits.waited}, Ends: [2]float64{s.ends.early, s.ends.late},
		Asked: &Asked{Early: s.early, Late: s.late},
	}
	for _, b := range s.builds {
		w.Builds = append(w.Builds, b.whole(s))
		if p := b.told; p != nil {
			w.Asked.Told = append(w.Asked.Told, wholePromise{Build: b.order, From: p.from, To: p.to, At: p.at, N: p.n})
		}
	}
	for i, k := range s.buckets {
		w.Classes[i] = k.whole()
	}
	for _, x := range s.workers {
		w.Workers = append(w.Workers, wholeWorker{Name: x.name, Slots: x.slots, Up: x.up, Full: x.full, Space: x.space})
	}
	for _, x := range s.debtors {
		w.Debtors = append(w.Debtors, x.whole())
	}
	for _, x := range s.alarms {
		w.Alarms = append(w.Alarms, wholeAlarm{At: x.at, N: x.n, What: x.what, ID: x.id})
	}
	for _, r := range s.Rules() {
		w.Rules = append(w.Rules, wholeRule{Rule: r, InForce: s.rules[r.name()] == r})
	}
	for _, x := range s.sessions {
		w.Sessions = append(w.Sessions, *x)
	}
	for _, x := range s.lobby {
		w.Lobby = append(w.Lobby, x.ID)
	}
	for _, x := range s.stays {
		w.Stays = append(w.Stays, wholeStay{Session: *x.Session, Lasted: x.lasted})
	}
	for _, name := range s.costs.order {
		w.Repos = append(w.Repos, s.costs.repos[name].whole(name))
	}
	for name, l := range s.costs.kinds {
		w.Kinds = append(w.Kinds, l.whole(name))
	}
	return w
}

// sort makes the order of everything that has none that which is written down: what a map holds comes in any.
func (w *Whole) sort() {
	slices.SortFunc(w.Builds, func(a, b wholeBuild) int { return cmp.Compare(a.Order, b.Order) })
	slices.SortFunc(w.Failures, func(a, b Failure) int { return cmp.Compare(a.Key, b.Key) })
	slices.SortFunc(w.Sessions, func(a, b Session) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(w.Kinds, func(a, b wholeLaw) int { return cmp.Compare(a.Name, b.Name) })
	if w.Asked != nil {
		slices.SortFunc(w.Asked.Told, func(a, b wholePromise) int { return cmp.Compare(a.Build, b.Build) })
	}
	for i := range w.Classes {
		for _, flows := range w.Classes[i].Flows {
			slices.SortFunc(flows, func(a, b wholeFlow) int { return cmp.Compare(a.Name, b.Name) })
		}
		for _, pairs := range w.Classes[i].Paused {
			slices.SortFunc(pairs, func(a, b wholePair) int { return cmp.Compare(a.Lanes[0][0], b.Lanes[0][0]) })
		}
	}
}

func (b *build) whole(s *Scheduler) wholeBuild {
	w := wholeBuild{
		Build: b.Build, Order: b.order, Watchers: b.watchers, Delayed: b.delayed, Pinned: b.pinned, Watched: b.watched,
		Latest: b.Ref != "" && s.refs[refName{b.Repo, b.Ref}] == b, Mark: b.mark, Yields: b.yields, Alone: b.alone,
		Askers: b.askers, Avoid: b.avoid, // which only grow
	}
	if b.aside.is {
		w.Aside = &wholeAside{b.aside.rank, b.aside.slow}
	}
	if r := b.run; r != nil {
		w.Run = &wholeRun{
			Class: r.class, Started: r.started, Moved: r.moved, Charge: r.charge, Paid: r.paid, Disk: r.disk, Most: r.most,
			Long: r.long, Turn: r.turn, Stopping: r.stopping, Why: r.why, Spared: r.spared, Revived: r.revived,
		}
		if p := r.told; p != nil {
			w.Run.From, w.Run.To = p.from, p.to
		}
	}
	return w
}

func (k *bucket) whole() wholeClass {
	w := wholeClass{Virtual: k.virtual, Served: k.served, Load: k.load, Tag: k.tag}
	for d := range k.flows {
		w.Flows[d] = make([]wholeFlow, 0, len(k.flows[d]))
		for _, f := range k.flows[d] {
			w.Flows[d] = append(w.Flows[d], f.whole())
		}
	}
	for z := range k.lots {
		w.Lots[z] = make([][]wholePair, 0, len(k.lots[z]))
		for _, p := range k.lots[z] {
			pairs := make([]wholePair, 0, len(p.pairs))
			for _, q := range p.pairs {
				pairs = append(pairs, q.whole())
			}
			w.Lots[z] = append(w.Lots[z], pairs)
		}
		for _, q := range k.pairs[z] {
			if q.at < 0 {
				w.Paused[z] = append(w.Paused[z], q.whole())
			}
		}
	}
	return w
}

func (f *flow) whole() wholeFlow {
	w := wholeFlow{Name: f.name, Tag: f.tag, Left: f.left, Busy: f.busy, Load: f.load}
	if p := f.pays; p != nil {
		w.Pays = &wholePayer{At: p.at, Builds: p.builds, Sum: p.sum}
	}
	return w
}

func (q *pair) whole() wholePair {
	w := wholePair{Lanes: make([][]int64, 0, len(q.lanes)), Side: q.held, Other: q.other}
	for i, l := range q.lanes {
		orders := make([]int64, 0, len(l.builds))
		for _, b := range l.builds {
			orders = append(orders, b.order)
		}
		w.Lanes = append(w.Lanes, orders)
		if l.paused {
			w.Paused = append(w.Paused, i)
		}
	}
	return w
}

func (d debtor) whole() wholeDebtor {
	w := wholeDebtor{Class: d.k.class, Name: d.f.name}
	switch d.f {
	case d.k.flows[byOwner][w.Name]:
	case d.k.flows[byRequester][w.Name]:
		w.Side = byRequester
	default:
		x := d.f.whole()
		w.Swept = &x
	}
	return w
}

func (l *law) whole(name string) wholeLaw {
	return wholeLaw{Name: name, N: l.n, Mean: l.mean, Variance: l.variance, Disk: l.disk}
}
