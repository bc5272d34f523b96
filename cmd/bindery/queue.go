package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// running returns a client of the hub, which must be there.
func (h hubFlags) running(a *app) (*api.Client, error) {
	c, err := h.client(a)
	if err == nil && c == nil {
		err = bindery.Errorf(bindery.ErrUnreachable, bindery.User, "Start it with `bindery serve`, name its state directory with --state-dir, or its URL with --hub.",
			"No hub serves the state directory %s", a.inst.dir)
	}
	return c, err
}

type queueCmd struct {
	hubFlags
	Watch bool `short:"w" help:"Go on, and show what changes."`
	JSON  bool `help:"Print a JSON object; with --watch one per line."`
}

// watchEvery is how often --watch looks: as often as positions are worked out anew.
const watchEvery = time.Second

// Run shows the queue once, or again and again until it is interrupted.
func (c *queueCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	last := ""
	for {
		q, err := client.Queue(ctx)
		// A hub that restarts is worth waiting for; one that never answered is not.
		if err != nil && (last == "" || !errors.Is(err, bindery.ErrUnreachable)) {
			return err
		}
		var text strings.Builder
		switch {
		case err != nil:
			text.WriteString("The hub does not answer.\n")
		case c.JSON && c.Watch:
			err = json.NewEncoder(&text).Encode(q)
		case c.JSON:
			return printJSON(a.stdout, q)
		default:
			err = printQueue(&text, q)
		}
		if err != nil && !errors.Is(err, bindery.ErrUnreachable) {
			return err
		}
		if text.String() != last {
			c.draw(a.stdout, text.String(), last != "")
		}
		last = text.String()
		if !c.Watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(watchEvery):
		}
	}
}

// draw replaces what was drawn before on a terminal, and adds to it elsewhere.
func (c *queueCmd) draw(w io.Writer, text string, again bool) {
	switch {
	case c.JSON:
	case isTerminal(w):
		text = "\x1b[H\x1b[2J" + text
	case again:
		text = "\n" + text
	}
	_, _ = io.WriteString(w, text) // a closed pipe ends the program by itself
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// mostWhy is room for a step and what it says of a line of a file. It is the last column: a narrow terminal wraps it.
const mostWhy = 120

// printQueue writes what an operator wants to know first at the top.
func printQueue(out io.Writer, q bindery.Queue) error {
	waits := len(q.Waiting) + q.More
	fmt.Fprintf(out, "%d of %d slots taken, %d waiting, %d sessions\n", q.Taken, q.Slots, waits, q.Sessions)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(q.Running) > 0 {
		fmt.Fprintln(w, "\nRUNNING\tREPOSITORY\tCLASS\tATTEMPT\tWORKER\tWATCHERS\tAGE\tEXPECTED")
		for _, b := range q.Running {
			note := ""
			if b.Stopping != "" {
				note = "\tbeing stopped: " + clean(b.Stopping)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s%s\n", b.ID, repoAt(b.Source), b.Class, b.Attempt, b.Worker, b.Watchers, seconds(b.Age), seconds(b.Expected), note)
		}
	}
	if waits > 0 {
		fmt.Fprintln(w, "\n#\tWAITING\tREPOSITORY\tCLASS\tWATCHERS\tSINCE\tSTARTS\tREASON")
		for _, b := range q.Waiting {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", b.Standing.Position, b.ID, repoAt(b.Source), b.Class, b.Watchers, seconds(b.Age), startsIn(b.Standing, q.At), clean(b.Standing.Reason))
		}
		if q.More > 0 {
			fmt.Fprintf(w, "\tand %d more\n", q.More)
		}
	}
	if len(q.Shares) > 0 {
		fmt.Fprintln(w, "\nSHARES\tOF\tCLASS\tRUNNING\tWAITING\tSHARE\tWEIGHT")
		for _, s := range q.Shares {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%.0f %%\t%g\n", clean(bindery.PatternText(s.Scope, s.Name)), s.Scope, s.Class, s.Running, s.Waiting, 100*s.Share, s.Weight)
		}
	}
	if len(q.Lobby) > 0 {
		fmt.Fprintln(w, "\n#\tSESSION\tREPOSITORY\tSINCE\tREASON")
		for _, s := range q.Lobby {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", s.Standing.Position, s.ID, clean(s.Repo), seconds(s.Age), clean(s.Standing.Reason))
		}
	}
	if len(q.Failures) > 0 {
		fmt.Fprintln(w, "\nFAILED\tREPOSITORY\tIN A ROW\tANSWERS FOR\tBECAUSE")
		for _, f := range q.Failures {
			why := ""
			if f.Err != nil {
				why = f.Err.Brief()
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", f.Build, repoAt(f.Source), f.Row, seconds(f.Until.Sub(q.At)), fit(clean(why), mostWhy))
		}
	}
	if len(q.Rules) > 0 {
		fmt.Fprintln(w, "\nRULE\tPATTERN\tVALUE\tENDS\tBY\tREASON")
		for _, r := range q.Rules {
			printRule(w, r.Kind, bindery.PatternText(r.Scope, r.Name), r.Value, r.From, r.Until, q.At, r.Who, r.Reason)
		}
	}
	return w.Flush()
}

func printRule(w io.Writer, kind, pattern string, value float64, from, until, now time.Time, by, reason string) {
	ends, number := "when lifted", ""
	if !until.IsZero() {
		ends = "in " + seconds(max(until.Sub(now), 0))
	}
	if kind == bindery.RuleUntilBuilt && until.IsZero() {
		ends = "when built"
	}
	if from.After(now) {
		ends = "from " + from.Local().Format("2006-01-02 15:04") + ", " + ends
	}
	if kind == "quota" || kind == "weight" {
		number = fmt.Sprintf("%g", value)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", kind, clean(pattern), number, ends, clean(by), clean(reason))
}

// repoAt names a source in one word: the pattern of its repository and the start of its commit.
func repoAt(src bindery.Source) string {
	if src.URL == "" {
		return "(not shown)"
	}
	name := bindery.PatternText(bindery.OnRepository, src.Identity())
	if src.Provider == bindery.ProviderLocal {
		name = src.URL
	}
	if at := cmp.Or(src.Commit, src.Ref); at != "" {
		name += "@" + at[:min(len(at), 12)]
	}
	return clean(name)
}

// startsIn is the interval of a start, in words of a table.
func startsIn(st bindery.Standing, now time.Time) string {
	if st.To.IsZero() {
		return "unknown"
	}
	from, to := seconds(max(st.From.Sub(now), 0)), seconds(max(st.To.Sub(now), 0))
	switch {
	case from == to:
		return from
	case from == seconds(0):
		return "within " + to
	}
	return from + " to " + to
}
