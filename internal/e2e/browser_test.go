package e2e

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// TestBrowser is what a visitor does: opens a link, watches the log, lands in JupyterLab, runs a cell, sees its output.
func TestBrowser(t *testing.T) {
	h := theHub(t)
	repo := made(t, requirements(nil))
	before := h.remains(t)
	pictures := filepath.Join(root(), "artefacts")
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "browser.mjs",
		"http://"+h.listen+"/v2/git/"+url.QueryEscape(repo)+"/main", filepath.Join(pictures, "browser"))
	cmd.Dir = filepath.Join(root(), "internal", "e2e")
	r := finish(t, cmd)
	if r.code != 0 {
		t.Fatalf("the browser ended with %d: %s%s", r.code, r.stdout, r.stderr)
	}
	var seen struct {
		Status                                          int
		Policy, Title, Log, Landed, Output, Failure, At string
		Errors, Notices                                 []string
	}
	if err := json.Unmarshal([]byte(r.stdout), &seen); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if seen.Failure != "" {
		t.Fatalf("%s\nat %s\nlog: %s\nerrors: %v\n%s", seen.Failure, seen.At, seen.Log, seen.Errors, h.tail())
	}
	if seen.Status != 200 || !strings.Contains(seen.Policy, "default-src") {
		t.Errorf("the page has status %d, policy %q", seen.Status, seen.Policy)
	}
	if len(seen.Errors) > 0 {
		t.Errorf("the page has errors: %q", seen.Errors)
	}
	if !strings.Contains(seen.Log, "requirements.txt") {
		t.Errorf("the log does not tell of requirements.txt: %q", seen.Log)
	}
	if !strings.HasPrefix(seen.Landed, "http://"+h.sessions+"/user/") {
		t.Errorf("landed at %s, not on the sessions' own origin %s", seen.Landed, h.sessions)
	}
	if seen.Output != "six times seven is 42" {
		t.Errorf("the cell printed %q", seen.Output)
	}
	if len(seen.Notices) > 0 {
		t.Errorf("JupyterLab asks or tells something: %q", seen.Notices)
	}
	for _, s := range h.list(t) {
		h.stop(t, s)
	}
	h.settles(t, before)
}

// A finished build's page draws a bar for each of its steps. Those of two package managers ran side by side, and the files
// came after both.
func TestTimelineInABrowser(t *testing.T) {
	h := theHub(t)
	files := map[string]string{}
	for _, name := range []string{"package.json", "package-lock.json", "prepare.js", "requirements.txt"} {
		text, err := os.ReadFile(filepath.Join(root(), "testdata", "repos", "node", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = strings.ReplaceAll(string(text), `"sample"`, `"timeline"`)
	}
	files["requirements.txt"] += "# No other test has built this.\n"
	b, err := h.client(t).Submit(t.Context(), api.NewBuild{Source: bindery.Source{Provider: bindery.ProviderGit, URL: made(t, files), Ref: "main"}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Minute, "the build", func() bool {
		b, err = h.client(t).Build(t.Context(), b.ID)
		return err != nil || b.State != bindery.BuildQueued && b.State != bindery.BuildRunning
	})
	if err != nil || b.State != bindery.BuildSucceeded {
		t.Fatalf("%+v, %v\n%s", b, err, h.tail())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "timeline.mjs", "http://"+h.listen+"/builds/"+b.ID, filepath.Join(root(), "artefacts", "timeline.png"))
	cmd.Dir = filepath.Join(root(), "internal", "e2e")
	r := finish(t, cmd)
	type bar struct {
		Name, Took, Colour       string
		Left, Right, Top, Bottom float64
	}
	var seen struct {
		Steps  []bar
		Errors []string
	}
	if err := json.Unmarshal([]byte(r.stdout), &seen); err != nil || len(seen.Errors) > 0 {
		t.Fatalf("%v, %q: %s%s", err, seen.Errors, r.stdout, r.stderr)
	}
	drawn := map[string]bar{}
	for _, s := range seen.Steps {
		t.Logf("%-30s %-15s %4.0f to %4.0f", s.Name, s.Took, s.Left, s.Right)
		if s.Right <= s.Left || s.Bottom <= s.Top || s.Left < 0 || s.Right > 1280 || s.Colour == "rgba(0, 0, 0, 0)" {
			t.Errorf("nobody can see %+v", s)
		}
		drawn[s.Name] = s
	}
	node, python, content := drawn["Install package-lock.json"], drawn["Install requirements.txt"], drawn["Copy the repository"]
	if node.Right == 0 || python.Right == 0 || content.Right == 0 {
		t.Fatalf("steps are missing: %+v", seen.Steps)
	}
	if node.Left >= python.Right || python.Left >= node.Right {
		t.Errorf("one after the other: %+v, %+v", node, python)
	}
	if content.Left < node.Right-1 || content.Left < python.Right-1 {
		t.Errorf("the files came before the packages: %+v, %+v, %+v", content, node, python)
	}
}
