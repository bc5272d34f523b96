package sim

import (
	"cmp"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Workload is who asks for what, when: a window of demand.
type Workload struct {
	Name     string
	From     time.Time
	For      time.Duration
	Specs    []Spec
	Launches []Launch // in order of time
}

// A Spec is a repository at a ref: what one image is built for.
type Spec struct {
	Name  string // provider/owner/repo/ref, as in a link
	Repo  string // provider/owner/repo
	Owner string // provider/owner
	Known bool   // it has an image when the window begins

	// Cost is how long its build takes; 0: the law says.
	Cost time.Duration
}

// A Launch is one visitor who asks for a spec.
type Launch struct {
	At        time.Duration // since the beginning of the window
	Spec      int
	Requester string        // default: an address block of the visitor's own
	Class     bindery.Class // default: attended
	Stays     bool          // whatever it takes; else the law says how long
}

// sort puts the launches in order, and keeps the order of equal times.
func (w *Workload) sort() {
	slices.SortStableFunc(w.Launches, func(a, b Launch) int { return cmp.Compare(a.At, b.At) })
}

// Join returns w with the demand of others in it as well. Equal names are one spec.
func (w *Workload) Join(others ...*Workload) *Workload {
	all := &Workload{Name: w.Name, From: w.From, For: w.For, Specs: slices.Clone(w.Specs), Launches: slices.Clone(w.Launches)}
	ids := make(map[string]int, len(w.Specs))
	for i, s := range w.Specs {
		ids[s.Name] = i
	}
	for _, o := range others {
		all.Name += " + " + o.Name
		for _, l := range o.Launches {
			s := o.Specs[l.Spec]
			id, ok := ids[s.Name]
			if !ok {
				id = len(all.Specs)
				ids[s.Name] = id
				all.Specs = append(all.Specs, s)
			}
			l.Spec = id
			all.Launches = append(all.Launches, l)
		}
	}
	all.sort()
	return all
}

// Cut takes a workload apart at a time since its beginning. Both parts have all specs; what the first one launched has an
// image when the second one begins.
func (w *Workload) Cut(at time.Duration) (before, after *Workload) {
	b, a := *w, *w
	before, after = &b, &a
	n, _ := slices.BinarySearchFunc(w.Launches, at, func(l Launch, t time.Duration) int { return cmp.Compare(l.At, t) })
	before.For, before.Launches = at, w.Launches[:n]
	after.From, after.For = w.From.Add(at), w.For-at
	after.Specs, after.Launches = slices.Clone(w.Specs), slices.Clone(w.Launches[n:])
	for _, l := range before.Launches {
		after.Specs[l.Spec].Known = true
	}
	for i := range after.Launches {
		after.Launches[i].At -= at
	}
	return before, after
}
