package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A figure is one line of the table.
type figure struct{ what, prototype, here string }

// BenchmarkTable measures what docs/performance.md reports and prints its table. scripts/bench runs it, once.
func BenchmarkTable(b *testing.B) {
	if b.N > 1 {
		b.Skip("once is all it takes")
	}
	var table []figure
	add := func(what, prototype, format string, args ...any) {
		table = append(table, figure{what, prototype, fmt.Sprintf(format, args...)})
	}
	h, err := newHub(filepath.Join(shared.dir, "bench"))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.RemoveAll(h.bases()); err != nil { // cold means cold
		b.Fatal(err)
	}
	defer h.destroy()
	h.start(b)
	fresh := footprint(b, onlyWorker(b, h))
	h.kill9(b)
	h.killWorker(b)
	dir := b.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	const pins = "numpy==1.26.4\npandas==2.2.3\n"
	write("requirements.txt", pins)
	write("README.md", "# Sample\n")

	cold, _ := h.timedBuild(b, dir)
	write("requirements.txt", "# the same, in other words\n"+pins)
	warm, _ := h.timedBuild(b, dir)
	var noop, noopWall, changed, changedWall []float64
	for i := range 10 {
		wall, inside := h.timedBuild(b, dir)
		noop, noopWall = append(noop, inside), append(noopWall, wall)
		write("README.md", fmt.Sprintf("# Sample, change %d\n", i))
		wall, inside = h.timedBuild(b, dir)
		changed, changedWall = append(changed, inside), append(changedWall, wall)
	}
	add("no-op rebuild", "61–83 ms", "%s", ms(noop))
	add("no-op rebuild, whole command", "–", "%s", ms(noopWall))
	add("one file changed", "75–104 ms", "%s", ms(changed))
	add("one file changed, whole command", "–", "%s", ms(changedWall))

	var started, answering []float64
	for range 10 {
		l, a := h.timedLaunch(b, dir)
		started, answering = append(started, l), append(answering, a)
	}
	add("launch to TCP (Python's own server)", "–", "%s", ms(h.timedTCP(b)))
	add("launch to Jupyter's container", "–", "%s", ms(started))
	add("launch to Jupyter answering", "0.63–0.87 s", "%s", ms(answering))
	add("cold build of the requirements sample, cold caches", "–", "%.0f s", cold)
	add("cold build of the requirements sample, warm caches", "–", "%.1f s", warm)

	h.start(b)
	add("idle memory, worker before builds", "31 MB", "%s", fresh)
	add("idle memory, worker after builds", "43–50 MB", "%s", footprint(b, onlyWorker(b, h)))
	add("idle memory, hub", "–", "%s", footprint(b, h.serve.Process.Pid))
	info, err := os.Stat(shared.bin)
	if err != nil {
		b.Fatal(err)
	}
	add("binary", "–", "%d MB", info.Size()>>20)
	add("binary, engine and launcher alone", "34 MB", "%d MB", engineAlone(b)>>20)
	fmt.Println("\n| what | prototype | Bindery |\n|---|---:|---:|")
	for _, f := range table {
		fmt.Printf("| %s | %s | %s |\n", f.what, f.prototype, f.here)
	}
}

// footprint is what a process has in memory: with a page that several processes share counted in parts, and in whole.
func footprint(t testing.TB, pid int) string {
	t.Helper()
	m := memory(t, pid)
	return fmt.Sprintf("%d MB (%d MB with all that hub and worker share)", m.share>>20, m.resident>>20)
}

// onlyWorker is the process of a hub's one worker.
func onlyWorker(t testing.TB, h *hub) int {
	t.Helper()
	workers := h.workers()
	if len(workers) != 1 {
		t.Fatalf("%d workers", len(workers))
	}
	return workers[0]
}

// engineAlone is the size of a program that is no more than the prototype was.
func engineAlone(b *testing.B) int64 {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "engine")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./buildkit/testdata/engine")
	cmd.Dir, cmd.Env = root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(bin)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// ms is the range of the middle of some measures in seconds: without the best and the worst.
func ms(s []float64) string {
	s = slices.Sorted(slices.Values(s))
	if len(s) > 2 {
		s = s[1 : len(s)-1]
	}
	if s[0] > 0.5 {
		return fmt.Sprintf("%.2f–%.2f s", s[0], s[len(s)-1])
	}
	return fmt.Sprintf("%.0f–%.0f ms", 1000*s[0], 1000*s[len(s)-1])
}

// timedBuild builds a directory. It returns seconds: of the whole command, and what the build itself says.
func (h *hub) timedBuild(t testing.TB, dir string) (wall, inside float64) {
	t.Helper()
	start := time.Now()
	out := h.must(t, "build", dir, "--json")
	wall = time.Since(start).Seconds()
	var made struct{ Seconds map[string]float64 }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	for _, s := range made.Seconds {
		inside += s
	}
	return wall, inside
}

// timedLaunch starts a session of a built directory: seconds until its container runs, and until its server answers.
func (h *hub) timedLaunch(t testing.TB, dir string) (started, answering float64) {
	t.Helper()
	var run struct {
		Session string
		Timings map[string]float64
	}
	if err := json.Unmarshal([]byte(h.must(t, "run", dir, "--detach", "--json")), &run); err != nil {
		t.Fatal(err)
	}
	h.must(t, "sessions", "stop", run.Session)
	return run.Timings["launch"], run.Timings["ready"] // both from the start of the launch
}

// timedTCP starts sessions whose server is Python's own, which answers at once, without repo2docker's entrypoint: the
// login shell and the Python of that are a tenth of a second of their own.
func (h *hub) timedTCP(t testing.TB) []float64 {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Dockerfile": "FROM debian:bookworm\nRUN apt-get update && apt-get install -y --no-install-recommends python3\nCOPY serve /serve\nENTRYPOINT [\"/serve\"]\n",
		"serve":      "#!/bin/sh\nexec python3 -m http.server 8888\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.timedBuild(t, dir)
	var all []float64
	for range 10 {
		_, answering := h.timedLaunch(t, dir)
		all = append(all, answering)
	}
	return all
}
