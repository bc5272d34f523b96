// Command engine is the engine and the launcher alone: what they weigh without all else. make bench builds it.
package main

import (
	"context"
	"fmt"
	"os"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
	"github.com/bindery-hub/bindery/runc"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	network, err := bridge.New(bridge.Config{})
	if err != nil {
		return err
	}
	if _, err := network.Attach(ctx, "engine"); err != nil {
		return err
	}
	engine, err := buildkit.Open(ctx, buildkit.Config{Dir: os.Args[1]})
	if err != nil {
		return err
	}
	launcher, err := runc.New(runc.Config{Images: engine})
	if err != nil {
		return err
	}
	if _, err := engine.Solve(ctx, plan.Job{}, func(bindery.Event) {}); err != nil {
		return err
	}
	_, err = launcher.Start(ctx, bindery.Launch{})
	return err
}
