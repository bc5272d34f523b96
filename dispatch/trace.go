package dispatch

import (
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// trace writes down what was done to the scheduler, whether or not it is stored afterwards: a turn that fails leaves
// something behind, too, such as which workers are up. It needs the state locked, so lines are in order, and what is
// written down as a whole is what the lines before it lead to.
func (d *Dispatcher) trace(t sched.Traced) {
	if d.cfg.Trace != nil && d.cfg.Trace(t) {
		d.cfg.Trace(sched.Traced{At: t.At, Whole: d.sched.Whole()})
	}
}

// decide has the scheduler step over an input. Steps on which nothing is decided are traced, too: where time is divided
// shows in the last bits of a sum.
func (d *Dispatcher) decide(now time.Time, in sched.Input) []sched.Decision {
	out := d.sched.Step(now, in)
	if d.cfg.Trace == nil {
		return out
	}
	t, err := sched.TraceStep(now, in, out)
	if err != nil {
		d.cfg.Log.Error("an input was not traced", "input", t.In, "error", err)
		return out
	}
	d.trace(t)
	return out
}
