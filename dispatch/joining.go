package dispatch

import (
	"cmp"
	"context"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// Workers returns what each worker last said of itself, and what the hub makes of it, the hub's own first.
func (d *Dispatcher) Workers(ctx context.Context) ([]bindery.WorkerView, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []bindery.WorkerView{}
	for _, m := range d.members {
		v := m.view
		if v.Name = m.name(); v.Name == "" {
			continue // it has not answered yet
		}
		v.Record, v.Pool = m.record, m.pool()
		v.Record.Name = v.Name
		if v.Problems == nil {
			v.Problems = []bindery.Problem{}
		}
		out = append(out, v)
	}
	return out, nil
}

func noSuchWorker(name string) error {
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery workers ls` lists them.", "There is no worker %q", bindery.Printable(name))
}

// DrainWorker lets a worker have no more builds until it is resumed; what runs there goes on.
func (d *Dispatcher) DrainWorker(ctx context.Context, name, who, reason string) error {
	return d.changeWorker(ctx, name, func(t *turn, m *member) error {
		m.record.Drained, m.record.Who, m.record.Reason, m.record.Since = true, who, reason, t.now
		t.note(who, "drain worker", name, reason)
		return nil
	})
}

// ResumeWorker undoes DrainWorker. A worker that lacks something still gets no builds.
func (d *Dispatcher) ResumeWorker(ctx context.Context, name, who, reason string) error {
	return d.changeWorker(ctx, name, func(t *turn, m *member) error {
		m.record.Drained, m.record.Who, m.record.Reason, m.record.Since = false, "", "", time.Time{}
		m.full = false // whoever says so has seen to it
		t.note(who, "resume worker", name, reason)
		return nil
	})
}

// changeWorker changes a worker's record.
func (d *Dispatcher) changeWorker(ctx context.Context, name string, f func(*turn, *member) error) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	var refused error
	err := d.do(ctx, func(t *turn) {
		m := d.find(name)
		if name == "" || m == nil {
			refused = noSuchWorker(name)
			return
		}
		if refused = f(t, m); refused != nil || m.gone {
			return
		}
		m.record.Name = name
		t.workers = append(t.workers, m.record)
		m.judge(t.now)
		t.tellOf(m)
	})
	return cmp.Or(err, refused)
}

// RemoveWorker forgets a worker that has joined. What runs there starts again elsewhere, if forced; otherwise it is
// refused while anything does.
func (d *Dispatcher) RemoveWorker(ctx context.Context, name, who, reason string, force bool) error {
	return d.changeWorker(ctx, name, func(t *turn, m *member) error {
		running := 0
		for _, b := range d.builds {
			if b.State == bindery.BuildRunning && b.Worker == name {
				running++
			}
		}
		switch {
		case m.own():
			return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Drain it instead.", "%s is the hub's own worker", name)
		case running > 0 && !force:
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "Drain it and wait, or force it: its builds then start again elsewhere.", "The worker %s still runs %d builds", name, running)
		}
		m.gone = true
		d.members = slices.DeleteFunc(d.members, func(x *member) bool { return x == m })
		t.removed = append(t.removed, name)
		t.note(who, "remove worker", name, reason)
		t.step(sched.WorkerLost{Worker: name})
		t.then(m.end)
		t.otherwise(m.end) // there is a new one for the record then
		return nil
	})
}

// AddJoinToken lets workers join by a token. Whoever makes it keeps its secret: the token has its hash.
func (d *Dispatcher) AddJoinToken(ctx context.Context, tok bindery.JoinToken, reason string) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	return d.do(ctx, func(t *turn) {
		tok.Created, tok.Expires = t.now, tok.Expires.UTC().Truncate(time.Microsecond)
		d.tokens[tok.ID] = tok
		t.tokens = append(t.tokens, tok)
		t.note(tok.Who, "make join token", tok.ID, reason)
	})
}

// JoinWorker makes a worker a member. It is asked by whoever may act for the hub, or shows a token: then its pool is
// the token's. A worker that has joined already and is where it was is welcome again.
func (d *Dispatcher) JoinWorker(ctx context.Context, r bindery.WorkerRecord, who, token, hash string) error {
	if err := d.ready(ctx); err != nil {
		return err
	}
	if err := bindery.CheckWorkerName(r.Name); err != nil {
		return err
	}
	var refused error
	err := d.do(ctx, func(t *turn) {
		if refused = t.spend(&r, token, hash); refused == nil {
			refused = t.admitWorker(r, who)
		}
	})
	return cmp.Or(err, refused)
}

// spend uses up one use of a join token.
func (t *turn) spend(r *bindery.WorkerRecord, id, hash string) error {
	if id == "" {
		return nil
	}
	tok, ok := t.d.tokens[id]
	if subtle.ConstantTimeCompare([]byte(tok.Hash), []byte(hash)) != 1 || !ok || tok.Uses < 1 || !tok.Expires.After(t.now) {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Make a new one with `bindery workers token`.", "The join token is not valid: it is unknown, used up or has expired")
	}
	if t.d.taken(r.Name, r.Address) {
		return nil // it is refused, and may try another name
	}
	tok.Uses--
	t.d.tokens[id], r.Pool = tok, cmp.Or(tok.Pool, r.Pool)
	t.tokens = append(t.tokens, tok)
	return nil
}

// taken reports whether another worker has a name.
func (d *Dispatcher) taken(name, address string) bool {
	m := d.find(name)
	return m != nil && m.record.Address != address
}

// admitWorker makes a worker a member.
func (t *turn) admitWorker(r bindery.WorkerRecord, who string) error {
	d := t.d
	if d.taken(r.Name, r.Address) {
		return bindery.Errorf(bindery.ErrConflict, bindery.User, "Choose another name with --name, or remove the other one with `bindery workers rm "+r.Name+"`.", "There is a worker %s already, elsewhere", r.Name)
	}
	if m := d.find(r.Name); m != nil {
		same := m.record.Pool == r.Pool && m.record.Shared == r.Shared
		m.record.Pool, m.record.Shared = r.Pool, r.Shared
		if !same {
			t.workers = append(t.workers, m.record)
		}
		return nil
	}
	r.Joined = t.now
	fresh, err := d.connectTo(r)
	if err != nil {
		return err
	}
	fresh.view.Since = t.now
	d.members = append(d.members, fresh)
	slices.SortFunc(d.members[1:], func(a, b *member) int { return strings.Compare(a.record.Name, b.record.Name) })
	t.workers = append(t.workers, r)
	t.note(who, "join worker", r.Name, r.Pool)
	t.then(func() { d.spawn(d.lookAfter(fresh)) })
	return nil
}
