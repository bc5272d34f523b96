package web_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bindery-hub/bindery/web"
)

// TestEveryPageInABrowser opens every page of the storybook in Chromium; testdata/pages.mjs says what it looks at. The
// screenshots stay in artefacts/.
func TestEveryPageInABrowser(t *testing.T) {
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
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) { c.Dev = true })
	cmd := exec.CommandContext(t.Context(), "node", "testdata/pages.mjs", ts.URL, modules, pictures)
	cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var seen struct {
		Pages []struct {
			Name, Landed string
			Bytes, Paint int
			Rules        int
		}
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
		if p.Name == "keyboard" && p.Landed != "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main?urlpath=%2Fdoc%2Ftree%2Fa.ipynb" {
			t.Errorf("the keyboard led to %s", p.Landed)
		}
	}
	t.Logf("%d pages, at most %d bytes each; first paint of a cold page, the median of the slowest: %d ms", len(seen.Pages), most, slowest)
	if len(seen.Pages) < 30 {
		t.Errorf("%d pages were looked at", len(seen.Pages))
	}
}
