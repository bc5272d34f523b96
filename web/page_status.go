package web

import (
	"net/http"
	"strconv"

	bindery "github.com/bindery-hub/bindery"
)

type statusBody struct {
	OK      bool
	Health  []healthEntry
	Queue   *bindery.Queue // nil: this hub has none to look at
	Waiting int
	Rows    statusRows
}

type statusRows struct{ Running, Waiting, Failed []statusRow }

// A statusRow is a build in a table of the status page.
type statusRow struct {
	ID, Name, Ref, Class, Age, Note, When string
	Position, Watchers                    int
}

type statusData struct {
	Queue  string `json:"queue"`
	Health string `json:"health"`
	Builds string `json:"builds"`
}

// mostRows bounds each table: the page stays small whatever the queue is.
const mostRows = 50

// statusPage says what the service is doing now. Its script asks again while it is looked at.
func (s *Server) statusPage(w http.ResponseWriter, r *http.Request) error {
	health := s.health.answer(r.Context())
	b := statusBody{OK: health.OK, Health: health.Checks}
	if s.cfg.Queue != nil {
		q, err := s.getQueue(r.Context(), visitOf(r.Context()).caller, mostRows)
		if err != nil {
			return err
		}
		b.Queue, b.Waiting, b.Rows = &q, len(q.Waiting)+q.More, rowsOf(q)
	}
	return s.write(w, r, http.StatusOK, "status", s.statusPageData(b))
}

func (s *Server) statusPageData(b statusBody) pageData {
	d := statusData{Queue: s.cfg.Base + "/api/v1/queue?limit=" + strconv.Itoa(mostRows), Health: s.cfg.Base + "/health", Builds: s.cfg.Base + "/builds/"}
	return pageData{Title: "Status · Bindery", Social: "What this hub is doing now.", Data: d, Body: b}
}

// rowsOf are the tables as they are before the script takes over, and where there is none.
func rowsOf(q bindery.Queue) (out statusRows) {
	row := func(b bindery.QueuedBuild) statusRow {
		return statusRow{
			ID: b.ID, Name: repoName(b.Source), Ref: b.Source.Ref, Class: string(b.Class), Age: words(b.Age),
			Position: b.Standing.Position, Watchers: b.Watchers,
		}
	}
	for _, b := range q.Running[:min(len(q.Running), mostRows)] {
		x := row(b)
		x.Note = "usually takes " + words(b.Expected)
		if b.Expected <= 0 {
			x.Note = ""
		}
		out.Running = append(out.Running, x)
	}
	for _, b := range q.Waiting[:min(len(q.Waiting), mostRows)] {
		x := row(b)
		x.Note, x.When = b.Standing.Reason, interval(b.Standing, q.At)
		out.Waiting = append(out.Waiting, x)
	}
	for _, f := range q.Failures[:min(len(q.Failures), mostRows)] {
		x := statusRow{ID: f.Build, Name: repoName(f.Source), Ref: f.Source.Ref, Age: words(f.Until.Sub(q.At)), Position: f.Row}
		if f.Err != nil {
			x.Note = f.Err.Brief()
		}
		out.Failed = append(out.Failed, x)
	}
	return out
}

func repoName(src bindery.Source) string {
	if src.URL == "" {
		return "not shown"
	}
	return shortName(src.URL)
}
