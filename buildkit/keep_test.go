package buildkit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// small is a job that needs no base and no network.
func small(t testing.TB, name, text string) plan.Job {
	t.Helper()
	j := job(name, repo(t, "Dockerfile", "FROM scratch\nCOPY file /\n", "file", text))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	return j
}

func TestImagesOutliveTheEngine(t *testing.T) {
	dir := tempDir(t)
	e, stop := start(t, config(t, dir))
	made := solve(t, e, small(t, "kept", "one"))
	first, err := e.Prepare(t.Context(), "session-1", made.Image.Name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := buildkit.Open(t.Context(), config(t, dir)); !errors.Is(err, bindery.ErrLocked) {
		t.Errorf("a second engine on the same directory: got %v, want locked", err)
	}
	stop()
	e, _ = start(t, config(t, dir))
	if err := e.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := e.Image(t.Context(), made.Image.Name)
	if err != nil || cmp.Diff(made.Image.Config, got.Config) != "" || got.ImageKey != made.Image.ImageKey || got.Size == 0 {
		t.Errorf("got %+v, %v; want %+v", got, err, made.Image)
	}
	again, err := e.Prepare(t.Context(), "session-1", made.Image.Name)
	if err != nil || cmp.Diff(first, again) != "" {
		t.Errorf("prepared again: %v, %s", err, cmp.Diff(first, again))
	}
	if text := readIn(t, again, "file"); text != "one" {
		t.Errorf("file holds %q, want one", text)
	}
	if ids, err := e.Prepared(t.Context()); err != nil || !slices.Equal(ids, []string{"session-1"}) {
		t.Errorf("prepared %v, %v", ids, err)
	}
	for range 2 {
		if err := e.Release(t.Context(), "session-1"); err != nil {
			t.Error(err)
		}
	}
	if ids, err := e.Prepared(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("prepared %v, %v; want none", ids, err)
	}
}

// readIn reads a file from the lower directories of a prepared root.
func readIn(t *testing.T, root bindery.Rootfs, file string) string {
	t.Helper()
	for _, o := range root.Mounts[0].Options {
		dirs, ok := strings.CutPrefix(o, "lowerdir=")
		for _, d := range strings.Split(dirs, ":") {
			if b, err := os.ReadFile(filepath.Join(d, file)); ok && err == nil {
				return string(b)
			}
		}
	}
	return ""
}

func TestRemoveImage(t *testing.T) {
	e, _ := start(t, config(t, tempDir(t)))
	made := solve(t, e, small(t, "gone", "two"))
	if _, err := e.Prepare(t.Context(), "goes-on", made.Image.Name); err != nil {
		t.Fatal(err)
	}
	if err := e.RemoveImage(t.Context(), made.Image.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Image(t.Context(), made.Image.Name); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if _, err := e.Prepare(t.Context(), "too-late", made.Image.Name); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if err := e.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, err := e.Prepared(t.Context()); err != nil || !slices.Equal(ids, []string{"goes-on"}) {
		t.Errorf("prepared %v, %v", ids, err)
	}
	if _, err := e.Prepare(t.Context(), "../x", made.Image.Name); !errors.Is(err, bindery.ErrInvalid) {
		t.Errorf("got %v, want invalid", err)
	}
}

// A machine that died while layers were in memory only leaves nothing to be trusted.
// A machine's death is played by another boot's mark. What it would tear is not torn here; what must not be used any
// more is gone all the same, and what may be is there.
func TestMachineDied(t *testing.T) {
	dir := tempDir(t)
	c := config(t, dir)
	c.Volatile = true
	e, stop := start(t, c)
	kept, twin := solve(t, e, layered(t, "kept", "three")), solve(t, e, layered(t, "twin", "four"))
	removed, torn := solve(t, e, small(t, "removed", "five")), solve(t, e, small(t, "torn", "six"))
	if err := e.RemoveImage(t.Context(), removed.Image.Name); err != nil {
		t.Fatal(err)
	}
	var list map[string]struct {
		Record struct{ Image bindery.Image }
		Layers []string
	}
	eventually(t, "the images to be saved", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "saved.json"))
		return err == nil && json.Unmarshal(b, &list) == nil && len(list) == 3
	})
	marker := filepath.Join(dir, "boot")
	if _, err := os.Stat(marker); err != nil {
		t.Errorf("no mark while the engine runs: %v", err)
	}
	stop()
	if _, err := os.Stat(marker); err == nil {
		t.Error("the mark outlives a clean end")
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, list[torn.Image.Name].Layers[0])), os.WriteFile(marker, []byte("another boot\n"), 0o600)); err != nil {
		t.Fatal(err)
	}

	e, stop = start(t, c)
	for _, name := range []string{removed.Image.Name, torn.Image.Name} {
		if _, err := e.Image(t.Context(), name); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("%s: got %v, want not found", name, err)
		}
	}
	if made := solve(t, e, layered(t, "again", "three")); made.Steps.Cached > 0 {
		t.Errorf("%d steps are cached", made.Steps.Cached)
	}
	if err := e.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	for want, made := range map[string]plan.Made{"three": kept, "four": twin} {
		root, err := e.Prepare(t.Context(), "session-"+want, made.Image.Name)
		if err != nil {
			t.Fatal(err)
		}
		if got := readIn(t, root, "first") + readIn(t, root, "second"); got != "same"+want {
			t.Errorf("%s holds %q", want, got)
		}
	}
	eventually(t, "the old stores to be deleted", func() bool {
		dead, err := filepath.Glob(filepath.Join(dir, "dead-*"))
		return err == nil && len(dead) == 0
	})
	stop()
	e, _ = start(t, c)
	if _, err := e.Image(t.Context(), kept.Image.Name); err != nil {
		t.Errorf("after a clean end: %v", err)
	}
}

// layered is a job for an image of two layers, of which such images share the first.
func layered(t testing.TB, name, text string) plan.Job {
	t.Helper()
	j := small(t, name, "")
	j.Dir = repo(t, "Dockerfile", "FROM scratch\nCOPY first /\nCOPY second /\n", "first", "same", "second", text)
	return j
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func TestPushAndLayout(t *testing.T) {
	e, _ := start(t, config(t, tempDir(t)))
	srv := httptest.NewServer(registry.New())
	defer srv.Close()
	j := small(t, "pushed", "five")
	ref := strings.TrimPrefix(srv.URL, "http://") + "/some/image:tag"
	j.Push, j.OCI = []string{ref}, filepath.Join(tempDir(t), "layout")
	made := solve(t, e, j)
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if made.Digest == "" || desc.Digest.String() != made.Digest {
		t.Errorf("pushed %s, reported %q", desc.Digest, made.Digest)
	}
	if _, err := os.Stat(filepath.Join(j.OCI, "blobs", "sha256", strings.TrimPrefix(made.Digest, "sha256:"))); err != nil {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	e := shared(t)
	j := job("cancelled", repo(t, "postBuild", "echo began; sleep 600\n"))
	j.Plan.PostBuild = "postBuild"
	ctx, cancel := context.WithCancel(t.Context())
	_, err := e.Solve(ctx, j, func(ev bindery.Event) {
		if strings.Contains(ev.Message, "began") {
			cancel()
		}
	})
	if !errors.Is(err, bindery.ErrCancelled) {
		t.Errorf("got %v, want cancelled", err)
	}
}

// A build that ends while the base is being copied leaves a part of it. The next build begins that copy anew.
func TestCancelWhileTheBaseIsCopied(t *testing.T) {
	dir := tempDir(t)
	e, _ := start(t, config(t, dir))
	j := job("interrupted", repo(t, "Dockerfile", "FROM debian:bookworm\nCOPY Dockerfile /\n"))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Solve(ctx, j, func(bindery.Event) {})
		ended <- err
	}()
	eventually(t, "a part of the base", func() bool {
		parts, err := filepath.Glob(filepath.Join(dir, "worker", "content", "ingest", "*", "data"))
		return err == nil && slices.ContainsFunc(parts, func(p string) bool {
			info, err := os.Stat(p)
			return err == nil && info.Size() > 1<<20
		})
	})
	cancel()
	if err := <-ended; !errors.Is(err, bindery.ErrCancelled) {
		t.Fatalf("got %v, want cancelled", err)
	}
	solve(t, e, j)
}

// A step that prints without end neither fills memory nor the log.
func TestEndlessOutputIsCapped(t *testing.T) {
	e := shared(t)
	j := job("loud", repo(t, "postBuild", "head -c 50000000 /dev/zero | tr '\\0' 'x' | fold -w 100\n"))
	j.Plan.PostBuild = "postBuild"
	size := 0
	_, err := e.Solve(t.Context(), j, func(ev bindery.Event) { size += len(ev.Message) })
	if err != nil {
		t.Fatal(err)
	}
	if size > 20<<20 {
		t.Errorf("%d bytes of events from one loud step", size)
	}
}

// Images go by last use when the disk is short of space; one that a session runs on stays, and one that is fresh.
func TestImagesAreEvictedWhenSpaceIsShort(t *testing.T) {
	dir := tempDir(t)
	c := config(t, dir)
	c.MinFree = 1 << 60 // always short
	e, stop := start(t, c)
	busy := solve(t, e, small(t, "busy", "1"))
	idle := solve(t, e, small(t, "idle", "2"))
	if err := e.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Image(t.Context(), idle.Image.Name); err != nil {
		t.Errorf("the fresh image: %v", err)
	}
	stop()
	c.Fresh = 1
	e, _ = start(t, c)
	if _, err := e.Prepare(t.Context(), "s", busy.Image.Name); err != nil {
		t.Fatal(err)
	}
	if err := e.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Image(t.Context(), idle.Image.Name); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("the idle image: got %v, want not found", err)
	}
	if _, err := e.Image(t.Context(), busy.Image.Name); err != nil {
		t.Errorf("the image with a session: %v", err)
	}
	gone, err := e.Dropped(t.Context())
	if err != nil || len(gone) != 1 || gone[0].Image != idle.Image.Name || gone[0].Source != idle.Image.Source || gone[0].Free == 0 || gone[0].Wanted != c.MinFree {
		t.Errorf("dropped: %+v, %v", gone, err)
	}
}

// Steps are under the configured cgroup, which bounds them together, and leaves with the engine.
func TestStepsAreCapped(t *testing.T) {
	c := config(t, tempDir(t))
	c.CgroupParent = fmt.Sprintf("/bindery-test-caps-%d", os.Getpid())
	c.Caps = buildkit.Caps{Memory: 512 << 20, PIDs: 300, CPU: 1}
	e, stop := start(t, c)
	j := job("capped", repo(t, "Dockerfile", "FROM debian:bookworm\nRUN cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/../pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true\n"))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	s := &story{t: t}
	if _, err := e.Solve(t.Context(), j, s.emit); err != nil {
		t.Fatal(err)
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + c.CgroupParent)
	if v2, err := os.Stat("/sys/fs/cgroup" + c.CgroupParent); err == nil && v2.IsDir() {
		dirs = append(dirs, "/sys/fs/cgroup"+c.CgroupParent)
	}
	if len(dirs) == 0 {
		t.Error("no cgroup while the engine runs")
	}
	for _, d := range dirs {
		if b, err := os.ReadFile(filepath.Join(d, "pids.max")); err == nil && strings.TrimSpace(string(b)) != "300" {
			t.Errorf("pids.max is %s in %s", b, d)
		}
	}
	stop()
	for _, d := range dirs {
		if _, err := os.Stat(d); err == nil {
			t.Errorf("%s is left", d)
		}
	}
}

// A disk that is full is nobody's mistake, and the next build that fits goes through.
func TestFullDisk(t *testing.T) {
	dir := tempDir(t)
	c := config(t, dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	e, _ := start(t, c)
	j := job("large", repo(t, "Dockerfile", "FROM scratch\nCOPY file /\n", "file", strings.Repeat("Bindery\n", 8<<20)))
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	_, err := e.Solve(t.Context(), j, func(bindery.Event) {})
	if be, ok := errors.AsType[*bindery.Error](err); !ok || be.Kind != bindery.ErrNoSpace || be.Fault != bindery.Ours {
		t.Fatalf("got %v, want no-space, a fault of ours", err)
	}
	solve(t, e, small(t, "little", "fits"))
}
