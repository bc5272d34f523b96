package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type imagesCmd struct {
	Ls    imagesLsCmd    `cmd:"" help:"List a hub's images, and where the disk went."`
	Rm    imagesRmCmd    `cmd:"" help:"Remove an image that is not in use."`
	Prune imagesPruneCmd `cmd:"" help:"Remove the images that a rule does not keep."`
}

type imagesLsCmd struct {
	hubFlags
	Limit int  `help:"How many at most." default:"100" placeholder:"N"`
	JSON  bool `help:"Print a JSON object."`
}

// Run lists images.
func (c *imagesLsCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	lib, err := client.Images(ctx, c.Limit)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, lib)
	}
	if err := printImages(a.stdout, lib.Images); err != nil {
		return err
	}
	if lib.More > 0 {
		fmt.Fprintf(a.stdout, "and %d more\n", lib.More)
	}
	if d := lib.Disk; d != nil {
		fmt.Fprintf(a.stdout, "\ndisk %s: images %s, shared by images %s, sessions %s, cache %s, other %s\n",
			size(d.Total), size(d.Images), size(d.Shared), size(d.Sessions), size(d.Cache), size(d.Other))
		if len(d.Silent) > 0 {
			fmt.Fprintf(a.stdout, "without workers that do not answer: %s\n", clean(strings.Join(d.Silent, ", ")))
		}
	}
	return nil
}

func printImages(out io.Writer, all []bindery.ImageRecord) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tRANK\tLAUNCHES\tSIZE\tUSED\tGENERATION\tSTATE\tWORKER\tREPOSITORY\tWHY")
	for _, r := range all {
		used := "never"
		if !r.Used.IsZero() {
			used = r.Used.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", clean(r.Image), r.Rank, r.Launches, size(r.Size), used, clean(r.Generation), r.State,
			cmp.Or(clean(strings.Join(r.Workers, ",")), "-"), repoAt(r.Source), clean(r.Why))
	}
	return w.Flush()
}

type imagesRmCmd struct {
	hubFlags
	Image  string `arg:"" help:"Its name."`
	Reason string `help:"Why; the audit log keeps it." placeholder:"TEXT"`
}

// Run removes an image.
func (c *imagesRmCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	return client.RemoveImage(ctx, c.Image, c.Reason)
}

type imagesPruneCmd struct {
	hubFlags
	Unused      time.Duration `help:"Remove what nobody launched for so long (default: images.unused of the hub's configuration)." placeholder:"DURATION"`
	Superseded  time.Duration `help:"Remove what has been replaced for so long (default: images.superseded)." placeholder:"DURATION"`
	Top         int           `help:"Keep so many of the most popular (default: images.top)." placeholder:"N"`
	Generations int           `help:"Keep what is replaced of so many generations (default: images.generations)." placeholder:"N"`
	DryRun      bool          `help:"Say what would go, and remove nothing."`
	Reason      string        `help:"Why; the audit log keeps it." placeholder:"TEXT"`
	JSON        bool          `help:"Print a JSON object."`
}

// Run prunes.
func (c *imagesPruneCmd) Run(ctx context.Context, a *app) error {
	client, err := c.running(a)
	if err != nil {
		return err
	}
	rule := bindery.Retention{Unused: c.Unused, Superseded: c.Superseded, Top: c.Top, Generations: c.Generations}
	done, err := client.PruneImages(ctx, api.PruneImages{Rule: rule, DryRun: c.DryRun, Reason: c.Reason})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, done)
	}
	if len(done.Removed) > 0 {
		if err := printImages(a.stdout, done.Removed); err != nil {
			return err
		}
	}
	verb := "removed"
	if c.DryRun {
		verb = "would go"
	}
	fmt.Fprintf(a.stdout, "%d images %s, %s; %d stay\n", len(done.Removed), verb, size(done.Bytes), done.Kept)
	return nil
}
