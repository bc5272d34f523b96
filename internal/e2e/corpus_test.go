package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/corpus"
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

// TestHistory builds 200 commits of a repository, of which a fifth touch the environment: at most a quarter of the builds
// run a step of it, the first included. All others run the repository's postBuild, or nothing.
func TestHistory(t *testing.T) {
	h := theHub(t)
	const commits = 200
	dir := t.TempDir()
	history := corpus.NewHistory(dir, 1)
	began := time.Now()
	made, environments, ran := 0, map[string]bool{}, 0.0
	for range commits {
		if err := history.Commit(); err != nil {
			t.Fatal(err)
		}
		got := steps(t, h, dir)
		if environments[got.envKey] && got.run > 1 {
			t.Errorf("%.0f steps ran on an environment that was there", got.run)
		}
		if got.run > 1 {
			made++
		}
		environments[got.envKey] = true
		ran += got.run
	}
	if made > commits/4 || made < commits/20 || made > len(environments) {
		t.Errorf("%d environments made, of %d, for %d commits", made, len(environments), commits)
	}
	t.Logf("%d commits: %d environments, %d of them made, %.0f steps, %.0f s in all", commits, len(environments), made, ran, time.Since(began).Seconds())
}

// TestCorpusFailures builds the sample repositories that cannot be built, and one that cannot start, and wants each to say why.
func TestCorpusFailures(t *testing.T) {
	h := theHub(t)
	want := map[string]string{"start-fails": "giving up"}
	for _, s := range corpus.Samples() {
		if s.Fails == bindery.ErrStep || s.Name == "both-binder-dirs" || s.Name == "requirement-include-missing" {
			want[s.Name] = s.Says
		}
	}
	if len(want) < 9 {
		t.Errorf("only %d samples fail", len(want))
	}
	for name, says := range want {
		t.Run(name, func(t *testing.T) {
			r := h.run(t, "run", filepath.Join(root(), "testdata", "repos", name), "--detach")
			complaint{says}.check(t, r)
			if strings.Contains(r.stderr, "panic") {
				t.Errorf("a panic: %s", r.stderr)
			}
		})
	}
}
