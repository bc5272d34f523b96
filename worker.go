package bindery

import (
	"regexp"
	"time"
)

// WorkerStatus is what a worker says of itself.
type WorkerStatus struct {
	Name       string         `json:"name"`
	Version    string         `json:"version"`
	Generation string         `json:"generation"`
	PID        int            `json:"pid"` // in the hub's PID namespace; 0 if unknown
	Slots      int            `json:"slots"`
	Builds     []BuildAttempt `json:"builds"`   // running or not yet acknowledged
	Prepared   []string       `json:"prepared"` // ids of sessions whose root file systems exist
	Checks     []Check        `json:"checks"`
	DiskFree   int64          `json:"disk_free"`
	CacheSize  int64          `json:"cache_size"`
	// GitHubLeft is how many questions GitHub's API said that it still takes; 0 until it was asked.
	GitHubLeft int `json:"github_left,omitempty"`

	Pool    string            `json:"pool,omitempty"`    // that it says it belongs to
	Labels  map[string]string `json:"labels,omitempty"`  // of its node, as its operator gave them
	Machine string            `json:"machine,omitempty"` // type of its machine, as its operator gave it
}

// A BuildAttempt is one attempt of a build as its worker sees it.
type BuildAttempt struct {
	ID      string       `json:"id"`
	Attempt int          `json:"attempt"`
	Done    bool         `json:"done"`
	LastSeq int64        `json:"last_seq"` // of its newest event
	Result  *BuildResult `json:"result,omitempty"`
	Err     *Error       `json:"error,omitempty"`
}

// A Dropped is an image that its worker removed by itself, because its disk was short of room.
type Dropped struct {
	Number int64     `json:"number"` // of the worker's notes, growing
	Time   time.Time `json:"time"`
	Image  string    `json:"image"`
	Source Source    `json:"source"`
	Used   time.Time `json:"used,omitzero"` // last launch
	Free   int64     `json:"free"`          // bytes of the disk
	Wanted int64     `json:"wanted"`        // that should have been
}

// Why says in words when and why it was removed.
func (d Dropped) Why() string {
	const form = time.DateTime + " UTC"
	used := "it was never launched"
	if !d.Used.IsZero() {
		used = "it was launched last at " + d.Used.UTC().Format(form)
	}
	return "at " + d.Time.UTC().Format(form) + " its disk had " + bytesText(d.Free) + " free, less than " + bytesText(d.Wanted) + " (cache.min_free); " + used
}

// A Check is one thing that a machine must have: found or not, and what to do about it.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Level  string `json:"level"`            // "required" or "advised"
	Found  string `json:"found"`            // what was seen
	Remedy string `json:"remedy,omitempty"` // when not OK
}

// A WorkerState is what the hub makes of a worker.
type WorkerState string

// The states of a worker. Only one that is ready gets builds; what runs on the others goes on.
const (
	WorkerReady   WorkerState = "ready"
	WorkerRefused WorkerState = "refused" // its machine lacks something; it is looked at again all the time
	WorkerFull    WorkerState = "full"    // its disk was full under a build
	WorkerDrained WorkerState = "drained" // an operator took it out
	WorkerAway    WorkerState = "away"    // it does not answer
)

// WorkerStates are all there are.
func WorkerStates() []WorkerState {
	return []WorkerState{WorkerReady, WorkerRefused, WorkerFull, WorkerDrained, WorkerAway}
}

// A WorkerRecord is what a hub keeps of a worker.
type WorkerRecord struct {
	Name    string    `json:"name"`
	Pool    string    `json:"pool,omitempty"`
	Address string    `json:"address,omitempty"` // "unix:" and a socket, or "tls:", a host and a port; empty: the hub's own
	Shared  bool      `json:"shared"`            // it keeps its images on a file system that the hub sees, too
	Drained bool      `json:"drained"`           // by an operator
	Who     string    `json:"drained_by,omitempty"`
	Reason  string    `json:"drained_reason,omitempty"`
	Since   time.Time `json:"drained_since,omitzero"`
	Joined  time.Time `json:"joined,omitzero"`
}

// A WorkerView is a worker as the hub sees it.
type WorkerView struct {
	WorkerStatus
	Up       bool         `json:"up"` // it answers
	State    WorkerState  `json:"state"`
	Reason   string       `json:"reason,omitempty"` // why it gets no builds
	Since    time.Time    `json:"since,omitzero"`   // it has been in this state
	Seen     time.Time    `json:"seen,omitzero"`    // when it answered last
	Running  int          `json:"running"`          // builds
	Record   WorkerRecord `json:"record"`
	Found    Preflight    `json:"preflight"`
	Wanted   Minimums     `json:"minimums"`
	Problems []Problem    `json:"problems"`
}

// A JoinToken lets workers join. Its secret is kept by its hash only.
type JoinToken struct {
	ID      string    `json:"id"`
	Hash    string    `json:"-"`
	Pool    string    `json:"pool,omitempty"` // that its workers belong to
	Uses    int       `json:"uses"`           // left
	Who     string    `json:"by"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

var workerNameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

// CheckWorkerName refuses what cannot be the name of a worker or of a pool.
func CheckWorkerName(name string) error {
	if workerNameRE.MatchString(name) {
		return nil
	}
	return Errorf(ErrInvalid, User, "Use up to 63 small letters, digits, dots and hyphens, with a letter or a digit at both ends.", "%q is not a name", Printable(name))
}
