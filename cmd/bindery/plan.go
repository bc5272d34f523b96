package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

type planCmd struct {
	sourceArgs
	JSON bool `help:"Print the plan as a JSON object."`
}

// Run plans a directory here, without root or worker; a URL is fetched and planned by the worker.
func (c *planCmd) Run(ctx context.Context, a *app) error {
	src, err := c.source(a.cfg.Providers.links())
	if err != nil {
		return err
	}
	base := cmp.Or(c.Base, a.cfg.Base)
	var p planned
	if src.Provider == bindery.ProviderLocal {
		p, err = planLocal(src, plan.Options{Base: base, Suites: a.cfg.Python.Suites})
	} else {
		p, err = a.planRemote(ctx, src, base)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(a.stdout, p)
	} else {
		err = explain(a.stdout, p.Plan)
	}
	if err == nil && p.Err != nil {
		err = p.Err
	}
	return err
}

// planned is a plan, and why it cannot be built where that is so: what was detected is worth showing all the same.
type planned struct {
	plan.Plan
	Err *bindery.Error `json:"error,omitempty"`
}

// judge tells a plan that cannot be built from files that no pack could be found for.
func judge(p plan.Plan, err error) (planned, error) {
	if err != nil && p.Pack == "" {
		return planned{}, err
	}
	return planned{p, bindery.AsError(err)}, nil
}

func planLocal(src bindery.Source, opt plan.Options) (planned, error) {
	repo, err := os.OpenRoot(src.URL)
	if err != nil {
		return planned{}, fmt.Errorf("open the repository: %w", err)
	}
	defer func() { _ = repo.Close() }() // only read
	root := repo
	if src.Subdir != "" {
		sub, err := repo.OpenRoot(filepath.FromSlash(src.Subdir))
		if err != nil {
			return planned{}, bindery.Errorf(bindery.ErrPlan, bindery.User, "Name a directory of the repository with --subdir.",
				"The repository has no directory %q", bindery.Printable(src.Subdir)).Because(err)
		}
		defer func() { _ = sub.Close() }() // as above
		root = sub
	}
	return judge(plan.Detect(root.FS(), opt))
}

func (a *app) planRemote(ctx context.Context, src bindery.Source, base string) (planned, error) {
	var p planned
	if err := a.ready(); err != nil {
		return p, err
	}
	if err := a.inst.create(); err != nil {
		return p, err
	}
	w, err := a.workers()
	if err != nil {
		return p, err
	}
	client, _, err := w.current(ctx)
	if err != nil {
		return p, err
	}
	src.Trusted = true
	if src, err = client.Resolve(ctx, src); err != nil {
		return p, err
	}
	text, err := client.Plan(ctx, src, base)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("read the worker's plan: %w", err)
	}
	return p, nil
}

// explain prints a plan for its author.
func explain(w io.Writer, p plan.Plan) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tab, "%s\t%s\n", name, clean(value))
		}
	}
	row("pack", p.Pack)
	row("configuration in", p.ConfigDir)
	row("base", p.Base)
	row("python", p.Python)
	row("apt", strings.Join(p.Apt, " "))
	for _, in := range p.Env {
		row("environment", in.Tool+" "+strings.Join(append(in.Files, in.Args...), " "))
	}
	for _, in := range p.Content {
		row("with the files", in.Tool+" "+strings.Join(append(in.Files, in.Args...), " "))
	}
	row("dockerfile", p.Docker)
	row("postBuild", p.PostBuild)
	row("start", p.Start)
	row("environment reads", strings.Join(p.Reads, " "))
	row("command", strings.Join(p.Command, " "))
	if err := tab.Flush(); err != nil {
		return err
	}
	decisions(w, "\nWhy", p.Why)
	decisions(w, "\nWithout effect", p.Ignored)
	return nil
}

func decisions(w io.Writer, title string, all []plan.Decision) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, d := range all {
		if d.File == "" {
			fmt.Fprintf(w, "  %s\n", clean(d.Text))
			continue
		}
		fmt.Fprintf(w, "  %s: %s\n", clean(d.File), clean(d.Text))
	}
}
