package admin_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var inline = regexp.MustCompile(`(?i)\son[a-z]+=|\sstyle=|<script[^>]*>[^<]|javascript:|<no value>|%!|ZgotmplZ`)

// TestEveryStoryIsAPage renders every page in every state: whole, with nothing inline that the policy would stop, and
// with no link that does anything.
func TestEveryStoryIsAPage(t *testing.T) {
	ts := stories(t)
	get := func(path string) string {
		t.Helper()
		resp, err := http.Get(ts.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d, %v\n%s", path, resp.StatusCode, err, text)
		}
		return string(text)
	}
	names := strings.Split(get("/admin/storybook"), "\n")
	if len(names) < 25 {
		t.Errorf("%d stories", len(names))
	}
	for _, name := range names {
		text := get("/admin/storybook/" + name)
		if !strings.HasSuffix(strings.TrimSpace(text), "</html>") {
			t.Errorf("%s is not whole", name)
		}
		if bad := inline.FindString(text); bad != "" {
			t.Errorf("%s has %q", name, bad)
		}
		for _, m := range regexp.MustCompile(`href="([^"]+)"`).FindAllStringSubmatch(text, -1) {
			if regexp.MustCompile(`/(cancel|retry|forgive|stop|drain|resume|lift|pause|rollback|start|remove|logout)$`).MatchString(m[1]) {
				t.Errorf("%s links to %s", name, m[1])
			}
		}
	}
	if n := strings.Count(get("/admin/storybook/workers"), `/remove"`); n != 2 { // a form and its fold
		t.Errorf("%d forms remove workers; only builder-2 has joined", n)
	}
}
