package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/metrics"
)

// A past is a store with a build, a session and an audit line each minute.
type past struct {
	n   int
	err error
}

func page[T any](p past, s bindery.Span, after int, make func(i int, at time.Time) T) (out []T, err error) {
	for i := range p.n {
		t := at.Add(time.Duration(i) * time.Minute)
		if t.Before(s.Since) || !t.Before(s.Until) || t.Equal(s.Since) && i <= after {
			continue
		}
		if len(out) < s.Limit {
			out = append(out, make(i, t))
		}
	}
	return out, p.err
}

func number(id string) int {
	n := -1
	_, _ = fmt.Sscanf(id, "x%d", &n) // none at the start
	return n
}

func (p past) BuildsEnded(_ context.Context, s bindery.Span) ([]bindery.Build, error) {
	return page(p, s, number(s.After), func(i int, at time.Time) bindery.Build {
		return bindery.Build{
			ID: fmt.Sprint("x", i), Source: bindery.Source{Provider: "git", URL: "https://example.org/o/r", Commit: "c"}, Class: bindery.Attended, State: bindery.BuildFailed,
			Attempt: 2, Created: at.Add(-5 * time.Minute), Started: at.Add(-time.Minute), Ended: at, Err: bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "It failed"),
		}
	})
}

func (p past) SessionsEnded(_ context.Context, s bindery.Span) ([]bindery.Session, error) {
	return page(p, s, number(s.After), func(i int, at time.Time) bindery.Session {
		return bindery.Session{ID: fmt.Sprint("x", i), Created: at.Add(-time.Hour), Ready: at.Add(-time.Hour + 2*time.Second), Ended: at, Reason: "It was idle", Exit: &bindery.Exit{Code: 137}}
	})
}

func (p past) AuditOf(_ context.Context, s bindery.Span) ([]bindery.Audit, error) {
	return page(p, s, int(s.Number)-1, func(i int, at time.Time) bindery.Audit {
		return bindery.Audit{ID: int64(i + 1), Time: at, Who: "local:ann", Did: "set ban", What: "gh/o/r", Reason: "floods"}
	})
}

func exported(t *testing.T, a *metrics.Archive, p past, kind string, since, until time.Time) (lines []map[string]any, err error) {
	t.Helper()
	all, err := a.Export(t.Context(), p, kind, since, until)
	if err != nil {
		return nil, err
	}
	last := ""
	for line, err := range all {
		if err != nil {
			return lines, err
		}
		var l map[string]any
		if err := json.Unmarshal(line, &l); err != nil || strings.Contains(string(line), "\n") {
			t.Fatalf("%s: %v", line, err)
		}
		if ts := l["timestamp"].(string); ts < last {
			t.Fatalf("%s comes after %s", ts, last)
		} else {
			last = ts
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func TestExport(t *testing.T) {
	dir := t.TempDir()
	a, err := metrics.NewArchive(metrics.ArchiveConfig{Dir: dir, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	a.Launched(report(bindery.LaunchSucceeded, func(rep *bindery.LaunchReport) { rep.Time = at.Add(-time.Hour) }))
	a.Launched(report(bindery.LaunchSucceeded, func(rep *bindery.LaunchReport) { rep.Time = at.Add(30 * time.Second) }))
	a.Launched(report(bindery.LaunchFailed, func(rep *bindery.LaunchReport) { rep.Time = at.Add(25 * time.Hour) }))
	a.Canary(bindery.CanaryReport{Time: at.Add(time.Hour), Build: "b", Took: map[string]time.Duration{bindery.CanaryQueue: 1500 * time.Millisecond}, Failed: bindery.CanaryBuild, Err: bindery.Errorf(bindery.ErrStep, bindery.User, "", "It failed")})
	a.Pools("pools.yaml", []string{"build"}, nil)
	a.Pools("pools.yaml", nil, errors.New("line 3"))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "launches-2026-11-22.jsonl"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"timestamp": "2026-11-22T14:3`) // as a machine leaves it that loses its power
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	until := at.Add(48 * time.Hour)
	const minutes = 2500 // more than two pages
	lines, err := exported(t, a, past{n: minutes}, "all", at, until)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, l := range lines {
		count[l["schema"].(string)]++
	}
	want := map[string]int{"binderhub.jupyter.org/launch": 1, "bindery/launch": 2, "bindery/canary": 1, "bindery/pools": 2, "bindery/build": minutes, "bindery/session": minutes, "bindery/audit": minutes}
	for schema, n := range want {
		if count[schema] != n {
			t.Errorf("%d of %s, want %d", count[schema], schema, n)
		}
	}
	lines, err = exported(t, a, past{n: 3}, "builds", at, at.Add(time.Minute))
	if err != nil || len(lines) != 1 || lines[0]["queue_seconds"] != 240.0 || lines[0]["duration_seconds"] != 60.0 || lines[0]["error"].(map[string]any)["fault"] != "user" {
		t.Errorf("%v %v", lines, err)
	}
	if lines, err = exported(t, a, past{}, "canaries", at, until); err != nil || len(lines) != 1 || lines[0]["failed"] != "build" || lines[0]["phase_seconds"].(map[string]any)["queue"] != 1.5 || lines[0]["error"] == nil {
		t.Errorf("%v %v", lines, err)
	}
	if lines, err = exported(t, a, past{}, "pools", at, until); err != nil || len(lines) != 2 || lines[0]["pools"] == nil || lines[0]["error"] != nil || lines[1]["error"] == nil {
		t.Errorf("%v %v", lines, err)
	}
	if lines, err = exported(t, a, past{}, "launches", at.Add(-2*time.Hour), at); err != nil || len(lines) != 1 || lines[0]["version"] != 6.0 {
		t.Errorf("%v %v", lines, err)
	}
	if _, err = exported(t, a, past{n: 3, err: errors.New("the disk")}, "all", at, until); err == nil {
		t.Error("a store that fails was taken for one that has nothing")
	}
	if _, err = exported(t, a, past{}, "gossip", at, until); !errors.Is(err, bindery.ErrInvalid) {
		t.Errorf("an unknown kind: %v", err)
	}
}
