package bindery

import (
	"encoding/json"
	"time"
)

// A Phase is BinderHub's word for where a request is.
type Phase string

const (
	PhaseWaiting   Phase = "waiting"
	PhaseFetching  Phase = "fetching"
	PhaseBuilding  Phase = "building"
	PhasePushing   Phase = "pushing"
	PhaseBuilt     Phase = "built"
	PhaseLaunching Phase = "launching"
	PhaseReady     Phase = "ready"
	PhaseFailed    Phase = "failed"
)

// An Event is one line of the story of a build. Events are numbered from 1 without gaps, stored, and read from any
// number on; the last one of a build has Result or Err.
type Event struct {
	Seq     int64           `json:"seq"`
	Time    time.Time       `json:"time"`
	Phase   Phase           `json:"phase"`
	Message string          `json:"message,omitempty"` // text for people; ends with a newline when it is a whole line
	Step    *Step           `json:"step,omitempty"`    // when a step starts, moves on or ends
	Plan    json.RawMessage `json:"plan,omitempty"`    // what the repository's files ask for, once that is known
	Result  *BuildResult    `json:"result,omitempty"`  // with PhaseBuilt
	Err     *Error          `json:"error,omitempty"`   // with PhaseFailed
}

// Last reports whether e ends its build.
func (e Event) Last() bool { return e.Result != nil || e.Err != nil }

// A Step is one command or copy of a build, as shown on a progress display.
type Step struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Cached  bool      `json:"cached,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Current int64     `json:"current,omitempty"` // progress, in the step's own unit
	Total   int64     `json:"total,omitempty"`
	Failed  bool      `json:"failed,omitempty"`
}
