package dispatch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A Prover is a Worker that looks at its machine. *worker.Client is one.
type Prover interface {
	// Preflight returns what it found last. It measures how fast it writes when it last did so before writes.
	Preflight(ctx context.Context, writes time.Duration) (bindery.Preflight, error)
	// MakeRoom has it drop of its cache what nothing holds.
	MakeRoom(ctx context.Context) error
}

// sweepEvery is how often what should not be there is looked for.
const sweepEvery = 30 * time.Second

// lookAfter returns the work of looking at a worker again and again: it tells the scheduler whether the worker may have
// builds, and settles what the worker holds that the records do not know.
func (d *Dispatcher) lookAfter(m *member) func(context.Context) {
	return func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var work sync.WaitGroup
		defer work.Wait()
		d.mu.Lock()
		twice, gone := m.stop != nil, m.gone
		m.stop = cancel
		d.mu.Unlock()
		if twice || gone {
			return
		}
		var swept time.Time
		for wait := backoff(0); ; {
			// What the records say is read after what is there: whatever has a record has it from before it exists.
			l := d.look(ctx, m)
			if ctx.Err() != nil {
				return
			}
			if d.noteWorker(ctx, m, l) {
				work.Go(func() { d.makeRoom(ctx, m) })
			}
			if l.err != nil {
				if wait.sleep(ctx) != nil {
					return
				}
				continue
			}
			wait = 0
			d.watches.looked(watchWorkers, d.cfg.Now())
			d.settle(ctx, m.conn, l.status)
			if now := d.cfg.Now(); now.Sub(swept) >= sweepEvery {
				swept = now
				d.sweep(ctx, l.status.Prepared)
				d.noteDropped(ctx, m)
			}
			if pause(ctx, d.cfg.PollWorker) != nil {
				return
			}
		}
	}
}

// A look is what a worker answered.
type look struct {
	status bindery.WorkerStatus
	found  bindery.Preflight
	proves bool // it looks at its machine
	err    error
}

// How often a worker measures how fast it writes: seldom, unless its pool has a minimum, which it has to prove within a
// minute.
const (
	writesSeldom = 10 * time.Minute
	writesOften  = 10 * time.Second
)

func (d *Dispatcher) look(ctx context.Context, m *member) (l look) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if l.status, l.err = m.conn.Status(ctx); l.err != nil {
		return l
	}
	p, ok := m.conn.(Prover)
	if !ok {
		return l
	}
	d.mu.Lock()
	pool := cmp.Or(m.record.Pool, l.status.Pool)
	d.mu.Unlock()
	writes := writesSeldom
	if d.cfg.Minimums(pool).WriteRate > 0 {
		writes = writesOften
	}
	before := d.cfg.Now()
	l.found, l.err = p.Preflight(ctx, writes)
	if l.proves = !errors.Is(l.err, bindery.ErrNotFound); !l.proves {
		l.err = nil // it is of an older version, and will be replaced
	}
	if l.err == nil && !l.found.Clock.IsZero() {
		took := d.cfg.Now().Sub(before)
		l.found.Offset = l.found.Clock.Sub(before.Add(took / 2))
		if l.found.Offset.Abs() <= took/2+100*time.Millisecond {
			l.found.Offset = 0 // that is no more than the question took
		}
	}
	return l
}

// noteWorker takes in what a worker answered, and tells the scheduler what follows from it. short: it lacks room, which
// its cache may have.
func (d *Dispatcher) noteWorker(ctx context.Context, m *member, l look) (short bool) {
	d.mu.Lock()
	old, known, lost := m.view, m.known, m.lost
	m.see(l, d.cfg.Minimums, d.now())
	same := m.view.State == old.State && !m.wants().differs(known) && m.hopeless(d.now()) == m.lost
	short = m.shortOfRoom() && d.now().Sub(m.emptied) >= time.Minute
	if short {
		m.emptied = d.now()
	}
	now := m.view
	d.mu.Unlock()
	if same {
		return short
	}
	if now.State != old.State {
		level := slog.LevelInfo
		if now.State == bindery.WorkerRefused || now.State == bindery.WorkerFull {
			level = slog.LevelError
		}
		d.cfg.Log.Log(ctx, level, "a worker changed", "worker", now.Name, "state", now.State, "reason", now.Reason, "slots", now.Slots, "free", now.DiskFree, "error", l.err)
	}
	_ = d.insist(ctx, func(t *turn) { // the hub stops otherwise
		t.tellOf(m)
		refused := now.State != old.State && (now.State == bindery.WorkerRefused || old.State == bindery.WorkerRefused)
		if refused || m.lost != lost { // one that is away for a moment is no event
			t.note("hub", "find worker "+string(now.State), now.Name, now.Reason)
		}
	})
	return short
}

// makeRoom has a worker empty its cache. It gets no builds while it lacks room; the next look says whether that helped.
func (d *Dispatcher) makeRoom(ctx context.Context, m *member) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := m.conn.(Prover).MakeRoom(ctx); err != nil && ctx.Err() == nil {
		d.cfg.Log.WarnContext(ctx, "a worker's cache cannot be emptied", "error", err)
	}
}

// drain notes that a worker's disk is full. It gets work again when there is room.
func (t *turn) drain(d sched.Drain) {
	m := t.d.find(d.Worker)
	if m == nil {
		return
	}
	// It stays so even if this turn is not stored: a restored scheduler still knows which workers are up.
	m.full, m.fullAt, m.fullFree, m.known.up = true, t.now, m.view.DiskFree, false
	m.become(bindery.WorkerFull, "Its disk was full under a build", t.now)
	t.note("hub", "find worker full", d.Worker, d.Reason)
	t.then(func() {
		t.d.cfg.Log.Error("a worker gets no more work", "worker", d.Worker, "reason", d.Reason, "remedy", "make room on its disk")
	})
}

// settle stops attempts of ours that no record wants, and lets the worker forget those whose end is stored.
func (d *Dispatcher) settle(ctx context.Context, w Worker, st bindery.WorkerStatus) {
	for _, a := range st.Builds {
		if !strings.HasPrefix(a.ID, hubBuild) {
			continue
		}
		d.mu.Lock()
		b := d.builds[a.ID]
		wanted := b != nil && b.State == bindery.BuildRunning && b.Attempt == a.Attempt
		d.mu.Unlock()
		if wanted {
			continue
		}
		var err error
		if a.Done {
			err = w.Ack(ctx, a.ID, a.Attempt, a.LastSeq)
		} else {
			err = w.Cancel(ctx, a.ID, a.Attempt)
		}
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "an old attempt cannot be settled", "build", a.ID, "attempt", a.Attempt, "error", err)
		}
	}
}

// sweep stops whatever is left of sessions that have no record. prepared: the sessions with a root file system.
func (d *Dispatcher) sweep(ctx context.Context, prepared []string) {
	found := map[string]bool{}
	for _, id := range prepared {
		found[id] = true
	}
	running, err := d.cfg.Launcher.List(ctx)
	if err == nil {
		d.watches.looked(watchSessions, d.cfg.Now())
	} else if ctx.Err() == nil {
		d.cfg.Log.WarnContext(ctx, "the containers cannot be listed", "error", err)
	}
	for _, r := range running {
		found[r.ID] = true
	}
	if d.cfg.Leases != nil {
		leases, err := d.cfg.Leases()
		if err != nil {
			d.cfg.Log.WarnContext(ctx, "the network leases cannot be listed", "error", err)
		}
		for _, id := range leases {
			found[id] = true
		}
	}
	d.mu.Lock()
	maps.DeleteFunc(found, func(id string, _ bool) bool {
		return !strings.HasPrefix(id, hubSession) || d.sessions[id] != nil || d.trying[id]
	})
	d.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(found)) {
		d.cfg.Log.InfoContext(ctx, "what is left of a session is removed", "session", id)
		if err := d.cfg.Launcher.Stop(ctx, id); err != nil && ctx.Err() == nil {
			d.cfg.Log.WarnContext(ctx, "what is left of a session cannot be removed", "session", id, "error", err)
		}
	}
}

// adopt takes up sessions that an earlier process left behind: those that run go on, those that were starting are
// stopped, those whose container has gone have ended.
func (d *Dispatcher) adopt(ctx context.Context, orphans []*session) {
	running := map[string]bindery.Running{}
	for wait := backoff(0); ; {
		list, err := d.cfg.Launcher.List(ctx)
		if err == nil {
			for _, r := range list {
				running[r.ID] = r
			}
			break
		}
		if wait.sleep(ctx) != nil {
			return
		}
	}
	for _, s := range orphans {
		r, alive := running[s.ID]
		exit := bindery.Exit{Code: -1, Time: d.now()}
		if !alive {
			exit = d.lastExit(ctx, s.ID, exit)
		}
		err := d.insist(ctx, func(t *turn) {
			switch {
			case d.sessions[s.ID] != s || !s.alive(): // somebody else sees to it
			case s.State == bindery.SessionPending:
				t.stop(s, "The hub was restarted while it was starting")
			case !alive:
				s.Exit = &exit
				t.stop(s, "It ended while nobody looked")
			default:
				if r.Address != "" && r.Address != s.Address {
					s.Address = r.Address
					t.saveSession(s)
				}
				t.then(func() { d.spawn(d.watchContainer(s)) })
			}
		})
		if err != nil {
			return
		}
	}
}

// lastExit asks how a container ended that is not there any more.
func (d *Dispatcher) lastExit(ctx context.Context, id string, unknown bindery.Exit) bindery.Exit {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if exit, err := d.cfg.Launcher.Wait(ctx, id); err == nil {
		return exit
	}
	return unknown
}
