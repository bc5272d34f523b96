package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/store"
	"github.com/bindery-hub/bindery/store/storetest"
)

// TestImagesOfAnAppendix upgrades a store from before generations were kept in a table, of a hub with an appendix: its
// images were keyed by a name that nothing tells any more. They are found by their generation afterwards, and so are those
// of a hub without one.
func TestImagesOfAnAppendix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	made := func(id, commit string) bindery.Build {
		b := storetest.InState(storetest.Build(id, id), bindery.BuildSucceeded)
		b.Source.Commit = commit
		return b
	}
	with, without := made("a", "1111111111111111111111111111111111111111"), made("b", "2222222222222222222222222222222222222222")
	with.Key = bindery.BuildKey(with.Source, "p1-"+bindery.Key("appendix", "RUN true")[:8])
	without.Key = bindery.BuildKey(without.Source, "p1")
	for _, b := range []bindery.Build{with, without} {
		known := bindery.Known{Key: b.Key, Build: b.ID, Result: bindery.BuildResult{Image: "bindery/" + b.ID, Generation: "p1"}} // the rules alone
		if err := db.Commit(t.Context(), bindery.Changes{Builds: []bindery.Build{b}, Known: []bindery.Known{known}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	migrateAgain(t, path, 10)
	for range 2 {
		db = open(t, path)
		images, err := db.Images(t.Context(), storetest.At)
		if err != nil || len(images) != 2 {
			t.Fatalf("%d images, %v", len(images), err)
		}
		for _, x := range images {
			want := "p1"
			if x.Build == with.ID {
				want = "p1-appendix"
			}
			if x.Generation != want || x.Key != bindery.BuildKey(x.Source, want) {
				t.Errorf("%+v, want the generation %s", x, want)
			}
			if k, err := db.Known(t.Context(), bindery.BuildKey(x.Source, want)); err != nil || k.Build != x.Build {
				t.Errorf("by its generation %+v is found, %v", k, err)
			}
		}
	}
}

// migrateAgain lets a store apply its migrations from one on once more when it is opened.
func migrateAgain(t *testing.T, path string, from int) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec(`DELETE FROM migrations WHERE number >= ?`, from); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
}
