package e2e

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestManyFiles builds a repository of 50,000 small files, and builds it again after one of them changed.
func TestManyFiles(t *testing.T) {
	const files, perDir = 50_000, 500
	dir := sample(t, requirements(nil))
	for i := range files {
		at := filepath.Join(dir, "data", fmt.Sprint(i/perDir))
		if i%perDir == 0 {
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(at, fmt.Sprint(i)), fmt.Appendf(nil, "file %d\n", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	large(t, dir, fmt.Sprint(files), "find data -type f -user jovyan | wc -l")
}

// TestLargeFiles builds a repository of 500 MB that does not compress.
func TestLargeFiles(t *testing.T) {
	const files, each = 50, 10 << 20
	dir := sample(t, requirements(nil))
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		f, err := os.Create(filepath.Join(dir, "data", fmt.Sprint(i)))
		if err == nil {
			_, err = io.CopyN(f, rand.Reader, each)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	large(t, dir, fmt.Sprint(files*each), "cat data/* | wc -c")
}

// large serves a directory as a repository, builds it, and counts inside. Then one file changes.
func large(t *testing.T, dir, want, count string) {
	t.Helper()
	h := theHub(t)
	repo := sourcetest.Start(t).Repo("ann/large")
	repo.Git("config", "core.compression", "0")
	repo.CommitDir("main", dir)
	for _, change := range []string{"", "# Changed\n"} {
		if change != "" {
			repo.Commit("main", map[string]string{"README.md": change})
		}
		start := time.Now()
		out := h.must(t, "run", repo.URL, "--quiet", "--", "bash", "-c", count)
		t.Logf("fetched, built and counted in %.1f s", time.Since(start).Seconds())
		if got := strings.TrimSpace(out); got != want {
			t.Errorf("it counted %s, want %s", got, want)
		}
	}
}
