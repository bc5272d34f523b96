package sched

import (
	"math"
	"strconv"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A side is one of the two kinds of flows that a build belongs to.
type side int8 // small, for there may be two flows for each build

const (
	byOwner side = iota
	byRequester
)

// A size says which limit bounds a build, beside the slots.
type size int

const (
	short size = iota
	long       // known to be long
	slow       // for the slow lane
	quick      // beside the slots
	sizes
)

// A flow is what one owner or one requester has waiting, and a tag: the virtual time at which its share of the slots
// has caught up with what it used.
type flow struct {
	name string
	tag  float64 // finish tag, in slot-seconds by weight
	busy int     // builds of it that wait or run
	side side
	load float32 // its weight when it came
	left int64   // when busy became 0, in nanoseconds: a flow is kept small, for there may be two for each build
	post [sizes]*post
}

// A post is the waiting lanes of one size that a flow holds. A lane could be held by either of its flows; the one with
// the higher tag should, since that tag counts. A lane that is held by the other one is moved when it is met: the
// lower tag only calls it too early, never too late.
type post struct {
	flow  *flow
	lanes pile[*lane]
	at    int // its place in the lot; -1: none
}

// A lane is the waiting builds of one size, one repository, one requester.
type lane struct {
	size   size
	flow   [2]*flow
	builds pile[*build]
	held   side
	other  float64 // the lower of the two tags when it was looked at last: it orders lanes of equal tags
	at     int
}

type laneName struct{ owner, repo, requester string }

// laneName is the lane that a build waits in. Those that a broad rule holds back wait apart from the others of the same
// names, of which the rule may not be about all.
func (b *build) laneName() laneName {
	n := laneName{b.Owner, b.Repo, b.Requester}
	if b.mark != 0 {
		n.requester += markSign + strconv.Itoa(int(b.mark))
	}
	return n
}

const markSign = "\x00"

// A bucket is all that waits of one class. Classes share no flows: what bots use is not held against a person.
type bucket struct {
	class   bindery.Class
	flows   [2]map[string]*flow
	lanes   [sizes]map[laneName]*lane
	lots    [sizes]pile[*post]
	virtual float64    // start tag of the last build that started, or served if that is more
	served  float64    // what a flow with an equal share of all that ran would have had by now
	load    [2]float64 // weights of the owners, and of the requesters, that wait or run
	waiting int
	running int     // in slots
	tag     float64 // of the class as a whole
}

func newBucket(class bindery.Class) *bucket {
	b := &bucket{class: class, flows: [2]map[string]*flow{{}, {}}}
	for z := range b.lanes {
		b.lanes[z] = map[laneName]*lane{}
	}
	return b
}

func (p *post) place(i int)  { p.at = i }
func (l *lane) place(i int)  { l.at = i }
func (b *build) place(i int) { b.at = int32(i) }

// before orders builds of equal tags: the older ones first, where each doubling of its watchers makes a build a while
// older. So many watchers go before one, and nobody is overtaken for ever by what is more popular.
func (b *build) before(o *build) bool {
	if b.since != o.since {
		return b.since < o.since
	}
	return b.order < o.order
}

// doubling is the age that each doubling of its watchers is worth to a build, in seconds.
const doubling = 120

// age sets what orders a build among those of equal tags.
func (b *build) age() {
	b.since = float64(b.Created.UnixMilli())/1000 - doubling*math.Log2(float64(1+b.watchers))
}

func (l *lane) before(o *lane) bool {
	if l.other != o.other {
		return l.other < o.other
	}
	return l.builds[0].before(o.builds[0])
}

func (p *post) before(o *post) bool {
	if p.flow.tag != o.flow.tag {
		return p.flow.tag < o.flow.tag
	}
	return p.lanes[0].before(o.lanes[0])
}

// join makes a build wait in its lane.
func (k *bucket) join(s *Scheduler, b *build, now time.Time) {
	z := s.size(b)
	b.mark = s.markOf(b)
	name := b.laneName()
	l := k.lanes[z][name]
	if l == nil {
		l = &lane{size: z, at: -1}
		l.flow[byOwner] = k.flow(s, byOwner, b.Owner, now)
		l.flow[byRequester] = k.flow(s, byRequester, b.Requester, now)
		k.lanes[z][name] = l
	}
	for _, f := range l.flow {
		k.occupy(s, f, b.Attempt > 0, now)
	}
	b.lane = l
	if k.waiting == 0 {
		k.served = max(k.served, k.base(s))
	}
	if k.waiting == 0 && k.class == bindery.Unattended {
		// It does not begin with a turn that it has not waited for.
		k.tag = max(k.tag, s.virtual+s.cfg.Guess.Seconds()/s.cfg.Unattended)
	}
	k.waiting++
	l.builds.push(b)
	if len(l.builds) == 1 {
		if !s.paused(b) {
			k.hold(l)
		}
		return
	}
	k.fix(l)
}

// leave takes a waiting build out of its lane. Its flows stay busy with it until rest.
func (k *bucket) leave(b *build) {
	l := b.lane
	l.builds.remove(int(b.at))
	k.waiting--
	b.lane = nil
	if len(l.builds) > 0 {
		k.fix(l)
		return
	}
	if l.at >= 0 {
		k.drop(l)
	}
	delete(k.lanes[l.size], b.laneName())
}

// hold puts a lane where its higher tag is.
func (k *bucket) hold(l *lane) {
	l.held = byOwner
	// Of equal tags the one that has more to do will rise first.
	if o, r := l.flow[byOwner], l.flow[byRequester]; r.tag > o.tag || r.tag == o.tag && r.busy > o.busy {
		l.held = byRequester
	}
	l.other = l.flow[1-l.held].tag
	f := l.flow[l.held]
	p := f.post[l.size]
	if p == nil {
		p = &post{flow: f, at: -1}
		f.post[l.size] = p
	}
	p.lanes.push(l)
	if p.at < 0 {
		k.lots[l.size].push(p)
		return
	}
	k.lots[l.size].fix(p.at)
}

// drop takes a lane from the flow that holds it.
func (k *bucket) drop(l *lane) {
	f := l.flow[l.held]
	p := f.post[l.size]
	lot := &k.lots[l.size]
	p.lanes.remove(l.at)
	switch {
	case p.at < 0: // set aside during a search
	case len(p.lanes) == 0:
		lot.remove(p.at)
	default:
		lot.fix(p.at)
	}
}

// fix restores the order after something about a lane changed.
func (k *bucket) fix(l *lane) {
	if l.at < 0 {
		return
	}
	p := l.flow[l.held].post[l.size]
	p.lanes.fix(l.at)
	if p.at >= 0 {
		k.lots[l.size].fix(p.at)
	}
}

// flow finds a flow or makes one, whose tag is virtual time.
func (k *bucket) flow(s *Scheduler, d side, name string, now time.Time) *flow {
	f := k.flows[d][name]
	if f == nil {
		k.sweep(s, d, now)
		f = &flow{name: name, side: d, tag: k.virtual, left: now.UnixNano()}
		if s.origin != nil {
			if o := s.origin.bucket(k.class).flows[d][name]; o != nil {
				f.tag, f.left = o.tag, o.left
				if o.busy > 0 {
					f.left = now.UnixNano()
				}
			}
		}
		k.flows[d][name] = f
	}
	return f
}

// wakeFlow makes ready a flow that had nothing: what it used too much is forgotten by half-lives, and what it did not
// use is not kept for it, unless a build comes back to its place.
func (k *bucket) wakeFlow(s *Scheduler, f *flow, back bool, now time.Time) {
	if f.busy > 0 {
		return
	}
	tag := k.virtual + k.debt(s, f, now)
	if back {
		tag = min(tag, f.tag)
	}
	k.setTag(f, tag)
	f.left = now.UnixNano()
}

// debt is by how much a flow that has nothing is ahead of virtual time.
func (k *bucket) debt(s *Scheduler, f *flow, now time.Time) float64 {
	d := max(f.tag-k.virtual, 0)
	return d * math.Exp2(-time.Duration(now.UnixNano()-f.left).Seconds()/s.cfg.HalfLife.Seconds())
}

func (k *bucket) setTag(f *flow, tag float64) {
	if f.tag == tag {
		return
	}
	f.tag = tag
	for z, p := range f.post {
		if p != nil && p.at >= 0 {
			k.lots[z].fix(p.at)
		}
	}
}

// rest says that a build of a flow neither waits nor runs any more.
func (k *bucket) rest(f *flow, now time.Time) {
	if f.busy--; f.busy == 0 {
		f.left = now.UnixNano()
		k.load[f.side] -= float64(f.load)
	}
}

// occupy says that one more build of a flow waits or runs.
func (k *bucket) occupy(s *Scheduler, f *flow, back bool, now time.Time) {
	k.wakeFlow(s, f, back, now)
	if f.busy++; f.busy == 1 {
		f.load = max(1, float32(s.weight(f.side.scope(), f.name)))
		k.load[f.side] += float64(f.load)
	}
}

func (d side) scope() Scope {
	if d == byOwner {
		return OnOwner
	}
	return OnRequester
}

// base is the lowest tag that a flow with running builds would have, had they cost nothing.
func (k *bucket) base(s *Scheduler) float64 {
	paid := map[*flow]float64{}
	for _, w := range s.workers {
		for _, b := range w.running {
			if b.run.class != k.class {
				continue
			}
			if f := k.flows[byOwner][b.Owner]; f != nil {
				paid[f] += b.run.charge / s.weight(OnOwner, b.Owner)
			}
			if f := k.flows[byRequester][b.Requester]; f != nil {
				paid[f] += b.run.charge / s.weight(OnRequester, b.Requester)
			}
		}
	}
	if len(paid) == 0 {
		return k.virtual
	}
	least := math.Inf(1)
	for f, x := range paid {
		least = min(least, f.tag-x)
	}
	return min(least, k.virtual)
}

// elapse lets virtual time go on with what is served while somebody waits: what is used of an idle hub is not. Else
// whoever came new, and again somebody new, would go before one who had a build already, for as long as somebody new
// comes.
func (s *Scheduler) elapse(now time.Time) {
	dt := now.Sub(s.clock).Seconds()
	if s.clock.IsZero() {
		dt = 0
	}
	if dt < 0 {
		return
	}
	s.clock = now
	for _, k := range s.buckets {
		if n := max(k.load[byOwner], k.load[byRequester]); n >= 1 && k.waiting > 0 {
			k.served += dt * float64(k.running) / n
			k.virtual = max(k.virtual, k.served)
		}
	}
}

// sweep forgets the flows that differ from new ones by less than a second, when there are many flows.
func (k *bucket) sweep(s *Scheduler, d side, now time.Time) {
	if n := len(k.flows[d]); n < 1024 || n&(n-1) != 0 {
		return
	}
	for name, f := range k.flows[d] {
		if f.busy == 0 && k.debt(s, f, now) < 1 {
			delete(k.flows[d], name)
		}
	}
}

// A debtor is a flow that is so far ahead of virtual time that what it used must be forgotten while it waits.
type debtor struct {
	k *bucket
	f *flow
}

const (
	lendEvery = 8 // times in a half-life
	lendOver  = 1 // times LongAfter: less debt than that is never forgiven to a flow that waits
)

// lend notes that a flow is far ahead.
func (s *Scheduler) lend(k *bucket, f *flow, now time.Time) {
	if s.origin != nil || f.tag-k.virtual <= lendOver*s.cfg.LongAfter.Seconds() {
		return
	}
	for _, d := range s.debtors {
		if d.f == f {
			return
		}
	}
	if s.debtors = append(s.debtors, debtor{k, f}); len(s.debtors) == 1 {
		s.wake(now.Add(s.cfg.HalfLife/lendEvery), aboutDebts, "")
	}
}

// forgive lets a part of what is over the limit go.
func (s *Scheduler) forgive(now time.Time) {
	keep := s.debtors[:0]
	limit := lendOver * s.cfg.LongAfter.Seconds()
	for _, d := range s.debtors {
		over := d.f.tag - d.k.virtual - limit
		if over <= 1 || d.f.busy == 0 {
			continue // the rest is forgotten when it comes again
		}
		d.k.setTag(d.f, d.k.virtual+limit+over*math.Exp2(-1.0/lendEvery))
		keep = append(keep, d)
	}
	if s.debtors = keep; len(keep) > 0 {
		s.wake(now.Add(s.cfg.HalfLife/lendEvery), aboutDebts, "")
	}
}
