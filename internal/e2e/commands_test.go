package e2e

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	bindery "github.com/bindery-hub/bindery"
)

// sample writes files to a fresh directory and returns it.
func sample(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// must runs a command that has to succeed and returns its standard output.
func (h *hub) must(t testing.TB, args ...string) string {
	t.Helper()
	r := h.run(t, args...)
	if r.code != 0 {
		t.Fatalf("bindery %s: status %d\n%s%s\n%s", strings.Join(args, " "), r.code, r.stdout, r.stderr, h.tail())
	}
	return r.stdout
}

// keys checks that a JSON object has exactly these keys.
func keys(t testing.TB, text string, want ...string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, k := range want {
		if _, ok := m[k]; !ok {
			t.Errorf("no %q in %s", k, text)
		}
	}
	return m
}

func TestRunCommand(t *testing.T) {
	h := theHub(t)
	dir := sample(t, requirements(map[string]string{
		"check": "#!/bin/bash\nread -r line\necho \"got $line as $(id -un) in $PWD with $FLAVOUR\"\npython -c 'import six; print(six.__version__)'\necho complaint >&2\nexit 42\n",
	}))
	before := h.remains(t)
	cmd := h.command(t.Context(), "run", dir, "-e", "FLAVOUR=plum", "--quiet", "--", "./check")
	cmd.Stdin = strings.NewReader("a line\n")
	r := finish(t, cmd)
	// repo2docker's entrypoint passes on both outputs as one, and keeps a copy.
	if r.code != 42 || r.stdout != "got a line as jovyan in /home/jovyan with plum\n1.16.0\ncomplaint\n" || r.stderr != "" {
		t.Errorf("status %d\nstdout %q\nstderr %q", r.code, r.stdout, r.stderr)
	}
	h.settles(t, before)
}

func TestRunDetached(t *testing.T) {
	h := theHub(t)
	dir := sample(t, requirements(nil))
	before := h.remains(t)
	out := h.must(t, "run", dir, "--detach", "--json")
	keys(t, out, "image", "env_key", "image_key", "url", "token", "session", "timings")
	var run struct {
		URL, Token, Session string
		Timings             map[string]float64
	}
	if err := json.Unmarshal([]byte(out), &run); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"resolve", "fetch", "plan", "solve", "launch", "ready"} {
		if _, ok := run.Timings[k]; !ok {
			t.Errorf("no timing of %s in %v", k, run.Timings)
		}
	}
	if _, err := answers(said{URL: run.URL, Token: run.Token}, "api"); err != nil {
		t.Error(err)
	}
	if ls := h.must(t, "sessions", "ls"); !strings.Contains(ls, run.Session) {
		t.Errorf("sessions ls does not list %s:\n%s", run.Session, ls)
	}
	if ls := h.must(t, "sessions", "ls", "--json"); !strings.Contains(ls, run.Session) || strings.Contains(ls, run.Token) {
		t.Errorf("sessions ls --json does not list %s, or shows its token:\n%s", run.Session, ls)
	}
	if log := h.must(t, "sessions", "logs", run.Session); !strings.Contains(log, "Jupyter Server") {
		t.Errorf("the log is %q", log)
	}
	h.must(t, "sessions", "stop", run.Session)
	if _, err := answers(said{URL: run.URL, Token: run.Token}, "api"); err == nil {
		t.Error("the stopped session answers")
	}
	h.settles(t, before)
	if r := h.run(t, "sessions", "stop", "no-such-session"); r.code != 1 || !strings.Contains(r.stderr, "no-such-session") {
		t.Errorf("stopping a session that does not exist: %+v", r)
	}
}

func TestHubsSessionsByCommand(t *testing.T) {
	h := theHub(t)
	ready, _ := h.launch(t, made(t, requirements(nil)), "main")
	id := ready.session()
	if ls := h.must(t, "sessions", "ls"); !strings.Contains(ls, id) {
		t.Errorf("sessions ls does not list %s:\n%s", id, ls)
	}
	if log := h.must(t, "sessions", "logs", id); !strings.Contains(log, "Jupyter Server") || strings.Contains(log, ready.Token) {
		t.Errorf("the log is %q", log)
	}
	h.must(t, "sessions", "stop", id)
	if ls := h.must(t, "sessions", "ls"); strings.Contains(ls, id) {
		t.Errorf("sessions ls still lists %s:\n%s", id, ls)
	}
}

func TestBuildCommand(t *testing.T) {
	h := theHub(t)
	dir := sample(t, requirements(map[string]string{"postBuild": "#!/bin/bash\necho built > built.txt\n"}))
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	image := strings.TrimPrefix(srv.URL, "http://") + "/ann/sample:one"
	layout := filepath.Join(t.TempDir(), "layout")

	out := h.must(t, "build", dir, "--push", image, "--oci", layout, "--json")
	m := keys(t, out, "image", "env_key", "image_key", "generation", "steps", "seconds", "log")
	ref, err := name.ParseReference(image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatalf("the registry has no %s: %v", image, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "1000" && config.Config.User != "jovyan" {
		t.Errorf("user %q", config.Config.User)
	}
	if config.Config.WorkingDir != "/home/jovyan" || len(config.Config.Entrypoint) == 0 {
		t.Errorf("config %+v", config.Config)
	}
	for _, kv := range config.Config.Env {
		if k, _, _ := strings.Cut(kv, "="); strings.HasSuffix(k, "_CERT") || strings.HasSuffix(strings.ToLower(k), "_proxy") || strings.HasPrefix(k, "SSL_CERT") {
			t.Errorf("the image keeps the machine's %s", kv)
		}
	}
	for _, step := range config.History {
		if strings.Contains(step.CreatedBy, "ca-certificates.crt") || strings.Contains(step.CreatedBy, "SSL_CERT") {
			t.Errorf("the history tells of the machine: %s", step.CreatedBy)
		}
	}
	if _, err := os.Stat(filepath.Join(layout, "index.json")); err != nil {
		t.Errorf("no OCI layout: %v", err)
	}
	if err := validate.Image(img, validate.Fast); err != nil {
		t.Errorf("the pushed image is broken: %v", err)
	}

	again := keys(t, h.must(t, "build", dir, "--json"), "steps")
	if again["image_key"] != m["image_key"] {
		t.Errorf("the same files have two image keys: %v, %v", m["image_key"], again["image_key"])
	}
	if steps, _ := again["steps"].(map[string]any); steps["run"] != 0.0 {
		t.Errorf("building again ran steps: %v", steps)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("# Changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	changed := keys(t, h.must(t, "build", dir, "--json"), "env_key", "image_key")
	if changed["env_key"] != m["env_key"] || changed["image_key"] == m["image_key"] {
		t.Errorf("a changed README: environment %v then %v, image %v then %v", m["env_key"], changed["env_key"], m["image_key"], changed["image_key"])
	}
}

// TestFreezeCommand prints what an image has installed as lock files, and writes them where there are none.
func TestFreezeCommand(t *testing.T) {
	h := theHub(t)
	image, _ := keys(t, h.must(t, "build", sample(t, requirements(nil)), "--json"), "image")["image"].(string)
	if out := h.must(t, "freeze", image); !strings.Contains(out, "==> apt.txt <==") || !strings.Contains(out, "\nsix==1.16.0\n") {
		t.Errorf("freeze says\n%s", out)
	}
	keys(t, h.must(t, "freeze", image, "--json"), "packages", "locks")
	keys(t, h.must(t, "freeze", image, "--sbom"), "spdxVersion", "packages")
	dir := filepath.Join(t.TempDir(), "locks")
	h.must(t, "freeze", image, "-o", dir)
	if text, err := os.ReadFile(filepath.Join(dir, "requirements.txt")); err != nil || !strings.Contains(string(text), "\nsix==1.16.0\n") {
		t.Errorf("requirements.txt: %v\n%s", err, text)
	}
	if r := h.run(t, "freeze", image, "-o", dir); r.code != 1 || !strings.Contains(r.stderr, "is in the way") {
		t.Errorf("over files that are there: %+v", r)
	}
	if r := h.run(t, "freeze", "bindery/none"); r.code != 1 || !strings.Contains(r.stderr, "bindery/none") {
		t.Errorf("of no image: %+v", r)
	}
}

func TestPlanCommand(t *testing.T) {
	h := theHub(t)
	dir := sample(t, requirements(map[string]string{"apt.txt": "tree\n", "Pipfile.txt": "x"}))
	m := keys(t, h.must(t, "plan", dir, "--json"), "pack", "python", "apt", "reads", "command", "ignored")
	if m["pack"] != "python" {
		t.Errorf("pack %v", m["pack"])
	}
	if text := h.must(t, "plan", dir); !strings.Contains(text, "requirements.txt") || !strings.Contains(text, "tree") {
		t.Errorf("the plan in words: %s", text)
	}
}

func TestDoctorAndVersion(t *testing.T) {
	h := theHub(t)
	var checks []bindery.Check
	if err := json.Unmarshal([]byte(h.must(t, "doctor", "--json")), &checks); err != nil {
		t.Fatal(err)
	}
	if len(checks) < 8 {
		t.Errorf("%d checks", len(checks))
	}
	for _, c := range checks {
		if c.Level == "required" && !c.OK {
			t.Errorf("%s: %s", c.Name, c.Found)
		}
		if !c.OK && c.Remedy == "" {
			t.Errorf("%s has no remedy", c.Name)
		}
	}
	keys(t, h.must(t, "version", "--json"), "version", "generation")
}

// TestHubByToken reaches the hub as another machine would: by its URL, with a token of the configuration file.
func TestHubByToken(t *testing.T) {
	h := theHub(t)
	ready, _ := h.launch(t, made(t, requirements(nil)), "main")
	url := "http://" + h.listen
	if ls := h.must(t, "sessions", "ls", "--hub", url, "--token", apiToken); !strings.Contains(ls, ready.session()) {
		t.Errorf("sessions ls by URL does not list %s:\n%s", ready.session(), ls)
	}
	for _, args := range [][]string{
		{"sessions", "ls", "--hub", url, "--token", "not the token"},
		{"sessions", "stop", ready.session(), "--hub", url},
	} {
		if r := h.run(t, args...); r.code != 1 {
			t.Errorf("bindery %s: %+v, want a refusal", strings.Join(args, " "), r)
		}
	}
	h.must(t, "sessions", "stop", ready.session(), "--hub", url, "--token", apiToken)
	if ls := h.must(t, "sessions", "ls"); strings.Contains(ls, ready.session()) {
		t.Errorf("it still runs:\n%s", ls)
	}
}

// TestPublicRoutes asks for what BinderHub's clients and probes ask for.
func TestPublicRoutes(t *testing.T) {
	h := theHub(t)
	for path, want := range map[string]struct {
		status int
		says   string
	}{
		"/":                  {200, "<form"},
		"/health":            {200, `"ok":true`},
		"/versions":          {200, `"binderhub"`},
		"/api/repoproviders": {200, `"git"`},
		"/badge_logo.svg":    {200, "<svg"},
		"/v2/git/https%3A%2F%2Fexample.org%2Fr/main": {200, "example.org"},
		"/no/such/page": {404, ""},
	} {
		resp, err := http.Get("http://" + h.listen + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if plain := strings.ReplaceAll(string(text), `": `, `":`); resp.StatusCode != want.status || !strings.Contains(plain, want.says) {
			t.Errorf("GET %s: %s, want %d with %q:\n%.300s", path, resp.Status, want.status, want.says, text)
		}
	}
}
