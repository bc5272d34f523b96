package bindery

import "time"

// A Queue is what an operator sees of the queue: all of it at one moment.
type Queue struct {
	At       time.Time        `json:"at"`
	Slots    int              `json:"slots"` // of all workers that are up
	Taken    int              `json:"taken"` // of them
	Running  []QueuedBuild    `json:"running"`
	Waiting  []QueuedBuild    `json:"waiting"`        // in the order in which they will start, as far as that is known
	More     int              `json:"more,omitempty"` // that wait behind those listed
	Shares   []Share          `json:"shares"`         // of those who have builds waiting or running, the busiest first
	Failures []RecentFailure  `json:"failures"`       // that answer for their keys now
	Lobby    []WaitingSession `json:"lobby"`          // sessions that wait for a place
	Sessions int              `json:"sessions"`       // that have one
	Rules    []Rule           `json:"rules"`
}

// A QueuedBuild is a build that waits or runs, with what the queue knows of it.
type QueuedBuild struct {
	Build
	Asker    string        `json:"requester"` // who pulls it forward; for operators only
	Kind     string        `json:"kind,omitempty"`
	Watchers int           `json:"watchers"`
	Age      time.Duration `json:"age"`                // since it was asked for, or since its attempt started
	Expected time.Duration `json:"expected"`           // what such a build takes
	Quick    bool          `json:"quick,omitempty"`    // beside the slots
	Slow     bool          `json:"slow,omitempty"`     // in the slow lane
	Stopping string        `json:"stopping,omitempty"` // why it is being stopped
	Standing Standing      `json:"standing,omitzero"`  // while it waits
}

// A Share is what one owner, or one requester, has of the slots.
type Share struct {
	Scope   string  `json:"scope"` // "owner" or "requester"
	Name    string  `json:"name"`
	Class   Class   `json:"class"`
	Running int     `json:"running"` // builds in slots
	Waiting int     `json:"waiting"`
	Share   float64 `json:"share"` // of all slots, now
	Ahead   float64 `json:"ahead"` // slot-seconds by weight that it has had beyond who is served next
	Weight  float64 `json:"weight"`
}

// A RecentFailure answers for its key.
type RecentFailure struct {
	Key         string    `json:"key"`
	Build       string    `json:"build"`
	Source      Source    `json:"source,omitzero"`
	Row         int       `json:"row"` // failures of the key, one after another
	Until       time.Time `json:"until"`
	Forced      int       `json:"forced,omitempty"` // retries that did not wait for it
	Quarantined bool      `json:"quarantined,omitempty"`
	Err         *Error    `json:"error,omitempty"`
}

// A WaitingSession is a session for which there is no place yet.
type WaitingSession struct {
	ID       string        `json:"id"`
	Repo     string        `json:"repository"`
	Asker    string        `json:"requester"` // for operators only
	Age      time.Duration `json:"age"`
	Standing Standing      `json:"standing"`
}
