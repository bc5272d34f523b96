package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/metrics"
)

var at = time.Date(2026, 11, 22, 14, 36, 52, 611155000, time.UTC)

func queue(context.Context) (bindery.Queue, error) {
	waiting := func(c bindery.Class, age time.Duration, watchers int) bindery.QueuedBuild {
		return bindery.QueuedBuild{Build: bindery.Build{Class: c}, Age: age, Watchers: watchers}
	}
	return bindery.Queue{
		Slots: 2, Taken: 1, More: 7, Sessions: 4, Lobby: make([]bindery.WaitingSession, 3),
		Running:  []bindery.QueuedBuild{waiting(bindery.Attended, time.Hour, 40)},
		Waiting:  []bindery.QueuedBuild{waiting(bindery.Unattended, 90*time.Second, 1), waiting(bindery.Attended, 30*time.Second, 2)},
		Shares:   []bindery.Share{{Scope: "owner", Share: 0.5}, {Scope: "owner", Share: 0.25}},
		Failures: []bindery.RecentFailure{{}, {Quarantined: true}}, Rules: []bindery.Rule{{Kind: "ban"}},
	}, nil
}

func workers(context.Context) ([]bindery.WorkerView, error) {
	st := bindery.WorkerStatus{
		Name: "w1", Slots: 2, DiskFree: 1 << 30, CacheSize: 5, Checks: []bindery.Check{{Level: "required"}, {Level: "advised"}}, GitHubLeft: 4000,
		Builds: []bindery.BuildAttempt{{ID: "b-1"}, {ID: "b-0", Done: true}},
	}
	return []bindery.WorkerView{{WorkerStatus: st, Up: true, State: bindery.WorkerReady}, {WorkerStatus: bindery.WorkerStatus{Name: "w2"}, State: bindery.WorkerAway}}, nil
}

func recorder(t *testing.T, change ...func(*metrics.Config)) *metrics.Recorder {
	t.Helper()
	cfg := metrics.Config{
		Queue: queue, Workers: workers, Version: "1", Generation: "g", Canary: 5 * time.Minute,
		Generations: func(context.Context) ([]bindery.RolloutStatus, error) {
			return []bindery.RolloutStatus{
				{Generation: bindery.Generation{Name: "g2", State: bindery.GenerationRolling}, Proven: 5, Waiting: 3, Held: make([]bindery.Held, 1), Images: 5, Covered: 0.4},
				{Generation: bindery.Generation{Name: "g", State: bindery.GenerationCurrent}, Images: 9},
			}, nil
		},
		Load:    func() bindery.Load { return bindery.Load{Streams: 9, Launching: 8, Opened: 70, Resumed: 6} },
		Watches: func() map[string]time.Time { return map[string]time.Time{"workers": at.Add(-5 * time.Second)} },
		Now:     func() time.Time { return at },
	}
	for _, f := range change {
		f(&cfg)
	}
	r, err := metrics.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func scrape(t *testing.T, r *metrics.Recorder) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Content-Type"))
	}
	return w.Body.String()
}

func report(status string, change ...func(*bindery.LaunchReport)) bindery.LaunchReport {
	p := bindery.Provider{ID: "gh", Kind: bindery.ProviderGitHub}.WithDefaults()
	rep := bindery.LaunchReport{
		Time: at, Status: status, Provider: p, Spec: "cached/repo/HEAD", Repo: "https://github.com/cached/repo",
		Source: bindery.Source{Provider: "git", URL: "https://github.com/cached/repo", Commit: "8b1db79841e31f604a1055ee8023d50856d8df6a"},
		Build:  "b-1", Session: "s-1", Class: bindery.Attended, Evidence: "a build token of this hub's page",
		Origin: "127.0.0.1:8585", Built: 30 * time.Second, Started: 3 * time.Second,
	}
	for _, f := range change {
		f(&rep)
	}
	return rep
}

// TestSeries lists every series of ours, so that none comes or goes unseen.
func TestSeries(t *testing.T) {
	r := recorder(t)
	r.Built(bindery.Build{
		State: bindery.BuildSucceeded, Class: bindery.Attended, Attempt: 1, Created: at, Ended: at.Add(100 * time.Second),
		Source: bindery.Source{Provider: "git", URL: "https://example.org/o/r"},
	})
	r.Built(bindery.Build{
		State: bindery.BuildFailed, Class: bindery.Unattended, Attempt: 2, Created: at, Ended: at.Add(time.Hour),
		Source: bindery.Source{Provider: "zenodo", URL: "10.5281/zenodo.1"}, Err: bindery.Errorf(bindery.ErrStep, bindery.User, "", "no"),
	})
	r.Built(bindery.Build{State: bindery.BuildCancelled, Class: bindery.Attended})
	r.Launched(report(bindery.LaunchSucceeded))
	r.Launched(report(bindery.LaunchRepoFull, func(rep *bindery.LaunchReport) { rep.Session = "" }))
	r.Launched(report(bindery.LaunchFailed, func(rep *bindery.LaunchReport) { rep.Session, rep.Started = "", 0 }))
	r.Launched(report(bindery.LaunchFailed, func(rep *bindery.LaunchReport) { rep.Session = "" }))
	r.Launched(report(bindery.LaunchLeft))
	everything(r)
	var got []string
	for line := range strings.Lines(scrape(t, r)) {
		if (strings.HasPrefix(line, "bindery") || strings.HasPrefix(line, "binderhub")) && !strings.Contains(line, "_bucket{") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	slices.Sort(got)
	golden(t, "series.txt", strings.Join(got, "\n")+"\n")
}

// everything has the rest of what a Recorder is told.
func everything(r *metrics.Recorder) {
	src := bindery.Source{Provider: "git", URL: "https://example.org/o/r"}
	r.Built(bindery.Build{
		State: bindery.BuildSucceeded, Class: bindery.Background, Attempt: 4, Source: src, Created: at, Started: at.Add(40 * time.Second), Ended: at.Add(time.Minute),
	})
	r.Resolved(src, nil, false)
	r.Resolved(src, bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "", "no"), false)
	r.Resolved(bindery.Source{Provider: bindery.ProviderZenodo}, bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "", "no"), true)
	r.Resolved(src, errors.New("no"), false)
	r.Dropped("w1")
	r.Canary(bindery.CanaryReport{Time: at.Add(-time.Minute), Took: map[string]time.Duration{bindery.CanaryQueue: time.Second, bindery.CanaryBuild: 2 * time.Second}})
	r.Canary(bindery.CanaryReport{
		Time: at, Failed: bindery.CanaryLaunch, Err: bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "", "no"), Took: map[string]time.Duration{bindery.CanaryQueue: time.Second},
	})
}

// TestBinderHubsSeries wants what BinderHub's dashboards ask for, by name, type, buckets.
func TestBinderHubsSeries(t *testing.T) {
	r := recorder(t)
	r.Built(bindery.Build{State: bindery.BuildSucceeded, Created: at, Ended: at})
	r.Launched(report(bindery.LaunchSucceeded))
	text := scrape(t, r)
	for name, kind := range map[string]string{
		"binderhub_build_time_seconds": "histogram", "binderhub_launch_time_seconds": "histogram", "binderhub_build_count_total": "counter",
		"binderhub_launch_count_total": "counter", "binderhub_inprogress_builds": "gauge", "binderhub_inprogress_launches": "gauge",
		"binderhub_github_rate_limit_remaining": "gauge",
	} {
		if !strings.Contains(text, "# TYPE "+name+" "+kind+"\n") {
			t.Errorf("no %s %s", kind, name)
		}
	}
	for name, want := range map[string]string{"build": "60 120 300 600 1800 3600 7200 +Inf", "launch": "2 5 10 20 30 60 120 300 600 +Inf"} {
		var got []string
		for _, m := range regexp.MustCompile(`(?m)^binderhub_`+name+`_time_seconds_bucket\{.*le="([^"]+)"`).FindAllStringSubmatch(text, -1) {
			got = append(got, m[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s has the buckets %v", name, got)
		}
	}
	if !strings.Contains(text, `binderhub_launch_count_total{provider="GitHub",repo="https://github.com/cached/repo",status="success"} 1`) {
		t.Error("the launch is not counted")
	}
}

// TestVisitorsDoNotMakeSeries has more repositories than are told apart.
func TestVisitorsDoNotMakeSeries(t *testing.T) {
	for _, hide := range []bool{false, true} {
		r := recorder(t, func(c *metrics.Config) { c.Repos, c.HideRepos = 2, hide })
		for _, name := range []string{"a", "b", "c", "d", "a"} {
			r.Launched(report(bindery.LaunchSucceeded, func(rep *bindery.LaunchReport) { rep.Repo = "https://example.org/" + name }))
		}
		text := scrape(t, r)
		if hide {
			if strings.Contains(text, "example.org") || !strings.Contains(text, `repo="",status="success"} 5`) {
				t.Error("the names are there though hidden")
			}
			continue
		}
		if !strings.Contains(text, `repo="other",status="success"} 2`) || !strings.Contains(text, `/a",status="success"} 2`) || strings.Contains(text, "example.org/c") {
			t.Error("the names are not bounded")
		}
	}
}

func TestBrokenQueueLeavesTheRest(t *testing.T) {
	r := recorder(t, func(c *metrics.Config) {
		c.Queue = func(context.Context) (bindery.Queue, error) { return bindery.Queue{}, errors.New("no") }
		c.Workers = func(context.Context) ([]bindery.WorkerView, error) { return nil, errors.New("no") }
	})
	if text := scrape(t, r); !strings.Contains(text, "bindery_streams 9") || strings.Contains(text, "bindery_slots") {
		t.Error(text)
	}
}

// TestArchive compares a line with one that BinderHub wrote.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	for _, old := range []string{"launches-2026-07-01.jsonl", "launches-2026-11-01.jsonl", "launches-2026-07-01.jsonl.mine", "else-2026-07-01.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, old), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := metrics.NewArchive(metrics.ArchiveConfig{Dir: dir, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	a.Launched(report(bindery.LaunchSucceeded))
	a.Launched(report(bindery.LaunchFailed, func(rep *bindery.LaunchReport) {
		rep.Err, rep.Session = bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "It failed"), ""
		rep.Spec = "x\n{\"forged\": true}"
	}))
	a.Launched(report(bindery.LaunchSucceeded, func(rep *bindery.LaunchReport) { rep.Time = at.Add(24 * time.Hour) }))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "launches-2026-11-22.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	const binderhubs = `{"timestamp": "2026-11-22T14:36:52.611155Z", "schema": "binderhub.jupyter.org/launch", "version": 6, "provider": "GitHub", "spec": "cached/repo/HEAD", "ref": "8b1db79841e31f604a1055ee8023d50856d8df6a", "status": "success", "build_token": false, "origin": "127.0.0.1:8585", "request_origin": ""}`
	var got, want map[string]any
	if err := errors.Join(json.Unmarshal(text, &got), json.Unmarshal([]byte(binderhubs), &want)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	text, _ = os.ReadFile(filepath.Join(dir, "requests-2026-11-22.jsonl"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var failed struct {
		Status, Schema, Evidence string
		Error                    bindery.Error
	}
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &failed) != nil || failed.Status != "failure" || failed.Error.Kind != bindery.ErrStep || failed.Evidence == "" {
		t.Errorf("%s", text)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	wantNames := []string{
		"else-2026-07-01.jsonl", "launches-2026-07-01.jsonl.mine", "launches-2026-11-01.jsonl", "launches-2026-11-22.jsonl", "launches-2026-11-23.jsonl",
		"requests-2026-11-22.jsonl", "requests-2026-11-23.jsonl",
	}
	if d := cmp.Diff(wantNames, names); d != "" {
		t.Error(d)
	}
}
