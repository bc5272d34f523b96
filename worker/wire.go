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
