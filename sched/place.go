package sched

import (
	"math"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// mostSkips bounds one search. Builds behind so many that may not start now wait for the next search.
const (
	mostSkips  = 1000
	mostCapped = 100 // of them because they are over a cap
	mostOver   = 32  // of these in one flow
	mostLanes  = 100 // of one owner and one requester
	mostFresh  = 8   // pairs whose lower tag is looked up in one search
)

// place starts what may start.
func (s *Scheduler) place(now time.Time) {
	for {
		b, w := s.next(now)
		if b == nil && (s.giveWay(now) || s.keepIdle(now)) {
			continue // only a forecast frees the slot at once
		}
		if b == nil {
			return
		}
		s.start(b, w, now)
	}
}

// next finds the build that starts next, and where.
func (s *Scheduler) next(now time.Time) (*build, *worker) {
	if s.quicks < max(s.cfg.Quick, 0) {
		for _, k := range s.buckets {
			if b, w := s.find(k, quick, false, now); b != nil {
				return b, w
			}
		}
	}
	if s.taken >= s.slots {
		return nil, nil
	}
	for _, k := range s.inTurn() {
		if k.waiting == 0 || !s.open(k) {
			continue
		}
		s.turn = k.class == bindery.Unattended && s.buckets[0].waiting > 0
		// Caps bind only while somebody else waits: who is over one goes when nobody else can.
		for _, strict := range []bool{true, false} {
			if b, w := s.best(k, strict, now); b != nil {
				return b, w
			}
		}
	}
	return nil, nil
}

// giveWay stops a build that nobody waits for when a person waits for a slot, and reports whether one is free already.
func (s *Scheduler) giveWay(now time.Time) (free bool) {
	k := s.buckets[0]
	if k.waiting == 0 || s.buckets[1].running+s.buckets[2].running == 0 || s.taken < s.slots {
		return false
	}
	last, coming := s.yielding()
	if last == nil || coming >= k.waiting {
		return false
	}
	s.leaving = last.run.worker
	b, _ := s.best(k, false, now)
	s.leaving = nil
	return b != nil && s.yield(last, "a person waits for a slot, and nobody waits for this build; it is started again later", now)
}

// keepIdle stops a background build when too few slots are idle: whoever comes next need not wait until one has stopped.
func (s *Scheduler) keepIdle(now time.Time) (free bool) {
	idle := s.slots - s.taken
	if s.buckets[2].running == 0 || idle >= s.cfg.Idle {
		return false
	}
	last, coming := s.yielding()
	if last == nil || last.Class != bindery.Background || last.yields >= mostYields || idle+coming >= s.cfg.Idle {
		return false
	}
	return s.yield(last, "the slot that background builds leave idle is taken, so this one is freed; the build is started again later", now)
}

// mostYields is how often a build gives way to nobody in particular. Where slots are few it would never end else.
const mostYields = 3

// yield stops a build in favour of others, and reports whether its slot is free already.
func (s *Scheduler) yield(b *build, reason string, now time.Time) (free bool) {
	b.yields = min(b.yields, math.MaxUint16-1) + 1
	if s.ahead == nil {
		s.abort(b, GaveWay, reason)
		return false
	}
	s.settle(b, true, now)
	s.enqueue(b, now)
	return true
}

// yielding finds the build that gives way first, background ones before unattended ones, and counts the slots that are
// about to become free. Unattended builds have waited for their small turn, and what an operator has set aside for its
// place in the slow lane: what started in these goes on.
func (s *Scheduler) yielding() (last *build, coming int) {
	for _, w := range s.workers {
		for _, b := range w.running {
			switch {
			case b.Quick:
			case b.run.stopping != "":
				coming++
			case !w.up || b.Class == bindery.Attended || b.run.turn || b.aside.is:
			case last == nil || rank(b.Class) > rank(last.Class) || b.Class == last.Class && !b.run.started.Before(last.run.started):
				last = b // what began last has least to lose
			}
		}
	}
	return last, coming
}

// inTurn orders the classes. Attended builds go first, but for the small share of unattended ones.
func (s *Scheduler) inTurn() [3]*bucket {
	turn := [3]*bucket(s.buckets)
	if a, u := turn[0], turn[1]; u.waiting > 0 && s.classTag(u) < s.classTag(a) {
		turn[0], turn[1] = u, a
	}
	return turn
}

func (s *Scheduler) classTag(k *bucket) float64 { return max(k.tag, s.virtual) }

// open reports whether a class may take one more slot.
func (s *Scheduler) open(k *bucket) bool {
	switch k.class {
	case bindery.Unattended:
		return k.running < part(s.cfg.UnattendedShare, s.slots)
	case bindery.Background:
		return s.slots-s.taken > max(s.cfg.Idle, 0) || s.sidelined(k)
	}
	return true
}

// sidelined reports whether builds wait that an operator has set aside: the slow lane's one place is theirs even where
// it is in the last slot that is idle.
func (s *Scheduler) sidelined(k *bucket) bool { return s.slows == 0 && len(k.lots[slow]) > 0 }

// best finds the build of a class with the lowest tag among the sizes for which there is room.
func (s *Scheduler) best(k *bucket, strict bool, now time.Time) (*build, *worker) {
	var best *build
	var where *worker
	last := k.class == bindery.Background && s.slots-s.taken <= max(s.cfg.Idle, 0) // it may take only the slow lane's
	for _, z := range []size{short, long, slow} {
		if !s.roomFor(z) || last && z != slow {
			continue
		}
		b, w := s.find(k, z, strict, now)
		if b != nil && (best == nil || earlier(b, best)) {
			best, where = b, w
		}
	}
	return best, where
}

func (s *Scheduler) roomFor(z size) bool {
	switch z {
	case long:
		return s.longs < part(s.cfg.LongShare, s.slots)
	case slow:
		return s.slows == 0 && s.longs < part(s.cfg.LongShare, s.slots)
	}
	return true
}

func earlier(a, b *build) bool {
	if x, y := a.tag(), b.tag(); x != y {
		return x < y
	}
	return a.before(b)
}

// tag is the start tag of a build that waits in a lane.
func (b *build) tag() float64 {
	f := b.lane.pair.flow
	return max(f[byOwner].tag, f[byRequester].tag)
}

// find finds the build of one size with the lowest tag that has a worker and, when strict, is over no cap.
func (s *Scheduler) find(k *bucket, z size, strict bool, now time.Time) (*build, *worker) {
	lot := &k.lots[z]
	var aside []*post
	s.fresh = 0
	skips := 0
	if strict {
		skips = mostSkips - mostCapped
	}
	var found *build
	var where *worker
	for found == nil && len(*lot) > 0 && skips < mostSkips {
		p := (*lot)[0]
		if !strict || !s.over(p.pairs[0].held, p.flow.name) {
			if found, where = s.head(k, p, strict, &skips, now); found != nil {
				break
			}
			if p.at != 0 || len(p.pairs) == 0 {
				continue // it has changed, or has gone
			}
		}
		skips++
		aside = append(aside, lot.remove(0))
	}
	for _, p := range aside {
		if p.at < 0 && len(p.pairs) > 0 {
			lot.push(p)
		}
	}
	return found, where
}

// head finds the first build of a post that may start. Pairs that the other flow should hold are given to it.
func (s *Scheduler) head(k *bucket, p *post, strict bool, skips *int, now time.Time) (found *build, where *worker) {
	var aside []*pair
	for len(p.pairs) > 0 && *skips < mostSkips && (!strict || len(aside) < mostOver) {
		q := p.pairs[0]
		other := q.flow[1-q.held]
		if other.tag > p.flow.tag {
			k.drop(q)
			k.hold(q)
			if p.at != 0 {
				break // another post may be first now
			}
			continue
		}
		// Of equal tags the lower other one counts. What it was when the pair came may be old: it is looked up for so
		// many pairs only, since in a crowd of flows that all meet one another most are old after each start.
		if other.tag != q.other && s.fresh < mostFresh {
			s.fresh++
			q.other = other.tag
			k.fixPair(q)
			if p.at != 0 {
				break
			}
			continue
		}
		if !strict || !s.over(1-q.held, other.name) {
			var moved bool
			if found, where, moved = s.first(q, strict, skips, now); found != nil || moved && p.at != 0 {
				break
			}
			if moved {
				continue
			}
		}
		*skips++
		aside = append(aside, p.pairs.remove(int(q.at)))
	}
	for _, q := range aside {
		p.pairs.push(q)
	}
	if len(aside) > 0 {
		lot := &k.lots[aside[0].size]
		if p.at < 0 {
			lot.push(p) // the others of it went elsewhere
		}
		lot.fix(p.at)
	}
	return found, where
}

// first finds the first build of a pair that may start, unless one has moved away, of which more is known than when it
// came: another one may be first then.
func (s *Scheduler) first(q *pair, strict bool, skips *int, now time.Time) (found *build, where *worker, moved bool) {
	lanes := q.lanes[:1] // which nearly always has it
	for i := 0; i < len(lanes) && !lanes[i].paused; i++ {
		b := lanes[i].builds[0]
		if s.size(b) != q.size {
			s.requeue(b, now, func() {})
			return nil, nil, true
		}
		if !strict || !s.overRepo(b.Repo) {
			if found, where = s.fitting(lanes[i]); found != nil {
				return found, where, false
			}
		}
		if i == 0 && len(q.lanes) > 1 {
			lanes = q.lanes.first(mostLanes, nil)
		} else if i > 0 {
			*skips++
		}
	}
	return nil, nil, false
}

// fitting finds the first build of a lane that has a worker. Builds of one lane differ only in the workers that failed
// them, so that few have to be looked at.
func (s *Scheduler) fitting(l *lane) (*build, *worker) {
	b := l.builds[0]
	if w := s.choose(b, l.pair.size); w != nil || len(b.avoid) == 0 {
		if w == nil {
			return nil, nil
		}
		return b, w
	}
	const most = 64
	var found *build
	var where *worker
	for _, b := range l.builds[:min(len(l.builds), most)] {
		if found != nil && !b.before(found) {
			continue
		}
		if w := s.choose(b, l.pair.size); w != nil {
			found, where = b, w
		}
	}
	return found, where
}

func (s *Scheduler) over(d side, name string) bool {
	if d == byOwner {
		return s.running[1][name] >= part(s.cfg.OwnerShare, s.slots)
	}
	return s.running[2][name] >= part(s.cfg.RequesterShare, s.slots)
}

func (s *Scheduler) overRepo(name string) bool {
	return s.running[0][name] >= part(s.cfg.RepoShare, s.slots)
}

// start starts a build that waits in a lane: it takes its slot, and its flows are charged what it should cost.
func (s *Scheduler) start(b *build, w *worker, now time.Time) {
	k := s.bucket(b.Class)
	tag := b.tag()
	k.virtual = max(k.virtual, tag)
	k.leave(b)
	b.Attempt++
	s.judge(b, now)
	s.occupyFrom(b, w, now, now, tag)
	if s.ahead != nil {
		s.ahead.run(s, b)
		return
	}
	d := Start{Build: b.ID, Attempt: b.Attempt, Worker: w.name, Quick: b.Quick, Slow: b.Slow}
	if b.aside.is {
		r, _ := s.rule(UntilBuilt, b.target())
		d.Reason = asideText(r)
	}
	s.decide(d)
}

// occupy makes a build run whose start lies in the past.
func (s *Scheduler) occupy(b *build, w *worker, started, now time.Time) {
	k := s.bucket(b.Class)
	for d, name := range []string{b.Owner, b.Requester} {
		k.occupy(s, side(d), k.flow(s, side(d), name, now), false, now)
	}
	s.occupyFrom(b, w, started, now, k.virtual)
}

func (s *Scheduler) occupyFrom(b *build, w *worker, started, now time.Time, tag float64) {
	e := s.Estimate(b.Repo, b.Kind)
	b.Running, b.Worker, b.Until, b.Started = true, w.name, time.Time{}, started
	b.run = &run{
		worker: w, class: b.Class, started: started, moved: now, charge: e.Expected().Seconds(),
		disk: s.diskOf(b.Repo), most: int(b.watchers), turn: s.turn && b.Class == bindery.Unattended,
	}
	if b.Quick {
		b.run.charge, b.run.disk = 0, 0
	} else if e.Known && s.ahead == nil {
		early, late := s.tails()
		b.run.told = &promise{from: started.Add(e.Quantile(early)), to: started.Add(e.Quantile(late))}
	}
	w.add(b)
	s.account(b, +1)
	if z := s.size(b); z == long || z == slow {
		s.markLong(b)
	}
	s.charge(b, tag, now)
	s.guard(b)
}

// account counts a build that runs, or does not any more.
func (s *Scheduler) account(b *build, n int) {
	if b.Quick {
		s.quicks += n
		b.run.worker.quick += n
		return
	}
	s.bucket(b.run.class).running += n
	if b.Slow {
		s.slows += n
	}
	if b.run.long {
		s.longs += n
	}
	for i, name := range []string{b.Repo, b.Owner, b.Requester} {
		if s.running[i][name] += n; s.running[i][name] == 0 {
			delete(s.running[i], name)
		}
	}
	b.run.worker.disk += int64(n) * b.run.disk
	s.count()
}

func (s *Scheduler) markLong(b *build) {
	if !b.run.long && !b.Quick {
		b.run.long = true
		s.longs++
	}
}

// charge advances the flows of a build that starts by what it should cost. Those who asked for it share that.
func (s *Scheduler) charge(b *build, tag float64, now time.Time) {
	k := s.bucket(b.Class)
	c := b.run.charge
	part := c / float64(1+len(b.askers))
	b.run.paid = make([]float64, 0, 2+len(b.askers))
	for i, f := range s.payers(b, k, now) {
		paid, start := part/s.weight(OnRequester, f.name), k.due(s, f, now)
		if i == 0 {
			paid = c / s.weight(OnOwner, f.name)
		}
		if i < 2 {
			start = max(start, tag) // the tag of a build that is restored says nothing of what they had used
		}
		k.pay(f, paid, start+paid)
		b.run.paid = append(b.run.paid, paid)
	}
	if k.class != bindery.Background {
		weight := 1.0
		if k.class == bindery.Unattended {
			weight = s.cfg.Unattended
		}
		s.virtual = s.classTag(k)
		k.tag = s.virtual + c/weight
	}
}

// payers are the flows that pay for a build: its owner's, its requester's, and those of who asked for it too.
func (s *Scheduler) payers(b *build, k *bucket, now time.Time) []*flow {
	flows := make([]*flow, 0, 2+len(b.askers))
	flows = append(flows, k.flow(s, byOwner, b.Owner, now), k.flow(s, byRequester, b.Requester, now))
	for _, name := range b.askers {
		flows = append(flows, k.flow(s, byRequester, name, now))
	}
	return flows
}

// due is the tag of a flow that has to pay now.
func (k *bucket) due(s *Scheduler, f *flow, now time.Time) float64 {
	if f.busy > 0 {
		return f.tag
	}
	tag := k.virtual + k.debt(s, f, now)
	f.left = now.UnixNano()
	return tag
}

// settle ends the run of a build. Its flows, which were charged what it should have cost, are charged what it did.
// free: its end was not its doing, so it costs nothing.
func (s *Scheduler) settle(b *build, free bool, now time.Time) {
	r := b.run
	k := s.bucket(r.class)
	r.worker.remove(b)
	s.account(b, -1)
	cost := now.Sub(r.started).Seconds()
	if free || b.Quick || b.aside.is {
		cost = 0
	}
	part := cost / float64(1+len(b.askers))
	flows := s.payers(b, k, now)
	for i, f := range flows {
		took := part / s.weight(OnRequester, f.name)
		if i == 0 {
			took = cost / s.weight(OnOwner, f.name)
		}
		if tag := k.due(s, f, now); i < len(r.paid) {
			k.setTag(f, tag+took-r.paid[i])
			k.repay(f, r.paid[i])
		} else {
			k.setTag(f, tag+took) // it asked when the build ran already
		}
	}
	for d, f := range flows[:2] {
		k.rest(side(d), f, now)
		s.lend(k, f, now)
	}
	b.run, b.Running, b.Worker = nil, false, ""
}
