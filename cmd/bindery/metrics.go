package main

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/bindery-hub/bindery/metrics"
)

type metricsCmd struct {
	Alerts     metricsAlertsCmd     `cmd:"" help:"Print alert rules for Prometheus."`
	Dashboards metricsDashboardsCmd `cmd:"" help:"Write dashboards for Grafana into a directory."`
}

type metricsAlertsCmd struct{}

// Run prints the rules that this version's series are made for.
func (c *metricsAlertsCmd) Run(_ context.Context, a *app) error {
	_, err := a.stdout.Write(metrics.Alerts())
	return err
}

type metricsDashboardsCmd struct {
	Dir string `arg:"" help:"Where to write them; it is made when it is not there."`
}

// Run writes a file for each dashboard.
func (c *metricsDashboardsCmd) Run(_ context.Context, a *app) error {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	boards := metrics.Dashboards()
	files, err := fs.Glob(boards, "dashboards/*.json")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := fs.ReadFile(boards, file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.Dir, path.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
