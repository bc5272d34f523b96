package buildkit_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// Of builds that print nothing, those say that they live whose own step computes, also when another asked for that step
// first; one that sleeps beside them does not.
func TestSilentBuilds(t *testing.T) {
	c := config(t, tempDir(t))
	c.Volatile, c.LookEvery = true, 200*time.Millisecond
	e, _ := start(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const computes, sleeps = "echo now; while :; do :; done", "mkfifo /tmp/never; echo now; read x </tmp/never"
	builds := []string{"computes", "waits for the same", "sleeps"}
	type saying struct {
		build int
		text  string
	}
	said, ended := make(chan saying), make(chan error)
	for i, name := range builds {
		script := computes
		if name == "sleeps" {
			script = sleeps
		}
		j := job(strings.ReplaceAll(name, " ", "-"), repo(t, "Dockerfile", "FROM debian:bookworm\nRUN "+script+"\n"))
		j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
		go func() {
			_, err := e.Solve(ctx, j, func(ev bindery.Event) {
				select {
				case said <- saying{i, ev.Message}:
				case <-ctx.Done():
				}
			})
			ended <- err
		}()
	}
	signs := make([]int, len(builds))
	for began := 0; signs[0] < 10 || signs[1] < 10; {
		select {
		case s := <-said:
			switch {
			case s.text == "now\n":
				began++
			case began == len(builds):
				signs[s.build]++
			}
		case err := <-ended:
			t.Fatal(err)
		}
	}
	// What its shell took to begin may show once after the line.
	t.Logf("signs of life: %v", signs)
	if signs[2] > 1 {
		t.Errorf("signs of life: %d, %d of %q, %d of the one that sleeps", signs[0], signs[1], builds[1], signs[2])
	}
	cancel()
	for range builds {
		if err := <-ended; !errors.Is(err, bindery.ErrCancelled) {
			t.Errorf("a build ended with %v", err)
		}
	}
	awaitUnmounted(t, c.Dir)
}

// awaitUnmounted waits until steps that were stopped have let go of what they had mounted below dir.
func awaitUnmounted(t *testing.T, dir string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		mounts, err := os.ReadFile("/proc/mounts")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(mounts), dir) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("mounts are left:\n%s", mounts)
		}
	}
}
