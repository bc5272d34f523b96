package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type banCmd struct {
	Add banAddCmd `cmd:"" help:"Refuse builds and launches, drop what waits, stop what runs."`
	Ls  banLsCmd  `cmd:"" help:"List bans."`
	Rm  banRmCmd  `cmd:"" help:"Lift a ban."`
}

type holdCmd struct {
	Add holdAddCmd `cmd:"" help:"Let builds wait, or launches; what runs goes on."`
	Ls  holdLsCmd  `cmd:"" help:"List holds."`
	Rm  holdRmCmd  `cmd:"" help:"Lift a hold."`
}

type quotaCmd struct {
	Add quotaAddCmd `cmd:"" help:"Limit sessions at once."`
	Ls  quotaLsCmd  `cmd:"" help:"List quotas."`
	Rm  quotaRmCmd  `cmd:"" help:"Lift a quota."`
}

type weightCmd struct {
	Add weightAddCmd `cmd:"" help:"Give an owner or a requester a larger or smaller share of the slots."`
	Ls  weightLsCmd  `cmd:"" help:"List weights."`
	Rm  weightRmCmd  `cmd:"" help:"Lift a weight."`
}

// ruleAdd is what all rules are made with.
type ruleAdd struct {
	hubFlags
	Pattern string        `arg:"" help:"gh/owner/repository, gh/owner/*, a repository's https URL, an address block such as 192.0.2.0/24, or a requester such as token:1234abcd."`
	Reason  string        `required:"" help:"Why; operators see it, the audit log keeps it." placeholder:"TEXT"`
	Message string        `help:"What the visitors whom it concerns are told." placeholder:"TEXT"`
	For     time.Duration `help:"It ends by itself after so long, such as 30m or 48h (default: when it is lifted)." placeholder:"DURATION"`
	JSON    bool          `help:"Print the rule as a JSON object."`
}

func (c *ruleAdd) add(ctx context.Context, a *app, kind string, value float64) error {
	if c.For < 0 {
		return usagef("--for is not negative")
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	in := api.NewRule{Kind: kind, Pattern: c.Pattern, Value: value, Reason: c.Reason, Message: c.Message}
	if c.For > 0 {
		in.Until = time.Now().Add(c.For).UTC()
	}
	r, err := client.AddRule(ctx, in)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, r)
	}
	until := "until it is lifted"
	if !r.Until.IsZero() {
		until = "until " + r.Until.Local().Format(time.DateTime)
	}
	fmt.Fprintf(a.stdout, "%s of the %s %s, %s\n", r.Kind, r.Scope, clean(r.Pattern), until)
	return nil
}

// ruleLs lists rules of some kinds.
type ruleLs struct {
	hubFlags
	JSON bool `help:"Print a JSON array."`
}

func (c *ruleLs) list(ctx context.Context, a *app, kinds ...string) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	rules, err := rulesOf(ctx, client, kinds...)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, rules)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RULE\tPATTERN\tVALUE\tENDS\tBY\tREASON")
	for _, r := range rules {
		printRule(w, r.Kind, r.Pattern, r.Value, r.Until, time.Now(), r.By, r.Reason)
	}
	return w.Flush()
}

func rulesOf(ctx context.Context, client *api.Client, kinds ...string) ([]api.Rule, error) {
	all, err := client.Rules(ctx)
	out := []api.Rule{}
	for _, r := range all {
		if slices.Contains(kinds, r.Kind) {
			out = append(out, r)
		}
	}
	return out, err
}

type ruleRm struct {
	hubFlags
	Pattern string `arg:"" help:"The rule's pattern."`
	Reason  string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
}

func (c *ruleRm) remove(ctx context.Context, a *app, kind string) error {
	p, err := bindery.ParsePattern(c.Pattern)
	if err != nil {
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	rules, err := rulesOf(ctx, client, kind)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.Pattern == p.String() {
			return client.LiftRule(ctx, r.ID, c.Reason)
		}
	}
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, fmt.Sprintf("`bindery %s ls` lists those that stand.", strings.TrimSuffix(kind, "-launches")), "There is no %s of %s", kind, clean(p.String()))
}

type (
	banAddCmd  struct{ ruleAdd }
	holdAddCmd struct {
		ruleAdd
		Launches bool `help:"Hold launches of what is built, not builds."`
	}
	quotaAddCmd struct {
		ruleAdd
		Sessions int `arg:"" help:"How many at once; 0: none."`
	}
	weightAddCmd struct {
		ruleAdd
		Weight float64 `arg:"" help:"Everybody's is 1."`
	}
	banLsCmd    struct{ ruleLs }
	holdLsCmd   struct{ ruleLs }
	quotaLsCmd  struct{ ruleLs }
	weightLsCmd struct{ ruleLs }
	banRmCmd    struct{ ruleRm }
	holdRmCmd   struct {
		ruleRm
		Launches bool `help:"The hold of launches, not of builds."`
	}
	quotaRmCmd  struct{ ruleRm }
	weightRmCmd struct{ ruleRm }
)

// Run bans.
func (c *banAddCmd) Run(ctx context.Context, a *app) error { return c.add(ctx, a, "ban", 0) }

// Run holds.
func (c *holdAddCmd) Run(ctx context.Context, a *app) error {
	return c.add(ctx, a, holdKind(c.Launches), 0)
}

func holdKind(launches bool) string {
	if launches {
		return "hold-launches"
	}
	return "hold"
}

// Run sets a quota.
func (c *quotaAddCmd) Run(ctx context.Context, a *app) error {
	return c.add(ctx, a, "quota", float64(c.Sessions))
}

// Run sets a weight.
func (c *weightAddCmd) Run(ctx context.Context, a *app) error {
	return c.add(ctx, a, "weight", c.Weight)
}

// Run lists bans.
func (c *banLsCmd) Run(ctx context.Context, a *app) error { return c.list(ctx, a, "ban") }

// Run lists holds.
func (c *holdLsCmd) Run(ctx context.Context, a *app) error {
	return c.list(ctx, a, "hold", "hold-launches")
}

// Run lists quotas.
func (c *quotaLsCmd) Run(ctx context.Context, a *app) error { return c.list(ctx, a, "quota") }

// Run lists weights.
func (c *weightLsCmd) Run(ctx context.Context, a *app) error { return c.list(ctx, a, "weight") }

// Run lifts a ban.
func (c *banRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, "ban") }

// Run lifts a hold.
func (c *holdRmCmd) Run(ctx context.Context, a *app) error {
	return c.remove(ctx, a, holdKind(c.Launches))
}

// Run lifts a quota.
func (c *quotaRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, "quota") }

// Run lifts a weight.
func (c *weightRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, "weight") }

type auditCmd struct {
	hubFlags
	Limit int  `help:"How many lines at most." default:"100" placeholder:"N"`
	JSON  bool `help:"Print a JSON array."`
}

// Run prints the audit log, newest first.
func (c *auditCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	all, err := client.Audit(ctx, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tWHO\tDID\tWHAT\tBECAUSE")
	for _, l := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Time.UTC().Format(time.RFC3339), clean(l.Who), clean(l.Did), clean(l.What), clean(l.Reason))
	}
	return w.Flush()
}
