package web

import (
	"bufio"
	"cmp"
	"net/http"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// exportFor is how far back an export goes when nobody says.
const exportFor = 24 * time.Hour

// exportEvents answers with JSON lines. What goes wrong on the way cuts the answer off, so that its reader does not
// take a part for the whole.
func (s *Server) exportEvents(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Export == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Ask the operator of this hub.", "This hub keeps no events")
	}
	now := s.cfg.Now()
	since, err := timeOf(r, "since", now.Add(-exportFor))
	if err != nil {
		return err
	}
	until, err := timeOf(r, "until", now)
	if err != nil {
		return err
	}
	lines, err := s.cfg.Export(r.Context(), cmp.Or(r.URL.Query().Get("kind"), "launches"), since, until)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if headOnly(w, r) {
		return nil
	}
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(flushed{w, http.NewResponseController(w), s.cfg.WriteTimeout}, 32<<10)
	for line, err := range lines {
		if err == nil {
			_, err = out.Write(append(line, '\n'))
		}
		if err != nil {
			visitOf(r.Context()).err = err
			panic(http.ErrAbortHandler)
		}
	}
	if out.Flush() != nil { // the client has gone
		panic(http.ErrAbortHandler)
	}
	return nil
}

// timeOf reads a time of the query.
func timeOf(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return at, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a time such as 2026-11-22T14:00:00Z.", "%s is no time: %q", name, bindery.Printable(text))
	}
	return at, nil
}
