package web_test

import (
	"testing"

	"github.com/bindery-hub/bindery/internal/browsertest"
	"github.com/bindery-hub/bindery/web"
)

// TestEveryPageInABrowser opens every page of the storybook in Chromium; testdata/pages.mjs says what it looks at.
func TestEveryPageInABrowser(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) { c.Dev = true })
	pages := browsertest.Storybook(t, ts.URL)
	for _, p := range pages {
		if p.Name == "keyboard" && p.Landed != "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main?urlpath=%2Fdoc%2Ftree%2Fa.ipynb" {
			t.Errorf("the keyboard led to %s", p.Landed)
		}
	}
	if len(pages) < 30 {
		t.Errorf("%d pages were looked at", len(pages))
	}
}
