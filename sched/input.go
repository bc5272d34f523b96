package sched

import (
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An Input is something that happened. The types of this file and of rule.go are all there are. All are plain values,
// so that a trace of them replays.
type Input interface {
	apply(s *Scheduler, now time.Time)
}

// Submit asks for a build of a key. Build is the id of the record that is made if no other one answers. Exactly one of
// Queue, Join, Recall, Reject answers it.
type Submit struct {
	Build     string
	Key       string
	Repo      string // its identity
	Ref       string // branch or tag that was asked for; empty for a commit: nothing supersedes it
	Owner     string
	Requester string
	Class     bindery.Class // default: Attended
	Kind      string        // of its plan, if known: builds of one kind cost alike
	Quick     bool          // its environment is there: it needs no slot
	Retry     bool          // a remembered failure does not answer, within a budget
	Spec      string        // see Origin
	Address   string        // see Origin
}

// Cancel says that nobody wants a build any more.
type Cancel struct{ Build string }

// An Outcome is how an attempt ended.
type Outcome string

// The outcomes of an attempt. For the failures whose fault it was decides what follows. The last three are
// the scheduler's own: it stopped the attempt.
const (
	Succeeded    Outcome = "ok"
	UserFault    Outcome = "user"
	MayPass      Outcome = "transient"
	OurFault     Outcome = "ours"
	WorkerGone   Outcome = "lost"      // the worker died under it
	NoSpace      Outcome = "no-space"  // the worker's disk is full
	NotQuick     Outcome = "not-quick" // it was started as a quick build and is none
	WasCancelled Outcome = "cancelled"
	Stalled      Outcome = "stalled"  // it made no progress
	TooOld       Outcome = "too-old"  // it reached its age limit
	GaveWay      Outcome = "gave-way" // a person wanted its slot
)

// Finished says how an attempt of a build ended. After an Abort the outcome is WasCancelled.
type Finished struct {
	Build   string
	Attempt int
	Outcome Outcome
	Kind    string // of its plan, if known by now
	Disk    int64  // bytes that it took at most, if known
}

// Progress says that a running attempt has printed, computed, read or written something since the last one. Send it
// for each attempt at most every few seconds.
type Progress struct {
	Build   string
	Attempt int
}

// WorkerUp says that a worker is ready, with so many slots. Sent again it changes them.
type WorkerUp struct {
	Worker string
	Slots  int
	Disk   int64 // bytes for builds that are not running yet; 0: unknown, nothing is reserved
}

// WorkerDown says that a worker does not answer or wants no more work. What runs there goes on.
type WorkerDown struct{ Worker string }

// WorkerLost says that a worker is gone with everything that ran on it.
type WorkerLost struct{ Worker string }

// Watch says how many watchers a build has now.
type Watch struct {
	Build    string
	Watchers int
}

// Learn tells of a build of the past: what is remembered of it is only what such builds cost.
type Learn struct {
	Repo, Kind string
	Cost       time.Duration
	Disk       int64
}

// AskSession asks to admit a session. It is answered by Admit, Refuse, or Hold: then one of the others comes later.
type AskSession struct {
	Session                string
	Repo, Owner, Requester string
	Idle, Age              time.Duration // culled after; 0: never
	Wait                   bool          // for a place, if there is none
	RepoQuota              int           // sessions of the repository at once, over which nobody waits; 0: as configured. A rule wins over it
	Spec, Address          string        // see Origin
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

// SessionEnded says that a session is gone, or does not wait any more: its place is free.
type SessionEnded struct{ Session string }

// Configure changes the policy's numbers.
type Configure struct{ Config Config }

// Tick says that time has passed.
type Tick struct{}
