package sched

import (
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An Input is something that happened. The types of this file are all there are.
type Input interface {
	apply(s *Scheduler, now time.Time)
}

// Submit asks for a build of a key. Build is the id of the record that is made if no other one answers.
type Submit struct {
	Build string
	Key   string
	Class bindery.Class
	Retry bool // a remembered failure does not answer
}

// Cancel says that nobody wants a build any more.
type Cancel struct{ Build string }

// An Outcome is how an attempt ended.
type Outcome string

// The outcomes of an attempt. For the three failures whose fault it was decides what follows.
const (
	Succeeded    Outcome = "ok"
	UserFault    Outcome = "user"
	MayPass      Outcome = "transient"
	OurFault     Outcome = "ours"
	WorkerGone   Outcome = "lost" // the worker died under it
	WasCancelled Outcome = "cancelled"
)

// Finished says how an attempt of a build ended.
type Finished struct {
	Build   string
	Attempt int
	Outcome Outcome
}

// WorkerUp says that a worker is ready, with so many slots.
type WorkerUp struct {
	Worker string
	Slots  int
}

// WorkerDown says that a worker does not answer or wants no more work. What runs there goes on.
type WorkerDown struct{ Worker string }

// WorkerLost says that a worker is gone with everything that ran on it.
type WorkerLost struct{ Worker string }

// Watch says how many watchers a build has.
type Watch struct {
	Build    string
	Watchers int
}

// AskSession asks to admit a session.
type AskSession struct {
	Session   string
	Idle, Age time.Duration // culled after; 0: never
}

// SessionReady says that a session's server answers: its idle clock starts.
type SessionReady struct{ Session string }

// SessionActive says that a session had traffic.
type SessionActive struct {
	Session string
	At      time.Time
}

// SessionStopping says that a session is being taken down for a reason that the shell has.
type SessionStopping struct{ Session string }

// SessionEnded says that a session is gone: its place is free.
type SessionEnded struct{ Session string }

// Configure changes the policy's numbers.
type Configure struct{ Config Config }

// Tick says that time has passed.
type Tick struct{}
