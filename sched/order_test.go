package sched_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestOldestFirst lets one requester ask for builds of many repositories, as a class does from behind one address: of one
// owner they start in the order in which they came, of each of a few owners too, whoever else waits for these.
func TestOldestFirst(t *testing.T) {
	for _, tt := range []struct {
		builds, owners int
		others         bool // with a requester of their own each
	}{{20, 1, false}, {500, 1, false}, {500, 1, true}, {500, 5, false}, {500, 5, true}} {
		t.Run(fmt.Sprintf("%d builds, %d owners, others %v", tt.builds, tt.owners, tt.others), func(t *testing.T) {
			s := sched.New(sched.Config{MaxAge: -1, Stall: -1})
			now := start
			var running []sched.Start
			began := map[string][]int{} // by owner
			owner := func(i int) string { return fmt.Sprint("o", i%tt.owners) }
			step := func(in sched.Input) {
				for _, d := range s.Step(now, in) {
					d, ok := d.(sched.Start)
					if !ok {
						continue
					}
					running = append(running, d)
					var i int
					if _, err := fmt.Sscanf(d.Build, "b%d", &i); err == nil {
						began[owner(i)] = append(began[owner(i)], i)
					}
				}
			}
			step(sched.WorkerUp{Worker: "w", Slots: 4})
			for i := range tt.builds {
				now = now.Add(time.Second)
				id := fmt.Sprint("b", i)
				step(sched.Submit{Build: id, Key: id, Repo: fmt.Sprint(owner(i), "/r", i), Owner: owner(i), Requester: "class"})
				if id = fmt.Sprint("x", i); tt.others && i%3 == 0 {
					step(sched.Submit{Build: id, Key: id, Repo: fmt.Sprint(owner(i), "/x", i), Owner: owner(i), Requester: id})
				}
			}
			for len(running) > 0 {
				now = now.Add(time.Minute)
				r := running[0]
				running = running[1:]
				step(sched.Finished{Build: r.Build, Attempt: r.Attempt, Outcome: sched.Succeeded})
			}
			n := 0
			for o, order := range began {
				if n += len(order); !slices.IsSorted(order) {
					t.Errorf("of %s they start in the order %v", o, order)
				}
			}
			if n != tt.builds {
				t.Errorf("%d builds started, want %d", n, tt.builds)
			}
		})
	}
}
