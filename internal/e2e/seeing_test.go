package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// notYet are series that a hub has only when something else is so.
var notYet = map[string]string{ //nolint:gochecknoglobals // a table
	"bindery_provider_budget":               "when GitHub was asked",
	"binderhub_github_rate_limit_remaining": "when GitHub was asked",
	"bindery_worker_disk_full_seconds":      "when a disk fills",
	"bindery_rollout_images":                "in a roll-out",
	"bindery_rollout_covered":               "in a roll-out",
}

// TestSeeing looks at a real hub that builds, launches and tries itself, in every way that operators have.
func TestSeeing(t *testing.T) {
	srv := sourcetest.Start(t)
	h, err := newHub(filepath.Join(shared.dir, "watched"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.destroy)
	traces := collect(t)
	h.sings(t, serving(srv, "canary", ""), "log_format: json\ntraces: {url: '"+traces.url+"'}\n")
	h.start(t)
	watched := serving(srv, "watched", "")
	ready, _ := h.launch(t, watched, "main")
	h.fail(t, serving(srv, "broken", "RUN false\n"), "main")
	t.Run("Prometheus", func(t *testing.T) { seenByPrometheus(t, h) })
	t.Run("log", func(t *testing.T) { seenInLog(t, h, watched, ready.session()) })
	t.Run("events", func(t *testing.T) { seenInEvents(t, h, watched, ready.session()) })
	t.Run("traces", func(t *testing.T) {
		for _, part := range []string{watched, ready.session(), "launch", "image", "session", "build", "attempt"} {
			eventually(t, time.Minute, part+" among the traces", func() bool { return traces.have(part) })
		}
	})
}

// seenByPrometheus has Debian's Prometheus scrape the hub, with the rules and dashboards that its commands print. Every
// series is there, every rule is evaluated, and one fires when its time has come.
func seenByPrometheus(t *testing.T, h *hub) {
	p := startPrometheus(t, h)
	boards, exprs := dashboards(t, h)
	asked := regexp.MustCompile(`\b(?:bindery|binderhub|process)_[a-z_]+`).FindAllString(p.alerts+boards, -1)
	slices.Sort(asked)
	asked = slices.DeleteFunc(slices.Compact(asked), func(name string) bool { return notYet[name] != "" })
	if len(asked) < 30 {
		t.Fatalf("rules and dashboards ask for %q", asked)
	}
	last := ""
	eventually(t, 3*time.Minute, "every series that rules and dashboards ask for", func() bool {
		var names []string
		p.get(t, "/api/v1/label/__name__/values", &names)
		missing := slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return slices.Contains(names, name) })
		if now := strings.Join(missing, ", "); now != last {
			t.Logf("not there: %s", now)
			last = now
		}
		return len(missing) == 0
	})
	for _, expr := range exprs {
		var ans struct{ Result []any }
		p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &ans)
	}
	rules := strings.Count(p.alerts, "- alert: ")
	eventually(t, time.Minute, "every rule to be evaluated", func() bool {
		all := p.rules(t)
		return len(all) == rules && !slices.ContainsFunc(all, func(r rule) bool { return r.Health != "ok" })
	})
	p.state(t, "BinderyNoWorker", "inactive")
	h.must(t, "workers", "drain", h.worker(t).Name, "--reason", "a test of alerts")
	p.state(t, "BinderyNoWorker", "firing")
	h.must(t, "workers", "resume", h.worker(t).Name)
	// The canary had no worker either; the disk is this machine's, on which other tests write.
	eventually(t, 2*time.Minute, "no rule to fire at a hub that does well", func() bool {
		return !slices.ContainsFunc(p.rules(t), func(r rule) bool { return r.State == "firing" && r.Name != "BinderyDiskFills" })
	})
}

// seenInLog looks for the lines of a launch and of its build, with the ids by which they are one story.
func seenInLog(t *testing.T, h *hub, repo, session string) {
	text, err := os.ReadFile(h.log)
	if err != nil {
		t.Fatal(err)
	}
	type line struct{ Msg, Request, Build, Session, Repository string }
	var launch, build line
	for raw := range strings.Lines(string(text)) {
		var l line
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			t.Errorf("a line that is no JSON: %s", raw)
		}
		switch {
		case l.Msg == "a launch ended" && l.Repository == repo:
			launch = l
		case l.Msg == "a build ended" && l.Repository == repo:
			build = l
		}
	}
	if launch.Session != session || launch.Request == "" || launch.Build == "" || launch.Build != build.Build {
		t.Errorf("the launch is %+v, its build %+v, the session %s", launch, build, session)
	}
}

// seenInEvents exports what happened, and wants a launch in BinderHub's own schema and everything else in order of time.
func seenInEvents(t *testing.T, h *hub, repo, session string) {
	type event struct {
		Timestamp                      time.Time
		Schema, Provider, Spec, Status string
		Session, Did, Reason           string
	}
	export := func(kind string) (all []event) {
		for raw := range strings.Lines(h.must(t, "events", "export", "--kind", kind, "--since", "1h")) {
			var e event
			if err := json.Unmarshal([]byte(raw), &e); err != nil {
				t.Fatalf("%v: %s", err, raw)
			}
			all = append(all, e)
		}
		return all
	}
	launches := export("launches") // BinderHub notes those that succeed
	if len(launches) != 1 || launches[0].Schema != "binderhub.jupyter.org/launch" || launches[0].Provider != "Git" || launches[0].Status != "success" || launches[0].Spec != url.QueryEscape(repo)+"/main" {
		t.Errorf("the launches of %s and of what is broken: %+v", repo, launches)
	}
	h.stop(t, session) // sessions are told of when they are over
	all := export("all")
	if !slices.IsSortedFunc(all, func(a, b event) int { return a.Timestamp.Compare(b.Timestamp) }) {
		t.Error("the events are not in the order of time")
	}
	for what, is := range map[string]func(event) bool{
		"the session": func(e event) bool { return e.Schema == "bindery/session" && e.Session == session },
		"a build":     func(e event) bool { return e.Schema == "bindery/build" },
		"the drain": func(e event) bool {
			return e.Schema == "bindery/audit" && e.Did == "drain worker" && e.Reason == "a test of alerts"
		},
	} {
		if !slices.ContainsFunc(all, is) {
			t.Errorf("%s is not among %d events", what, len(all))
		}
	}
}

// A collector takes traces, as OpenTelemetry's does.
type collector struct {
	url string
	mu  sync.Mutex
	got []byte
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got = append(c.got, text...)
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL + "/v1/traces"
	return c
}

// have reports whether a text is in what came: strings stand in the messages as they are.
func (c *collector) have(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.got, []byte(text))
}

// sings has the hub try itself with a repository, and adds to its configuration.
func (h *hub) sings(t *testing.T, repo, more string) {
	t.Helper()
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	const silent = "canary: {every: 0s}"
	if !strings.Contains(string(text), silent) {
		t.Fatal("the configuration of these tests has another canary")
	}
	text = []byte(strings.Replace(string(text), silent, "canary: {every: 10s, repository: '"+repo+"'}", 1) + more)
	if err := os.WriteFile(h.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// dashboards are the files that the command writes, and what their panels ask.
func dashboards(t *testing.T, h *hub) (text string, exprs []string) {
	t.Helper()
	dir := t.TempDir()
	h.must(t, "metrics", "dashboards", dir)
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		part, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		if err := json.Unmarshal(part, &board); err != nil {
			t.Fatal(err)
		}
		for _, panel := range board.Panels {
			for _, target := range panel.Targets {
				text += target.Expr + "\n"
				exprs = append(exprs, target.Expr)
			}
		}
	}
	return text, exprs
}

// A prom is a Prometheus that watches a hub.
type prom struct {
	url    string
	alerts string // the rules that it has
}

// startPrometheus starts one that scrapes a hub and evaluates its rules every second.
func startPrometheus(t *testing.T, h *hub) prom {
	t.Helper()
	dir := t.TempDir()
	p := prom{alerts: h.must(t, "metrics", "alerts")}
	// As the file is, but for the pace.
	paced := strings.Replace(p.alerts, "interval: 15s", "interval: 1s", 1)
	config := fmt.Sprintf("global: {scrape_interval: 1s}\nrule_files: [alerts.yml]\nscrape_configs: [{job_name: bindery, static_configs: [{targets: ['%s']}]}]\n", h.listen)
	for name, text := range map[string]string{"alerts.yml": paced, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(root(), "bin", "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("Prometheus (scripts/setup test installs it): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it was told to end
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s", text)
		}
		_ = log.Close() // read already
	})
	p.url = "http://" + addr
	eventually(t, time.Minute, "Prometheus to be ready", func() bool {
		res, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		return res.StatusCode == http.StatusOK
	})
	return p
}

// get asks Prometheus. What it refuses is an error of the test.
func (p prom) get(t *testing.T, path string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read
	ans := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(res.Body).Decode(&ans); err != nil || ans.Status != "success" {
		t.Fatalf("%s: %v %s", path, err, ans.Error)
	}
}

type rule struct{ Name, Health, LastError, State string }

func (p prom) rules(t *testing.T) []rule {
	t.Helper()
	var all struct{ Groups []struct{ Rules []rule } }
	p.get(t, "/api/v1/rules", &all)
	if len(all.Groups) != 1 {
		t.Fatalf("the rules are %+v", all)
	}
	return all.Groups[0].Rules
}

// state waits until a rule is in a state, for two minutes at most: that is the promise.
func (p prom) state(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, 2*time.Minute, name+" to be "+want, func() bool {
		return slices.ContainsFunc(p.rules(t), func(r rule) bool { return r.Name == name && r.State == want })
	})
}
