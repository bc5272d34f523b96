package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sim"
)

type simCmd struct {
	Run    simRunCmd    `cmd:"" help:"Compare policies of the queue on recorded or generated demand; fair goes by the configuration file's queue."`
	Replay simReplayCmd `cmd:"" help:"Do once more what a hub's queue did, and compare the decisions."`
}

type simRunCmd struct {
	Trace string `help:"Directory of recorded launches (launches-YYYY-MM.csv.gz, specs.csv.gz). Without it, demand of the same shape is generated." placeholder:"DIR" type:"existingdir"`
	From  string `help:"Beginning of the window, like 2019-03-17T08:00Z (the default)." placeholder:"TIME" default:"2019-03-17T08:00Z"`
	For   string `help:"Length of the window, like 90m, 24h, 7d (default 24h)." placeholder:"DURATION" default:"24h"`

	Policy    []string `help:"Policies to compare, of fair, fifo, pool2019, poolnow, alone (default: the first four)." placeholder:"NAME" default:"fair,fifo,pool2019,poolnow"`
	Slots     int      `help:"Slots that builds share (default ${default})." placeholder:"N" default:"8"`
	Workers   int      `help:"Workers that the slots are spread over (default: one for two slots)." placeholder:"N"`
	Frontends int      `help:"Front ends of a thread pool (default ${default})." placeholder:"N" default:"2"`
	Threads   int      `help:"A thread pool's limit of builds, for each front end (default ${default})." placeholder:"N" default:"32"`

	Wipe               string   `help:"When every image is gone." placeholder:"TIME"`
	OldGeneration      bool     `help:"Images from before go on serving until the new ones are built. Thread pools cannot do that."`
	Cost               []string `help:"How long builds of a repository take. Repeatable." placeholder:"PROVIDER/OWNER/REPO=DURATION" sep:"none"`
	ScratchlessWorkers int      `help:"More workers, without scratch space for builds." placeholder:"N"`
	Disk               int64    `help:"GiB for builds on each worker (default: enough)." placeholder:"GIB"`
	Contention         float64  `help:"Share by which each other build on the same worker makes a build longer." placeholder:"SHARE"`
	Places             int      `help:"Sessions at once under the fair queue (default: as many as anybody wants)." placeholder:"N"`
	Failing            float64  `help:"Share of specs that cannot be built." placeholder:"SHARE"`
	MaxAge             string   `help:"Age at which fair stops a build (default: queue.max_age)." placeholder:"DURATION"`
	Autoscale          int      `help:"Add workers up to so many slots while builds wait." placeholder:"SLOTS"`
	AutoscaleDelay     string   `help:"From the wish for a worker until it is ready (default 4m)." placeholder:"DURATION"`

	Scale      float64 `help:"Of generated demand: how busy, against a large public hub of 2019 (default ${default})." placeholder:"FACTOR" default:"1"`
	Unattended float64 `help:"Of generated demand: scripts and bots, for each person." placeholder:"SHARE"`

	Seed  uint64 `help:"Equal seeds give equal results (default ${default})." placeholder:"N" default:"1"`
	Chart string `help:"Draw the day and the wait-time curves to this file, as SVG or PNG by its name." placeholder:"FILE"`
	JSON  bool   `help:"Print a JSON object with every measure."`
}

// Run simulates, draws and prints.
func (c *simRunCmd) Run(ctx context.Context, a *app) error {
	kind := strings.ToLower(filepath.Ext(c.Chart))
	if c.Chart != "" && kind != ".svg" && kind != ".png" {
		return usagef("--chart draws SVG or PNG: give a file name that ends in .svg or .png")
	}
	cfg, err := c.config(a.cfg)
	if err != nil {
		return err
	}
	rep, err := sim.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if c.Chart != "" {
		var drawn bytes.Buffer
		chart := rep.Chart
		if kind == ".png" {
			chart = rep.PNG
		}
		if err := chart(&drawn); err != nil {
			return err
		}
		if err := os.WriteFile(c.Chart, drawn.Bytes(), 0o644); err != nil {
			return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a file in a directory that you may write to.", "The chart cannot be written").Because(err)
		}
	}
	if c.JSON {
		return printJSON(a.stdout, rep)
	}
	return rep.Print(a.stdout)
}

// config reads the flags. The queue has the numbers of the configuration file, as the hub that is started with it.
func (c *simRunCmd) config(file config) (sim.Config, error) {
	cfg := sim.Config{
		Policies: c.Policy, Seed: c.Seed, Slots: c.Slots, Workers: c.Workers, Frontends: c.Frontends, Threads: c.Threads,
		Old: c.OldGeneration, Scratch: c.ScratchlessWorkers, Law: sim.Law{Failing: c.Failing, Contention: c.Contention}, Disk: c.Disk << 30, Places: c.Places,
		Autoscale: sim.Autoscale{Most: c.Autoscale}, Now: time.Now,
	}
	var err error
	if cfg.Sched, err = file.policy(); err != nil {
		return cfg, err
	}
	from, err := parseTime("--from", c.From)
	if err != nil {
		return cfg, err
	}
	length, err := parseSpan("--for", c.For)
	if err != nil {
		return cfg, err
	}
	if c.Wipe != "" {
		if cfg.Wipe, err = parseTime("--wipe", c.Wipe); err != nil {
			return cfg, err
		}
	}
	if c.MaxAge != "" {
		if cfg.Sched.MaxAge, err = parseSpan("--max-age", c.MaxAge); err != nil {
			return cfg, err
		}
	}
	if c.AutoscaleDelay != "" {
		if cfg.Autoscale.Delay, err = parseSpan("--autoscale-delay", c.AutoscaleDelay); err != nil {
			return cfg, err
		}
	}
	if cfg.Costs, err = c.costs(); err != nil {
		return cfg, err
	}
	if c.Trace == "" {
		cfg.Workload = sim.Generate(sim.Demand{From: from, For: length, Seed: c.Seed, Scale: c.Scale, Unattended: c.Unattended})
		return cfg, nil
	}
	cfg.Workload, err = sim.ReadTrace(os.DirFS(c.Trace), from, length)
	return cfg, err
}

func (c *simRunCmd) costs() (map[string]time.Duration, error) {
	costs := map[string]time.Duration{}
	for _, arg := range c.Cost {
		i := strings.LastIndex(arg, "=")
		if i < 0 || strings.Count(arg[:i], "/") < 2 {
			return nil, usagef("--cost %q is not like gh/owner/repository=12h", bindery.Printable(arg))
		}
		cost, err := parseSpan("--cost", arg[i+1:])
		if err != nil {
			return nil, err
		}
		costs[arg[:i]] = cost
	}
	return costs, nil
}

// parseTime reads a time as people write it; without a zone it is UTC.
func parseTime(flag, s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usagef("%s %q is not a time like 2019-03-17T08:00Z", flag, bindery.Printable(s))
}

// parseSpan reads a positive duration; 7d is seven days.
func parseSpan(flag, s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n > 0 && n < 1000 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, nil
	}
	return 0, usagef("%s %q is not a duration like 90m, 24h or 7d", flag, bindery.Printable(s))
}
