package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

type simReplayCmd struct {
	Files     []string `arg:"" optional:"" name:"file" help:"Traces of a hub (default: those of the state directory)." placeholder:"FILE"`
	Decisions bool     `help:"Print each input and what is decided on it."`
	JSON      bool     `help:"Print a JSON object."`
}

// A replayedFile is what a replay says of one trace.
type replayedFile struct {
	File string `json:"file"`
	sim.Replayed
}

// Run does once more what a hub's scheduler did, and compares what is decided now with what was decided then.
func (c *simReplayCmd) Run(ctx context.Context, a *app) error {
	files := c.Files
	if len(files) == 0 {
		found, err := filepath.Glob(filepath.Join(a.inst.path("trace"), "*.jsonl"))
		if err != nil || len(found) == 0 {
			return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Name the files, or the hub's state directory with --state-dir.", "There are no traces in %s", a.inst.path("trace"))
		}
		slices.Sort(found)
		files = found
	}
	out := struct {
		Files     []replayedFile `json:"files"`
		Inputs    int            `json:"inputs"`
		Different int            `json:"different"`
		Unlike    int            `json:"unlike"`
	}{}
	var play sim.Replayer
	for _, file := range files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r, err := c.replay(a.stdout, &play, file)
		if err != nil {
			return err
		}
		out.Files = append(out.Files, replayedFile{file, r})
		out.Inputs += r.Inputs
		out.Different += r.Different
		out.Unlike += r.Unlike
	}
	if c.JSON {
		if err := printJSON(a.stdout, out); err != nil {
			return err
		}
	}
	const remedy = "Replay with the version that wrote the trace, or look at the first difference: the others mostly follow from it."
	switch {
	case out.Different > 0:
		return bindery.Errorf(bindery.ErrConflict, bindery.User, remedy, "On %d of %d inputs something else is decided now", out.Different, out.Inputs)
	case out.Unlike > 0:
		return bindery.Errorf(bindery.ErrConflict, bindery.User, remedy, "The inputs do not lead to the state that the hub wrote down, %d times", out.Unlike)
	}
	return nil
}

func (c *simReplayCmd) replay(w io.Writer, play *sim.Replayer, file string) (sim.Replayed, error) {
	f, err := os.Open(file)
	if err != nil {
		return sim.Replayed{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Name a trace that you may read.", "The trace %s cannot be read", bindery.Printable(file)).Because(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	var each func(sched.Traced, []string)
	if c.Decisions && !c.JSON {
		each = func(t sched.Traced, now []string) { printTraced(w, t, now) }
	}
	r, err := play.Replay(f, each)
	if err != nil {
		return r, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give files that a hub wrote to trace/ of its state directory.", "%s cannot be replayed", bindery.Printable(file)).Because(err)
	}
	if c.JSON {
		return r, nil
	}
	for _, d := range r.First {
		_, _ = fmt.Fprintf(w, "line %d, %s: %s\n  then: %s\n  now:  %s\n", d.Line, d.At.UTC().Format("2006-01-02T15:04:05.000000"), d.In, strings.Join(d.Then, "; "), strings.Join(d.Now, "; "))
	}
	_, err = fmt.Fprintf(w, "%s: %s%d inputs, %d decisions, %d different; %d restores; at the end %d builds queued, %d running, %d sessions\n",
		filepath.Base(file), beginning(r), r.Inputs, r.Decisions, r.Different, r.Restores, r.Queued, r.Running, r.Sessions)
	return r, err
}

// beginning says what a trace begins with, if that is more than the start of a hub.
func beginning(r sim.Replayed) string {
	switch {
	case r.Unlike > 0:
		return "its state is not what the inputs before it lead to; "
	case r.Gaps > 0:
		return "inputs are missing before it; "
	}
	return ""
}

func printTraced(w io.Writer, t sched.Traced, now []string) {
	what := t.In + " " + string(t.With)
	switch {
	case t.Whole != nil:
		what = fmt.Sprintf("the whole state, %d builds, %d sessions", len(t.Whole.Builds), len(t.Whole.Sessions))
	case t.State != nil:
		what = fmt.Sprintf("restore %d builds, %d sessions", len(t.State.Builds), len(t.State.Sessions))
	}
	_, _ = fmt.Fprintf(w, "%s %s\n", t.At.UTC().Format("2006-01-02T15:04:05.000000"), strings.TrimSpace(what)) // a broken pipe shows at the end
	for _, d := range now {
		_, _ = fmt.Fprintf(w, "  %s\n", d)
	}
}
