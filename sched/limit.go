package sched

import "time"

func (in Progress) apply(s *Scheduler, now time.Time) {
	if b := s.builds[in.Build]; b != nil && b.run != nil && b.Attempt == in.Attempt {
		b.run.moved = now // the alarm that is set looks again when it rings
	}
}

// guard sets the alarm for the first limit that a running build may reach.
func (s *Scheduler) guard(b *build) {
	if s.origin != nil {
		return
	}
	var first time.Time
	sooner := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	r := b.run
	if r.stopping == "" {
		if s.cfg.Stall > 0 {
			sooner(r.moved.Add(s.cfg.Stall))
		}
		if age := s.ageLimit(b); age > 0 {
			at := r.started.Add(age)
			if r.spared.After(at) {
				at = r.spared
			}
			sooner(at)
		}
	}
	if !r.long && !b.Quick && s.cfg.LongAfter > 0 {
		sooner(r.started.Add(s.cfg.LongAfter))
	}
	if !first.IsZero() {
		s.wake(first, aboutRun, b.ID)
	}
}

func (s *Scheduler) ageLimit(b *build) time.Duration {
	if b.Slow {
		return s.cfg.SlowAge
	}
	return s.cfg.MaxAge
}

// inspect stops a running build that has reached a limit; otherwise it sets the next alarm.
func (s *Scheduler) inspect(b *build, now time.Time) {
	r := b.run
	if s.cfg.LongAfter > 0 && !r.started.Add(s.cfg.LongAfter).After(now) {
		s.markLong(b)
	}
	age := s.ageLimit(b)
	switch {
	case r.stopping != "":
	case s.cfg.Stall > 0 && !r.moved.Add(s.cfg.Stall).After(now):
		s.abort(b, Stalled, "it made no progress for "+words(s.cfg.Stall))
	case age > 0 && !r.started.Add(age).After(now):
		s.outgrow(b, age, now)
	}
	s.guard(b)
}

// lookAgain is how often a limit is looked at that binds only while somebody waits.
const lookAgain = time.Minute

// outgrow is what happens to an attempt that has reached its age limit. What it has done so far is not thrown away
// while that helps nobody: it goes on, as a build of the slow lane, while long builds keep to their share of the slots;
// and for as long as nobody wants its slot.
func (s *Scheduler) outgrow(b *build, age time.Duration, now time.Time) {
	s.markLong(b) // LongAfter may be later, or never
	switch {
	case b.Slow || b.Quick: // the slow lane's builds have slots
		s.abort(b, TooOld, "it reached its age limit of "+words(age))
	case !s.crowding():
		b.Slow = true
		s.slows++
		s.decide(Slow{Build: b.ID, Attempt: b.Attempt})
	case s.wanted():
		s.abort(b, TooOld, "it reached its age limit of "+words(age)+" while others wait")
	default:
		b.run.spared = now.Add(lookAgain)
	}
}

// crowding reports whether a long build that runs is one of too many. The first one has the slow lane in any case,
// unless that would leave no slot at all to others.
func (s *Scheduler) crowding() bool {
	return s.longs >= s.slots || s.slows > 0 && s.longs > part(s.cfg.LongShare, s.slots)
}

// wanted reports whether more builds wait, for which somebody asks soon, than slots are about to become free already.
func (s *Scheduler) wanted() bool {
	waiting := s.buckets[0].waiting + s.buckets[1].waiting
	for _, w := range s.workers {
		for _, b := range w.running {
			if b.run.stopping != "" {
				waiting--
			}
		}
	}
	return waiting > 0
}

// tooOld gives a build that was stopped for its age a second life in the slow lane. It has no third.
func (s *Scheduler) tooOld(b *build, now time.Time) {
	b.Charged++
	if b.Slow {
		s.fail(b, TooOld, now)
		return
	}
	b.Slow, b.Quick = true, false
	s.again(b, TooOld, now)
}

func (in Watch) apply(s *Scheduler, now time.Time) {
	b := s.builds[in.Build]
	if b == nil || int(b.watchers) == in.Watchers {
		return
	}
	b.watchers = int32(in.Watchers)
	b.age()
	if b.run != nil {
		b.run.most = max(b.run.most, int(b.watchers))
	}
	if b.lane != nil {
		b.lane.builds.fix(int(b.at))
		s.bucket(b.Class).fix(b.lane)
	}
	if b.watchers > 0 {
		b.watched, b.alone = true, 0
		return
	}
	if b.watched && s.cfg.Grace > 0 {
		b.alone = now.UnixNano()
		s.wake(now.Add(s.cfg.Grace), aboutLeaving, b.ID)
	}
}

// nearly is the share of its expected cost after which a build is left to finish though nobody watches it.
const nearly = 0.8

// abandon gives up an attended build whose last watcher has been gone for the grace period. One that runs is left alone
// for longer, and as long as nobody else wants its slot: many who leave come back, and others may come for it.
func (s *Scheduler) abandon(b *build, now time.Time) {
	alone := time.Unix(0, b.alone).UTC()
	if b.alone == 0 || alone.Add(s.cfg.Grace).After(now) || rank(b.Class) != 0 {
		return
	}
	if r := b.run; r != nil {
		ran := now.Sub(r.started)
		dear := r.most >= s.cfg.Popular || ran >= seconds(nearly*s.Estimate(b.Repo, b.Kind).Expected().Seconds())
		switch end := alone.Add(s.cfg.Linger); {
		case s.cfg.Linger < 0 || r.stopping != "":
			return
		case end.After(now):
			s.wake(end, aboutLeaving, b.ID)
			return
		case dear:
			b.alone = 0
			return
		case !s.wanted():
			s.wake(now.Add(lookAgain), aboutLeaving, b.ID)
			return
		}
	}
	if b.run == nil && b.Attempt == 0 {
		s.quits.learn(now.Sub(b.Created), true)
	}
	b.alone = 0
	s.cancel(b, "nobody waits for it any more", now)
}
