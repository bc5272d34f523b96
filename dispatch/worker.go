package dispatch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// A WorkerView is a worker as the hub sees it.
type WorkerView struct {
	bindery.WorkerStatus
	Up bool `json:"up"` // it answers
}

// Workers returns what each worker last said of itself, and whether it answers now.
func (d *Dispatcher) Workers(ctx context.Context) ([]WorkerView, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.worker.Name == "" {
		return nil, nil
	}
	return []WorkerView{d.worker}, nil
}

// sweepEvery is how often what should not be there is looked for.
const sweepEvery = 30 * time.Second

// watchWorker looks at the worker's status again and again: it tells the scheduler whether the worker is up, and
// settles what the worker holds that the records do not know.
func (d *Dispatcher) watchWorker(ctx context.Context) {
	var swept time.Time
	for wait := backoff(0); ; {
		// What the records say is read after what is there: whatever has a record has it from before it exists.
		st, err := d.status(ctx)
		if ctx.Err() != nil {
			return
		}
		d.noteWorker(ctx, st, err == nil)
		if err != nil {
			if wait.sleep(ctx) != nil {
				return
			}
			continue
		}
		wait = 0
		d.settle(ctx, st)
		if now := d.cfg.Now(); now.Sub(swept) >= sweepEvery {
			swept = now
			d.sweep(ctx, st.Prepared)
		}
		if pause(ctx, d.cfg.PollWorker) != nil {
			return
		}
	}
}

func (d *Dispatcher) status(ctx context.Context) (bindery.WorkerStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return d.cfg.Worker.Status(ctx)
}

// noteWorker tells the scheduler when the worker has come, gone or changed, and which of its builds live.
func (d *Dispatcher) noteWorker(ctx context.Context, st bindery.WorkerStatus, up bool) {
	d.mu.Lock()
	old := d.worker
	same := old.Up == up && (!up || old.Name == st.Name && old.Slots == st.Slots && !moreDisk(old.DiskFree, st.DiskFree) && !d.roomAgain(st))
	if up {
		d.drained.DiskFree = min(d.drained.DiskFree, st.DiskFree)
		disk := old.DiskFree
		d.worker.WorkerStatus = st
		if same {
			d.worker.DiskFree = disk // what the scheduler knows
		}
	}
	d.mu.Unlock()
	if up && old.Up {
		d.noteWork(ctx, st)
	}
	if same {
		return
	}
	d.cfg.Log.InfoContext(ctx, "the worker changed", "up", up, "worker", st.Name, "slots", st.Slots, "free", st.DiskFree)
	_ = d.insist(ctx, func(t *turn) { // the hub stops otherwise
		d.worker.Up = up
		if old.Name != "" && (!up || old.Name != st.Name) {
			t.step(sched.WorkerDown{Worker: old.Name})
		}
		if !up || d.drained.Name == st.Name && !d.roomAgain(st) {
			return
		}
		d.drained = bindery.WorkerStatus{}
		in := sched.WorkerUp{Worker: st.Name, Slots: st.Slots}
		if st.DiskFree > 0 {
			// However little there is, one build of unknown size may try: if it does not fit it says so.
			in.Disk = max(st.DiskFree, cmp.Or(d.cfg.Policy.Disk, 8<<30))
		}
		t.step(in)
	})
}

// moreDisk reports whether a worker's free space has changed by so much that the scheduler should know.
func moreDisk(old, now int64) bool {
	const much = 1 << 30
	return now-old > much || old-now > much
}

// drain notes that a worker's disk is full. It gets work again when there is room.
func (t *turn) drain(d sched.Drain) {
	w := t.d.worker.WorkerStatus
	if w.Name != d.Worker {
		w = bindery.WorkerStatus{Name: d.Worker}
	}
	// It stays so even if this turn is not stored: a restored scheduler still knows which workers are up.
	t.d.drained, t.d.drainedAt = w, t.now
	t.then(func() {
		t.d.cfg.Log.Error("a worker gets no more work", "worker", d.Worker, "reason", d.Reason, "remedy", "make room on its disk")
	})
}

// tryAgain is how long a worker whose disk was full is left alone although its free space has not grown: its cache may
// have been emptied by what is not seen from here.
const tryAgain = 5 * time.Minute

// roomAgain reports whether a worker that was drained may be used again. It needs the state locked.
func (d *Dispatcher) roomAgain(st bindery.WorkerStatus) bool {
	if d.drained.Name == "" || d.drained.Name != st.Name {
		return false
	}
	return st.DiskFree > d.drained.DiskFree && moreDisk(d.drained.DiskFree, st.DiskFree) || d.now().Sub(d.drainedAt) >= tryAgain
}

// idleShare is the share of one core below which the steps of a worker, all together, count as doing nothing.
const idleShare = 0.002

// noteWork tells the scheduler that silent builds live, as far as that can be seen: processor time is counted for all
// steps of a worker together, so while one of them computes none is taken for hung.
func (d *Dispatcher) noteWork(ctx context.Context, st bindery.WorkerStatus) {
	d.mu.Lock()
	now := d.now()
	since := now.Sub(d.workAt)
	if since < workEvery && !d.workAt.IsZero() {
		d.mu.Unlock()
		return
	}
	busy := st.Work == 0 || st.Work < d.work || (st.Work-d.work).Seconds() > idleShare*since.Seconds()
	d.work, d.workAt = st.Work, now
	d.mu.Unlock()
	if !busy {
		return
	}
	_ = d.do(ctx, func(t *turn) { // the next look tells the same
		for _, a := range st.Builds {
			if !a.Done {
				t.step(sched.Progress{Build: a.ID, Attempt: a.Attempt})
			}
		}
	})
}

// workEvery is how often it is told that silent builds live: seldom beside the time after which they count as hung.
const workEvery = 30 * time.Second

// settle stops attempts of ours that no record wants, and lets the worker forget those whose end is stored.
func (d *Dispatcher) settle(ctx context.Context, st bindery.WorkerStatus) {
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
			err = d.cfg.Worker.Ack(ctx, a.ID, a.Attempt, a.LastSeq)
		} else {
			err = d.cfg.Worker.Cancel(ctx, a.ID, a.Attempt)
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
	if err != nil && ctx.Err() == nil {
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
		return !strings.HasPrefix(id, hubSession) || d.sessions[id] != nil
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
