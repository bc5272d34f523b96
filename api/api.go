// Package api is the native HTTP interface of a hub: its wire types, its errors on the wire, the client for it.
//
//	GET    /api/v1/status               Status
//	POST   /api/v1/builds               NewBuild -> bindery.Build
//	GET    /api/v1/builds/{id}          bindery.Build
//	GET    /api/v1/builds/{id}/events   event stream of bindery.Event, resumable by Last-Event-ID
//	POST   /api/v1/sessions             NewSession -> Session
//	GET    /api/v1/sessions             []Session, without tokens
//	GET    /api/v1/sessions/{id}        Session
//	GET    /api/v1/sessions/{id}/log    text; ?follow=1 goes on until the session ends
//	DELETE /api/v1/sessions/{id}        StopSession -> nothing
//
// No GET has an effect. Failures are application/problem+json, see Problem.
package api

import bindery "github.com/bindery-hub/bindery"

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
	URL string `json:"url"`
}

// StopSession says why a session is stopped; the reason is kept and shown.
type StopSession struct {
	Reason string `json:"reason,omitempty"`
}
