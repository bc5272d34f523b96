package dispatch

import (
	"context"
	"errors"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// attempt names one attempt of one build.
type attempt struct {
	id string
	n  int
}

// A follower brings one attempt's events from its worker to the store.
type follower struct {
	id      string
	attempt int
	worker  string // its name
	read    int64  // the worker's number of the last event that is stored
	req     bindery.BuildRequest
}

// follow returns the work of a follower. It ends when the attempt has.
func (d *Dispatcher) follow(f follower) func(context.Context) {
	name := attempt{f.id, f.attempt}
	return func(ctx context.Context) {
		if _, twice := d.following.LoadOrStore(name, true); twice {
			return
		}
		defer d.following.Delete(name)
		told := false
		for wait := backoff(0); ; {
			before := f.read
			over, err := d.connect(ctx, &f)
			if over || ctx.Err() != nil {
				return
			}
			if f.read > before {
				wait, told = 0, false
			}
			if err != nil && !told && wait > 0 {
				told = true
				d.cfg.Log.WarnContext(ctx, "a build's worker does not answer", "build", f.id, "attempt", f.attempt, "error", err)
				d.tell(ctx, name, "The worker does not answer; waiting for it to come back.\n")
			}
			if wait.sleep(ctx) != nil || !d.runs(name) {
				return // at the latest when it moves, with its worker's removal
			}
		}
	}
}

// runs reports whether an attempt is still the running one of its build.
func (d *Dispatcher) runs(a attempt) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.builds[a.id]
	return b != nil && b.State == bindery.BuildRunning && b.Attempt == a.n
}

// connect starts the attempt unless it is known to have started, and reads its events until the connection breaks.
func (d *Dispatcher) connect(ctx context.Context, f *follower) (over bool, err error) {
	if f.read == 0 {
		if err := d.at(f.worker).Start(ctx, f.req); err != nil {
			if e, ok := errors.AsType[*bindery.Error](err); ok && !passing(e.Kind) {
				return d.end(ctx, f, e)
			}
			return false, err
		}
	}
	return d.readEvents(ctx, f)
}

// passing reports whether a kind says that the worker is away or busy, rather than something about the build.
func passing(k bindery.Kind) bool {
	switch k {
	case bindery.ErrUnreachable, bindery.ErrNotReady, bindery.ErrTimeout, bindery.ErrCancelled, bindery.ErrLocked, bindery.ErrWorkerLost, bindery.ErrInternal:
		return true
	}
	return false
}

type incoming struct {
	event bindery.Event
	err   error
}

const (
	mostEvents = 500 // of one attempt in a transaction
	readAhead  = 16  // events: each follower has room for them all the time, and there may be thousands
)

// readEvents stores events as they come, as many at once as there are. Whoever stores them begins with the first one:
// an attempt that is silent as yet has one goroutine and no buffer.
func (d *Dispatcher) readEvents(ctx context.Context, f *follower) (over bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var in chan incoming
	var end chan ending
	for e, err := range d.at(f.worker).Events(ctx, f.id, f.attempt, f.read) {
		if in == nil {
			in, end = make(chan incoming, readAhead), make(chan ending, 1)
			go func() {
				defer cancel()
				over, err := d.recordAll(ctx, f, in)
				end <- ending{over, err}
			}()
		}
		select {
		case in <- incoming{e, err}:
		case <-ctx.Done():
		}
		if err != nil || ctx.Err() != nil {
			break
		}
	}
	if in == nil {
		return false, nil
	}
	close(in)
	x := <-end
	return x.over, x.err
}

// An ending is how the recording of an attempt's events ended.
type ending struct {
	over bool
	err  error
}

// recordAll stores what comes in until that is all, or the attempt has ended.
func (d *Dispatcher) recordAll(ctx context.Context, f *follower, in <-chan incoming) (over bool, err error) {
	for first := range in {
		events, err := drain(first, in)
		if len(events) > 0 {
			last := events[len(events)-1]
			gone, err := d.record(ctx, f, events)
			if err != nil {
				return false, err
			}
			f.read = max(f.read, last.Seq)
			// If this is lost the worker keeps the events until it is asked for its status.
			_ = d.at(f.worker).Ack(ctx, f.id, f.attempt, last.Seq)
			if gone || last.Last() {
				return true, nil
			}
		}
		if errors.Is(err, bindery.ErrNotFound) {
			return d.end(ctx, f, bindery.Errorf(bindery.ErrWorkerLost, bindery.Transient, "Wait: the build starts again by itself.", "The worker lost the build").Because(err))
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// drain takes what has arrived, without waiting for more, up to the attempt's last event.
func drain(next incoming, in <-chan incoming) (events []bindery.Event, err error) {
	for {
		if next.err != nil {
			return events, next.err
		}
		events = append(events, next.event)
		if len(events) >= mostEvents || next.event.Last() {
			return events, nil
		}
		select {
		case x, ok := <-in:
			if !ok {
				return events, nil
			}
			next = x
		default:
			return events, nil
		}
	}
}

// record stores events of an attempt. gone: the attempt is not the running one any more.
func (d *Dispatcher) record(ctx context.Context, f *follower, events []bindery.Event) (gone bool, err error) {
	err = d.insist(ctx, func(t *turn) {
		b := d.builds[f.id]
		gone = b == nil || b.State != bindery.BuildRunning || b.Attempt != f.attempt
		if gone {
			return
		}
		for _, e := range events {
			if e.Seq <= b.read {
				continue // it was stored before
			}
			b.read = e.Seq
			if e.Last() {
				t.ended(b, e)
				return
			}
			t.say(b, e)
		}
		t.step(sched.Progress{Build: b.ID, Attempt: b.Attempt})
	})
	return gone, err
}

// end ends an attempt that its worker will not end.
func (d *Dispatcher) end(ctx context.Context, f *follower, cause *bindery.Error) (over bool, err error) {
	err = d.insist(ctx, func(t *turn) {
		if b := d.builds[f.id]; b != nil && b.State == bindery.BuildRunning && b.Attempt == f.attempt {
			t.ended(b, bindery.Event{Phase: bindery.PhaseFailed, Message: cause.Msg + "\n", Err: cause})
		}
	})
	return err == nil, err
}

// tell adds a line to the story of a running attempt.
func (d *Dispatcher) tell(ctx context.Context, a attempt, text string) {
	_ = d.do(ctx, func(t *turn) { // not worth a second try
		if b := d.builds[a.id]; b != nil && b.State == bindery.BuildRunning && b.Attempt == a.n {
			t.say(b, bindery.Event{Phase: bindery.PhaseWaiting, Message: text})
		}
	})
}

// abort tells the worker to stop an attempt until it has heard.
func (d *Dispatcher) abort(a sched.Abort) func(context.Context) {
	return func(ctx context.Context) {
		for wait := backoff(0); ; {
			d.mu.Lock()
			b := d.builds[a.Build]
			over := b == nil || b.State != bindery.BuildRunning || b.Attempt != a.Attempt
			where := ""
			if !over {
				where = b.Worker
			}
			d.mu.Unlock()
			if over {
				return
			}
			err := d.at(where).Cancel(ctx, a.Build, a.Attempt)
			if err == nil || wait.sleep(ctx) != nil {
				return
			}
		}
	}
}
