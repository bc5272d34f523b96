package sched

import (
	"slices"
	"time"
)

func (in Submit) apply(s *Scheduler, now time.Time) {
	if b := s.keys[in.Key]; b != nil {
		s.decide(Join{Build: in.Build, Existing: b.ID})
		return
	}
	if f, ok := s.failures[in.Key]; ok && !in.Retry && f.Until.After(now) {
		s.decide(Recall{Build: in.Build, Failed: f.Build, Until: f.Until})
		return
	}
	s.order++
	b := &build{Build: Build{ID: in.Build, Key: in.Key, Class: in.Class}, order: s.order}
	s.builds[b.ID], s.keys[b.Key] = b, b
	s.ready.insert(b)
	s.decide(Queue{Build: b.ID})
}

func (in Cancel) apply(s *Scheduler, _ time.Time) {
	b := s.builds[in.Build]
	switch {
	case b == nil:
	case b.Running:
		// It keeps its slot and its key until the worker says that it has ended.
		b.unwanted = true
		s.decide(Abort{Build: b.ID, Attempt: b.Attempt, Worker: b.Worker})
	default:
		if b.delayed {
			s.later--
		} else {
			s.ready.remove(b)
		}
		s.forget(b)
		s.decide(Drop{Build: b.ID})
	}
}

func (in Finished) apply(s *Scheduler, now time.Time) {
	b := s.builds[in.Build]
	if b == nil || !b.Running || b.Attempt != in.Attempt {
		return // an old attempt's end
	}
	w := s.worker(b.Worker)
	w.running = slices.DeleteFunc(w.running, func(x *build) bool { return x == b })
	s.finish(b, in.Outcome, now)
}

// finish decides what follows the end of an attempt that has left its worker.
func (s *Scheduler) finish(b *build, o Outcome, now time.Time) {
	b.Running, b.Worker = false, ""
	switch {
	case o == Succeeded:
		s.forget(b)
		delete(s.failures, b.Key)
		s.decide(Done{Build: b.ID})
	case b.unwanted || o == WasCancelled:
		s.forget(b)
		s.decide(Drop{Build: b.ID})
	case o == WorkerGone:
		if b.Attempt-b.Charged > s.cfg.Lost {
			s.fail(b, o, now)
			return
		}
		s.again(b, o, now)
	case o == UserFault:
		b.Charged++
		s.fail(b, o, now)
	default:
		if b.Charged++; b.Charged >= s.cfg.Attempts {
			s.fail(b, o, now)
			return
		}
		b.Until = now.Add(doubled(s.cfg.Backoff, b.Charged-1, s.cfg.Longest))
		s.again(b, o, now)
	}
}

func (s *Scheduler) again(b *build, o Outcome, now time.Time) {
	s.decide(Again{Build: b.ID, Outcome: o, Charged: b.Charged, Until: b.Until})
	s.enqueue(b, now)
}

func (s *Scheduler) fail(b *build, o Outcome, now time.Time) {
	s.forget(b)
	f := s.failures[b.Key]
	f = Failure{Key: b.Key, Build: b.ID, Row: f.Row + 1, Until: now.Add(doubled(s.cfg.Remember, f.Row, s.cfg.Longest))}
	s.failures[b.Key] = f
	s.wake(f.Until.Add(s.cfg.Longest), aboutFailure, f.Key)
	s.decide(Fail{Build: b.ID, Outcome: o, Charged: b.Charged, Row: f.Row, Until: f.Until})
}

func (in WorkerUp) apply(s *Scheduler, _ time.Time) {
	w := s.worker(in.Worker)
	w.up, w.slots = true, in.Slots
}

func (in WorkerDown) apply(s *Scheduler, _ time.Time) { s.worker(in.Worker).up = false }

func (in WorkerLost) apply(s *Scheduler, now time.Time) {
	w := s.worker(in.Worker)
	lost := w.running
	w.up, w.running = false, nil
	for _, b := range lost {
		s.finish(b, WorkerGone, now)
	}
}

func (in Watch) apply(s *Scheduler, _ time.Time) {
	if b := s.builds[in.Build]; b != nil {
		b.watchers = in.Watchers
	}
}

func (in Configure) apply(s *Scheduler, _ time.Time) { s.cfg = in.Config.withDefaults() }

func (in Tick) apply(*Scheduler, time.Time) {}
