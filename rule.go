package bindery

import "time"

// A Rule changes what the queue does for one repository, owner or requester, until it is lifted or expires. One of each
// kind may stand for each name.
type Rule struct {
	Kind    string    `json:"kind"`              // "ban", "hold", "hold-launches", "weight" or "quota"
	Scope   string    `json:"scope"`             // "repository", "owner" or "requester"
	Name    string    `json:"name"`              // as Source.Identity, Source.Owner and Ask.Requester have it
	Value   float64   `json:"value,omitempty"`   // of a weight (1 is everybody's) or a quota (sessions at once)
	Message string    `json:"message,omitempty"` // for those whom it concerns; it is shown to visitors
	Reason  string    `json:"reason,omitempty"`  // for operators
	Who     string    `json:"who"`               // set it
	Created time.Time `json:"created"`
	Until   time.Time `json:"until,omitzero"` // zero: until it is lifted
}
