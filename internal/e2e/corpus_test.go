package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCorpus builds every sample repository that can check itself, and lets it: by its ./verify, in the built image,
// through the image's entrypoint, as its user, with its environment.
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
	for _, verify := range append(samples, filepath.Join(root(), "examples", "python", "verify")) {
		dir := filepath.Dir(verify)
		if filepath.Base(dir) == "runtime-3.10" {
			continue // its interpreter comes from a source that buildkit's tests have on this machine, where steps of a hub see nothing
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if r := h.run(t, "run", dir, "--", "./verify"); r.code != 0 {
				t.Errorf("./verify ended with %d\n%s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
	h.settles(t, before)
}

// TestCorpusFailures builds the sample repositories that cannot be built, and wants each to say why.
func TestCorpusFailures(t *testing.T) {
	h := theHub(t)
	samples, err := os.ReadDir(filepath.Join(root(), "testdata", "repos"))
	if err != nil {
		t.Fatal(err)
	}
	failing := []string{"both-binder-dirs", "dockerfile-fails", "postbuild-fails", "requirement-include-missing", "requirement-missing", "requirement-not-for-python", "requirement-unreadable",
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
