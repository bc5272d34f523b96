package sched_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestSweepSparesWhoPays has flows forgotten, because there are many, at about the moment when a build starts for which
// three requesters pay, two of whom have nothing else.
func TestSweepSparesWhoPays(t *testing.T) {
	for before := 1015; before < 1030; before++ {
		s := sched.New(sched.Config{})
		for i := range before {
			id := fmt.Sprint("b", i)
			s.Step(start, sched.Submit{Build: id, Key: id, Repo: "r", Owner: "o", Requester: id})
			s.Step(start, sched.Cancel{Build: id})
		}
		for _, who := range []string{"ann", "b3", "ben"} {
			s.Step(start, sched.Submit{Build: who, Key: "k", Repo: "r", Owner: "o", Requester: who})
		}
		s.Step(start, sched.WorkerUp{Worker: "w", Slots: 1})
		out := s.Step(start.Add(time.Minute), sched.Finished{Build: "ann", Attempt: 1, Outcome: sched.Succeeded})
		if len(out) != 1 {
			t.Fatalf("after %d others: %v", before, out)
		}
	}
}
