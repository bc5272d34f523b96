package sched

import (
	"fmt"
	"time"
)

// A Decision is what the shell must store, then do. The types of this file are all there are. Doing one twice is harmless.
type Decision interface{ String() string }

type (
	// Queue makes a record for a new build.
	Queue struct{ Build string }
	// Join answers a submission with a build that is under way.
	Join struct{ Build, Existing string }
	// Recall answers a submission with a failure that is remembered until then.
	Recall struct {
		Build, Failed string
		Until         time.Time
	}
	// Start starts an attempt of a build on a worker.
	Start struct {
		Build   string
		Attempt int
		Worker  string
	}
	// Again puts a build back into the queue. It is not started before Until.
	Again struct {
		Build   string
		Outcome Outcome // of the attempt
		Charged int     // attempts held against the build
		Until   time.Time
	}
	// Done ends a build that succeeded.
	Done struct{ Build string }
	// Fail ends a build. Its failure answers for its key until then.
	Fail struct {
		Build   string
		Outcome Outcome // of the last attempt
		Charged int
		Row     int // failures of its key in a row
		Until   time.Time
	}
	// Abort tells a worker to stop an attempt. The build ends when the attempt has ended.
	Abort struct {
		Build   string
		Attempt int
		Worker  string
	}
	// Drop ends a build that was cancelled.
	Drop struct{ Build string }
	// Admit lets a session start.
	Admit struct{ Session string }
	// Refuse does not let it, for a reason in words.
	Refuse struct{ Session, Reason string }
	// Stop takes a session down, for a reason in words.
	Stop struct{ Session, Reason string }
)

func (d Queue) String() string { return "queue " + d.Build }
func (d Join) String() string  { return fmt.Sprintf("%s joins %s", d.Build, d.Existing) }
func (d Recall) String() string {
	return fmt.Sprintf("%s is answered by failed %s until %s", d.Build, d.Failed, clock(d.Until))
}
func (d Start) String() string {
	return fmt.Sprintf("start %s attempt %d on %s", d.Build, d.Attempt, d.Worker)
}
func (d Again) String() string {
	return fmt.Sprintf("requeue %s (%s) charged=%d not before %s", d.Build, d.Outcome, d.Charged, clock(d.Until))
}
func (d Done) String() string { return "done " + d.Build }
func (d Fail) String() string {
	return fmt.Sprintf("fail %s (%s) charged=%d row=%d until %s", d.Build, d.Outcome, d.Charged, d.Row, clock(d.Until))
}
func (d Abort) String() string {
	return fmt.Sprintf("abort %s attempt %d on %s", d.Build, d.Attempt, d.Worker)
}
func (d Drop) String() string   { return "drop " + d.Build }
func (d Admit) String() string  { return "admit " + d.Session }
func (d Refuse) String() string { return fmt.Sprintf("refuse %s: %s", d.Session, d.Reason) }
func (d Stop) String() string   { return fmt.Sprintf("stop %s: %s", d.Session, d.Reason) }

func clock(t time.Time) string { return t.UTC().Format("15:04:05.999") }
