package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

type eventsCmd struct {
	Export eventsExportCmd `cmd:"" help:"Print what happened, a JSON object a line; in the last day, when no time is said."`
}

// spanFlags say which time is meant.
type spanFlags struct {
	Since string `help:"From then on: a time (2026-11-22T14:00:00Z), a day (2026-11-22), or how long ago (90m, 36h, 7d)." placeholder:"TIME"`
	Until string `help:"Until before then; likewise." placeholder:"TIME"`
}

func (f spanFlags) times(now time.Time) (since, until time.Time, err error) {
	if since, err = timeArg("--since", f.Since, now); err == nil {
		until, err = timeArg("--until", f.Until, now)
	}
	if err == nil && !since.IsZero() && !until.IsZero() && !since.Before(until) {
		err = usagef("--since is not before --until")
	}
	return since, until, err
}

// timeArg reads a time as people write it; none is the zero time.
func timeArg(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04"} {
		if at, err := time.Parse(form, text); err == nil {
			return at, nil
		}
	}
	var days int
	if _, err := fmt.Sscanf(text, "%dd", &days); err == nil && text == fmt.Sprintf("%dd", days) && days > 0 && days < 1e5 {
		return now.AddDate(0, 0, -days), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usagef("%s: %q is neither a time such as 2026-11-22T14:00:00Z nor a while such as 36h", flag, bindery.Printable(text))
}

type eventsExportCmd struct {
	hubFlags
	spanFlags
	Kind string `help:"launches (in BinderHub's public schema), requests, builds, sessions, generations, canaries, pools, audit or all." default:"launches" placeholder:"KIND"`
}

// Run copies the hub's answer, which is in order of time.
func (c *eventsExportCmd) Run(ctx context.Context, a *app) error {
	since, until, err := c.times(time.Now())
	if err != nil {
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	lines, err := client.Export(ctx, c.Kind, since, until)
	if err != nil {
		return err
	}
	defer func() { _ = lines.Close() }() // it was only read
	if _, err = io.Copy(a.stdout, lines); errors.Is(err, io.ErrUnexpectedEOF) {
		err = bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Export again; the hub's log says what happened.", "The hub broke off: the lines are not all")
	}
	return err
}
