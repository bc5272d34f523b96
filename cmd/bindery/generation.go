package main

import (
	"bufio"
	"context"
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

type generationCmd struct {
	Ls         generationLsCmd         `cmd:"" help:"List the generations of the builder."`
	Plan       generationPlanCmd       `cmd:"" help:"Say what a roll-out would cost and bring."`
	Start      generationStartCmd      `cmd:"" help:"Begin to replace the images of older generations."`
	Status     generationStatusCmd     `cmd:"" help:"Show how a roll-out stands, and what could not be replaced."`
	Pause      generationPauseCmd      `cmd:"" help:"Begin nothing more."`
	Resume     generationResumeCmd     `cmd:"" help:"Go on with a roll-out that is paused."`
	Rollback   generationRollbackCmd   `cmd:"" help:"Serve by the generation before, at once."`
	Invalidate generationInvalidateCmd `cmd:"" help:"Have images built anew while they serve; with --force drop them now."`
}

type generationLsCmd struct {
	hubFlags
	JSON bool `help:"Print a JSON array."`
}

// Run lists generations.
func (c *generationLsCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	all, err := client.Generations(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GENERATION\tSTATE\tBUILDS\tIMAGES\tHELD\tBASE\tSINCE")
	for _, g := range all {
		builds := "-"
		if g.Serving {
			builds = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", clean(g.Name), g.State, builds, g.Images, len(g.Held), clean(baseOf(g.Recipe)), g.Changed.Local().Format(time.DateTime))
	}
	return w.Flush()
}

func baseOf(r bindery.Recipe) string {
	base := r.Base
	if base == "" {
		base = "default"
	}
	if r.Appendix != "" {
		base += " + appendix"
	}
	return base
}

// rolloutFlags say how fast and how carefully a roll-out goes.
type rolloutFlags struct {
	Canary    float64       `help:"Share of the images that go first, 3 at least (default: 0.05)." placeholder:"SHARE"`
	Pace      int           `help:"Builds started in an hour at most (default: whatever slots are idle)." placeholder:"N"`
	AtOnce    int           `help:"Builds at once (default: the slots of all workers)." placeholder:"N"`
	Threshold float64       `help:"It pauses when the share of failures passes the old generation's by more (default: 0.05)." placeholder:"SHARE"`
	Failures  int           `help:"Fewer failures never pause it (default: 2)." placeholder:"N"`
	Since     time.Duration `help:"Images that nobody launched for so long stay as they are (default: 720h; negative: none stays)." placeholder:"DURATION"`
}

func (f rolloutFlags) options() bindery.RolloutOptions {
	return bindery.RolloutOptions{Canary: f.Canary, Pace: f.Pace, AtOnce: f.AtOnce, Threshold: f.Threshold, Failures: f.Failures, Since: f.Since}
}

type generationPlanCmd struct {
	hubFlags
	Generation string `arg:"" optional:"" help:"Which one (default: the one that the hub is set to build by)."`
	Slots      int    `help:"Reckon with so many slots (default: those that there are)." placeholder:"N"`
	rolloutFlags
	JSON bool `help:"Print a JSON object."`
}

// Run prints a plan.
func (c *generationPlanCmd) Run(ctx context.Context, a *app) error {
	if c.Slots < 0 {
		return usagef("--slots is not negative")
	}
	if err := c.options().Check(); err != nil { // the plan does not depend on all of them
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	p, err := client.PlanRollout(ctx, c.Generation, c.options(), c.Slots)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, p)
	}
	printPlan(a.stdout, p)
	return nil
}

func printPlan(out io.Writer, p bindery.RolloutPlan) {
	fmt.Fprintf(out, "From %s to %s, by %d launches of the last %.0f days.\n\n", clean(p.From), clean(p.To), p.Launches, p.Window.Hours()/24)
	fmt.Fprintf(out, "%d images are of older generations; %d would be replaced, %d stay: nobody has launched them for long.\n", p.Images, p.Rolled, p.Skipped)
	fmt.Fprintf(out, "A build takes %s on average; %.1f of %d slots are idle: all of it takes %s.\n\n", round(p.Build), p.Background, p.Slots, round(p.Takes))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AFTER THE TOP\tLAUNCHES COVERED\tTAKES")
	for _, x := range p.Covered {
		fmt.Fprintf(w, "%d\t%.1f %%\t%s\n", x.Top, 100*x.Share, round(x.Takes))
	}
	_ = w.Flush() // out's error shows at its next write
	fmt.Fprintln(out, "\nIf every image were dropped now, visitors would need:")
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WITHIN\tBUILDS\tAS ON")
	for _, x := range p.Demand {
		fmt.Fprintf(w, "%.0f h\t%.0f\t%d days before\n", x.Within.Hours(), x.Builds, x.Days)
	}
	_ = w.Flush()
	for _, n := range p.Notes {
		fmt.Fprintf(out, "\n%s\n", clean(n))
	}
}

// round leaves of a time what a person wants to know.
func round(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return d.Round(time.Minute).String()
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

type generationStartCmd struct {
	hubFlags
	Generation string `arg:"" optional:"" help:"Which one (default: the one that the hub is set to build by)."`
	rolloutFlags
	Reason string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON   bool   `help:"Print a JSON object."`
}

// Run starts a roll-out.
func (c *generationStartCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	g, err := client.StartRollout(ctx, c.Generation, api.StartRollout{Reason: c.Reason, Options: c.options()})
	return a.printGeneration(g, c.JSON, err)
}

type generationStatusCmd struct {
	hubFlags
	Generation string `arg:"" optional:"" help:"Which one (default: the one that is being rolled out, else the current one)."`
	JSON       bool   `help:"Print a JSON object."`
}

// Run shows a generation.
func (c *generationStatusCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	g, err := client.Generation(ctx, c.Generation)
	return a.printGeneration(g, c.JSON, err)
}

// generationChange is what a roll-out is changed with.
type generationChange struct {
	hubFlags
	Generation string `arg:"" optional:"" help:"Which one (default: the one that is being rolled out, else the current one)."`
	Reason     string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON       bool   `help:"Print a JSON object."`
}

func (c *generationChange) change(ctx context.Context, a *app, verb string) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	g, err := client.ChangeRollout(ctx, c.Generation, verb, c.Reason)
	return a.printGeneration(g, c.JSON, err)
}

type (
	generationPauseCmd    struct{ generationChange }
	generationResumeCmd   struct{ generationChange }
	generationRollbackCmd struct{ generationChange }
)

// Run pauses.
func (c *generationPauseCmd) Run(ctx context.Context, a *app) error {
	return c.change(ctx, a, "pause")
}

// Run resumes.
func (c *generationResumeCmd) Run(ctx context.Context, a *app) error {
	return c.change(ctx, a, "resume")
}

// Run rolls back.
func (c *generationRollbackCmd) Run(ctx context.Context, a *app) error {
	return c.change(ctx, a, "rollback")
}

// printGeneration prints how one stands.
func (a *app) printGeneration(g bindery.RolloutStatus, asJSON bool, err error) error {
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(a.stdout, g)
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.stdout, "%-11s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	line("generation", "%s", g.Name)
	line("state", "%s since %s", g.State, g.Changed.Local().Format(time.DateTime))
	line("made by", "%s, %s", g.Recipe.Rules, baseOf(g.Recipe))
	if g.Serving {
		line("builds", "what was never built is built by it")
	}
	if r := g.Rollout; r != nil {
		since := fmt.Sprintf("since %s, by %s %s", r.Started.Local().Format(time.DateTime), r.By, r.Reason)
		if len(r.Only) > 0 {
			line("replaces", "only %s, %s", strings.Join(r.Only, " "), since)
		} else {
			line("takes over", "from %s, %s", r.From, since)
		}
		line("progress", "%d of %d replaced, %d building, %d starting, %d waiting, %d held; %d stay unused", g.Proven, r.Total, g.Building, g.Starting, g.Waiting, len(g.Held), r.Skipped)
		if g.State.RollsOut() {
			line("covered", "%.1f %% of launches", 100*g.Covered)
		}
		if r.Paused != "" && g.State == bindery.GenerationPaused {
			line("paused", "%s", r.Paused)
		}
		if !g.Done.IsZero() {
			line("done", "about %s", g.Done.Local().Format(time.DateTime))
		}
	}
	for _, h := range g.Held {
		line("held", "%s at %.8s (%s, %s): %s", h.Source.URL, h.Source.Commit, h.Stage, h.Fault, h.Reason)
	}
	return nil
}

type generationInvalidateCmd struct {
	hubFlags
	Selector string `arg:"" help:"\"*\", generation:NAME, gh/owner/repository, gh/owner/* or a repository's https URL."`
	Force    bool   `help:"Drop them at once: who asks for one next waits for its build."`
	Yes      bool   `help:"Do not ask."`
	DryRun   bool   `help:"Say what it costs, and do nothing."`
	Reason   string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON     bool   `help:"Print a JSON object."`
}

// Run has images replaced. What costs visitors a wait is said first, and asked for.
func (c *generationInvalidateCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	in := api.InvalidateImages{Selector: c.Selector, Force: c.Force, DryRun: true, Reason: c.Reason}
	cost, err := client.Invalidate(ctx, in)
	if err != nil {
		return err
	}
	if !c.JSON || !c.DryRun {
		fmt.Fprintln(a.stderr, clean(cost.Words))
	}
	if !c.DryRun {
		if c.Force && !c.Yes {
			if err := a.confirm("Drop them?"); err != nil {
				return err
			}
		}
		in.DryRun = false
		if cost, err = client.Invalidate(ctx, in); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(a.stdout, cost)
	}
	if cost.Kept > 0 {
		fmt.Fprintf(a.stdout, "%d of them are in use and stay.\n", cost.Kept)
	}
	return nil
}

// confirm asks a person, if there is one.
func (a *app) confirm(question string) error {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("nobody is here to be asked: say --yes")
	}
	fmt.Fprintf(a.stderr, "%s Type yes: ", question)
	text, _ := bufio.NewReader(in).ReadString('\n') // nothing read is no
	if strings.TrimSpace(text) != "yes" {
		return bindery.Errorf(bindery.ErrCancelled, bindery.User, "Type yes, or give --yes.", "Nothing was done")
	}
	return nil
}
