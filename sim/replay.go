package sim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// A Replayed trace is what came out of doing once more what a hub did.
type Replayed struct {
	From      time.Time    `json:"from"`
	To        time.Time    `json:"to"`
	Starts    int          `json:"starts"`   // of the hub
	Restores  int          `json:"restores"` // those starts included
	Inputs    int          `json:"inputs"`
	Decisions int          `json:"decisions"`
	Different int          `json:"different"`           // inputs on which something else is decided now
	First     []Difference `json:"first,omitempty"`     // of them
	Truncated bool         `json:"truncated,omitempty"` // the last line is not whole: the hub was killed while it wrote
	Queued    int          `json:"queued"`              // at the end
	Running   int          `json:"running"`
	Sessions  int          `json:"sessions"`
}

// A Difference is an input on which the hub decided one thing and this version another.
type Difference struct {
	Line int       `json:"line"`
	At   time.Time `json:"at"`
	In   string    `json:"in"`
	Then []string  `json:"then"`
	Now  []string  `json:"now"`
}

// mostDifferences are listed; after the first one the others mostly follow from it.
const mostDifferences = 20

// Replay does what the lines of a trace say, in order, and calls each, if it is not nil, with every line and what is
// decided now.
func Replay(r io.Reader, each func(t sched.Traced, now []string)) (Replayed, error) {
	var out Replayed
	var play sched.Replayer
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			out.Truncated = len(text) > 0
			out.Queued, out.Running, out.Sessions = play.Counts()
			return out, nil
		}
		if err != nil {
			return out, err
		}
		var t sched.Traced
		if err := json.Unmarshal(text, &t); err != nil {
			// A hub that was killed has left half a line; the next one began a new file behind it.
			if out.Truncated = n > 1; out.Truncated {
				continue
			}
			return out, fmt.Errorf("line %d is not of a trace: %w", n, err)
		}
		now, err := play.Do(t)
		if err != nil {
			return out, fmt.Errorf("line %d: %w", n, err)
		}
		out.count(n, t, now)
		if each != nil {
			each(t, now)
		}
	}
}

func (r *Replayed) count(n int, t sched.Traced, now []string) {
	if r.From.IsZero() {
		r.From = t.At
	}
	r.To = t.At
	if t.Config != nil {
		r.Starts++
	}
	if t.State != nil {
		r.Restores++
	}
	if t.In == "" {
		return
	}
	r.Inputs++
	r.Decisions += len(now)
	if slices.Equal(now, t.Out) {
		return
	}
	r.Different++
	if len(r.First) < mostDifferences {
		r.First = append(r.First, Difference{Line: n, At: t.At, In: t.In + " " + string(t.With), Then: t.Out, Now: now})
	}
}
