package sim

import (
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// fifo keeps one record for each build, with any number of watchers, and starts them in the order in which they were
// first asked for. Like fair it gives nothing to a worker without scratch space, so that the two differ in their
// order alone.
type fifo struct {
	r        *room
	line     []int // specs
	running  map[int]*attempt
	queued   map[int]bool
	watchers map[int][]*visitor
	failed   map[int]time.Duration // a failure answers until then
	endless  bool                  // every build has a slot
	nowhere  *node
}

func newFIFO(r *room) *fifo {
	return &fifo{r: r, running: map[int]*attempt{}, queued: map[int]bool{}, watchers: map[int][]*visitor{}, failed: map[int]time.Duration{}}
}

// newAlone is fifo without end of slots.
func newAlone(r *room) *fifo {
	f := newFIFO(r)
	f.endless, f.nowhere = true, &node{scratch: true, up: true}
	return f
}

func (f *fifo) ask(v *visitor) {
	if until, ok := f.failed[v.spec]; ok && until > f.r.now {
		f.r.refuse(v)
		return
	}
	f.watchers[v.spec] = append(f.watchers[v.spec], v)
	f.prepare(v.spec)
}

func (f *fifo) prepare(spec int) {
	if f.running[spec] == nil && !f.queued[spec] {
		f.queued[spec] = true
		f.line = append(f.line, spec)
		f.fill()
	}
}

// leave does not end the build: first come first served knows no watchers.
func (f *fifo) leave(v *visitor) {
	f.watchers[v.spec] = without(f.watchers[v.spec], v)
}

func (f *fifo) fill() {
	for len(f.line) > 0 {
		n := f.free()
		if n == nil {
			return
		}
		spec := f.line[0]
		f.line = f.line[1:]
		delete(f.queued, spec)
		f.running[spec] = f.r.start(spec, n, 0)
	}
}

// free is the worker with the most free slots.
func (f *fifo) free() *node {
	if f.endless {
		return f.nowhere
	}
	var best *node
	most := 0
	for _, n := range f.r.nodes {
		if free := n.slots - len(n.running); n.up && n.scratch && free > most {
			best, most = n, free
		}
	}
	return best
}

func (f *fifo) ended(a *attempt, out sched.Outcome) {
	delete(f.running, a.spec)
	switch out {
	case sched.Succeeded:
		for _, v := range f.take(a.spec) {
			f.r.serve(v)
		}
	case sched.UserFault:
		f.failed[a.spec] = f.r.now + 10*time.Minute
		for _, v := range f.take(a.spec) {
			f.r.refuse(v)
		}
	default:
		f.prepare(a.spec)
	}
	f.fill()
}

func (f *fifo) take(spec int) []*visitor {
	all := f.watchers[spec]
	delete(f.watchers, spec)
	return all
}

func (f *fifo) ready(*node)  { f.fill() }
func (f *fifo) gone(*node)   {}
func (f *fifo) waiting() int { return len(f.line) }
func (f *fifo) grows() bool  { return len(f.line) > 0 }

func without(all []*visitor, v *visitor) []*visitor {
	for i, x := range all {
		if x == v {
			return append(all[:i:i], all[i+1:]...)
		}
	}
	return all
}
