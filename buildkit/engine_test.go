package buildkit_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// cacheDir holds what is slow to make and the same for all tests: bootstrapped bases.
func cacheDir() string { return cmp.Or(os.Getenv("BINDERY_TEST_CACHE"), "/var/cache/bindery-test") }

// findRunc finds the runtime to test with.
func findRunc() (string, error) {
	for _, p := range []string{os.Getenv("BINDERY_RUNC"), "../bin/runc", "runc"} {
		if p == "" {
			continue
		}
		if found, err := exec.LookPath(p); err == nil {
			return filepath.Abs(found)
		}
	}
	return "", errors.New("no runc: run make setup, or set BINDERY_RUNC")
}

func config(t testing.TB, dir string) buildkit.Config {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	runtime, err := findRunc()
	if err != nil {
		t.Fatal(err)
	}
	return buildkit.Config{Dir: dir, BaseDir: filepath.Join(cacheDir(), "bases"), Runtime: runtime, Trust: machineTrust(), CgroupParent: cgroupOf(dir)}
}

// machineTrust is what steps need on this machine.
func machineTrust() buildkit.Trust {
	var trust buildkit.Trust
	for _, n := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "UV_INDEX_URL"} {
		if v, ok := os.LookupEnv(n); ok {
			trust.Env = append(trust.Env, n+"="+v)
		}
	}
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err == nil {
		trust.CAFile = "/etc/ssl/certs/ca-certificates.crt"
	}
	return trust
}

// tempDir is a directory of a test's own in that of the run.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := mkdir("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// start opens and runs an engine; stop ends it.
func start(t testing.TB, c buildkit.Config) (e *buildkit.Engine, stop func()) {
	t.Helper()
	e, err := buildkit.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// shared is one engine for the tests that only build: the server environment is made once for all of them.
func shared(t testing.TB) *buildkit.Engine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	e, err := sharedEngine()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// repo writes files, given as name and text, into a new directory.
func repo(t testing.TB, files ...string) string {
	t.Helper()
	dir := tempDir(t)
	for i := 0; i < len(files); i += 2 {
		p := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func job(name, dir string) plan.Job {
	return plan.Job{
		Name: "bindery/" + name, Dir: dir, EnvKey: "env-" + name, ImageKey: "image-" + name,
		Plan:   plan.Plan{Pack: plan.PackPython, Base: "debian:bookworm", Python: "3.11"},
		Source: bindery.Source{Provider: bindery.ProviderLocal, URL: "/test/" + name},
	}
}

// story collects events.
type story struct {
	t      testing.TB
	events []bindery.Event
}

func (s *story) emit(ev bindery.Event) {
	s.events = append(s.events, ev)
	if st := ev.Step; st != nil && testing.Verbose() && !st.Ended.IsZero() {
		s.t.Logf("%-30s %5.2f s cached=%v", st.Name, st.Ended.Sub(st.Started).Seconds(), st.Cached)
	}
}

func (s *story) text() string {
	var b strings.Builder
	for _, ev := range s.events {
		b.WriteString(ev.Message)
	}
	return b.String()
}

func solve(t testing.TB, e *buildkit.Engine, j plan.Job) plan.Made {
	t.Helper()
	s := &story{t: t}
	made, err := e.Solve(t.Context(), j, s.emit)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.text())
	}
	return made
}

// inside runs a command in a session's root file system, as root, with the image's environment.
func inside(t testing.TB, e *buildkit.Engine, image string, argv ...string) string {
	t.Helper()
	out, err := tryInside(t, e, image, argv...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return out
}

func tryInside(t testing.TB, e *buildkit.Engine, image string, argv ...string) (string, error) {
	t.Helper()
	id := strings.NewReplacer("/", "-", ".", "-").Replace(image)
	root, err := e.Prepare(t.Context(), id, image)
	if err != nil {
		t.Fatal(err)
	}
	dir := tempDir(t)
	var ms []mount.Mount
	for _, m := range root.Mounts {
		ms = append(ms, mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	}
	if err := mount.All(ms, dir); err != nil {
		t.Fatal(err)
	}
	proc := filepath.Join(dir, "proc") // by which the linker finds libraries beside a program
	if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(proc, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		if err := mount.UnmountAll(dir, 0); err != nil {
			t.Error(err)
		}
		if err := e.Release(t.Context(), id); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.CommandContext(t.Context(), "chroot", append([]string{dir}, argv...)...)
	cmd.Env = root.Config.Env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}
