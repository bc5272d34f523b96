package main

import (
	"context"
	"encoding/json"
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
	Pattern  string        `arg:"" help:"gh/owner/repository, gh/owner/*, a repository's https URL, a network such as 192.0.2.0/24, a requester such as token:1234abcd, or a regular expression for specs such as '^gh/owner/course-.*/main'."`
	Reason   string        `required:"" help:"Why; operators see it, the audit log keeps it." placeholder:"TEXT"`
	Message  string        `help:"What the visitors whom it concerns are told." placeholder:"TEXT"`
	From     string        `help:"It begins then, such as 2026-12-01T09:00 (default: at once)." placeholder:"TIME"`
	Until    string        `help:"It ends then (default: when it is lifted)." placeholder:"TIME"`
	For      time.Duration `help:"It ends after so long from its beginning, such as 30m or 48h." placeholder:"DURATION"`
	Prebuild []string      `help:"Build the image of this link, such as gh/owner/repository/main, before the rule begins; repeatable." placeholder:"LINK" sep:"none"`
	DryRun   bool          `help:"Make no rule; print what it would be about now."`
	JSON     bool          `help:"Print the rule as a JSON object."`
}

// window reads when the rule stands.
func (c *ruleAdd) window(now time.Time) (from, until time.Time, err error) {
	if c.For < 0 || c.For > 0 && c.Until != "" {
		return from, until, usagef("give --for, above zero, or --until")
	}
	if from, err = moment(c.From); err == nil {
		until, err = moment(c.Until)
	}
	if err == nil && c.For > 0 {
		begin := now
		if !from.IsZero() {
			begin = from
		}
		until = begin.Add(c.For).UTC()
	}
	return from, until, err
}

// moment reads a time, in this machine's zone where it names none.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usagef("%q is no time such as 2026-12-01T09:00 or 2026-12-01T09:00:00+01:00", text)
}

func (c *ruleAdd) add(ctx context.Context, a *app, kind string, value float64) error {
	from, until, err := c.window(time.Now())
	if err != nil {
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.preview(ctx, a, client)
	}
	in := api.NewRule{
		Kind: kind, Pattern: c.Pattern, Value: value, Reason: c.Reason, Message: c.Message, From: from, Until: until, Prebuild: c.Prebuild,
	}
	r, err := client.AddRule(ctx, in)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, r)
	}
	fmt.Fprintf(a.stdout, "%s of the %s %s, %s\n", r.Kind, r.Scope, clean(r.Pattern), windowText(r))
	for _, spec := range r.Prebuild {
		fmt.Fprintf(a.stdout, "builds %s\n", clean(spec))
	}
	return nil
}

func windowText(r api.Rule) string {
	text := "until it is lifted"
	if r.Kind == bindery.RuleUntilBuilt {
		text = "until it is built or lifted"
	}
	if !r.Until.IsZero() {
		text = "until " + r.Until.Local().Format(time.DateTime)
	}
	if !r.From.IsZero() {
		text = "from " + r.From.Local().Format(time.DateTime) + " " + text
	}
	return text
}

// preview prints what a rule would be about.
func (c *ruleAdd) preview(ctx context.Context, a *app, client *api.Client) error {
	p, err := client.PreviewRule(ctx, c.Pattern)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, p)
	}
	fmt.Fprintf(a.stdout, "the %s %s: now %d running and %d waiting builds, %d sessions, %d that wait for a place\n",
		p.Scope, clean(p.Pattern), p.Running, p.Waiting, p.Sessions, p.Lobby)
	for _, spec := range p.Examples {
		fmt.Fprintf(a.stdout, "  %s\n", clean(spec))
	}
	for _, r := range p.Rules {
		fmt.Fprintf(a.stdout, "there is a %s of it, %s: %s\n", r.Kind, windowText(r), clean(r.Reason))
	}
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
		printRule(w, r.Kind, r.Pattern, r.Value, r.From, r.Until, time.Now(), r.By, r.Reason)
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
	From    string `help:"The one that begins then, where several stand for the pattern; none: the one that began at once." placeholder:"TIME"`
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
	var from time.Time
	if c.From != "none" {
		if from, err = moment(c.From); err != nil {
			return err
		}
	}
	rules = slices.DeleteFunc(rules, func(r api.Rule) bool { return r.Pattern != p.String() || c.From != "" && !r.From.Equal(from) })
	verb, _, _ := strings.Cut(kind, "-")
	switch len(rules) {
	case 0:
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, fmt.Sprintf("`bindery %s ls` lists those that stand.", verb), "There is no %s of %s", kind, clean(p.String()))
	case 1:
		return client.LiftRule(ctx, rules[0].ID, c.Reason)
	}
	var begin []string
	for _, r := range rules {
		text := "none"
		if !r.From.IsZero() {
			text = r.From.Local().Format("2006-01-02T15:04:05")
		}
		begin = append(begin, text)
	}
	return bindery.Errorf(bindery.ErrConflict, bindery.User, "Say which one: --from "+strings.Join(begin, ", or --from ")+".", "There are %d of these: %s of %s", len(rules), kind, clean(p.String()))
}

type (
	banAddCmd  struct{ ruleAdd }
	holdAddCmd struct {
		ruleAdd
		Launches   bool `help:"Hold launches of what is built, not builds." xor:"what"`
		UntilBuilt bool `help:"Build it aside from all others, at nobody's cost; its visitors wait, and the hold ends when it is built." xor:"what"`
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
		Launches   bool `help:"The hold of launches, not of builds." xor:"what"`
		UntilBuilt bool `help:"The hold until something is built." xor:"what"`
	}
	quotaRmCmd  struct{ ruleRm }
	weightRmCmd struct{ ruleRm }
)

// Run bans.
func (c *banAddCmd) Run(ctx context.Context, a *app) error { return c.add(ctx, a, "ban", 0) }

// Run holds.
func (c *holdAddCmd) Run(ctx context.Context, a *app) error {
	return c.add(ctx, a, holdKind(c.Launches, c.UntilBuilt), 0)
}

func holdKind(launches, untilBuilt bool) string {
	switch {
	case launches:
		return bindery.RuleHoldLaunches
	case untilBuilt:
		return bindery.RuleUntilBuilt
	}
	return bindery.RuleHold
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
	return c.list(ctx, a, bindery.RuleHold, bindery.RuleHoldLaunches, bindery.RuleUntilBuilt)
}

// Run lists quotas.
func (c *quotaLsCmd) Run(ctx context.Context, a *app) error { return c.list(ctx, a, "quota") }

// Run lists weights.
func (c *weightLsCmd) Run(ctx context.Context, a *app) error { return c.list(ctx, a, "weight") }

// Run lifts a ban.
func (c *banRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, "ban") }

// Run lifts a hold.
func (c *holdRmCmd) Run(ctx context.Context, a *app) error {
	return c.remove(ctx, a, holdKind(c.Launches, c.UntilBuilt))
}

// Run lifts a quota.
func (c *quotaRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, "quota") }

// Run lifts a weight.
func (c *weightRmCmd) Run(ctx context.Context, a *app) error { return c.remove(ctx, a, "weight") }

type auditCmd struct {
	hubFlags
	Who   string `help:"Lines of whoever has this in the name." placeholder:"TEXT"`
	What  string `help:"Lines that hold this: what was done, to what, why." placeholder:"TEXT"`
	Since string `help:"Lines from then on: a time, or how long ago, such as 24h." placeholder:"TIME"`
	Until string `help:"Lines up to then." placeholder:"TIME"`
	Limit int    `help:"How many lines at most; 0: all." default:"100" placeholder:"N"`
	JSON  bool   `help:"Print a JSON array." xor:"form"`
	JSONL bool   `help:"Print one JSON object a line, to be kept elsewhere." xor:"form" name:"jsonl"`
}

func (c *auditCmd) query(now time.Time) (q bindery.AuditQuery, err error) {
	ago := func(text string) (time.Time, error) {
		if d, err := time.ParseDuration(text); err == nil {
			return now.Add(-d).UTC(), nil
		}
		return moment(text)
	}
	if c.Limit < 0 {
		return q, usagef("--limit is not negative")
	}
	q = bindery.AuditQuery{Who: c.Who, What: c.What, Limit: c.Limit}
	if q.Since, err = ago(c.Since); err == nil {
		q.Until, err = ago(c.Until)
	}
	return q, err
}

// Run prints the audit log, newest first.
func (c *auditCmd) Run(ctx context.Context, a *app) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	all := []api.AuditLine{}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if !c.JSON && !c.JSONL {
		fmt.Fprintln(w, "TIME\tWHO\tDID\tWHAT\tBECAUSE")
	}
	for l, err := range client.AllAudit(ctx, q) {
		switch {
		case err != nil:
			return err
		case c.JSON:
			all = append(all, l)
		case c.JSONL:
			if err := json.NewEncoder(a.stdout).Encode(l); err != nil {
				return err
			}
		default:
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", l.Time.UTC().Format(time.RFC3339), clean(l.Who), clean(l.Did), clean(l.What), clean(l.Reason))
		}
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	return w.Flush()
}
