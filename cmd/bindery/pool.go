package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	bindery "github.com/bindery-hub/bindery"
)

type poolCmd struct {
	Ls      poolLsCmd      `cmd:"" help:"List the declared pools."`
	Command poolCommandCmd `cmd:"" help:"Print the command that makes a pool at a provider."`
	Check   poolCheckCmd   `cmd:"" help:"Compare the pools with what the workers of a hub report, and say what these do not; fail when they differ."`
}

// poolFlags name the file of pools.
type poolFlags struct {
	File string `help:"The file that declares the pools (default: pools of the configuration file)." placeholder:"FILE" env:"BINDERY_POOLS"`
}

func (f poolFlags) read(a *app) (pools, error) {
	path := cmp.Or(f.File, a.cfg.Pools)
	if path == "" {
		return pools{}, usagef("no file of node pools: name one with --file, or as pools in the configuration file")
	}
	return readPools(path)
}

type poolLsCmd struct {
	poolFlags
	JSON bool `help:"Print a JSON array."`
}

// A listedPool is a pool as --json prints it.
type listedPool struct {
	Name       string            `json:"name"`
	Purpose    string            `json:"purpose,omitempty"`
	Machine    string            `json:"machine_type"`
	Min        int               `json:"min"`
	Max        int               `json:"max"`
	LocalDisks int               `json:"local_disks"`
	Labels     map[string]string `json:"labels,omitempty"`
	Taints     []string          `json:"taints,omitempty"`
	Minimums   bindery.Minimums  `json:"minimums"`
}

// Run lists them.
func (c *poolLsCmd) Run(_ context.Context, a *app) error {
	file, err := c.read(a)
	if err != nil {
		return err
	}
	out := file.list()
	if c.JSON {
		return printJSON(a.stdout, out)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POOL\tPURPOSE\tMACHINE\tCOUNT\tLOCAL DISKS\tFREE\tWRITE RATE\tTAINTS")
	for _, p := range out {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d-%d\t%d\t%s\t%s\t%s\n", p.Name, cmp.Or(p.Purpose, "-"), p.Machine, p.Min, p.Max, p.LocalDisks,
			size(p.Minimums.Free), unlessZero(p.Minimums.WriteRate), cmp.Or(strings.Join(p.Taints, ","), "-"))
	}
	return w.Flush()
}

func (p pools) list() []listedPool {
	out := []listedPool{}
	for _, name := range p.names() {
		p := p.Pools[name]
		out = append(out, listedPool{name, p.Purpose, p.MachineType, p.Count.Min, p.Count.Max, p.LocalDisks, p.Labels, p.Taints, p.minimums()})
	}
	return out
}

func unlessZero(rate int64) string {
	if rate == 0 {
		return "-"
	}
	return size(rate).String() + "/s"
}

type poolCommandCmd struct {
	poolFlags
	Name string `arg:"" help:"The pool."`
	For  string `required:"" help:"The provider: gke, eks, aks or k3s." enum:"gke,eks,aks,k3s" placeholder:"PROVIDER"`
}

// Run prints it.
func (c *poolCommandCmd) Run(_ context.Context, a *app) error {
	file, err := c.read(a)
	if err != nil {
		return err
	}
	p, ok := file.Pools[c.Name]
	if !ok {
		return noSuchPool(c.Name)
	}
	text, err := poolCommand(file.Cluster, c.Name, p, c.For)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(a.stdout, text)
	return err
}

func noSuchPool(name string) error {
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery pool ls` lists them.", "No pool %q is declared", bindery.Printable(name))
}

type poolCheckCmd struct {
	hubFlags
	poolFlags
	JSON bool `help:"Print a JSON array."`
}

// A difference is one thing that is not as declared.
type difference struct {
	Pool     string `json:"pool"`
	Worker   string `json:"worker,omitempty"` // empty: it is about the pool as a whole
	What     string `json:"what"`
	Found    string `json:"found"`
	Declared string `json:"declared"`
	Remedy   string `json:"remedy,omitempty"`
}

// Run prints each difference, and ends with 1 if there is any.
func (c *poolCheckCmd) Run(ctx context.Context, a *app) error {
	file, err := c.read(a)
	if err != nil {
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	workers, err := client.Workers(ctx)
	if err != nil {
		return err
	}
	diff := file.compare(workers)
	for _, what := range file.unseen(workers) {
		fmt.Fprintf(a.stderr, "Not compared, since workers do not say: %s\n", clean(what))
	}
	if c.JSON {
		err = printJSON(a.stdout, diff)
	} else {
		err = printDifferences(a, file, workers, diff)
	}
	if err == nil && len(diff) > 0 {
		err = statusError(exitFailed)
	}
	return err
}

func printDifferences(a *app, file pools, workers []bindery.WorkerView, diff []difference) error {
	if len(diff) == 0 {
		_, err := fmt.Fprintf(a.stdout, "%d pools with %d workers are as declared.\n", len(file.Pools), len(workers))
		return err
	}
	for _, d := range diff {
		at := "pool " + d.Pool
		if d.Worker != "" {
			at += ", worker " + clean(d.Worker)
		}
		fmt.Fprintf(a.stdout, "%s: %s: %s; declared: %s\n", at, d.What, clean(d.Found), d.Declared)
		if d.Remedy != "" {
			fmt.Fprintf(a.stdout, "  %s\n", clean(d.Remedy))
		}
	}
	return nil
}

// unseen says what of a declaration cannot be compared: what no worker sees of its machine, and what one was not told.
func (p pools) unseen(workers []bindery.WorkerView) (out []string) {
	here := map[string]bool{}
	for _, w := range workers {
		pool, ok := p.Pools[w.Pool]
		if !ok || !w.Up {
			continue
		}
		here[w.Pool] = true
		var what []string
		if w.Machine == "" {
			what = append(what, "its machine type")
		}
		for _, key := range slices.Sorted(maps.Keys(pool.nodeLabels(w.Pool))) {
			_, own := pool.Labels[key]
			if _, said := w.Labels[key]; !said && !own {
				what = append(what, "the label "+key)
			}
		}
		if len(what) > 0 {
			out = append(out, "worker "+w.Name+": "+strings.Join(what, ", "))
		}
	}
	for name := range here {
		var what []string
		if n := p.Pools[name].LocalDisks; n > 1 { // the one that it builds on is looked at
			what = append(what, fmt.Sprintf("that there are %d local disks", n))
		}
		if p.Pools[name].BootDisk > 0 {
			what = append(what, "the size of the boot disk")
		}
		if len(p.Pools[name].Taints) > 0 {
			what = append(what, "the taints")
		}
		if len(what) > 0 {
			out = append(out, "pool "+name+": "+strings.Join(what, ", "))
		}
	}
	slices.Sort(out)
	return out
}

// compare names what differs between a declaration and the workers of a hub, as far as these see it: see unseen.
func (p pools) compare(workers []bindery.WorkerView) []difference {
	diff := []difference{}
	count := map[string]int{}
	for _, w := range workers {
		count[w.Pool]++
		pool, ok := p.Pools[w.Pool]
		if !ok {
			diff = append(diff, difference{w.Pool, w.Name, "pool", cmp.Or(w.Pool, "it belongs to none"), "one of " + strings.Join(p.names(), ", "),
				"Start the worker with --pool, or declare the pool."})
			continue
		}
		diff = append(diff, pool.compare(w)...)
	}
	for _, name := range p.names() {
		c := p.Pools[name].Count
		switch n := count[name]; {
		case n < c.Min:
			diff = append(diff, difference{name, "", "count", plural(n, "worker"), fmt.Sprintf("%d to %d", c.Min, c.Max), "`bindery pool command` prints how to add machines."})
		case n > c.Max:
			diff = append(diff, difference{name, "", "count", plural(n, "worker"), fmt.Sprintf("%d to %d", c.Min, c.Max), "Drain and remove some, or raise the range."})
		}
	}
	slices.SortStableFunc(diff, func(a, b difference) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Worker, b.Worker))
	})
	return diff
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return itoa(n) + " " + what + "s"
}

// compare names how one worker differs from its pool.
func (p poolConfig) compare(w bindery.WorkerView) (diff []difference) {
	add := func(what, found, declared, remedy string) {
		diff = append(diff, difference{w.Pool, w.Name, what, found, declared, remedy})
	}
	if !w.Up {
		add("answer", "it does not answer", "an answer", "Look at the machine, and at the worker's log.")
		return diff
	}
	if w.Machine != "" && w.Machine != p.MachineType {
		add("machine type", w.Machine, p.MachineType, "")
	}
	want := p.nodeLabels(w.Pool)
	for _, key := range slices.Sorted(maps.Keys(want)) {
		got, said := w.Labels[key]
		if _, own := p.Labels[key]; got != want[key] && (said || own) {
			add("label "+key, cmp.Or(got, "it has none"), want[key], "Label the node, and start the worker with --label "+key+"="+want[key]+".")
		}
	}
	for _, x := range p.minimums().Judge(w.Found) {
		add(x.Check, x.Measured, x.Wanted, x.Remedy)
	}
	return diff
}
