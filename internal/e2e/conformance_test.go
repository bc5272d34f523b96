package e2e

import (
	"net/url"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/internal/conformance"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestConformance has the real hub go through the tables of what every Binder must do. How often a silent stream says that
// it lives is left out: it takes minutes to see, and web's tests see it in no time.
func TestConformance(t *testing.T) {
	h := theHub(t)
	t.Run("at the root", func(t *testing.T) { conformance.Run(t, conforming(t, h)) })
	t.Run("below a path", func(t *testing.T) {
		h.base = "/services/binder"
		reconfigured(t, h, "base_url: /services/binder/\n")
		t.Cleanup(func() { h.base = "" }) // before the hub has its old settings back
		conformance.Run(t, conforming(t, h))
	})
	t.Run("API only", func(t *testing.T) {
		reconfigured(t, h, "enable_api_only_mode: true\n")
		hub := conforming(t, h)
		hub.APIOnly = true
		conformance.Run(t, hub)
	})
}

// conforming has repositories for all tables, which nobody has asked for yet. Their sessions end with the test.
func conforming(t *testing.T, h *hub) conformance.Hub {
	t.Helper()
	srv := sourcetest.Start(t)
	t.Cleanup(func() {
		for _, id := range h.list(t) {
			h.stop(t, id)
		}
	})
	repo := func(name string, files map[string]string) string {
		r := srv.Repo("ann/" + name)
		r.Commit("main", requirements(files))
		return r.URL
	}
	spec := func(repo, ref string) string { return "git/" + url.QueryEscape(repo) + "/" + ref }
	fresh, full := repo("new", nil), srv.Repo("ann/full")
	full.Commit("main", requirements(nil))
	full.Commit("another", requirements(map[string]string{"more.txt": "another commit\n"}))
	return conformance.Hub{
		URL: "http://" + h.listen + h.base, Metrics: true, Within: 5 * time.Minute,
		New: spec(fresh, "main"), Failing: spec(repo("failing", map[string]string{"postBuild": "#!/bin/sh\nexit 7\n"}), "main"),
		Banned: spec(repo("banned", nil), "main"), Full: spec(full.URL, "main"), FullNew: spec(full.URL, "another"),
		ImagePrefix: "r.io/p/bh-", Slug: fresh, NoRef: spec(fresh, "noref"), NoRepo: spec(fresh+"-that-is-not-there", "main"), RepoURL: fresh, RefURL: fresh,
		Limit: 3, Window: 30 * time.Minute, BannedFrom: "198.51.100.9", BannedLabel: "a bad place",
	}
}
