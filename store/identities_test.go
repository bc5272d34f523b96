package store_test

import (
	"path/filepath"
	"slices"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/store"
	"github.com/bindery-hub/bindery/store/storetest"
)

// TestOneIdentity upgrades a store from when a repository had an identity for each protocol, port and case: its images
// are found, its rules are about what they were about.
func TestOneIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	b := storetest.InState(storetest.Build("a", "a"), bindery.BuildSucceeded)
	b.Source.URL, b.Key = "https://gitlab.com/Group/Proj", bindery.Key("another identity")
	known := bindery.Known{Key: b.Key, Build: b.ID, Result: bindery.BuildResult{Image: "bindery/a", Generation: "p1"}}
	renamed := map[[2]string]string{
		{bindery.OnRepository, "git:https://gitlab.com/Group/Proj"}:   "git:https://gitlab.com/group/proj",
		{bindery.OnRepository, "git:ssh://git@example.org/O/r"}:       "git:https://example.org/O/r",
		{bindery.OnRepository, "git:http://example.org:8080/O/r"}:     "git:https://example.org:8080/O/r",
		{bindery.OnOwner, "gl/Group"}:                                 "gl/group",
		{bindery.OnOwner, "git/github.com:443/bad"}:                   "gh/bad",
		{bindery.OnOwner, "git/example.org/O"}:                        "git/example.org/O",
		{bindery.OnRepository, "git:https://github.com/o/r"}:          "git:https://github.com/o/r",
		{bindery.OnRequester, "token:Ann"}:                            "token:Ann",
		{bindery.OnRepository, "zenodo:https://zenodo.org/records/1"}: "zenodo:https://zenodo.org/records/1",
	}
	var rules []bindery.Rule
	for old := range renamed {
		rules = append(rules, bindery.Rule{Kind: bindery.RuleBan, Scope: old[0], Name: old[1], Who: "ann", Created: storetest.At})
	}
	if err := db.Commit(t.Context(), bindery.Changes{Builds: []bindery.Build{b}, Known: []bindery.Known{known}, Rules: rules}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	migrateAgain(t, path, 11)
	for range 2 {
		db = open(t, path)
		if k, err := db.Known(t.Context(), bindery.BuildKey(b.Source, "p1")); err != nil || k.Build != b.ID {
			t.Errorf("the image is found as %+v, %v", k, err)
		}
		live, err := db.Live(t.Context(), storetest.At)
		if err != nil || len(live.Rules) != len(renamed) {
			t.Fatalf("%d rules, %v", len(live.Rules), err)
		}
		for old, name := range renamed {
			if !slices.ContainsFunc(live.Rules, func(r bindery.Rule) bool { return r.Scope == old[0] && r.Name == name }) {
				t.Errorf("there is no rule of %s: %+v", name, live.Rules)
			}
		}
	}
}
