package sched

import (
	"math"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A side is one of the two kinds of flows that a build belongs to.
type side int8

const (
	byOwner side = iota
	byRequester
)

// A size says which limit bounds a build, beside the slots.
type size int8

const (
	short size = iota
	long       // known to be long
	slow       // for the slow lane
	quick      // beside the slots
	sizes
)

// A flow is what one owner or one requester has waiting, and a tag: the virtual time at which its share of the slots
// has caught up with what it used. It is kept small, for there may be two for each build.
type flow struct {
	name string
	tag  float64 // finish tag, in slot-seconds by weight
	left int64   // when busy became 0, in nanoseconds
	busy int32   // builds of it that wait or run
	load float32 // its weight when it came
	pays *payer  // nil: for no build that runs
	post [sizes]*post
}

// A payer is a flow that pays for builds that run.
type payer struct {
	flow   *flow
	builds int
	sum    float64 // what of the flow's tag is for them
	at     int
}

// A post is the pairs of one size that a flow holds. A pair could be held by either of its flows; the one with the
// higher tag should, since that tag counts. A pair that is held by the other one is moved when it is met: the lower tag
// only calls it too early, never too late.
type post struct {
	flow  *flow
	pairs pile[*pair]
	at    int // its place in the lot; -1: none
}

// A pair is the waiting builds of one size of one owner and one requester, in lanes: at a post while one of these is not
// paused.
type pair struct {
	flow  [2]*flow
	lanes pile[*lane]
	named map[laneName]*lane // all of them, once they are many
	other float64            // the lower of the two tags when it was looked at last: it orders pairs of equal tags
	at    int32              // its place at the post; -1: none
	size  size
	held  side
}

// A lane is the waiting builds of a pair that are of one repository: they pause and go on together.
type lane struct {
	pair   *pair
	builds pile[*build]
	at     int32
	paused bool
}

// A laneName tells the lanes of a pair apart. Those that a broad rule holds back wait apart from the others of the same
// repository, of which the rule may not be about all.
type laneName struct {
	repo string
	mark uint16
}

func (b *build) laneName() laneName { return laneName{b.Repo, b.mark} }

// A bucket is all that waits of one class. Classes share no flows: what bots use is not held against a person.
type bucket struct {
	class   bindery.Class
	flows   [2]map[string]*flow
	pairs   [sizes]map[[2]*flow]*pair // by owner and requester
	lots    [sizes]pile[*post]
	payers  pile[*payer]
	virtual float64    // start tag of the last build that started, or served if that is more
	served  float64    // what a flow with an equal share of all that ran would have had by now
	load    [2]float64 // weights of the owners, and of the requesters, that wait or run
	waiting int
	running int     // in slots
	tag     float64 // of the class as a whole
}

func newBucket(class bindery.Class) *bucket {
	b := &bucket{class: class, flows: [2]map[string]*flow{{}, {}}}
	for z := range b.pairs {
		b.pairs[z] = map[[2]*flow]*pair{}
	}
	return b
}

func (p *post) place(i int)  { p.at = i }
func (q *pair) place(i int)  { q.at = int32(i) }
func (l *lane) place(i int)  { l.at = int32(i) }
func (b *build) place(i int) { b.at = int32(i) }
func (p *payer) place(i int) { p.at = i }

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

// before puts paused lanes last.
func (l *lane) before(o *lane) bool {
	if l.paused != o.paused {
		return o.paused
	}
	return l.builds[0].before(o.builds[0])
}

func (q *pair) before(o *pair) bool {
	if q.other != o.other {
		return q.other < o.other
	}
	return q.lanes[0].before(o.lanes[0])
}

func (p *post) before(o *post) bool {
	if p.flow.tag != o.flow.tag {
		return p.flow.tag < o.flow.tag
	}
	return p.pairs[0].before(o.pairs[0])
}

// free is the tag that a flow would have, had the builds that run cost nothing.
func (p *payer) free() float64 { return p.flow.tag - p.sum }

func (p *payer) before(o *payer) bool { return p.free() < o.free() }

// join makes a build wait in its lane.
func (k *bucket) join(s *Scheduler, b *build, now time.Time) {
	b.mark = s.markOf(b)
	for d, who := range []string{b.Owner, b.Requester} {
		if k.flows[d][who] == nil {
			k.sweep(s, side(d), now) // while nobody has one of its flows in hand
		}
	}
	q := k.pair(s.size(b), [2]*flow{k.flow(s, byOwner, b.Owner, now), k.flow(s, byRequester, b.Requester, now)})
	for d, f := range q.flow {
		k.occupy(s, side(d), f, b.Attempt > 0 || s.origin != nil, now)
	}
	if k.waiting == 0 {
		k.served = max(k.served, k.base())
	}
	if k.waiting == 0 && k.class == bindery.Unattended {
		// It does not begin with a turn that it has not waited for.
		k.tag = max(k.tag, s.virtual+s.cfg.Guess.Seconds()/s.cfg.Unattended)
	}
	k.waiting++
	l := q.lane(b.laneName())
	if l == nil {
		l = &lane{pair: q, paused: s.paused(b)}
		l.builds.push(b)
		q.add(l)
	} else {
		l.builds.push(b)
		q.lanes.fix(int(l.at))
	}
	b.lane = l
	k.sit(q)
}

// leave takes a waiting build out of its lane. Its flows stay busy with it until rest.
func (k *bucket) leave(b *build) {
	l := b.lane
	q := l.pair
	l.builds.remove(int(b.at))
	k.waiting--
	b.lane = nil
	if len(l.builds) > 0 {
		q.lanes.fix(int(l.at))
	} else {
		q.lanes.remove(int(l.at))
		delete(q.named, b.laneName())
	}
	k.sit(q)
	if len(q.lanes) == 0 {
		delete(k.pairs[q.size], q.flow)
	}
}

// fix restores the order after something about a lane changed.
func (k *bucket) fix(l *lane) {
	l.pair.lanes.fix(int(l.at))
	k.sit(l.pair)
}

// lanes calls do with each lane, in no order.
func (k *bucket) lanes(do func(*lane) bool) {
	for _, pairs := range k.pairs {
		for _, q := range pairs {
			for _, l := range q.lanes {
				if !do(l) {
					return
				}
			}
		}
	}
}

// pair finds the pair of two flows or makes one.
func (k *bucket) pair(z size, of [2]*flow) *pair {
	q := k.pairs[z][of]
	if q == nil {
		q = &pair{flow: of, size: z, at: -1}
		k.pairs[z][of] = q
	}
	return q
}

// fewLanes are found by looking through them.
const fewLanes = 16

func (q *pair) lane(n laneName) *lane {
	if q.named != nil {
		return q.named[n]
	}
	for _, l := range q.lanes {
		if l.builds[0].laneName() == n {
			return l
		}
	}
	return nil
}

// add takes a lane with a build in.
func (q *pair) add(l *lane) {
	q.lanes.push(l)
	switch {
	case q.named != nil:
		q.named[l.builds[0].laneName()] = l
	case len(q.lanes) > fewLanes:
		q.named = make(map[laneName]*lane, 2*fewLanes)
		for _, l := range q.lanes {
			q.named[l.builds[0].laneName()] = l
		}
	}
}

// sit puts a pair where it belongs after its lanes changed: at a post if one of them is not paused.
func (k *bucket) sit(q *pair) {
	ready := len(q.lanes) > 0 && !q.lanes[0].paused
	switch {
	case ready && q.at < 0:
		k.hold(q)
	case ready:
		k.fixPair(q)
	case q.at >= 0:
		k.drop(q)
	}
}

// hold puts a pair where its higher tag is.
func (k *bucket) hold(q *pair) {
	q.held = byOwner
	// Of equal tags the one that has more to do will rise first.
	if o, r := q.flow[byOwner], q.flow[byRequester]; r.tag > o.tag || r.tag == o.tag && r.busy > o.busy {
		q.held = byRequester
	}
	q.other = q.flow[1-q.held].tag
	f := q.flow[q.held]
	p := f.post[q.size]
	if p == nil {
		p = &post{flow: f, at: -1}
		f.post[q.size] = p
	}
	p.pairs.push(q)
	if p.at < 0 {
		k.lots[q.size].push(p)
		return
	}
	k.lots[q.size].fix(p.at)
}

// drop takes a pair from the flow that holds it.
func (k *bucket) drop(q *pair) {
	p := q.post()
	lot := &k.lots[q.size]
	p.pairs.remove(int(q.at))
	q.held, q.other = byOwner, 0
	switch {
	case p.at < 0: // set aside during a search
	case len(p.pairs) == 0:
		lot.remove(p.at)
	default:
		lot.fix(p.at)
	}
}

// fixPair restores the order of a post and of its lot.
func (k *bucket) fixPair(q *pair) {
	p := q.post()
	p.pairs.fix(int(q.at))
	if p.at >= 0 {
		k.lots[q.size].fix(p.at)
	}
}

func (q *pair) post() *post { return q.flow[q.held].post[q.size] }

// flow finds a flow or makes one, whose tag is virtual time.
func (k *bucket) flow(s *Scheduler, d side, name string, now time.Time) *flow {
	f := k.flows[d][name]
	if f == nil {
		f = &flow{name: name, tag: k.virtual, left: now.UnixNano()}
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

// idle reports whether nothing of a flow waits or runs.
func (k *bucket) idle(d side, name string) bool {
	f := k.flows[d][name]
	return f == nil || f.busy == 0
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
	if s.cfg.HalfLife < 0 {
		return d
	}
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
	if f.pays != nil {
		k.payers.fix(f.pays.at)
	}
}

// pay says that a flow pays for one more build that runs, and sets its tag.
func (k *bucket) pay(f *flow, paid, tag float64) {
	p := f.pays
	if p == nil {
		p = &payer{flow: f}
		f.pays = p
		k.payers.push(p)
	}
	p.builds++
	p.sum += paid
	k.payers.fix(p.at)
	k.setTag(f, tag)
}

// repay says that one of those builds runs no more: what it should cost is what it took now.
func (k *bucket) repay(f *flow, paid float64) {
	p := f.pays
	if p.builds--; p.builds == 0 {
		k.payers.remove(p.at)
		f.pays = nil
		return
	}
	p.sum -= paid
	k.payers.fix(p.at)
}

// rest says that a build of a flow neither waits nor runs any more.
func (k *bucket) rest(d side, f *flow, now time.Time) {
	if f.busy--; f.busy == 0 {
		f.left = now.UnixNano()
		k.load[d] -= float64(f.load)
	}
}

// occupy says that one more build of a flow waits or runs.
func (k *bucket) occupy(s *Scheduler, d side, f *flow, back bool, now time.Time) {
	k.wakeFlow(s, f, back, now)
	if f.busy++; f.busy == 1 {
		f.load = max(1, float32(s.weight(d.scope(), f.name)))
		k.load[d] += float64(f.load)
	}
}

func (d side) scope() Scope {
	if d == byOwner {
		return OnOwner
	}
	return OnRequester
}

// base is the lowest tag that a flow which pays for running builds would have, had they cost nothing.
func (k *bucket) base() float64 {
	if len(k.payers) == 0 {
		return k.virtual
	}
	return min(k.payers[0].free(), k.virtual)
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
		if f.busy == 0 && f.pays == nil && k.debt(s, f, now) < 1 {
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
	lendEvery = 8       // times in a half-life
	lendOver  = 20 * 60 // slot-seconds by weight: less debt than that is never forgiven to a flow that waits
)

// lend notes that a flow is far ahead.
func (s *Scheduler) lend(k *bucket, f *flow, now time.Time) {
	if s.origin != nil || s.cfg.HalfLife < 0 || f.tag-k.virtual <= lendOver {
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

// forgive lets a part of what is over the limit go, of what was used: not of what builds that run should cost.
func (s *Scheduler) forgive(now time.Time) {
	if s.cfg.HalfLife < 0 {
		s.debtors = nil
		return
	}
	keep := s.debtors[:0]
	for _, d := range s.debtors {
		over := d.f.tag - d.k.virtual - lendOver
		if over <= 1 || d.f.busy == 0 {
			continue // the rest is forgotten when it comes again
		}
		if d.f.pays != nil {
			over -= d.f.pays.sum
		}
		if over > 0 {
			d.k.setTag(d.f, d.f.tag-over*(1-math.Exp2(-1.0/lendEvery)))
		}
		keep = append(keep, d)
	}
	if s.debtors = keep; len(keep) > 0 {
		s.wake(now.Add(s.cfg.HalfLife/lendEvery), aboutDebts, "")
	}
}
