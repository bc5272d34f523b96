package source_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// start makes Sources that may read from this machine's loopback, and runs them.
func start(t testing.TB, change ...func(*source.Config)) *source.Sources {
	t.Helper()
	cfg := source.Config{
		Dir:    filepath.Join(t.TempDir(), "git"),
		Policy: source.Policy{Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := source.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func git(url, ref string) bindery.Source {
	return bindery.Source{Provider: bindery.ProviderGit, URL: url, Ref: ref}
}

// checkout resolves and fetches, and returns the directory and what was said.
func checkout(t *testing.T, s *source.Sources, src bindery.Source) (string, string) {
	t.Helper()
	src, err := s.Resolve(t.Context(), src)
	if err != nil {
		t.Fatalf("Resolve: %v", err)
	}
	var said strings.Builder
	dir, err := s.Fetch(t.Context(), src, t.TempDir(), func(line string) { said.WriteString(line + "\n") })
	if err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	return dir, said.String()
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// wantError checks kind and fault, and that the person learns what to do.
func wantError(t *testing.T, err error, kind bindery.Kind, fault bindery.Fault) *bindery.Error {
	t.Helper()
	e, ok := errors.AsType[*bindery.Error](err)
	if !ok || e.Kind != kind || e.Fault != fault || (e.Remedy == "" && kind != bindery.ErrCancelled) {
		t.Fatalf("got error %#v (%v), want kind %q of fault %q with a remedy", e, err, kind, fault)
	}
	return e
}

func TestResolve(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("ann/demo")
	first := r.Commit("main", map[string]string{"README.md": "one\n"})
	second := r.Commit("main", map[string]string{"README.md": "two\n"})
	other := r.Commit("feature/x", map[string]string{"README.md": "other\n"})
	r.Tag("v1", first)
	r.Annotate("v2", second)
	r.Tag("both", first)
	r.Git("update-ref", "refs/heads/both", second)
	r.Git("update-ref", "refs/pull/7/head", other)
	r.Tag("x", first) // must not be taken for feature/x
	r.Git("update-ref", "refs/heads/deadbeef", other)
	s := start(t)
	for _, c := range []struct{ name, url, ref, want string }{
		{"default", r.URL, "", second},
		{"HEAD", r.URL, "HEAD", second},
		{"branch", r.URL, "main", second},
		{"with .git", r.URL + ".git", "main", second},
		{"trailing slash", r.URL + "/", "main", second},
		{"branch with slash", r.URL, "feature/x", other},
		{"tag", r.URL, "v1", first},
		{"annotated tag", r.URL, "v2", second},
		{"branch before tag", r.URL, "both", second},
		{"full name of tag", r.URL, "refs/tags/both", first},
		{"pull request", r.URL, "pull/7/head", other},
		{"full name of pull request", r.URL, "refs/pull/7/head", other},
		{"origin/branch", r.URL, "origin/main", second},
		{"branch that looks like a commit", r.URL, "deadbeef", other},
		{"full commit", r.URL, first, first},
		{"short commit", r.URL, first[:7], first},
		{"four digits", r.URL, other[:8], other},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.Resolve(t.Context(), git(c.url, c.ref))
			if err != nil || got.Commit != c.want {
				t.Errorf("Resolve(%q) = %q, %v; want %q", c.ref, got.Commit, err, c.want)
			}
			if got.URL != c.url || got.Ref != c.ref {
				t.Errorf("Resolve changed the source to %+v", got)
			}
		})
	}
}

func TestFetch(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	r.Commit("main", map[string]string{"old.txt": "old\n"})
	r.Commit("main", map[string]string{"dir/ünïcode name.txt": "hello\n", "run": "#!/bin/sh\n"})
	r.Link("main", "out", "/etc/passwd")
	s := start(t)
	for _, round := range []string{"cold", "cached"} {
		dir, said := checkout(t, s, git(r.URL, "main"))
		if got := read(t, dir, "dir/ünïcode name.txt"); got != "hello\n" {
			t.Errorf("%s: file has %q", round, got)
		}
		if info, err := os.Stat(filepath.Join(dir, "run")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: run is %v, %v", round, info, err)
		}
		if link, err := os.Readlink(filepath.Join(dir, "out")); err != nil || link != "/etc/passwd" {
			t.Errorf("%s: link is %q, %v", round, link, err)
		}
		if !strings.Contains(said, "files") {
			t.Errorf("%s: said %q", round, said)
		}
		wantRepo(t, dir, r.URL)
	}
	// A second commit comes by an incremental fetch into the same cache.
	r.Commit("main", map[string]string{"new.txt": "new\n"})
	dir, _ := checkout(t, s, git(r.URL+".git", ""))
	if read(t, dir, "new.txt") != "new\n" || read(t, dir, "old.txt") != "old\n" {
		t.Error("the second commit is not complete")
	}
	wantRepo(t, dir, r.URL+".git")
}
