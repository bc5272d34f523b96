package sim

import (
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// pool is BinderHub's way. Every front end has twice as many threads as its limit of builds. Each waiting request
// takes two: one makes the build's pod, or finds that it exists, and watches it; one follows its log. Requests that
// find no thread wait in a line that nobody sees. A build that is too old is killed; the next request starts it anew.
type pool struct {
	r      *room
	age    time.Duration
	fronts []*front
	pods   map[int]*attempt
	held   map[int][]*request // by spec: requests that hold threads, in order
	nodes  []*node            // of the cluster: it has no slots
}

type front struct {
	free int
	line []task
}

// A request is one try of one visitor. It outlives the visitor: nobody takes its tasks out of the line.
type request struct {
	v       *visitor
	front   *front
	threads int
	open    bool // the visitor is still there, and has no answer
}

type task struct {
	req  *request
	logs bool // follows the log; else makes the pod and watches it
}

func newPool(r *room, age time.Duration) *pool {
	p := &pool{r: r, age: age, pods: map[int]*attempt{}, held: map[int][]*request{}}
	for range r.cfg.Frontends {
		p.fronts = append(p.fronts, &front{free: 2 * r.cfg.Threads})
	}
	for i := range r.cfg.Cluster + r.cfg.Scratch {
		p.nodes = append(p.nodes, &node{id: i, up: true, scratch: i < r.cfg.Cluster})
	}
	return p
}

func (p *pool) ask(v *visitor) {
	q := &request{v: v, front: p.fronts[p.r.chance.about("front", v.luck, v.try).IntN(len(p.fronts))], open: true}
	v.token = q
	q.front.line = append(q.front.line, task{req: q}, task{req: q, logs: true})
	p.pump(q.front)
}

// prepare does nothing: without an image of this generation a thread pool serves nobody, so it is never called.
func (p *pool) prepare(int) {}

// pump gives free threads to the oldest tasks.
func (p *pool) pump(f *front) {
	for f.free > 0 && len(f.line) > 0 {
		t := f.line[0]
		f.line = f.line[1:]
		q, spec := t.req, t.req.v.spec
		if p.r.specs[spec].image {
			p.answer(q, true)
			continue
		}
		if !t.logs && p.pods[spec] == nil {
			p.begin(spec) // even when the visitor has gone
		}
		if !q.open {
			continue
		}
		f.free--
		if q.threads++; q.threads == 1 {
			p.held[spec] = append(p.held[spec], q)
		}
	}
}

// begin makes a pod. The cluster puts it on any worker: nothing knows which of them can build.
func (p *pool) begin(spec int) {
	n := p.nodes[p.r.chance.about("node", spec, p.r.specs[spec].attempts).IntN(len(p.nodes))]
	p.pods[spec] = p.r.start(spec, n, p.age)
}

func (p *pool) answer(q *request, good bool) {
	if !q.open {
		return
	}
	q.open = false
	if good {
		p.r.serve(q.v)
		return
	}
	p.r.refuse(q.v)
}

// leave frees the thread that watches. The one that follows the log notices nothing before the log goes on.
func (p *pool) leave(v *visitor) {
	q := v.token.(*request)
	q.open = false
	if q.threads == 2 {
		p.release(q, 1)
	}
}

func (p *pool) release(q *request, threads int) {
	q.threads -= threads
	q.front.free += threads
	p.pump(q.front)
}

func (p *pool) ended(a *attempt, out sched.Outcome) {
	delete(p.pods, a.spec)
	all := p.held[a.spec]
	delete(p.held, a.spec)
	for _, q := range all {
		p.answer(q, out == sched.Succeeded)
	}
	for _, q := range all {
		p.release(q, q.threads)
	}
}

func (p *pool) ready(*node) {}
func (p *pool) gone(*node)  {}
func (p *pool) grows() bool { return false } // the cluster grows with sessions, not with builds

// waiting counts the tasks in line that would make a pod, or wait for one.
func (p *pool) waiting() int {
	n := 0
	for _, f := range p.fronts {
		for _, t := range f.line {
			if t.req.open && !t.logs {
				n++
			}
		}
	}
	return n
}
