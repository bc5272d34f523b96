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
		Errors                                          []string
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
	for _, s := range h.list(t) {
		h.stop(t, s)
	}
	h.settles(t, before)
}
