package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// version is set by the linker.
var version = ""

type versionCmd struct {
	JSON bool `help:"Print a JSON object."`
}

// A release says what this program is made of.
type release struct {
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	Go         string `json:"go"`
	BuildKit   string `json:"buildkit"`
	Runc       string `json:"runc,omitempty"` // the one that would be used
	Generation string `json:"generation"`
}

// Run prints the versions.
func (c *versionCmd) Run(ctx context.Context, a *app) error {
	r := thisRelease()
	r.Runc = runcVersion(ctx, a.runtime)
	if c.JSON {
		return printJSON(a.stdout, r)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{{"bindery", r.Version}, {"commit", r.Commit}, {"go", r.Go}, {"buildkit", r.BuildKit}, {"runc", r.Runc}, {"generation", r.Generation}} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
		}
	}
	return w.Flush()
}

func thisRelease() release {
	r := release{Version: version, Go: runtime.Version(), Generation: generation()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return r
	}
	if r.Version == "" {
		r.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			r.Commit = s.Value
		}
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/moby/buildkit" {
			r.BuildKit = m.Version
		}
	}
	return r
}

// generation names the builder: planner and engine together decide what comes out for a repository.
func generation() string { return "p" + plan.Version + "-" + buildkit.Generation() }

// recipe is what the hub and its worker make images by.
func (a *app) recipe(base string) bindery.Recipe {
	if base == plan.DefaultBase {
		base = ""
	}
	return bindery.Recipe{Rules: generation(), Base: base, Appendix: a.cfg.Appendix, Suites: a.cfg.Python.Suites}
}

// generation names what they make: with another base, appendix or choice of suites every image is another.
func (a *app) generation() string { return a.recipe(a.cfg.Base).Generation() }

func runcVersion(ctx context.Context, named string) string {
	path, err := findRuntime(named)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(firstLine(string(out)), "runc version ") + " at " + path
}
