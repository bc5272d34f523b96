package bindery

import "time"

// A Rule changes what the queue does for one repository, owner, requester, network or set of specs, from one time until
// another or until it is lifted. One of each kind may stand for each name and beginning; of those that have begun the
// one that began last counts, so that a reservation for an event replaces what stands for as long as it lasts.
type Rule struct {
	Kind    string    `json:"kind"`              // see the constants
	Scope   string    `json:"scope"`             // see Pattern
	Name    string    `json:"name"`              // as Pattern.Names has it
	Value   float64   `json:"value,omitempty"`   // of a weight (1 is everybody's) or a quota (sessions at once)
	Message string    `json:"message,omitempty"` // for those whom it concerns; it is shown to visitors
	Reason  string    `json:"reason,omitempty"`  // for operators
	Who     string    `json:"who"`               // set it
	Created time.Time `json:"created"`
	From    time.Time `json:"from,omitzero"`  // zero: from when it was made
	Until   time.Time `json:"until,omitzero"` // zero: until it is lifted

	// Prebuild are what images are made of before the rule begins; their refs are resolved then, and again near the start.
	Prebuild []Source `json:"prebuild,omitempty"`
}

// The kinds of rules.
const (
	RuleBan          = "ban"
	RuleHold         = "hold"             // builds wait
	RuleHoldLaunches = "hold-launches"    // launches of what is built wait
	RuleUntilBuilt   = "hold-until-built" // it is built aside from all others; the rule ends with the build
	RuleQuota        = "quota"
	RuleWeight       = "weight"
)

// RuleKinds are all kinds of rules.
func RuleKinds() []string {
	return []string{RuleBan, RuleHold, RuleHoldLaunches, RuleUntilBuilt, RuleQuota, RuleWeight}
}
