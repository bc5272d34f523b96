package dispatch

import (
	"context"
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// What a restart must not make anybody forget: who has used how much lately, and what builds cost.
const (
	usageEvery = 10 * time.Second // the flows are written down, while builds start and end
	mostPast   = 10_000           // builds that a hub learns from when it starts
)

// writeUsage adds what the flows have used to a transaction that is about builds, from time to time. What has ended
// since then is found in the records of builds, so that nothing is lost by writing it seldom.
func (d *Dispatcher) writeUsage(t *turn) {
	if len(t.built) == 0 || t.now.Sub(d.usageAt) < usageEvery {
		return
	}
	u := &bindery.Usage{Time: t.now, Flows: []bindery.Flow{}}
	for _, f := range d.sched.Usage(t.now) {
		u.Flows = append(u.Flows, bindery.Flow{Class: f.Class, Scope: string(f.Scope), Name: f.Name, Ahead: f.Ahead})
	}
	t.usage, d.usageAt = u, t.now
}

// usageOf is what the scheduler must know of what was used before.
func usageOf(live bindery.Live) (flows []sched.Flow, at time.Time, spent []sched.Spent) {
	for _, f := range live.Usage.Flows {
		flows = append(flows, sched.Flow{Class: f.Class, Scope: sched.Scope(f.Scope), Name: f.Name, Ahead: f.Ahead})
	}
	for _, b := range live.Since {
		if cost := costOf(b); cost > 0 && charged(b) {
			spent = append(spent, sched.Spent{Class: b.Class, Owner: b.Source.Owner(), Requester: b.Requester, Cost: cost, At: b.Ended})
		}
	}
	return flows, live.Usage.Time, spent
}

// costOf is how long the last attempt of a build held a slot.
func costOf(b bindery.Build) time.Duration {
	if b.Started.IsZero() || b.Quick {
		return 0
	}
	return b.Ended.Sub(b.Started)
}

// charged reports whether the end of a build was its own doing. What failed for another's fault costs nobody anything.
func charged(b bindery.Build) bool {
	return b.State != bindery.BuildFailed || b.Err == nil || b.Err.Fault == bindery.User
}

// remember reads what builds of the past have cost.
func (d *Dispatcher) remember(ctx context.Context) error {
	h, ok := d.cfg.Store.(Historian)
	if !ok {
		return nil
	}
	past, err := h.Past(ctx, mostPast)
	if err != nil {
		return fmt.Errorf("remember what builds cost: %w", err)
	}
	d.past = make([]sched.Learn, 0, len(past))
	for _, b := range past {
		d.learnMade(b)
		if cost := costOf(b); cost > 0 && b.State == bindery.BuildSucceeded {
			d.past = append(d.past, sched.Learn{Repo: b.Source.Identity(), Kind: b.Kind, Cost: cost, Disk: b.Disk})
		}
	}
	return nil
}
