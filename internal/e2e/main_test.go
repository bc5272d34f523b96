package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/internal/scratch"
)

// cacheDir is where bases are kept between runs: bootstrapping one takes most of a minute.
func cacheDir() string {
	if dir := os.Getenv("BINDERY_TEST_CACHE"); dir != "" {
		return dir
	}
	return "/var/cache/bindery-test"
}

// root is the checkout that is tested.
var root = sync.OnceValue(func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
})

// A world is what all tests share: the binary and one hub that is set up. Only TestMain makes one.
type world struct {
	dir string // temporary, removed at the end
	bin string // the bindery under test, with runc beside it
	hub *hub
	far *neighbour
}

var shared world //nolint:gochecknoglobals // set once, by TestMain, before any test

func TestMain(m *testing.M) {
	status, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	os.Exit(status)
}

func runAll(m *testing.M) (status int, err error) {
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("these tests start containers and networks: run them as root")
	}
	dir, run := os.Getenv("BINDERY_TEST_STATE"), (*scratch.Dir)(nil)
	if dir == "" {
		if run, err = scratch.New("e2e", sweepHubs); err != nil {
			return 0, err
		}
		dir = run.Path
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // one test is not root
		return 0, err
	}
	shared.dir = dir
	defer func() {
		if shared.hub != nil {
			shared.hub.retire()
		}
		switch {
		case run == nil:
		case status == 0 && err == nil:
			err = run.Remove()
		default:
			dropWorkers(dir)
			fmt.Fprintln(os.Stderr, "e2e: logs are kept until the next run in", dir)
		}
	}()
	if shared.bin, err = buildBinary(dir); err != nil {
		return 0, err
	}
	if shared.far, err = newNeighbour(dir); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.far.close()) }()
	return m.Run(), nil
}

// sweepHubs takes from the machine what the hubs of a run that was killed have there.
func sweepHubs(dir string) {
	for _, pattern := range []string{"*.yaml", "*/*.yaml"} {
		configs, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, config := range configs {
			hubAt(strings.TrimSuffix(config, ".yaml")).sweep()
		}
	}
	removeSlow(dir)
}

// dropWorkers removes what workers built: gigabytes that tell nobody why a test failed.
func dropWorkers(dir string) {
	workers, _ := filepath.Glob(filepath.Join(dir, "*", "worker"))
	for _, worker := range workers {
		_ = os.RemoveAll(worker)
	}
}

// buildBinary builds what `make build` builds, once, and puts the runc of scripts/setup beside it.
func buildBinary(dir string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	bin := filepath.Join(dir, "bin", "bindery")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./cmd/bindery")
	cmd.Dir = root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	runc := filepath.Join(root(), "bin", "runc")
	if _, err := os.Stat(runc); err != nil {
		return "", fmt.Errorf("no runc: run `make setup` first: %w", err)
	}
	_ = os.Remove(filepath.Join(dir, "bin", "runc")) // of an earlier run
	return bin, os.Symlink(runc, filepath.Join(dir, "bin", "runc"))
}

// theHub returns the one hub that most tests use, running. A test that kills it need not start it again.
func theHub(t testing.TB) *hub {
	t.Helper()
	if shared.hub == nil {
		h, err := newHub(filepath.Join(shared.dir, "hub"))
		if err != nil {
			t.Fatal(err)
		}
		shared.hub = h
	}
	h := shared.hub
	h.start(t)
	t.Cleanup(func() { // a test that failed must not make the next one fail
		if h.running() {
			for _, id := range h.list(t) {
				h.stop(t, id)
			}
		}
	})
	return h
}

// eventually waits until ok says so, and fails the test when it does not in time.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; <-tick.C {
		if ok() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}
