package source_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// BenchmarkFetch measures a checkout: cold from the server, and from the cache.
func BenchmarkFetch(b *testing.B) {
	for _, c := range []struct {
		name        string
		files, size int
	}{{"one-file", 1, 100}, {"50000-files", 50_000, 100}, {"500-MB", 5, 100 << 20}} {
		srv := sourcetest.Start(b)
		r := srv.Repo("demo")
		dir := b.TempDir()
		content := make([]byte, c.size)
		for i := range c.files {
			_, _ = rand.Read(content) // it never fails
			path := filepath.Join(dir, fmt.Sprint(i/500), fmt.Sprint(i))
			if os.MkdirAll(filepath.Dir(path), 0o755) != nil || os.WriteFile(path, content, 0o644) != nil {
				b.Fatal("the files cannot be written")
			}
		}
		r.CommitDir("main", dir)
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/cached=%t", c.name, warm), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					s := start(b)
					src, err := s.Resolve(b.Context(), git(r.URL, "main"))
					if err == nil && warm {
						_, err = s.Fetch(b.Context(), src, b.TempDir(), nil)
					}
					b.StartTimer()
					if err == nil {
						_, err = s.Fetch(b.Context(), src, b.TempDir(), nil)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkResolve measures a branch and a short commit.
func BenchmarkResolve(b *testing.B) {
	srv := sourcetest.Start(b)
	r := srv.Repo("demo")
	commit := r.Commit("main", map[string]string{"a": "1"})
	s := start(b)
	for _, ref := range []string{"main", commit, commit[:7]} {
		b.Run(fmt.Sprintf("%d-characters", len(ref)), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Resolve(b.Context(), git(r.URL, ref)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
