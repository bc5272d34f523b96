// Package api is the native HTTP interface of a hub: its wire types, its errors on the wire, the client for it.
//
// GET /api/v1/openapi.json describes every route. No GET has an effect. A POST with an Idempotency-Key header may be
// sent again: it is answered as the first one was. Failures are application/problem+json, see Problem.
package api

import (
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Scope is what a token of the configuration allows. Each includes those before it.
type Scope string

// The scopes of tokens.
const (
	ScopeRead   Scope = "read"   // lists: builds, sessions without their tokens, the queue with who asks, rules
	ScopeLaunch Scope = "launch" // starts builds and sessions, cancels what it started
	ScopeAdmin  Scope = "admin"  // cancels and stops what others started, makes and lifts rules, reads the audit log
)

// Includes reports whether a token with scope s may do what needs scope o.
func (s Scope) Includes(o Scope) bool { return s.rank() >= o.rank() && s.rank() > 0 }

func (s Scope) rank() int {
	switch s {
	case ScopeRead:
		return 1
	case ScopeLaunch:
		return 2
	case ScopeAdmin:
		return 3
	}
	return 0
}

// AsHeader names the person behind a request by the hub's socket, where every caller is the machine's owner.
const AsHeader = "Bindery-As"

// IdempotencyKey is the header by which a POST may be repeated.
const IdempotencyKey = "Idempotency-Key"

// Status is what a hub says of itself.
type Status struct {
	Version    string               `json:"version"`
	Generation string               `json:"generation"`
	OK         bool                 `json:"ok"` // every required check passed
	Checks     []bindery.Check      `json:"checks"`
	Worker     bindery.WorkerStatus `json:"worker"`
	Sessions   int                  `json:"sessions"` // not ended
}

// NewBuild asks for a build. Asking for one that exists answers with it.
type NewBuild struct {
	Source bindery.Source `json:"source"`
	Class  bindery.Class  `json:"class,omitempty"` // default: unattended
	Retry  bool           `json:"retry,omitempty"` // try again where an earlier attempt failed
}

// NewSession asks for a session of a finished build, or of a source, which is then built first if need be.
type NewSession struct {
	Build   string         `json:"build,omitempty"`
	Source  bindery.Source `json:"source,omitzero"`
	Request string         `json:"request,omitempty"` // see bindery.Ask
}

// A Session is a session and where visitors find it. Token is empty unless the caller may use the session.
type Session struct {
	bindery.Session
	URL       string `json:"url"`
	Requester string `json:"requester,omitempty"` // who asked for it; for operators only
}

// StopSession says why a session is stopped; the reason is kept and shown.
type StopSession struct {
	Reason string `json:"reason,omitempty"`
}

// CancelBuild says why a build is cancelled; the reason is kept and shown.
type CancelBuild struct {
	Reason string `json:"reason,omitempty"`
}

// RetryBuild says why something is built again; the audit log keeps it.
type RetryBuild struct {
	Reason string `json:"reason,omitempty"`
}

// ForgiveBuild says why a failure is forgotten; the audit log keeps it.
type ForgiveBuild struct {
	Reason string `json:"reason,omitempty"`
}

// A NewRule asks for a rule. One of each kind and beginning stands for each pattern: it replaces the one that is there.
type NewRule struct {
	Kind    string    `json:"kind"`    // see bindery.RuleKinds
	Pattern string    `json:"pattern"` // see bindery.ParsePattern
	Value   float64   `json:"value,omitempty"`
	Reason  string    `json:"reason"`            // for operators; the audit log keeps it
	Message string    `json:"message,omitempty"` // for the visitors whom it concerns
	From    time.Time `json:"from,omitzero"`     // zero: now
	Until   time.Time `json:"until,omitzero"`    // zero: until it is lifted

	// Prebuild are links of this hub, without its address and "/v2/", such as "gh/owner/repository/main": their images
	// are built in the background, and with urgency an hour before the rule begins.
	Prebuild []string `json:"prebuild,omitempty"`
}

// A Rule is a rule as the API shows it.
type Rule struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Pattern string    `json:"pattern"`
	Scope   string    `json:"scope"` // what the pattern names: repository, owner, requester, network or spec
	Value   float64   `json:"value,omitempty"`
	Reason  string    `json:"reason"`
	Message string    `json:"message,omitempty"`
	By      string    `json:"by"`
	Created time.Time `json:"created"`
	From    time.Time `json:"from,omitzero"`
	Until   time.Time `json:"until,omitzero"`

	Prebuild []string `json:"prebuild,omitempty"` // as people write specs
}

// A RulePreview says what a pattern means, and what there is now that a rule of it would be about. Networks are
// compared with the blocks that requests are charged to: whether a smaller network is meant shows only when it asks.
type RulePreview struct {
	Pattern  string   `json:"pattern"` // as it is kept
	Scope    string   `json:"scope"`
	Waiting  int      `json:"waiting"`  // builds
	Running  int      `json:"running"`  // builds
	Sessions int      `json:"sessions"` // that have a place
	Lobby    int      `json:"lobby"`    // that wait for one
	Rules    []Rule   `json:"rules"`    // that stand for the same pattern
	Examples []string `json:"examples"` // specs of some of those builds and sessions
}

// LiftRule says why a rule is lifted; the audit log keeps it.
type LiftRule struct {
	Reason string `json:"reason,omitempty"`
}

// NewWorker says where a worker serves that is to join, for the hub's own machine.
type NewWorker struct {
	Name   string `json:"name"`
	Pool   string `json:"pool,omitempty"`
	Socket string `json:"socket"` // its unix socket, an absolute path
}

// ChangeWorker says why a worker is drained or resumed; the audit log keeps it.
type ChangeWorker struct {
	Reason string `json:"reason,omitempty"`
}

// RemoveWorker says why a worker is removed. Force: although builds run there; they start again elsewhere.
type RemoveWorker struct {
	Reason string `json:"reason,omitempty"`
	Force  bool   `json:"force,omitempty"`
}

// NewJoinToken asks for a token by which workers join over the network.
type NewJoinToken struct {
	Pool   string        `json:"pool,omitempty"`   // that they belong to
	Uses   int           `json:"uses,omitempty"`   // how many workers; default: 1
	For    time.Duration `json:"for,omitempty"`    // default: an hour
	Reason string        `json:"reason,omitempty"` // the audit log keeps it
}

// A JoinToken is such a token. Token is told once.
type JoinToken struct {
	ID      string    `json:"id"`
	Token   string    `json:"token"`
	Pool    string    `json:"pool,omitempty"`
	Uses    int       `json:"uses"`
	Expires time.Time `json:"expires"`
	URL     string    `json:"url,omitempty"` // where to join, as far as the hub knows
}

// An AuditLine says who did what, when and why.
type AuditLine struct {
	ID     int64     `json:"id"`
	Time   time.Time `json:"time"`
	Who    string    `json:"who"`
	Did    string    `json:"did"`
	What   string    `json:"what"`
	Reason string    `json:"reason,omitempty"`
}
