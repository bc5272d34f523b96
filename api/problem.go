package api

import (
	"encoding/json"
	"io"
	"net/http"

	bindery "github.com/bindery-hub/bindery"
)

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// A Problem is a failure on the wire (RFC 9457): the kind to test for, whose fault it is, and words for the person.
type Problem struct {
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Kind      bindery.Kind  `json:"kind"`
	Fault     bindery.Fault `json:"fault"`
	Message   string        `json:"message"`
	Remedy    string        `json:"remedy,omitempty"`
	RequestID string        `json:"request_id,omitempty"` // finds the log line of the request
}

// ProblemOf says err in the words meant for the outside. The cause stays inside.
func ProblemOf(err error, requestID string) Problem {
	e := bindery.AsError(err)
	status := StatusOf(e.Kind)
	return Problem{
		Title: http.StatusText(status), Status: status, Kind: e.Kind, Fault: e.Fault,
		Message: e.Msg, Remedy: e.Remedy, RequestID: requestID,
	}
}

// Err is the error that p was made of, without its cause.
func (p Problem) Err() error {
	return &bindery.Error{Kind: p.Kind, Fault: p.Fault, Msg: p.Message, Remedy: p.Remedy}
}

// StatusOf is the one table from kinds to HTTP statuses. A kind that it does not have is a 500.
func StatusOf(kind bindery.Kind) int {
	switch kind {
	case bindery.ErrInvalid:
		return http.StatusBadRequest
	case bindery.ErrNotAllowed:
		return http.StatusForbidden
	case bindery.ErrRepoNotFound, bindery.ErrRefNotFound, bindery.ErrNotFound:
		return http.StatusNotFound
	case bindery.ErrConflict, bindery.ErrCancelled:
		return http.StatusConflict
	case bindery.ErrPlan, bindery.ErrStep:
		return http.StatusUnprocessableEntity
	case bindery.ErrLocked:
		return http.StatusLocked
	case bindery.ErrUnreachable, bindery.ErrSessionDied, bindery.ErrOutOfMemory:
		return http.StatusBadGateway
	case bindery.ErrTimeout:
		return http.StatusGatewayTimeout
	case bindery.ErrRateLimit:
		return http.StatusTooManyRequests
	case bindery.ErrNotReady, bindery.ErrWorkerLost, bindery.ErrRepoQuota, bindery.ErrHubQuota:
		return http.StatusServiceUnavailable
	case bindery.ErrNoSpace:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}

// problemFrom reads the failure that resp carries. A body that is no Problem is described by its status only: it may
// come from anything between the client and the hub.
func problemFrom(resp *http.Response) error {
	const most = 1 << 20
	var p Problem
	err := json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(&p)
	if err == nil && p.Kind != "" {
		return p.Err()
	}
	kind, remedy := bindery.ErrInternal, "Look at the hub's log."
	switch resp.StatusCode {
	case http.StatusNotFound:
		kind, remedy = bindery.ErrNotFound, "Check that the URL is a Bindery hub's."
	case http.StatusUnauthorized, http.StatusForbidden:
		kind, remedy = bindery.ErrNotAllowed, "Give a token of this hub."
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		kind, remedy = bindery.ErrUnreachable, "Check that the hub runs behind its proxy."
	}
	return bindery.Errorf(kind, bindery.Transient, remedy, "The hub answered %s", bindery.Printable(resp.Status))
}
