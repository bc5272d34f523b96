package bindery

import "time"

// A Queue is what waits and runs at one moment, and by which rules.
type Queue struct {
	Time     time.Time     `json:"time"`
	Slots    int           `json:"slots"` // of the workers that are up
	Taken    int           `json:"taken"` // of them
	Sessions int           `json:"sessions"`
	Running  []QueuedBuild `json:"running"` // oldest first
	Waiting  []QueuedBuild `json:"waiting"` // in the order in which they are expected to start; at most MostQueued
	Waits    int           `json:"waits"`   // how many wait, listed or not
	Shares   []Share       `json:"shares"`  // who has most first
	Failures []Remembered  `json:"failures"`
}

// MostQueued bounds how many waiting builds a Queue lists.
const MostQueued = 1000

// A QueuedBuild is a build in the queue as everybody may know it.
type QueuedBuild struct {
	ID       string    `json:"id"`
	Source   Source    `json:"source"`
	Class    Class     `json:"class"`
	Attempt  int       `json:"attempt"`
	Worker   string    `json:"worker,omitempty"` // where it runs
	Watchers int       `json:"watchers"`
	Created  time.Time `json:"created"`
	Started  time.Time `json:"started,omitzero"`
	Standing Standing  `json:"standing,omitzero"` // while it waits
}

// A Share is what one owner has of the queue.
type Share struct {
	Owner   string  `json:"owner"`
	Running int     `json:"running"`
	Waiting int     `json:"waiting"`
	Weight  float64 `json:"weight"`
}

// A Remembered failure answers for its key until then; nobody's visit builds it again before.
type Remembered struct {
	Build  string    `json:"build"`
	Source Source    `json:"source"`
	Row    int       `json:"row"` // failures in a row
	Until  time.Time `json:"until"`
	Err    *Error    `json:"error,omitempty"`
}
