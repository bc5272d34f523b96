package bindery

import "time"

// Changes is what one transaction of the store writes: all of it or nothing.
type Changes struct {
	Builds   []Build   // new ones, and new states of old ones
	Tails    []Tail    // news of the builds' event streams
	Known    []Known   // images that answer for a key from now on
	Forget   []string  // keys whose image is gone
	Sessions []Session // new ones, and new states of old ones
	Audit    []Audit
	Forgive  []string // keys whose failures answer no more
	Rules    []Rule   // new ones, and those that replace one of the same kind, scope and name
	Lifted   []Rule   // of which kind, scope and name count
	Usage    *Usage   // replaces the one that is there

	Workers []WorkerRecord // new ones, and new states of old ones
	Removed []string       // workers, by name
	Tokens  []JoinToken    // new ones, and what is left of old ones

	Generations []Generation // new ones, and new states of old ones
	Held        []Held       // images that could not be replaced
	Unheld      []string     // keys that are tried again
	Started     []Started    // images of which a session has answered
}

// Empty reports whether there is nothing to write.
func (c *Changes) Empty() bool {
	return len(c.Builds)+len(c.Tails)+len(c.Known)+len(c.Forget)+len(c.Sessions)+len(c.Audit)+
		len(c.Forgive)+len(c.Rules)+len(c.Lifted)+len(c.Workers)+len(c.Removed)+len(c.Tokens)+len(c.Generations)+len(c.Held)+len(c.Unheld)+len(c.Started) == 0 && c.Usage == nil
}

// A Tail is the newest part of a build's event stream.
type Tail struct {
	Build   string
	Attempt int     // that the events come from
	Read    int64   // the worker's number of the last one read of that attempt
	Events  []Event // numbered for the build; they follow what is stored without a gap
}

// A Known image answers every request for its key.
type Known struct {
	Key    string // a BuildKey
	Build  string // that made it
	Result BuildResult
	Proven time.Time // when a session of it answered first; zero: none has. It is read, not written
}

// A Started image is proven: a session of it has answered.
type Started struct {
	Image   string
	At      time.Time
	Visitor bool // it was a visitor's, which counts as use
}

// An Audit line says who did what, when and why.
type Audit struct {
	ID     int64 // of the line, growing; 0 before it is stored
	Time   time.Time
	Who    string
	Did    string
	What   string // the thing it was done to
	Reason string
}

// An AuditQuery chooses lines of the audit log.
type AuditQuery struct {
	Who, What string    // the line holds these, in any case; What is looked for in Did, What and Reason
	Since     time.Time // zero: from the first line
	Until     time.Time // zero: to the last one
	Before    int64     // lines before this one only, to go on where a page ended; 0: all
	Limit     int       // default: 100
}

// Live is what a hub starts from: everything that is not over.
type Live struct {
	Builds   []LiveBuild // queued and running, in order of submission
	Failed   []Build     // that still answer for their keys, oldest first
	Sessions []Session   // that have not ended, oldest first
	Rules    []Rule      // that stand
	Usage    Usage       // as it was written down last
	Since    []Build     // that have ended since then, oldest first

	Workers []WorkerRecord // by name
	Tokens  []JoinToken    // that may still be used

	// Generations that are known, the oldest first, and what those that roll out could not replace.
	Generations []Generation
	Held        []Held
}

// Usage is by how much each flow was ahead of its share at one time, without what was running then.
type Usage struct {
	Time  time.Time
	Flows []Flow
}

// A Flow is what one owner or requester has used beyond what is served now, in slot-seconds by weight.
type Flow struct {
	Class Class   `json:"class"`
	Scope string  `json:"scope"` // "owner" or "requester"
	Name  string  `json:"name"`
	Ahead float64 `json:"ahead"`
}

// A LiveBuild is an unfinished build and how far its events are stored.
type LiveBuild struct {
	Build
	Seq  int64 // of its newest event
	Read int64 // the worker's number of the last event that was read of the current attempt
}

// A Span asks for a page of what happened from one time until before another. What is at Since itself begins after the
// thing that After or Number names.
type Span struct {
	Since, Until time.Time
	After        string // id
	Number       int64  // of a line that has no id
	Limit        int
}
