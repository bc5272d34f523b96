package source_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// gitsOf returns the /proc directories of the processes that have needle on their command line.
func gitsOf(needle string) []string {
	var out []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, _ := os.ReadFile(dir + "/cmdline")
		if bytes.Contains(line, []byte(needle)) && bytes.Contains(line, []byte("git")) {
			out = append(out, dir)
		}
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("it did not come to pass that %s", what)
		case <-tick.C:
		}
	}
}

// Git is not root, sees neither our environment nor our files nor our network, and dies with the request.
func TestConfinement(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: git runs without namespaces")
	}
	t.Setenv("BINDERY_CANARY", "secret")
	srv := sourcetest.Start(t)
	srv.Stall("/slow")
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	url := srv.URL + "/slow/confined"
	go func() {
		_, err := s.Resolve(ctx, git(url, ""))
		ended <- err
	}()
	eventually(t, "git and its helper run", func() bool { return len(gitsOf(url)) >= 2 })
	for _, dir := range gitsOf(url) {
		status := read(t, dir, "status")
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "Groups:\t \n", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !strings.Contains(status, want) {
				t.Errorf("the status of git lacks %q:\n%s", want, status)
			}
		}
		if env := read(t, dir, "environ"); strings.Contains(env, "CANARY") || strings.Contains(env, "SSH_AUTH_SOCK=") {
			t.Error("git has our environment")
		}
		for _, ns := range []string{"mnt", "net", "pid", "ipc"} {
			theirs, err := os.Readlink(dir + "/ns/" + ns)
			ours, err2 := os.Readlink("/proc/self/ns/" + ns)
			if err != nil || err2 != nil || theirs == ours {
				t.Errorf("git is in our %s namespace", ns)
			}
		}
		for _, path := range []string{"/root", "/etc/passwd", "/proc/1", "/run", "/var", "/sys"} {
			if _, err := os.Lstat(dir + "/root" + path); err == nil {
				t.Errorf("git sees %s", path)
			}
		}
		if line := read(t, dir, "cmdline"); strings.Contains(line, "@") {
			t.Errorf("a credential is on the command line: %q", line)
		}
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("Resolve was cancelled and has no error")
	}
	eventually(t, "all of git is gone", func() bool { return len(gitsOf(url)) == 0 })
}

// What a fetch has shown to git it hides again, and the end of Run takes the namespaces along.
func TestNothingStaysMounted(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	r.Commit("main", map[string]string{"a": "1"})
	s := start(t)
	dir, _ := checkout(t, s, git(r.URL, ""))
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, "/"+t.Name()) { // part of the test's own directories; others mount things too
			t.Errorf("a mount is seen outside: %s", line)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}
