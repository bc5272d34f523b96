package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type workersCmd struct {
	Ls     workersLsCmd     `cmd:"" help:"List a hub's workers: which get builds, and why the others do not."`
	Show   workersShowCmd   `cmd:"" help:"Show what a worker found of its machine, and what it lacks."`
	Drain  workersDrainCmd  `cmd:"" help:"Let a worker have no more builds; what runs there goes on."`
	Resume workersResumeCmd `cmd:"" help:"Let a worker that was drained have builds again."`
	Rm     workersRmCmd     `cmd:"" help:"Forget a worker that has joined."`
	Token  workersTokenCmd  `cmd:"" help:"Make a token by which workers join over the network."`
}

type workersLsCmd struct {
	hubFlags
	JSON bool `help:"Print a JSON array."`
}

// Run lists them.
func (c *workersLsCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	all, err := client.Workers(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WORKER\tPOOL\tSTATE\tBUILDS\tFREE\tWRITES\tREASON")
	for _, v := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", clean(v.Name), cmp.Or(clean(v.Pool), "-"), v.State, v.Running, v.Slots,
			size(v.DiskFree), unlessZero(v.Found.Scratch.WriteRate), cmp.Or(clean(v.Reason), "-"))
	}
	return w.Flush()
}

type workersShowCmd struct {
	hubFlags
	Name string `arg:"" help:"The worker."`
	JSON bool   `help:"Print a JSON object."`
}

// Run shows it.
func (c *workersShowCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	v, err := client.Worker(ctx, c.Name)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, v)
	}
	_, err = fmt.Fprint(a.stdout, workerText(v))
	return err
}

// workerText is a worker for people.
func workerText(v bindery.WorkerView) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	line("worker", "%s", v.Name)
	line("state", "%s since %s", v.State, v.Since.Local().Format(time.DateTime))
	if v.Reason != "" {
		line("reason", "%s", v.Reason)
	}
	if v.Record.Drained {
		line("drained", "by %s at %s", v.Record.Who, v.Record.Since.Local().Format(time.DateTime))
	}
	line("pool", "%s", cmp.Or(v.Pool, "none"))
	line("address", "%s", cmp.Or(v.Record.Address, "the hub's own"))
	line("version", "%s", v.Version)
	line("builds", "%d of %d slots", v.Running, v.Slots)
	s := v.Found.Scratch
	line("scratch", "%s, %s on %s", s.Path, s.FileSystem, s.Device)
	line("disk", "%s, boot disk %s, separate: %t", cmp.Or(s.Disk, "none"), cmp.Or(s.Boot, "unknown"), s.Separate)
	line("free", "%s of %s, %d of %d inodes, cache %s", size(s.Free), size(s.Size), s.FreeInodes, s.Inodes, size(v.CacheSize))
	line("write rate", "%s", unlessZero(s.WriteRate))
	line("machine", "%d CPUs, %s of memory", v.Found.CPUs, size(v.Found.Memory))
	line("clock", "%s from the hub's", v.Found.Offset)
	for _, r := range v.Found.Network {
		line("network", "%s: %s", r.What, cmp.Or(r.Found, map[bool]string{true: "ok", false: "cannot be reached"}[r.OK]))
	}
	_ = w.Flush() // into memory
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "✗ %s\n  %s\n", clean(p.String()), clean(p.Remedy))
	}
	return b.String()
}

// workerChange is what drain and resume have in common.
type workerChange struct {
	hubFlags
	Name   string `arg:"" help:"The worker."`
	Reason string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON   bool   `help:"Print the worker as a JSON object."`
}

func (c *workerChange) change(ctx context.Context, a *app, do func(*api.Client) (bindery.WorkerView, error)) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	v, err := do(client)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, v)
	}
	text := fmt.Sprintf("%s is %s", clean(v.Name), v.State)
	if v.State != bindery.WorkerDrained && v.Reason != "" {
		text += ": " + clean(v.Reason)
	}
	if v.State == bindery.WorkerDrained && v.Running > 0 {
		text += fmt.Sprintf("; %s still on it", plural(v.Running, "build"))
	}
	_, err = fmt.Fprintln(a.stdout, text)
	return err
}

type workersDrainCmd struct{ workerChange }

// Run drains.
func (c *workersDrainCmd) Run(ctx context.Context, a *app) error {
	return c.change(ctx, a, func(client *api.Client) (bindery.WorkerView, error) { return client.DrainWorker(ctx, c.Name, c.Reason) })
}

type workersResumeCmd struct{ workerChange }

// Run resumes.
func (c *workersResumeCmd) Run(ctx context.Context, a *app) error {
	return c.change(ctx, a, func(client *api.Client) (bindery.WorkerView, error) {
		return client.ResumeWorker(ctx, c.Name, c.Reason)
	})
}

type workersRmCmd struct {
	hubFlags
	Name   string `arg:"" help:"The worker."`
	Reason string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	Force  bool   `help:"Although builds run there; they start again elsewhere."`
}

// Run removes it.
func (c *workersRmCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	if err := client.RemoveWorker(ctx, c.Name, api.RemoveWorker{Reason: c.Reason, Force: c.Force}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s is removed\n", clean(c.Name))
	return err
}

type workersTokenCmd struct {
	hubFlags
	Pool   string        `help:"The pool that workers who join by it belong to." placeholder:"POOL"`
	Uses   int           `help:"How many workers may join by it (default 1)." placeholder:"N"`
	For    time.Duration `help:"How long it is valid (default 1h, at most a week)." placeholder:"DURATION"`
	Reason string        `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON   bool          `help:"Print a JSON object."`
}

// Run makes one.
func (c *workersTokenCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	t, err := client.AddJoinToken(ctx, api.NewJoinToken{Pool: c.Pool, Uses: c.Uses, For: c.For, Reason: c.Reason})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, t)
	}
	fmt.Fprintf(a.stderr, "For %s until %s. It is shown this once.\n", plural(t.Uses, "worker"), t.Expires.Local().Format(time.DateTime))
	_, err = fmt.Fprintln(a.stdout, t.Token)
	return err
}
