package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestVisitorsErrors provokes each failure that a visitor can meet, and compares kind, fault, words and remedy.
func TestVisitorsErrors(t *testing.T) {
	h := theHub(t)
	srv := sourcetest.Start(t)
	good := srv.Repo("ann/good")
	good.Commit("main", requirements(nil))
	repo := func(name string, files map[string]string) string {
		r := srv.Repo("ann/" + name)
		r.Commit("main", files)
		return r.URL
	}
	for _, tt := range []struct {
		name, url, ref string
		kind           bindery.Kind
		fault          bindery.Fault
		says           []string // in the message or the log
	}{
		{"repository not found", srv.URL + "/ann/nothing", "main", bindery.ErrRepoNotFound, bindery.User, []string{"no Git repository"}},
		{"ref not found", good.URL, "no-such-branch", bindery.ErrRefNotFound, bindery.User, []string{"no-such-branch"}},
		{"commit not found", good.URL, strings.Repeat("ab", 20), bindery.ErrRefNotFound, bindery.User, []string{"abab"}},
		{"unreachable host", "http://127.0.0.1:1/ann/repo", "main", bindery.ErrUnreachable, bindery.Transient, []string{"127.0.0.1"}},
		{"unknown host", "https://no-such-host.invalid/ann/repo", "main", bindery.ErrRepoNotFound, bindery.User, []string{"no-such-host.invalid"}},
		{"private address", "http://10.255.255.1/ann/repo", "main", bindery.ErrNotAllowed, bindery.User, []string{"10.255.255.1"}},
		{"metadata address", "http://169.254.169.254/ann/repo", "main", bindery.ErrNotAllowed, bindery.User, []string{"169.254.169.254"}},
		{"directory of the machine", "file:///etc", "main", bindery.ErrNotAllowed, bindery.User, nil},
		{"requirement that does not exist", repo("requirement", map[string]string{"requirements.txt": "bindery-has-no-such-requirement==9.9.9\n"}), "main",
			bindery.ErrStep, bindery.User, []string{"bindery-has-no-such-requirement"}},
		{"postBuild that fails", repo("postbuild", map[string]string{"postBuild": "#!/bin/bash\necho about to fail\nexit 3\n"}), "main",
			bindery.ErrStep, bindery.User, []string{"about to fail", "postBuild", "3"}},
		{"Dockerfile that fails", repo("dockerfile", map[string]string{"Dockerfile": "FROM debian:bookworm\nRUN echo about to break; exit 4\n"}), "main",
			bindery.ErrStep, bindery.User, []string{"about to break", "4"}},
		{"two binder directories", repo("two", map[string]string{"binder/requirements.txt": "six\n", ".binder/requirements.txt": "six\n"}), "main",
			bindery.ErrPlan, bindery.User, []string{"binder", ".binder"}},
		{"Python that does not exist", repo("python", map[string]string{"runtime.txt": "python-2.5\n", "requirements.txt": "six\n"}), "main",
			bindery.ErrPlan, bindery.User, []string{"2.5"}},
		{"session that dies at start", repo("dies", requirements(map[string]string{"start": "#!/bin/bash\necho giving up\nexit 7\n"})), "main",
			bindery.ErrSessionDied, bindery.User, []string{"giving up", "7"}},
		{"session out of memory", repo("hungry", requirements(map[string]string{"start": "#!/bin/bash\nexec python3 -c 'x = b\"x\" * (4 << 30)'\n"})), "main",
			bindery.ErrOutOfMemory, bindery.User, []string{"memory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, all := h.fail(t, tt.url, tt.ref)
			if e.Kind != tt.kind || e.Fault != tt.fault {
				t.Errorf("kind %s, fault %s; want %s, %s: %s", e.Kind, e.Fault, tt.kind, tt.fault, e.Msg)
			}
			if e.Remedy == "" {
				t.Errorf("no remedy: %+v", e)
			}
			for _, want := range tt.says {
				if text := all.text() + e.Msg; !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			if strings.Contains(e.Msg+e.Remedy, h.dir) {
				t.Errorf("the message tells of our directories: %s %s", e.Msg, e.Remedy)
			}
		})
	}
}

// A complaint is what a command must say on standard error.
type complaint []string

func (c complaint) check(t testing.TB, r ran) {
	t.Helper()
	if r.code != 1 {
		t.Errorf("status %d, want 1", r.code)
	}
	for _, want := range c {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("standard error does not say %q", want)
		}
	}
	// The message, and below it, indented, the remedy.
	if _, remedy, ok := strings.Cut(strings.TrimSpace(r.stderr), "\n  "); !ok || strings.TrimSpace(remedy) == "" {
		t.Error("standard error has no remedy")
	}
	if t.Failed() {
		t.Logf("standard error:\n%s", r.stderr)
	}
}

// TestMachinesErrors provokes what can be wrong with a machine or with how the program is started.
func TestMachinesErrors(t *testing.T) {
	h := theHub(t)
	sample := t.TempDir()
	if err := os.WriteFile(filepath.Join(sample, "requirements.txt"), []byte("six==1.16.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"BINDERY_CONFIG=", "BINDERY_STATE_DIR=" + filepath.Join(t.TempDir(), "state")}
	start := func(t *testing.T, env []string, args ...string) ran {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(append(os.Environ(), elsewhere...), env...)
		return finish(t, cmd)
	}

	t.Run("no root", func(t *testing.T) {
		r := start(t, nil, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", shared.bin, "run", sample)
		complaint{"root"}.check(t, r)
	})
	t.Run("no runc", func(t *testing.T) {
		complaint{"runc"}.check(t, start(t, nil, shared.bin, "--runtime", "/nonexistent/runc", "run", sample))
		complaint{"runc"}.check(t, start(t, nil, shared.bin, "--runtime", "/nonexistent/runc", "serve", "--listen", "127.0.0.1:0"))
	})
	t.Run("old kernel", func(t *testing.T) {
		// This personality makes the kernel itself tell processes that it is 2.6.
		r := start(t, nil, "setarch", "--uname-2.6", shared.bin, "run", sample)
		complaint{"kernel", "2.6", "5.11"}.check(t, r)
	})
	t.Run("port in use", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r := start(t, nil, shared.bin, "serve", "--listen", l.Addr().String())
		complaint{l.Addr().String(), "in use"}.check(t, r)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		complaint{port, "in use"}.check(t, start(t, nil, shared.bin, "run", sample, "--port", port))
	})
	t.Run("disk full", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "small")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4g"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		small, err := newHub(filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(small.sweep)
		// What the bases leave is filled but for 500 MB: enough for a worker to start, too little for an environment.
		var fs syscall.Statfs_t
		if err := syscall.Statfs(dir, &fs); err != nil {
			t.Fatal(err)
		}
		filler, err := os.Create(filepath.Join(dir, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		defer filler.Close()
		if err := syscall.Fallocate(int(filler.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-500<<20); err != nil {
			t.Fatal(err)
		}
		complaint{"space"}.check(t, small.run(t, "build", sample))
	})
	t.Run("state directory locked", func(t *testing.T) {
		r := h.run(t, "serve", "--listen", "127.0.0.1:0", "--session-listen", "127.0.0.1:0")
		complaint{h.dir}.check(t, r)
	})
}
