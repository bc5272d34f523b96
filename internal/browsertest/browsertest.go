// Package browsertest looks at every page of a storybook in Chromium.
package browsertest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Page is one look at a page.
type Page struct {
	Name   string // story, colour, width; or what else the script did
	Landed string // path and query where a way by keyboard ended
	Bytes  int    // of what it is made of, uncompressed
	Paint  int    // milliseconds until a cold page showed something, if that was timed
	Rules  int    // of axe-core, that passed
}

// Storybook runs testdata/pages.mjs, which is built on storybook.mjs of this package, against the server at url, and
// fails the test for each problem that it sees. The screenshots stay in artefacts/.
//
// It is for the tests of packages that are directories of the repository's root.
func Storybook(t *testing.T, url string) []Page {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("there is no chromium; scripts/setup test installs it")
	}
	modules, err := filepath.Abs("../internal/e2e/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "axe-core")); err != nil {
		t.Fatal("axe-core is not installed; scripts/setup test does that")
	}
	pictures, err := filepath.Abs("../artefacts")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "testdata/pages.mjs", url, modules, pictures)
	cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var seen struct {
		Pages    []Page
		Problems []string
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range seen.Problems {
		t.Error(p)
	}
	most, slowest := 0, 0
	for _, p := range seen.Pages {
		most, slowest = max(most, p.Bytes), max(slowest, p.Paint)
	}
	t.Logf("%d pages, at most %d bytes each", len(seen.Pages), most)
	if slowest > 0 {
		t.Logf("first paint of a cold page, the median of the slowest: %d ms", slowest)
	}
	return seen.Pages
}
