package e2e

import (
	"net/url"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/internal/conformance"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestConformance has the real hub go through the tables of what every Binder must do.
func TestConformance(t *testing.T) {
	h := theHub(t)
	srv := sourcetest.Start(t)
	repo := func(name string, files map[string]string) string {
		r := srv.Repo("ann/" + name)
		r.Commit("main", requirements(files))
		return r.URL
	}
	spec := func(repo, ref string) string { return "git/" + url.QueryEscape(repo) + "/" + ref }
	fresh, full := repo("new", nil), srv.Repo("ann/full")
	full.Commit("main", requirements(nil))
	full.Commit("another", requirements(map[string]string{"more.txt": "another commit\n"}))
	conformance.Run(t, conformance.Hub{
		URL: "http://" + h.listen, Metrics: true, Within: 5 * time.Minute,
		New: spec(fresh, "main"), Failing: spec(repo("failing", map[string]string{"postBuild": "#!/bin/sh\nexit 7\n"}), "main"),
		Banned: spec(repo("banned", nil), "main"), Full: spec(full.URL, "main"), FullNew: spec(full.URL, "another"),
		Slug: fresh, NoRef: spec(fresh, "noref"), NoRepo: spec(fresh+"-that-is-not-there", "main"), RepoURL: fresh, RefURL: fresh,
		Limit: 3, Window: 30 * time.Minute, BannedFrom: "198.51.100.9", BannedLabel: "a bad place",
	})
}
