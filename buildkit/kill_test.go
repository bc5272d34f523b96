package buildkit_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/gofrs/flock"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// hostVariable makes the test binary an engine of its own that builds until it is killed.
const hostVariable = "BINDERY_TEST_ENGINE_DIR"

func hostEngine(dir string) error {
	runtime, err := findRunc()
	if err != nil {
		return err
	}
	if err := buildkit.TempIn(dir); err != nil {
		return err
	}
	e, err := buildkit.Open(context.Background(), buildkit.Config{Dir: dir, BaseDir: filepath.Join(cacheDir(), "bases"), Runtime: runtime, CgroupParent: cgroupOf(dir), Volatile: true})
	if err != nil {
		return err
	}
	go e.Run(context.Background())
	j := job("killed", filepath.Join(dir, "repo"))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	_, err = e.Solve(context.Background(), j, func(ev bindery.Event) { fmt.Print(ev.Message) })
	return err
}

// cachedDockerfile mounts a cache, an overlay like the step's own root, and runs a command.
func cachedDockerfile(command string) string {
	return "FROM debian:bookworm AS base\nFROM base\nRUN --mount=type=cache,id=kept,from=base,source=/srv,target=/cache " + command + "\n"
}

// An engine that is killed in the middle of a step leaves nothing once it was opened again, but the caches of that step.
func TestKilledEngine(t *testing.T) {
	dir := tempDir(t)
	c := config(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "repo"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "repo", "Dockerfile"), []byte(cachedDockerfile("touch /cache/kept; echo now; sleep 600")), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", os.Args[0])
	cmd.Env = append(os.Environ(), hostVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "now" {
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	bundles := func() []string {
		list, _ := filepath.Glob(filepath.Join(dir, "worker", "executor", "*", "config.json"))
		return list
	}
	left := bundles()
	if len(left) != 1 {
		t.Fatalf("bundles %q after the kill, want one", left)
	}
	mounts, _ := filepath.Glob(filepath.Join(dir, "tmp", "buildkit-mount*"))
	if len(mounts) == 0 {
		t.Error("the engine mounted nothing in its temporary directory")
	}
	for _, m := range mounts { // as where no mount namespace went with the engine
		if err := (&mount.Mount{Type: "bind", Source: filepath.Join(dir, "repo"), Options: []string{"bind"}}).Mount(m); err != nil {
			t.Fatal(err)
		}
	}
	awaitUnlocked(t, filepath.Join(dir, "lock"))
	e, _ := start(t, c)
	if list, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(list) != 0 {
		t.Errorf("temporary files %v are left: %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "repo", "Dockerfile")); err != nil {
		t.Errorf("what was mounted there went with them: %v", err)
	}
	if list := bundles(); len(list) != 0 {
		t.Errorf("bundles %q are left", list)
	}
	if _, err := os.Stat(filepath.Join("/run/runc", filepath.Base(filepath.Dir(left[0])))); err == nil {
		t.Error("runc's state of the step is left")
	}
	if b, err := os.ReadFile("/proc/mounts"); err != nil || strings.Contains(string(b), dir) {
		t.Errorf("mounts are left: %v", err)
	}
	j := job("killed", repo(t, "Dockerfile", cachedDockerfile("test -e /cache/kept")))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	solve(t, e, j)
}

// awaitUnlocked waits until the kernel has taken the killed engine's lock away.
func awaitUnlocked(t *testing.T, path string) {
	t.Helper()
	lock := flock.New(path)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}
