package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

type buildsCmd struct {
	Ls      buildsLsCmd      `cmd:"" help:"List a hub's builds, those that live first."`
	Show    buildsShowCmd    `cmd:"" help:"Show one build."`
	Cancel  buildsCancelCmd  `cmd:"" help:"Stop builds that nobody should wait for any more."`
	Forgive buildsForgiveCmd `cmd:"" help:"Forget that a build failed: the next one who asks has it built again."`
	Retry   buildsRetryCmd   `cmd:"" help:"Build again what has failed, though its failure is remembered."`
	Logs    buildsLogsCmd    `cmd:"" help:"Print what a build printed."`

	Timeline buildsTimelineCmd `cmd:"" help:"Show when each step of a build ran; of one that runs, once it ends."`
}

type buildsLsCmd struct {
	hubFlags
	Limit int  `help:"How many at most." default:"50" placeholder:"N"`
	JSON  bool `help:"Print a JSON array."`
}

// Run lists builds.
func (c *buildsLsCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	all, err := client.Builds(ctx, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BUILD\tSTATE\tREPOSITORY\tCLASS\tATTEMPT\tASKED\tTOOK\tBECAUSE")
	for _, b := range all {
		why := ""
		if b.Err != nil {
			why = fit(clean(b.Err.Brief()), mostWhy)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s ago\t%s\t%s\n", b.ID, b.State, repoAt(b.Source), b.Class, b.Attempt, seconds(time.Since(b.Created)), took(b, time.Now()), why)
	}
	return w.Flush()
}

// took is how long the last attempt of a build has run.
func took(b bindery.Build, now time.Time) string {
	switch {
	case b.Started.IsZero():
		return ""
	case b.Ended.IsZero():
		return seconds(now.Sub(b.Started))
	}
	return seconds(b.Ended.Sub(b.Started))
}

type buildsShowCmd struct {
	hubFlags
	ID   string `arg:"" help:"The build, as bindery queue or bindery builds ls name it."`
	JSON bool   `help:"Print a JSON object."`
}

// Run shows a build, and where it stands in the queue.
func (c *buildsShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	b, err := client.Build(ctx, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, b)
	}
	var at *bindery.QueuedBuild
	if !b.State.Ended() {
		q, err := client.Queue(ctx)
		if err != nil {
			return err
		}
		for _, x := range slices.Concat(q.Running, q.Waiting) {
			if x.ID == b.ID {
				at = &x
			}
		}
	}
	return showBuild(a.stdout, b, at, time.Now())
}

func showBuild(out io.Writer, b bindery.Build, at *bindery.QueuedBuild, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		if text := clean(fmt.Sprintf(format, args...)); text != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, text)
		}
	}
	line("build", "%s", b.ID)
	line("state", "%s", b.State)
	line("repository", "%s", b.Source.URL)
	line("ref", "%s", b.Source.Ref)
	line("commit", "%s", b.Source.Commit)
	line("directory", "%s", b.Source.Subdir)
	line("class", "%s", b.Class)
	if b.Evidence != "" {
		line("judged by", "%s", b.Evidence)
	}
	if b.Attempt > 0 {
		line("attempt", "%d on %s", b.Attempt, b.Worker)
	}
	line("asked", "%s (%s ago)", b.Created.UTC().Format(time.RFC3339), seconds(now.Sub(b.Created)))
	if !b.Started.IsZero() {
		line("started", "%s, %s after it was asked for", b.Started.UTC().Format(time.RFC3339), seconds(b.Started.Sub(b.Created)))
		line("took", "%s", took(b, now))
	}
	if at != nil {
		line("watchers", "%d", at.Watchers)
		line("expected", "%s", seconds(at.Expected))
		line("stopping", "%s", at.Stopping)
		if at.Standing.Position > 0 {
			line("position", "%d", at.Standing.Position)
			line("waits", "%s", at.Standing.Reason)
			line("starts", "%s", startsIn(at.Standing, now))
		}
	}
	if r := b.Result; r != nil {
		line("image", "%s", r.Image)
		line("generation", "%s", r.Generation)
		line("steps", "%d run, %d from the cache", r.Steps.Run, r.Steps.Cached)
		for _, stage := range slices.Sorted(maps.Keys(r.Seconds)) {
			line(stage, "%.1f s", r.Seconds[stage])
		}
	}
	if b.Err != nil {
		line("failed", "%s", b.Err.What())
		if said := b.Err.Lines(); said != "" {
			for l := range strings.Lines(said) {
				fmt.Fprintf(w, "\t  %s\n", strings.TrimRight(clean(l), " "))
			}
		}
		line("remedy", "%s", b.Err.Remedy)
		line("fault", "%s", b.Err.Fault)
		if b.Until.After(now) {
			line("remembered", "for %s, %d in a row", seconds(b.Until.Sub(now)), b.Row)
		}
	}
	return w.Flush()
}

type buildsCancelCmd struct {
	hubFlags
	ID     []string `arg:"" help:"Builds, as bindery queue names them."`
	Reason string   `help:"Why; the audit log keeps it." placeholder:"TEXT"`
}

// Run cancels one build after the other.
func (c *buildsCancelCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	for _, id := range c.ID {
		if err := client.CancelBuild(ctx, id, c.Reason); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s is cancelled\n", id)
	}
	return nil
}

type buildsRetryCmd struct {
	hubFlags
	ID     string `arg:"" help:"The build."`
	Reason string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON   bool   `help:"Print the build that answers now as a JSON object."`
}

// Run builds again.
func (c *buildsRetryCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	b, err := client.RetryBuild(ctx, c.ID, c.Reason)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, b)
	}
	fmt.Fprintf(a.stdout, "%s is %s\n", b.ID, b.State)
	return nil
}

type buildsForgiveCmd struct {
	hubFlags
	ID     string `arg:"" help:"The build."`
	Reason string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
}

// Run forgives.
func (c *buildsForgiveCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	if err := client.ForgiveBuild(ctx, c.ID, c.Reason); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "the failure of %s is forgotten\n", c.ID)
	return nil
}

type buildsLogsCmd struct {
	hubFlags
	ID     string `arg:"" help:"The build."`
	Follow bool   `short:"f" help:"Go on until the build ends."`
}

// Run prints a build's log.
func (c *buildsLogsCmd) Run(ctx context.Context, a *app) (err error) {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	out := shownLog(a.stdout)
	defer func() { err = errors.Join(err, out.Close()) }()
	if c.Follow {
		for e, err := range client.Events(ctx, c.ID, 0) {
			if err != nil {
				return err
			}
			if _, err := io.WriteString(out, e.Message); err != nil {
				return err
			}
		}
		return nil
	}
	log, err := client.BuildLog(ctx, c.ID)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // only read
	_, err = io.Copy(out, log)
	return err
}

type buildsTimelineCmd struct {
	hubFlags
	ID   string `arg:"" help:"The build."`
	JSON bool   `help:"Print a JSON array of steps."`
}

// Run reads a build's events to the end and draws its steps. Those of an attempt that was given up are among them.
func (c *buildsTimelineCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	t := &timeline{steps: []bindery.Step{}}
	for e, err := range client.Events(ctx, c.ID, 0) {
		if err != nil {
			return err
		}
		t.Event(e)
	}
	if c.JSON {
		return printJSON(a.stdout, t.steps)
	}
	t.write(a.stdout)
	return nil
}
