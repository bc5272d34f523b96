package metrics

import "embed"

//go:embed alerts.yml
var alerts []byte

// Alerts is a file of alert rules for Prometheus, about the series of a Recorder.
func Alerts() []byte { return alerts }

//go:embed dashboards
var dashboards embed.FS

// Dashboards are files for Grafana, in a directory of that name.
func Dashboards() embed.FS { return dashboards }
