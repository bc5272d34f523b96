package sim

import (
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A visitor is one launch that was asked for. It is in one state always: nobody is lost.
type visitor struct {
	id, spec  int
	luck      int // what the law draws for it depends on this: people's does not change when bots come in between
	class     bindery.Class
	requester string
	state     visitorState
	asked     time.Duration // first
	done      time.Duration // served or gave up
	try       int
	first     bool // of its spec's visitors after it lost its image, or never had one
	alone     time.Duration
	lobbied   time.Duration // it had an image, and asked for a place
	token     any           // the policy's own
}

type visitorState int

const (
	outside visitorState = iota
	waits                // for an image
	lobby                // it has an image, and waits for a place
	pauses               // has left or was refused; comes again
	served
	gaveUp
)

func (r *room) arrive(i int) {
	l := &r.w.Launches[i]
	v := &r.visitors[i]
	*v = visitor{id: i, spec: l.Spec, class: l.Class, requester: l.Requester, asked: r.now}
	if v.class == "" {
		v.class = bindery.Attended
	}
	r.people++
	v.luck = r.people - 1
	if v.class != bindery.Attended {
		r.people--
		v.luck = i + 1<<40
	}
	if v.requester == "" {
		x := mix(uint64(v.luck))
		v.requester = fmt.Sprintf("%d.%d.%d.0/24", byte(x>>16), byte(x>>8), byte(x))
	}
	s := &r.specs[v.spec]
	if !s.asked {
		s.asked = true
		s.flow[1] = r.meter.flows[1].of(v.requester)
	}
	if !s.image && !s.needed {
		s.needed, s.first, s.at, v.first, s.class = true, r.now, r.now, true, v.class
		if s.old {
			s.class = bindery.Background
		}
	}
	if s.needed && !s.old {
		// What this visitor would wait if the build had started when it was first asked for.
		v.alone = max(0, s.first+s.cost-r.now)
	}
	r.ask(v)
}

// ask is a visitor who opens the page, for the first time or again.
func (r *room) ask(v *visitor) {
	s := &r.specs[v.spec]
	if s.image || s.old {
		r.serve(v)
		if !s.image {
			r.policy.prepare(v.spec)
		}
		return
	}
	v.state = waits
	r.meter.want(r, v.spec, 1)
	if !r.w.Launches[v.id].Stays {
		r.leaveLater(v, v.try)
	}
	r.policy.ask(v)
}

func (r *room) leaveLater(v *visitor, try int) {
	r.at(r.now+r.chance.patience(v.luck, try), func() {
		if v.state == waits && v.try == try {
			r.policy.leave(v)
			r.refuse(v)
		}
	})
}

// serve gives a visitor its image: a session is launched, if there is a place for it.
func (r *room) serve(v *visitor) {
	if v.state == waits {
		r.meter.want(r, v.spec, -1)
	}
	if r.places != nil {
		r.places.ask(v)
		return
	}
	r.launch(v)
}

func (r *room) launch(v *visitor) {
	v.state, v.done = served, r.now
	r.specs[v.spec].served = true
	r.meter.launching++
	r.at(r.now+r.chance.launch(v.luck), func() { r.meter.launching-- })
}

// refuse sends a waiting visitor away. Most try again.
func (r *room) refuse(v *visitor) {
	switch v.state {
	case waits:
		r.meter.want(r, v.spec, -1)
	case lobby:
	default:
		return
	}
	pause, again := r.chance.again(v.luck, v.try)
	v.try++
	if !again {
		v.state, v.done = gaveUp, r.now
		return
	}
	v.state = pauses
	r.at(r.now+pause, func() { r.ask(v) })
}
