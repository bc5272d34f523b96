package sched_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bindery-hub/bindery/sched"
)

// TestUsageOutlives restarts a scheduler after any history, with what it wrote down of its usage: who was ahead still is,
// and by as much. What runs is charged once more when it is restored, and not twice.
func TestUsageOutlives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			w.step(w.draw(t))
		}
		wrote := w.s.Usage(w.now)
		st := w.m.state()
		st.Flows, st.FlowsAt = wrote, w.now
		w.s.Restore(w.now, st)
		ahead := map[sched.Flow]float64{}
		for _, f := range w.s.Usage(w.now) {
			by := f.Ahead
			f.Ahead = 0
			ahead[f] = by
		}
		for _, f := range wrote {
			by := f.Ahead
			f.Ahead = 0
			if by > 1.1 && math.Abs(ahead[f]-by) > 0.11 { // by a second or less is not written down
				t.Fatalf("%s %s of class %s was ahead by %v, and by %v when restored\n%s", f.Scope, f.Name, f.Class, by, ahead[f], strings.Join(w.log, "\n"))
			}
			delete(ahead, f)
		}
		if len(ahead) > 0 {
			t.Fatalf("ahead only when restored: %v\n%s", ahead, strings.Join(w.log, "\n"))
		}
	})
}
