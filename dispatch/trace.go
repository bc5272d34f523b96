package dispatch

import (
	"encoding/json"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// trace writes down what is done to the scheduler, whether or not it is stored afterwards: a turn that fails leaves
// something behind, too, such as which workers are up. It needs the state locked, so lines are in order.
func (d *Dispatcher) trace(t sched.Traced, err error) {
	if d.cfg.Trace == nil {
		return
	}
	var line []byte
	if err == nil {
		line, err = json.Marshal(t)
	}
	if err != nil {
		d.cfg.Log.Error("an input was not traced", "input", t.In, "error", err)
		return
	}
	d.cfg.Trace(append(line, '\n'))
}

// decide has the scheduler step over an input.
func (d *Dispatcher) decide(now time.Time, in sched.Input) []sched.Decision {
	if d.cfg.Trace == nil {
		return d.sched.Step(now, in)
	}
	wake := d.sched.NextWake()
	out := d.sched.Step(now, in)
	if _, tick := in.(sched.Tick); tick && len(out) == 0 && (wake.IsZero() || wake.After(now)) {
		return out // nothing was due: it changed nothing
	}
	d.trace(sched.TraceStep(now, in, out))
	return out
}
