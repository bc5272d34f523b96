package web_test

import (
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/internal/browsertest"
	"github.com/bindery-hub/bindery/web"
)

// TestEveryPageInABrowser opens every page of the storybook in Chromium; testdata/pages.mjs says what it looks at.
func TestEveryPageInABrowser(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) { c.Dev = true })
	pages := browsertest.Storybook(t, ts.URL)
	looked := map[string]bool{}
	for _, p := range pages {
		name, _, _ := strings.Cut(p.Name, " ")
		looked[name] = true
		if p.Name == "keyboard" && p.Landed != "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main?urlpath=%2Fdoc%2Ftree%2Fa.ipynb" {
			t.Errorf("the keyboard led to %s", p.Landed)
		}
	}
	for _, state := range []string{
		"launch-waiting", "launch-building", "launch-late", "launch-lobby", "launch-ready", "launch-failed", "launch-refused", "launch-limited", "launch-left", "launch-lost",
		"build-succeeded", "status-bad", "start-problem", "signed-in", "signed-out", "error",
	} {
		if !looked[state] {
			t.Errorf("nobody has looked at %s", state)
		}
	}
}
