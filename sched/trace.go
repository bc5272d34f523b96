package sched

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"time"
)

// A Traced line is one thing that was done to a scheduler, with what it decided. All lines of a process, in order, do the
// same to another scheduler, and so do those from one on that holds the whole of it.
type Traced struct {
	At     time.Time       `json:"at"`
	Config *Config         `json:"config,omitempty"` // a new scheduler begins
	State  *State          `json:"state,omitempty"`  // it is restored
	Whole  *Whole          `json:"whole,omitempty"`  // it has come to this
	In     string          `json:"in,omitempty"`     // name of the type of an input
	With   json.RawMessage `json:"with,omitempty"`   // the input
	Out    []string        `json:"out,omitempty"`    // decisions, as they write themselves
}

// TraceStep is the line of one Step.
func TraceStep(now time.Time, in Input, out []Decision) (Traced, error) {
	with, err := json.Marshal(in)
	if err != nil {
		return Traced{}, fmt.Errorf("trace %T: %w", in, err)
	}
	t := Traced{At: now, In: reflect.TypeOf(in).Name(), Out: written(out)}
	if string(with) != "{}" {
		t.With = with
	}
	return t, nil
}

// Line is t as a trace holds it.
func (t Traced) Line() ([]byte, error) {
	if t.Whole != nil {
		t.Whole.sort()
	}
	with := t.With // is JSON, which json.Marshal would go through once more
	t.With = nil
	line, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("trace %s: %w", cmp.Or(t.In, "the whole state"), err)
	}
	if len(with) > 0 {
		line = append(append(line[:len(line)-1], `,"with":`...), with...)
		line = append(line, '}')
	}
	return append(line, '\n'), nil
}

func written(out []Decision) (texts []string) {
	for _, d := range out {
		texts = append(texts, d.String())
	}
	return texts
}

// A Replayer does to a scheduler what a trace says.
type Replayer struct{ s *Scheduler }

// Do does one line, and returns what is decided now.
func (r *Replayer) Do(t Traced) ([]string, error) {
	switch {
	case t.Config != nil:
		r.s = New(*t.Config)
	case t.Whole != nil:
		s, err := t.Whole.Scheduler()
		if err != nil {
			return nil, fmt.Errorf("the state is not whole: %w", err)
		}
		r.s = s
	case r.s == nil:
		return nil, fmt.Errorf("the trace begins neither with the start of a hub nor with the whole of its state")
	}
	if t.State != nil {
		r.s.Restore(t.At, *t.State)
	}
	if t.In == "" {
		return nil, nil
	}
	in, err := t.input()
	if err != nil {
		return nil, err
	}
	return written(r.s.Step(t.At, in)), nil
}

// Whole is what the scheduler has come to; nil before the first line.
func (r *Replayer) Whole() *Whole {
	if r.s == nil {
		return nil
	}
	return r.s.Whole()
}

// Counts says how much is queued and running, and how many sessions have a place.
func (r *Replayer) Counts() (queued, running, sessions int) {
	if r.s == nil {
		return 0, 0, 0
	}
	return r.s.Counts()
}

// inputs are all types of inputs.
func inputs() []Input {
	return []Input{
		Submit{}, Cancel{}, Finished{}, Progress{}, WorkerUp{}, WorkerDown{}, WorkerLost{}, Watch{}, Learn{}, AskSession{}, SessionReady{},
		SessionActive{}, SessionStopping{}, SessionEnded{}, Configure{}, Tick{}, SetRule{}, LiftRule{}, Forgive{},
	}
}

func (t Traced) input() (Input, error) {
	for _, known := range inputs() {
		typ := reflect.TypeOf(known)
		if typ.Name() != t.In {
			continue
		}
		in := reflect.New(typ)
		if len(t.With) > 0 {
			if err := json.Unmarshal(t.With, in.Interface()); err != nil {
				return nil, fmt.Errorf("read %s: %w", t.In, err)
			}
		}
		return in.Elem().Interface().(Input), nil
	}
	return nil, fmt.Errorf("%q is not an input that this version knows", t.In)
}
