package sched

import (
	"fmt"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Decision is what the shell must store, then do. The types of this file are all there are. Doing one twice is harmless.
type Decision interface{ String() string }

type (
	// Queue makes a record for a new build.
	Queue struct {
		Build  string
		Forced int // retries of its key so far that did not wait for a failure to be forgotten
	}
	// Join answers a submission with a build that is under way.
	Join struct{ Build, Existing string }
	// Recall answers a submission with a failure that is remembered until then, for a reason in words.
	Recall struct {
		Build, Failed string
		Until         time.Time
		Reason        string
	}
	// Reject answers a submission with a no, for a reason in words.
	Reject struct{ Build, Reason string }
	// Promote changes the class of a build that is not over: somebody more urgent joined it.
	Promote struct {
		Build string
		Class bindery.Class
	}
	// Start starts an attempt of a build on a worker.
	Start struct {
		Build   string
		Attempt int
		Worker  string
		Quick   bool   // beside the slots
		Slow    bool   // in the slow lane
		Reason  string // why it is built aside, in words; empty: it is not
	}
	// Slow lets a running attempt that reached its age limit go on, as a build of the slow lane, since it crowds nobody
	// out. Who forgets it loses nothing: after Restore the limit is reached again at once.
	Slow struct {
		Build   string
		Attempt int
		Reason  string // an operator wants that; empty: it has run for long
	}
	// Again puts a build back into the queue. It is not started before Until.
	Again struct {
		Build   string
		Outcome Outcome // of the attempt
		Charged int     // attempts held against the build
		Until   time.Time
		Slow    bool // it waits for the slow lane from now on
	}
	// Done ends a build that succeeded.
	Done struct{ Build string }
	// Fail ends a build. Its failure answers for its key until then.
	Fail struct {
		Build       string
		Outcome     Outcome // of the last attempt
		Charged     int
		Row         int // failures of its key in a row
		Until       time.Time
		Quarantined bool // it was too slow even for the slow lane
		Forced      int  // retries of its key so far that did not wait
	}
	// Abort tells a worker to stop an attempt, for a reason in words. The scheduler waits for its Finished.
	Abort struct {
		Build   string
		Attempt int
		Worker  string
		Reason  string
	}
	// Drop ends a build that is not wanted any more, for a reason in words. By: the build that is wanted instead, if any.
	Drop struct{ Build, Reason, By string }
	// Lifted ends a rule, since a build is done.
	Lifted struct {
		Rule  Rule
		Build string
	}
	// Drain says that a worker gets no more work, for a reason in words, until it is up again.
	Drain struct{ Worker, Reason string }

	// Admit lets a session start.
	Admit struct{ Session string }
	// Hold lets it wait for a place, for a reason in words.
	Hold struct{ Session, Reason string }
	// Refuse does not let it start, for a reason in words.
	Refuse struct {
		Session, Reason string
		Full            Scope // whose quota it is; empty: it is none
	}
	// Stop takes a session down, for a reason in words.
	Stop struct{ Session, Reason string }
)

func (d Queue) String() string { return "queue " + d.Build }
func (d Join) String() string  { return fmt.Sprintf("%s joins %s", d.Build, d.Existing) }
func (d Recall) String() string {
	return fmt.Sprintf("%s is answered by failed %s until %s%s", d.Build, d.Failed, clock(d.Until), because(d.Reason))
}
func (d Reject) String() string  { return fmt.Sprintf("reject %s%s", d.Build, because(d.Reason)) }
func (d Promote) String() string { return fmt.Sprintf("promote %s to %s", d.Build, d.Class) }
func (d Start) String() string {
	return fmt.Sprintf("start %s attempt %d on %s%s%s%s", d.Build, d.Attempt, d.Worker, word(d.Quick, " quick"), word(d.Slow, " slow"), because(d.Reason))
}
func (d Slow) String() string {
	return fmt.Sprintf("%s attempt %d goes on in the slow lane%s", d.Build, d.Attempt, because(d.Reason))
}
func (d Again) String() string {
	return fmt.Sprintf("requeue %s (%s) charged=%d not before %s%s", d.Build, d.Outcome, d.Charged, clock(d.Until), word(d.Slow, " slow"))
}
func (d Done) String() string { return "done " + d.Build }
func (d Fail) String() string {
	return fmt.Sprintf("fail %s (%s) charged=%d row=%d until %s%s", d.Build, d.Outcome, d.Charged, d.Row, clock(d.Until), word(d.Quarantined, " quarantined"))
}
func (d Abort) String() string {
	return fmt.Sprintf("abort %s attempt %d on %s%s", d.Build, d.Attempt, d.Worker, because(d.Reason))
}
func (d Drop) String() string {
	s := "drop " + d.Build
	if d.By != "" {
		s += " for " + d.By
	}
	return s + because(d.Reason)
}
func (d Lifted) String() string {
	return fmt.Sprintf("lift %s of %s %s: %s is built", d.Rule.Kind, d.Rule.Scope, d.Rule.Name, d.Build)
}
func (d Drain) String() string  { return fmt.Sprintf("drain %s: %s", d.Worker, d.Reason) }
func (d Admit) String() string  { return "admit " + d.Session }
func (d Hold) String() string   { return fmt.Sprintf("hold %s: %s", d.Session, d.Reason) }
func (d Refuse) String() string { return fmt.Sprintf("refuse %s: %s", d.Session, d.Reason) }
func (d Stop) String() string   { return fmt.Sprintf("stop %s: %s", d.Session, d.Reason) }

func clock(t time.Time) string { return t.UTC().Format("15:04:05.999") }

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func word(say bool, text string) string {
	if say {
		return text
	}
	return ""
}
