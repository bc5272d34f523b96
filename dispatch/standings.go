package dispatch

import (
	"context"
	"iter"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A board says where one build or waiting session stands, to any number of readers. They share one channel that is closed,
// then replaced, when that has changed.
type board struct {
	st      bindery.Standing
	over    bool // it stands nowhere any more
	wake    chan struct{}
	readers int
}

// lookEvery is how often boards are written anew, while anybody reads them.
const lookEvery = time.Second

// Standings yields where a build stands in the queue and when it will be done once it runs, or where a session stands that
// waits for a place: now, then whenever that has changed, at most a second later. It ends when the build is over, when the
// session has its place or will get none. Of a launch that is to be followed give the Ask's Request: the session has no
// other name yet.
func (d *Dispatcher) Standings(ctx context.Context, id string) iter.Seq2[bindery.Standing, error] {
	return func(yield func(bindery.Standing, error) bool) {
		if err := d.ready(ctx); err != nil {
			yield(bindery.Standing{}, err)
			return
		}
		x := d.openBoard(id)
		defer d.closeBoard(id, x)
		for last := (bindery.Standing{}); ; {
			d.notes.Lock()
			st, over, wake := x.st, x.over, x.wake
			d.notes.Unlock()
			if over {
				return
			}
			if st != last {
				if last = st; !yield(st, nil) {
					return
				}
			}
			select {
			case <-wake:
			case <-ctx.Done():
				yield(bindery.Standing{}, ctx.Err())
				return
			case <-d.stopped:
				yield(bindery.Standing{}, errStopping())
				return
			}
		}
	}
}

// openBoard finds the board of a thing, or writes one.
func (d *Dispatcher) openBoard(id string) *board {
	st, lives := d.lookUp(id)
	d.notes.Lock()
	defer d.notes.Unlock()
	x := d.boards[id]
	if x == nil || x.over {
		x = &board{st: st, over: !lives, wake: make(chan struct{})}
		d.boards[id] = x
	}
	x.readers++
	return x
}

func (d *Dispatcher) closeBoard(id string, x *board) {
	d.notes.Lock()
	defer d.notes.Unlock()
	if x.readers--; x.readers == 0 && d.boards[id] == x {
		delete(d.boards, id)
	}
}

// lookUp says where a thing stands, and whether it stands anywhere.
func (d *Dispatcher) lookUp(id string) (bindery.Standing, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	st, ok := d.sched.Standing(now, id)
	if !ok {
		if w := d.lobby[id]; w != nil {
			id = w.rec.ID
		}
		st, ok = d.sched.SessionStanding(now, id)
	}
	return st, ok && (st.Position > 0 || !st.Run.Since.IsZero())
}

// writeBoards looks again and again where everything stands that somebody reads about. It also has the loop take in
// who has come and gone: that is only noted, since it happens too often to wake the loop for each.
func (d *Dispatcher) writeBoards(ctx context.Context) {
	for pause(ctx, lookEvery) == nil {
		d.notes.Lock()
		ids := make([]string, 0, len(d.boards))
		for id := range d.boards {
			ids = append(ids, id)
		}
		news := len(d.watched) > 0
		d.notes.Unlock()
		if news {
			d.wakeLoop()
		}
		slices.Sort(ids) // the first look makes the forecast for all of them
		for _, id := range ids {
			d.rewrite(id)
		}
	}
}

// rewrite brings one board up to date.
func (d *Dispatcher) rewrite(id string) {
	d.notes.Lock()
	x := d.boards[id]
	d.notes.Unlock()
	if x == nil {
		return // nobody reads
	}
	st, lives := d.lookUp(id)
	d.notes.Lock()
	defer d.notes.Unlock()
	if d.boards[id] != x || x.over || lives && !moved(x.st, st, d.cfg.Now()) {
		return
	}
	x.st, x.over = st, !lives
	close(x.wake)
	x.wake = make(chan struct{})
}

// moved reports whether a person would call it a change. Forecasts draw random numbers: that an end of the interval
// moves by less than a tenth of what is left is not worth a line on anybody's screen. While a build runs the beginning of
// its interval moves with the clock: the end alone tells how things are.
func moved(a, b bindery.Standing, now time.Time) bool {
	if a.Position != b.Position || a.Reason != b.Reason || a.From.IsZero() != b.From.IsZero() || a.Run.Since != b.Run.Since || a.Run.From.IsZero() != b.Run.From.IsZero() {
		return true
	}
	far := func(x, y time.Time) bool {
		return x.Sub(y).Abs() > max(y.Sub(now)/10, 2*time.Second)
	}
	return far(a.Likely, b.Likely) || far(a.To, b.To) || far(a.From, b.From) || far(a.Run.To, b.Run.To)
}
