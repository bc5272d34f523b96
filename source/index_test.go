package source_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// Two machines that check the same commit out, at another time, have the same files, those of .git among them.
func TestCheckoutsAreEqual(t *testing.T) {
	srv := sourcetest.Start(t)
	leaf := srv.Repo("leaf")
	commit := leaf.Commit("main", map[string]string{"leaf.txt": "leaf\n"})
	r := srv.Repo("equal")
	r.Commit("main", map[string]string{"old.txt": "old\n"})
	r.Commit("main", map[string]string{"dir/name": "hello\n", "run": "#!/bin/sh\n", "dir/longer name.txt": "x\n"})
	r.Submodule("main", "leaf", "leaf", "../leaf.git", commit)
	first, _ := checkout(t, start(t), git(r.URL, "main"))
	if err := os.Chtimes(filepath.Join(first, "dir/name"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	second, _ := checkout(t, start(t), git(r.URL, "main"))
	if diff := cmp.Diff(sums(t, first), sums(t, second)); diff != "" {
		t.Error(diff)
	}
	wantRepo(t, second, r.URL)
	if got := inRepo(t, second, "status", "--porcelain"); got != "" {
		t.Errorf("git status says %q", got)
	}
}

func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		found[path] = fmt.Sprintf("%s %x", d.Type(), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
