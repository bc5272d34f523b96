package worker

import (
	"encoding/json"
	"net/http"

	bindery "github.com/bindery-hub/bindery"
)

// planRequest asks for a plan.
type planRequest struct {
	Source bindery.Source `json:"source"`
	Base   string         `json:"base,omitempty"`
}

// prepareRequest asks for a root file system.
type prepareRequest struct {
	Image string `json:"image"`
}

// status is the HTTP status of an error of kind k. The kind itself is in the body.
func status(k bindery.Kind) int {
	switch k {
	case bindery.ErrInvalid:
		return http.StatusBadRequest
	case bindery.ErrNotAllowed:
		return http.StatusForbidden
	case bindery.ErrNotFound, bindery.ErrRepoNotFound, bindery.ErrRefNotFound:
		return http.StatusNotFound
	case bindery.ErrConflict, bindery.ErrLocked, bindery.ErrCancelled:
		return http.StatusConflict
	case bindery.ErrPlan, bindery.ErrStep, bindery.ErrSessionDied, bindery.ErrOutOfMemory:
		return http.StatusUnprocessableEntity
	case bindery.ErrUnreachable:
		return http.StatusBadGateway
	case bindery.ErrTimeout:
		return http.StatusGatewayTimeout
	case bindery.ErrNoSpace:
		return http.StatusInsufficientStorage
	case bindery.ErrNotReady, bindery.ErrWorkerLost:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func writeJSON(w http.ResponseWriter, code int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(raw, '\n')) // a client that is gone needs no answer
	return nil
}
