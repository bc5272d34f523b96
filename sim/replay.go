package sim

import (
	"bufio"
	"bytes"
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
	Wholes    int          `json:"wholes"`              // times that the hub wrote all of its state down
	Gaps      int          `json:"gaps"`                // of them those before which inputs are missing
	Unlike    int          `json:"unlike"`              // of them those that are not what the inputs before them lead to
	First     []Difference `json:"first,omitempty"`     // inputs and states that differ
	Truncated bool         `json:"truncated,omitempty"` // the last line is not whole: the hub was killed while it wrote
	Queued    int          `json:"queued"`              // at the end
	Running   int          `json:"running"`
	Sessions  int          `json:"sessions"`
}

// A Difference is an input on which the hub decided one thing and this version another, or a state that it had come to and
// this version not.
type Difference struct {
	Line int       `json:"line"`
	At   time.Time `json:"at"`
	In   string    `json:"in"`
	Then []string  `json:"then"`
	Now  []string  `json:"now"`
}

// mostDifferences are listed; after the first one the others mostly follow from it.
const mostDifferences = 20

// A Replayer does what traces say, one after another: those of one run of a hub go on with each other.
type Replayer struct{ play sched.Replayer }

// Replay does what the lines of a trace say, in order, and calls each, if it is not nil, with every line and what is
// decided now.
func (p *Replayer) Replay(r io.Reader, each func(t sched.Traced, now []string)) (Replayed, error) {
	var out Replayed
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			out.Truncated = len(text) > 0
			out.Queued, out.Running, out.Sessions = p.play.Counts()
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
		if t.Whole != nil {
			if err := out.meet(n, t, p.play.Whole()); err != nil {
				return out, fmt.Errorf("line %d: %w", n, err)
			}
		}
		now, err := p.play.Do(t)
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
	r.note(Difference{Line: n, At: t.At, In: t.In + " " + string(t.With), Then: t.Out, Now: now})
}

// meet compares a state that the hub wrote down with what the inputs before it have led to; nil: there were none. It goes
// on from what the hub wrote.
func (r *Replayed) meet(n int, t sched.Traced, come *sched.Whole) error {
	r.Wholes++
	if come == nil {
		return nil
	}
	theirs, mine := *t.Whole, *come
	if theirs.Steps != mine.Steps || !theirs.Clock.Equal(mine.Clock) {
		r.Gaps++
		return nil
	}
	theirs.Asked, mine.Asked = nil, nil // nobody asks in a replay
	then, err := sched.Traced{At: t.At, Whole: &theirs}.Line()
	if err != nil {
		return err
	}
	now, err := sched.Traced{At: t.At, Whole: &mine}.Line()
	if err != nil || bytes.Equal(then, now) {
		return err
	}
	r.Unlike++
	i := 0
	for i < min(len(then), len(now)) && then[i] == now[i] {
		i++
	}
	near := func(text []byte) []string { return []string{string(text[max(i-100, 0):min(i+100, len(text))])} }
	r.note(Difference{Line: n, At: t.At, In: "the whole state", Then: near(then), Now: near(now)})
	return nil
}

func (r *Replayed) note(d Difference) {
	if len(r.First) < mostDifferences {
		r.First = append(r.First, d)
	}
}
