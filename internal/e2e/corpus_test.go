package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/plan"
)

// TestCorpus builds every sample repository that can check itself, and lets it: by its ./verify, in the built image,
// through the image's entrypoint, as its user, with its environment. Then it builds all of them once more, as they are
// and with another notebook.
func TestCorpus(t *testing.T) {
	h := theHub(t)
	samples, err := filepath.Glob(filepath.Join(root(), "testdata", "repos", "*", "verify"))
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) < 10 {
		t.Fatalf("only %d sample repositories have a verify", len(samples))
	}
	before := h.remains(t)
	var built []string
	copies := t.TempDir()
	for _, verify := range append(samples, filepath.Join(root(), "examples", "python", "verify")) {
		name := filepath.Base(filepath.Dir(verify))
		dir := filepath.Join(copies, name)
		t.Run(name, func(t *testing.T) {
			if err := os.CopyFS(dir, os.DirFS(filepath.Dir(verify))); err != nil {
				t.Fatal(err)
			}
			if r := h.run(t, "run", dir, "--", "./verify"); r.code != 0 {
				t.Errorf("./verify ended with %d\n%s%s", r.code, r.stdout, r.stderr)
				return
			}
			built = append(built, dir)
		})
	}
	began := time.Now()
	for _, dir := range built {
		if again := steps(t, h, dir); again.run != 0 {
			t.Errorf("%s: the second time %.0f steps ran", filepath.Base(dir), again.run)
		}
	}
	t.Logf("%d samples the second time: no step ran, %.1f s in all", len(built), time.Since(began).Seconds())
	for _, dir := range built {
		t.Run(filepath.Base(dir)+" with another notebook", func(t *testing.T) { anotherNotebook(t, h, dir) })
	}
	h.settles(t, before)
}

// A count is what `bindery build --json` says of a build.
type count struct {
	run           float64
	envKey, image string
}

func steps(t *testing.T, h *hub, dir string) count {
	t.Helper()
	m := keys(t, h.must(t, "build", dir, "--json"), "steps", "env_key", "image_key")
	s, _ := m["steps"].(map[string]any)
	run, ok := s["run"].(float64)
	if !ok {
		t.Fatalf("no number of steps: %v", m)
	}
	envKey, _ := m["env_key"].(string)
	image, _ := m["image_key"].(string)
	return count{run, envKey, image}
}

// anotherNotebook builds a sample with one more file. Nothing runs but what the repository itself asks to run with its
// files in place.
func anotherNotebook(t *testing.T, h *hub, dir string) {
	files, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	p, err := plan.Detect(files.FS(), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Pack == plan.PackDockerfile {
		return // any of its steps may read any file
	}
	allowed := 2 * len(p.Content) // an install unpacks in one step and runs what packages bring in another
	if p.PostBuild != "" {
		allowed++
	}
	first := steps(t, h, dir)
	if err := os.WriteFile(filepath.Join(dir, "another.ipynb"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got := steps(t, h, dir)
	if got.envKey != first.envKey || got.image == first.image {
		t.Errorf("environment %s then %s, image %s then %s", first.envKey, got.envKey, first.image, got.image)
	}
	if got.run > float64(allowed) {
		t.Errorf("%.0f steps ran; at most %d have the files in place", got.run, allowed)
	}
	t.Logf("%.0f steps, %d ms", got.run, time.Since(began).Milliseconds())
}

// TestCorpusFailures builds the sample repositories that cannot be built, and wants each to say why.
func TestCorpusFailures(t *testing.T) {
	h := theHub(t)
	samples, err := os.ReadDir(filepath.Join(root(), "testdata", "repos"))
	if err != nil {
		t.Fatal(err)
	}
	failing := []string{"apt-missing", "both-binder-dirs", "dockerfile-fails", "postbuild-fails", "requirement-include-missing", "requirement-missing", "requirement-not-for-python", "requirement-unreadable",
		"start-fails"}
	tried := 0
	for _, s := range samples {
		if !slices.Contains(failing, s.Name()) {
			continue
		}
		tried++
		t.Run(s.Name(), func(t *testing.T) {
			r := h.run(t, "run", filepath.Join(root(), "testdata", "repos", s.Name()), "--detach")
			complaint{}.check(t, r)
			if strings.Contains(r.stderr, "panic") {
				t.Errorf("a panic: %s", r.stderr)
			}
		})
	}
	if tried != len(failing) {
		t.Errorf("%d of %d failing samples are there", tried, len(failing))
	}
}
