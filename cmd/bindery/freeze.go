package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/inventory"
)

type freezeCmd struct {
	Image  string `arg:"" help:"Name of an image of this machine, as bindery build prints it."`
	Output string `short:"o" help:"Write each lock file into this directory, which must not have it yet." placeholder:"DIR"`
	SBOM   bool   `name:"sbom" help:"Print what is in the image in SPDX's form instead." xor:"form"`
	JSON   bool   `help:"Print a JSON object: every package, and the lock files." xor:"form"`
}

// frozen is an inventory as it travels from the worker, which alone can look into images.
type frozen struct {
	inventory.Inventory
	Locks []inventory.Lock `json:"locks"`
}

// packages gives the worker's protocol what an image has installed: it does not need to know what that is.
func packages(e *buildkit.Engine) func(context.Context, string) (json.RawMessage, error) {
	return func(ctx context.Context, image string) (json.RawMessage, error) {
		inv, err := e.Inventory(ctx, image)
		if err != nil {
			return nil, err
		}
		return json.Marshal(frozen{inv, inv.Locks()})
	}
}

// Run prints or writes the lock files of an image.
func (c *freezeCmd) Run(ctx context.Context, a *app) error {
	if err := a.ready(); err != nil {
		return err
	}
	if err := a.inst.create(); err != nil {
		return err
	}
	w, err := a.workers()
	if err != nil {
		return err
	}
	client, _, err := w.current(ctx)
	if err != nil {
		return err
	}
	text, err := client.Packages(ctx, c.Image)
	if err != nil {
		return err
	}
	var f frozen
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("read the worker's list: %w", err)
	}
	switch {
	case c.SBOM:
		_, err = a.stdout.Write(f.SPDX(c.Image, "bindery-"+generation()))
	case c.JSON:
		err = printJSON(a.stdout, f)
	case c.Output != "":
		return c.write(a, f)
	default:
		for i, l := range f.Locks {
			if i > 0 {
				fmt.Fprintln(a.stdout)
			}
			fmt.Fprintf(a.stdout, "==> %s <== %s\n%s", l.Name, l.Note, cleanLines(l.Text))
		}
	}
	return err
}

// write puts the files into a directory. It overwrites nothing: a lock file may be somebody's work.
func (c *freezeCmd) write(a *app, f frozen) error {
	if err := os.MkdirAll(c.Output, 0o755); err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name a directory that can be made.", "The directory %s cannot be made", bindery.Printable(c.Output)).Because(err)
	}
	names := make([]string, len(f.Locks))
	for i, l := range f.Locks {
		names[i] = l.Name
		if _, err := os.Lstat(filepath.Join(c.Output, l.Name)); !errors.Is(err, fs.ErrNotExist) {
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "Name another directory, or move the file.", "%s is in the way", bindery.Printable(filepath.Join(c.Output, l.Name))).Because(err)
		}
	}
	for _, l := range f.Locks {
		if err := os.WriteFile(filepath.Join(c.Output, l.Name), []byte(l.Text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", l.Name, err)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintln(a.stdout, filepath.Join(c.Output, n))
	}
	return nil
}
