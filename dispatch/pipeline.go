package dispatch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A pipeline takes turns to the store, one after another. While one is being committed the next one is decided: it
// gathers whatever arrives, so the busier the hub is, the more shares a transaction. Nothing of a turn is shown, done or
// answered before it is stored; if one cannot be stored, the one behind it is void too.
type pipeline struct {
	d       *Dispatcher
	inTurn  *turn           // being committed
	changes bindery.Changes // of it
	next    *turn           // being decided
	results chan error      // of the commit
}

func newPipeline(d *Dispatcher) *pipeline { return &pipeline{d: d, results: make(chan error, 1)} }

// inbox is where messages come from; nil while no more fit into a transaction.
func (p *pipeline) inbox() <-chan *message {
	if p.next != nil && len(p.next.batch) >= mostMessages {
		return nil
	}
	return p.d.inbox
}

// take has the scheduler step over messages, and over the time that has passed.
func (p *pipeline) take(first ...*message) {
	d := p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	t := p.next
	if t == nil {
		t = &turn{d: d, builds: map[string]*build{}, tails: map[string]int{}, saved: map[string]bool{}}
		p.next = t
	}
	t.now = d.now()
	t.enroll()
	t.step(sched.Tick{})
	t.gather()
	for _, m := range first {
		t.take(m)
	}
	for more := true; more && len(t.batch) < mostMessages; {
		select {
		case m := <-d.inbox:
			t.take(m)
		default:
			more = false
		}
	}
	t.tickRoll()
}

func (t *turn) take(m *message) {
	t.batch = append(t.batch, m)
	m.do(t)
}

// start commits the next turn, if none is being committed. One that changed nothing is over at once.
func (p *pipeline) start(ctx context.Context) {
	if p.inTurn != nil || p.next == nil {
		return
	}
	d := p.d
	d.mu.Lock()
	p.inTurn, p.next = p.next, nil
	d.writeUsage(p.inTurn)
	p.changes = p.inTurn.changes()
	d.mu.Unlock()
	if p.changes.Empty() {
		p.stored()
		return
	}
	changes := p.changes
	go func() {
		// A shutdown must not tear a transaction: what was asked is answered first.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		p.results <- d.cfg.Store.Commit(ctx, changes)
	}()
}

// stored shows, does and answers what a turn decided.
func (p *pipeline) stored() {
	t, changes := p.inTurn, p.changes
	p.inTurn, p.changes = nil, bindery.Changes{}
	p.d.publish(changes)
	for _, f := range t.after {
		f()
	}
	t.tell(nil)
}

// tell lets everybody know who waits for a turn what became of it.
func (t *turn) tell(err error) {
	for _, m := range t.batch {
		m.done <- err // it has room
	}
}

// failed makes the state what the store says, after a turn could not be stored. Those who wait for it are told when
// they can ask again, or at once if the store is in trouble for longer; so is who asks meanwhile. The error is not nil
// when ctx has ended or another hub leads.
func (p *pipeline) failed(ctx context.Context, failure error) error {
	d, turns := p.d, []*turn{p.inTurn}
	if p.next != nil {
		turns = append(turns, p.next) // it was decided on what has not happened
	}
	p.inTurn, p.next, p.changes = nil, nil, bindery.Changes{}
	tell := sync.OnceFunc(func() {
		for _, t := range turns {
			t.tell(failure)
		}
	})
	defer tell()
	if errors.Is(failure, bindery.ErrLocked) {
		// Another hub leads. What it does must not be undone, and nothing that was decided here was done.
		return failure
	}
	d.cfg.Log.ErrorContext(ctx, "a transaction failed; the state is read again", "error", failure)
	d.mu.Lock()
	for _, t := range slices.Backward(turns) {
		for _, f := range slices.Backward(t.undo) {
			f()
		}
	}
	d.mu.Unlock()
	for wait := backoff(0); ; {
		err := d.restore(ctx)
		if err == nil {
			return nil
		}
		d.cfg.Log.ErrorContext(ctx, "the store cannot be read", "error", err)
		tell()
		if err := d.refuse(ctx, err, wait.next()); err != nil {
			return err
		}
	}
}

// close waits for the transaction that is under way; what was not begun is not answered.
func (p *pipeline) close() {
	if p.inTurn == nil {
		return
	}
	if err := <-p.results; err != nil {
		p.inTurn.tell(err)
		return
	}
	p.stored()
}
