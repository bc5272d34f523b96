package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
)

func write(t *testing.T, file, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMachineEnv(t *testing.T) {
	home := t.TempDir()
	write(t, filepath.Join(home, ".config/pip/pip.conf"), "[global]\nindex-url = https://pip.example.org/simple/\nfind-links = /opt/wheels\n", 0o644)
	write(t, filepath.Join(home, ".npmrc"), "registry=https://npm.example.org/\n", 0o644)
	env := func(extra map[string]string) func(string) string {
		return func(k string) string {
			return map[string]string{"HOME": home, "PIP_FIND_LINKS": "/opt/wheels"}[k] + extra[k]
		}
	}
	got := machineEnv(config{Steps: stepConfig{Env: map[string]string{"X": "y"}}, Python: pythonConfig{Mirror: "https://m"}}, env(map[string]string{"https_proxy": "http://proxy:3128"}))
	want := map[string]string{
		"HTTPS_PROXY": "http://proxy:3128", "https_proxy": "http://proxy:3128", "X": "y",
		"UV_DEFAULT_INDEX": "https://pip.example.org/simple/", "PIP_INDEX_URL": "https://pip.example.org/simple/", "NPM_CONFIG_REGISTRY": "https://npm.example.org/",
		"UV_PYTHON_INSTALL_MIRROR": "https://m",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = machineEnv(config{Steps: stepConfig{PipIndex: "https://mine.example.org/"}}, env(map[string]string{"PIP_INDEX_URL": "https://other/"}))
	if got["PIP_INDEX_URL"] != "https://mine.example.org/" {
		t.Errorf("the configuration does not win: %v", got)
	}
	got = machineEnv(config{}, env(map[string]string{"PIP_INDEX_URL": "file:///opt/index", "HOME": "-nowhere"}))
	if _, ok := got["PIP_INDEX_URL"]; ok {
		t.Errorf("a directory of this machine reaches the steps: %v", got)
	}
}

func TestPasswords(t *testing.T) {
	got := passwords([]string{"A=http://u:one@h/", "B=http://u:one@h/x", "C=http://u@h/", "D=plain", "E=https://:two@h"})
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSourceArgs(t *testing.T) {
	dir := t.TempDir()
	plainDir, repo := filepath.Join(dir, "plain"), filepath.Join(dir, "répo x")
	write(t, filepath.Join(plainDir, "file"), "", 0o644)
	write(t, filepath.Join(repo, ".git", "HEAD"), "", 0o644)
	bare := filepath.Join(dir, "bare")
	for _, name := range []string{"HEAD", "objects/x", "refs/x"} {
		write(t, filepath.Join(bare, name), "", 0o644)
	}
	if err := os.Symlink(plainDir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	local := func(dir, sub string) bindery.Source {
		return bindery.Source{Provider: "local", URL: dir, Subdir: sub}
	}
	for _, tt := range []struct {
		in   sourceArgs
		want bindery.Source
		err  bindery.Kind
	}{
		{in: sourceArgs{Repo: plainDir}, want: local(plainDir, "")},
		{in: sourceArgs{Repo: plainDir + "/", Subdir: "./a/"}, want: local(plainDir, "a")},
		{in: sourceArgs{Repo: filepath.Join(dir, "link")}, want: local(plainDir, "")},
		{in: sourceArgs{Repo: repo}, want: local(repo, "")},
		{in: sourceArgs{Repo: repo, Ref: "v1"}, want: bindery.Source{Provider: "git", URL: "file://" + dir + "/r%C3%A9po%20x", Ref: "v1"}},
		{in: sourceArgs{Repo: bare}, want: bindery.Source{Provider: "git", URL: "file://" + bare}},
		{in: sourceArgs{Repo: "https://Example.org/a/b", Ref: "main"}, want: bindery.Source{Provider: "git", URL: "https://example.org/a/b", Ref: "main"}},
		{in: sourceArgs{Repo: "10.5281/zenodo.3242074"}, want: bindery.Source{Provider: "zenodo", URL: "https://doi.org/10.5281/zenodo.3242074", Ref: "10.5281/zenodo.3242074"}},
		{in: sourceArgs{Repo: "https://doi.org/10.7910/DVN/TJCLKP"}, want: bindery.Source{Provider: "dataverse", URL: "https://doi.org/10.7910/DVN/TJCLKP", Ref: "10.7910/DVN/TJCLKP"}},
		{in: sourceArgs{Repo: "swh:1:cnt:x"}, err: bindery.ErrInvalid},
		{in: sourceArgs{Repo: plainDir, Ref: "v1"}, err: bindery.ErrInvalid},
		{in: sourceArgs{Repo: filepath.Join(plainDir, "file")}, err: bindery.ErrInvalid},
		{in: sourceArgs{Repo: filepath.Join(dir, "none")}, err: bindery.ErrRepoNotFound},
		{in: sourceArgs{Repo: "-x"}, err: bindery.ErrRepoNotFound},
		{in: sourceArgs{Repo: "--upload-pack=touch /tmp/x"}, err: bindery.ErrRepoNotFound},
		{in: sourceArgs{Repo: "ext::sh -c id"}, err: bindery.ErrRepoNotFound},
		{in: sourceArgs{Repo: "https://example.org/a", Ref: "--upload-pack=x"}, err: bindery.ErrInvalid},
		{in: sourceArgs{Repo: "https://user:secret@example.org/a"}, err: bindery.ErrInvalid},
		{in: sourceArgs{Repo: plainDir, Subdir: "../x"}, err: bindery.ErrInvalid},
	} {
		got, err := tt.in.source(bindery.DefaultProviders())
		if tt.err != "" {
			if e := bindery.AsError(err); err == nil || e.Kind != tt.err || e.Remedy == "" {
				t.Errorf("%+v: %v; want kind %s", tt.in, err, tt.err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%+v: %v (-want +got):\n%s", tt.in, err, diff)
		}
	}
}

func TestKernel(t *testing.T) {
	for release, want := range map[string]bool{"6.18.44": true, "5.11.0-rc1": true, "5.10.0-35-amd64": false, "4.19.0": false, "2.6.92": false, "10.0": true, "weird": false} {
		if k := checkKernel(release); k.OK != want || (k.Remedy == "") != want {
			t.Errorf("%s: %+v", release, k)
		}
	}
}

func TestRuntimeIsLookedFor(t *testing.T) {
	dir := t.TempDir()
	program := write(t, filepath.Join(dir, "runc"), "#!/bin/sh\n", 0o755)
	if got, err := findRuntime(program); err != nil || got != program {
		t.Errorf("named: %q, %v", got, err)
	}
	t.Setenv("PATH", dir)
	if got, err := findRuntime(""); err != nil || got != program {
		t.Errorf("on the path: %q, %v", got, err)
	}
	t.Setenv("PATH", "/nonexistent")
	_, err := findRuntime("")
	if e := bindery.AsError(err); err == nil || e.Kind != bindery.ErrNotReady || !strings.Contains(e.Remedy, "BINDERY_RUNC") {
		t.Errorf("nowhere: %v", err)
	}
	if k := checkRuntime("/nonexistent/runc"); k.OK || k.Remedy == "" {
		t.Errorf("check: %+v", k)
	}
}

func TestInstance(t *testing.T) {
	dir := t.TempDir()
	a, err := newInstance(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.create(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(a.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory is open: %v, %v", info.Mode(), err)
	}
	if err := os.Symlink(a.dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	same, err := newInstance(filepath.Join(dir, "link"))
	if err != nil || same != a {
		t.Errorf("the same directory is two instances: %v, %v", a, same)
	}
	first, err := a.secret("hub.secret")
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.secret("hub.secret")
	if err != nil || first != second || len(first) < 26 {
		t.Errorf("secrets %q, %q, %v", first, second, err)
	}
	if info, err := os.Stat(a.path("hub.secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret is open: %v, %v", info.Mode(), err)
	}
}

func TestOwner(t *testing.T) {
	inst, err := newInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := inst.create(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	o := owned{ID: "r-x-1", Created: time.Now().UTC(), Owner: process{cmd.Process.Pid, start, bootID()}}
	if err := inst.saveOwned(o); err != nil {
		t.Fatal(err)
	}
	write(t, inst.path("runs", "r-torn.json"), "{", 0o600)
	write(t, inst.path("runs", "r-other.json"), `{"id": "../../x"}`, 0o600)
	all, err := inst.loadOwned()
	if diff := cmp.Diff([]owned{o}, all); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if !o.Owner.alive() {
		t.Error("a process that runs is dead")
	}
	if again := (process{o.Owner.PID, "1", o.Owner.Boot}); again.alive() {
		t.Error("another process with the same number is alive")
	}
	if before := (process{o.Owner.PID, start, "another boot"}); before.alive() {
		t.Error("a process of another boot is alive")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for o.Owner.alive() { // the kernel needs a moment; then it is a zombie, which is dead
	}
	_ = cmd.Wait() // killed
	if err := inst.dropOwned(o.ID); err != nil {
		t.Error(err)
	}
	if err := inst.dropOwned(o.ID); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestBuildLogsAreFew(t *testing.T) {
	inst, err := newInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := inst.create(); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		f, err := inst.newBuildLog(newID("c-"))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if all, _ := filepath.Glob(inst.path("logs", "*")); len(all) != 50 {
		t.Errorf("%d logs are kept", len(all))
	}
}

func TestSessionsAreToldNothing(t *testing.T) {
	ca := write(t, filepath.Join(t.TempDir(), "ca.pem"), "", 0o644)
	getenv := func(k string) string { return map[string]string{"HTTPS_PROXY": "http://proxy", "SSL_CERT_FILE": ca}[k] }
	a := &app{getenv: getenv, cfg: config{Sessions: sessionConfig{Env: map[string]string{"A": "b"}}}}
	env, binds, err := a.sessionTrust()
	if diff := cmp.Diff([]string{"A=b"}, env); diff != "" || binds != nil || err != nil {
		t.Errorf("%v, %v (-want +got):\n%s", binds, err, diff)
	}
	a.cfg.Sessions.Trust = true
	env, binds, err = a.sessionTrust()
	if !slices.Contains(env, "HTTPS_PROXY=http://proxy") || !slices.Contains(env, "SSL_CERT_FILE="+sessionCA) || env[len(env)-1] != "A=b" {
		t.Errorf("with trust: %v", env)
	}
	if len(binds) != 1 || binds[0].Source != ca || err != nil {
		t.Errorf("with trust: %v, %v", binds, err)
	}
}

// Whose failure it is decides whether somebody is paged: a machine that lacks something is ours, a command line that
// asks for what is taken is the user's.
func TestMachineFaults(t *testing.T) {
	inst, err := newInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lockHub(inst)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	_, noRuntime := findRuntime(filepath.Join(t.TempDir(), "runc"))
	_, locked := lockHub(inst)
	_, inUse := listen(taken.Addr().String(), "--listen")
	for name, tt := range map[string]struct {
		err   error
		kind  bindery.Kind
		fault bindery.Fault
	}{
		"no root":                {firstMissing([]bindery.Check{checkRoot(1000)}), bindery.ErrNotReady, bindery.Ours},
		"old kernel":             {firstMissing([]bindery.Check{checkKernel("4.19.0")}), bindery.ErrNotReady, bindery.Ours},
		"no runc":                {noRuntime, bindery.ErrNotReady, bindery.Ours},
		"state directory locked": {locked, bindery.ErrLocked, bindery.User},
		"port in use":            {inUse, bindery.ErrNotReady, bindery.User},
	} {
		if e := bindery.AsError(tt.err); e == nil || e.Kind != tt.kind || e.Fault != tt.fault || e.Remedy == "" {
			t.Errorf("%s: %#v, want kind %s, fault %s, a remedy", name, e, tt.kind, tt.fault)
		}
	}
}
