package sim

import (
	"fmt"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// places are the sessions of a room whose number is bounded: package sched admits, holds and culls them.
type places struct {
	f     *fair
	live  map[string]*visitor // those that have a place, and those that wait for one
	out   Sessions
	waits []float64
}

// Sessions counts what came of those who had an image.
type Sessions struct {
	Asked    int    `json:"asked"`
	Admitted int    `json:"admitted"`
	Waited   int    `json:"waited"`  // for a place
	Refused  int    `json:"refused"` // by a quota, or since too many wait
	Left     int    `json:"left"`    // gave up waiting for a place
	Ended    int    `json:"ended"`   // of those admitted
	Most     int    `json:"most"`    // at once
	Wait     Spread `json:"wait_seconds"`
}

func (p *places) session(v *visitor) string { return fmt.Sprintf("s%d.%d", v.id, v.try) }

// ask is a visitor whose image is there. It asked for a place at v.lobbied.
func (p *places) ask(v *visitor) {
	v.state, v.lobbied = lobby, p.f.r.now
	id := p.session(v)
	p.live[id] = v
	p.out.Asked++
	s := &p.f.r.w.Specs[v.spec]
	p.f.step(sched.AskSession{
		Session: id, Repo: s.Repo, Owner: s.Owner, Requester: v.requester, Idle: p.f.r.cfg.Idle, Age: p.f.r.cfg.Age, Wait: true,
	})
}

func (p *places) admit(id string) {
	v, r := p.live[id], p.f.r
	p.out.Admitted++
	p.out.Most = max(p.out.Most, p.out.Admitted-p.out.Ended)
	p.waits = append(p.waits, (r.now - v.lobbied).Seconds())
	r.launch(v)
	ready := r.now + r.chance.launch(v.luck)
	r.at(ready, func() {
		p.f.step(sched.SessionReady{Session: id})
		p.use(id, ready+r.chance.stay(v.luck))
	})
}

// use says that a session is used until a time, as the proxy does that sees its traffic.
func (p *places) use(id string, until time.Duration) {
	r := p.f.r
	if p.live[id] == nil {
		return
	}
	p.f.step(sched.SessionActive{Session: id, At: p.f.clock()})
	if r.now < until {
		r.at(min(until, r.now+r.cfg.Idle/2), func() { p.use(id, until) })
	}
}

// hold makes a visitor wait for a place, for as long as patience lasts.
func (p *places) hold(id string) {
	v, r := p.live[id], p.f.r
	p.out.Waited++
	if r.w.Launches[v.id].Stays {
		return
	}
	r.at(r.now+r.chance.patience(v.luck, v.try), func() {
		if p.live[id] != v || v.state != lobby {
			return
		}
		p.out.Left++
		delete(p.live, id)
		p.f.step(sched.SessionEnded{Session: id})
		r.refuse(v)
	})
}

func (p *places) refuse(id string) {
	v := p.live[id]
	delete(p.live, id)
	p.out.Refused++
	p.f.r.refuse(v)
}

func (p *places) stop(id string) {
	delete(p.live, id)
	p.out.Ended++
	p.f.inputs = append(p.f.inputs, sched.SessionEnded{Session: id})
}

func (p *places) result() *Sessions {
	out := p.out
	out.Wait = spreadOf(p.waits)
	return &out
}
