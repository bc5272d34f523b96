package sched

import (
	"fmt"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// mostAskers bounds those over whom the cost of one build is divided.
const mostAskers = 32

func (in Submit) apply(s *Scheduler, now time.Time) {
	if in.Class == "" {
		in.Class = bindery.Attended
	}
	if reason := s.banned(target{in.Repo, in.Ref, in.Owner, in.Requester, in.Spec, in.Address}); reason != "" {
		s.decide(Reject{Build: in.Build, Reason: reason})
		return
	}
	if b := s.keys[in.Key]; b != nil {
		s.decide(Join{Build: in.Build, Existing: b.ID})
		s.welcome(b, in, now)
		return
	}
	if f, ok := s.failures[in.Key]; ok && f.Until.After(now) {
		if reason, no := s.remembered(f, in.Retry); no {
			s.decide(Recall{Build: in.Build, Failed: f.Build, Until: f.Until, Reason: reason})
			return
		}
		f.Forced++
		s.failures[in.Key] = f
	}
	s.order++
	b := &build{order: s.order, at: -1, pinned: in.Ref == "", Build: Build{
		ID: in.Build, Key: in.Key, Repo: in.Repo, Ref: in.Ref, Owner: in.Owner, Requester: in.Requester, Class: in.Class,
		Kind: in.Kind, Quick: in.Quick, Created: now,
	}}
	if in.Spec != "" || in.Address != "" {
		b.From = &Origin{in.Spec, in.Address}
	}
	b.age()
	s.builds[b.ID], s.keys[b.Key] = b, b
	s.decide(Queue{Build: b.ID, Forced: s.failures[b.Key].Forced})
	s.supersede(b, now)
	if k := s.bucket(b.Class); k.idle(byOwner, b.Owner) && k.idle(byRequester, b.Requester) {
		s.arrivals.count(now, 1) // who has builds waiting already overtakes nobody with one more, whoever owns it
	}
	s.enqueue(b, now)
}

// remembered says why a failure answers, and whether it does.
func (s *Scheduler) remembered(f Failure, retry bool) (reason string, answers bool) {
	left := max(s.cfg.Retries, 0) - f.Forced
	switch {
	case f.Quarantined && !retry:
		return "it takes longer than the slow lane allows; it is in quarantine", true
	case retry && left <= 0:
		return fmt.Sprintf("it was retried %d times already", f.Forced), true
	case retry:
		return "", false
	case f.Row > 1:
		return fmt.Sprintf("it failed %d times in a row", f.Row), true
	}
	return "it failed a moment ago", true
}

// welcome lets one more ask for a build that is under way: the most urgent class counts, and of the requesters the one
// whose flow pulls it forward most.
func (s *Scheduler) welcome(b *build, in Submit, now time.Time) {
	if in.Ref != b.Ref {
		b.pinned = true
	}
	if b.run != nil && b.run.stopping == WasCancelled {
		b.run.revived = true // it cannot be called back, but it starts again when it has ended
	}
	switch {
	case b.aside.is: // nobody makes it more urgent
		if rank(in.Class) < int(b.aside.rank) {
			b.aside.rank = uint8(rank(in.Class))
			s.decide(Promote{Build: b.ID, Class: in.Class})
		}
	case rank(in.Class) < rank(b.Class):
		s.requeue(b, now, func() { b.Class = in.Class })
		s.decide(Promote{Build: b.ID, Class: in.Class})
	}
	if in.Requester == b.Requester || slices.Contains(b.askers, in.Requester) || len(b.askers) >= mostAskers {
		return
	}
	k := s.bucket(b.Class)
	if b.lane != nil && k.tagOf(s, in.Requester, now) < k.tagOf(s, b.Requester, now) {
		s.requeue(b, now, func() { b.Requester, b.askers = in.Requester, append(b.askers, b.Requester) })
		return
	}
	b.askers = append(b.askers, in.Requester)
}

// tagOf is the tag that the flow of a requester has, or would have if it asked now.
func (k *bucket) tagOf(s *Scheduler, name string, now time.Time) float64 {
	f := k.flows[byRequester][name]
	switch {
	case f == nil:
		return k.virtual
	case f.busy == 0:
		return k.virtual + k.debt(s, f, now)
	}
	return f.tag
}

// supersede drops the queued build of an older commit of the same ref. Nobody gets a commit that he did not ask for:
// what was asked for by commit stays.
func (s *Scheduler) supersede(b *build, now time.Time) {
	if b.Ref == "" {
		return
	}
	name := refName{b.Repo, b.Ref}
	if old := s.refs[name]; old != nil && old.run == nil && !old.pinned && old.Owner == b.Owner {
		s.unqueue(old, now)
		s.forget(old)
		s.decide(Drop{Build: old.ID, By: b.ID, Reason: "a newer commit of " + b.Ref + " is built instead"})
	}
	s.refs[name] = b
}

func (in Cancel) apply(s *Scheduler, now time.Time) {
	if b := s.builds[in.Build]; b != nil {
		s.cancel(b, "it was cancelled", now)
	}
}

// cancel ends a build that nobody wants, for a reason in words.
func (s *Scheduler) cancel(b *build, reason string, now time.Time) {
	if b.run != nil {
		// It keeps its slot and its key until the worker says that it has ended.
		s.abort(b, WasCancelled, reason)
		return
	}
	s.unqueue(b, now)
	s.forget(b)
	s.decide(Drop{Build: b.ID, Reason: reason})
}

func (s *Scheduler) abort(b *build, as Outcome, reason string) {
	if b.run.stopping == as {
		b.run.revived = false
		return // it has been told
	}
	b.run.stopping, b.run.why, b.run.revived = as, reason, false
	s.decide(Abort{Build: b.ID, Attempt: b.Attempt, Worker: b.Worker, Reason: reason})
}

func (in Finished) apply(s *Scheduler, now time.Time) {
	b := s.builds[in.Build]
	if b == nil || b.run == nil || b.Attempt != in.Attempt {
		return // an old attempt's end
	}
	o := in.Outcome
	if o != Succeeded && b.run.stopping != "" {
		o = b.run.stopping
	}
	if in.Kind != "" {
		b.Kind = in.Kind
	}
	if cost := now.Sub(b.run.started); !b.Quick && (o == Succeeded || o == TooOld) {
		s.costs.learn(b.Repo, b.Kind, cost, in.Disk)
		if b.run.told != nil {
			s.ends.learn(b.run.told, now, learnsEnds)
		}
	}
	s.finish(b, o, now)
}

// finish decides what follows the end of an attempt. Whose fault it was decides who pays for it, and what comes next.
func (s *Scheduler) finish(b *build, o Outcome, now time.Time) {
	r := b.run
	free := o == MayPass || o == OurFault || o == WorkerGone || o == NoSpace || o == NotQuick || o == GaveWay
	s.settle(b, free, now)
	switch {
	case o == Succeeded:
		s.forget(b)
		delete(s.failures, b.Key)
		s.decide(Done{Build: b.ID})
		if len(s.built(b)) > 0 {
			s.enact(now)
		}
	case (r.stopping == WasCancelled || o == WasCancelled) && r.revived:
		s.again(b, WasCancelled, now)
	case r.stopping == WasCancelled || o == WasCancelled:
		s.forget(b)
		s.decide(Drop{Build: b.ID, Reason: r.why})
	case o == UserFault:
		b.Charged++
		s.fail(b, o, now)
	case o == TooOld:
		s.tooOld(b, now)
	case o == GaveWay:
		s.again(b, o, now)
	case o == NotQuick:
		b.Quick = false
		s.again(b, o, now)
	case o == WorkerGone || o == NoSpace:
		s.move(b, r.worker, o, now)
	default:
		s.shun(b, r.worker, o == OurFault)
		if b.Charged++; b.Charged >= s.cfg.Attempts {
			s.fail(b, o, now)
			return
		}
		b.Until = now.Add(doubled(s.cfg.Backoff, b.Charged-1, s.cfg.Longest))
		s.again(b, o, now)
	}
}

// move lets a build go to another worker, for the fault of this one.
func (s *Scheduler) move(b *build, w *worker, o Outcome, now time.Time) {
	if o == NoSpace && w.up {
		w.up, w.full = false, true
		s.count()
		s.decide(Drain{Worker: w.name, Reason: "its disk is full"})
	}
	s.shun(b, w, true)
	if b.Attempt-b.Charged-int(b.yields) > s.cfg.Lost {
		s.fail(b, o, now)
		return
	}
	s.again(b, o, now)
}

// shun keeps a build from a worker that failed it.
func (s *Scheduler) shun(b *build, w *worker, fault bool) {
	if fault && len(b.avoid) < 8 && !slices.Contains(b.avoid, w.name) {
		b.avoid = append(b.avoid, w.name)
	}
}

func (s *Scheduler) again(b *build, o Outcome, now time.Time) {
	s.decide(Again{Build: b.ID, Outcome: o, Charged: b.Charged, Until: b.Until, Slow: b.Slow})
	s.enqueue(b, now)
}

func (s *Scheduler) fail(b *build, o Outcome, now time.Time) {
	s.forget(b)
	f := s.failures[b.Key]
	quarantined := o == TooOld
	until := now.Add(doubled(s.cfg.Remember, f.Row, s.cfg.Longest))
	if quarantined {
		until = now.Add(max(s.cfg.Isolate, 0))
	}
	f = Failure{Key: b.Key, Build: b.ID, Row: f.Row + 1, Until: until, Forced: f.Forced, Quarantined: quarantined}
	s.failures[b.Key] = f
	s.wake(f.Until.Add(s.cfg.Longest), aboutFailure, f.Key)
	s.decide(Fail{Build: b.ID, Outcome: o, Charged: b.Charged, Row: f.Row, Until: f.Until, Quarantined: quarantined, Forced: f.Forced})
}

func (in Forgive) apply(s *Scheduler, _ time.Time) { delete(s.failures, in.Key) }

func (in Learn) apply(s *Scheduler, _ time.Time) { s.costs.learn(in.Repo, in.Kind, in.Cost, in.Disk) }

func (in Configure) apply(s *Scheduler, _ time.Time) {
	s.cfg, s.vacant = in.Config.WithDefaults(), true
}

func (in Tick) apply(*Scheduler, time.Time) {}
