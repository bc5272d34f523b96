package source_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

func TestNoRepository(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	commit := r.Commit("main", map[string]string{"a": "1"})
	srv.Repo("empty")
	srv.Fail("/locked", 401)
	srv.Fail("/forbidden", 403)
	srv.Fail("/broken", 500)
	s := start(t)
	for _, c := range []struct {
		name, url, ref string
		kind           bindery.Kind
		fault          bindery.Fault
	}{
		{"404", srv.URL + "/nothing", "", bindery.ErrRepoNotFound, bindery.User},
		{"401", srv.URL + "/locked/r", "", bindery.ErrRepoNotFound, bindery.User},
		{"403", srv.URL + "/forbidden/r", "", bindery.ErrRepoNotFound, bindery.User},
		{"500", srv.URL + "/broken/r", "", bindery.ErrUnreachable, bindery.Transient},
		{"no such branch", r.URL, "nope", bindery.ErrRefNotFound, bindery.User},
		{"part of a name", r.URL, "mai", bindery.ErrRefNotFound, bindery.User},
		{"no such commit", r.URL, strings.Repeat("1", 40), bindery.ErrRefNotFound, bindery.User},
		{"no such short commit", r.URL, "1234567", bindery.ErrRefNotFound, bindery.User},
		{"empty repository", srv.URL + "/empty", "", bindery.ErrRefNotFound, bindery.User},
		{"tree, not a commit", r.URL, r.Git("rev-parse", commit+"^{tree}"), bindery.ErrRefNotFound, bindery.User},
		{"nobody listens", "http://127.0.0.1:1/r", "", bindery.ErrUnreachable, bindery.Transient},
		{"not TLS", strings.Replace(r.URL, "http:", "https:", 1), "", bindery.ErrUnreachable, bindery.Transient},
		{"ssh", "ssh://git@example.org/r", "", bindery.ErrNotAllowed, bindery.User},
		{"git", "git://example.org/r", "", bindery.ErrNotAllowed, bindery.User},
		{"file", "file:///etc", "", bindery.ErrNotAllowed, bindery.User},
		{"ext", "ext::sh -c id", "", bindery.ErrInvalid, bindery.User},
		{"a path", "/etc", "", bindery.ErrInvalid, bindery.User},
		{"an option", "--upload-pack=id", "", bindery.ErrInvalid, bindery.User},
		{"an option as ref", r.URL, "--upload-pack=id", bindery.ErrInvalid, bindery.User},
		{"a pattern as ref", r.URL, "m*", bindery.ErrInvalid, bindery.User},
		{"a password", "http://u:p@127.0.0.1/r", "", bindery.ErrInvalid, bindery.User},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Resolve(t.Context(), git(c.url, c.ref))
			e := wantError(t, err, c.kind, c.fault)
			if strings.Contains(e.Msg, "fatal:") || strings.Contains(e.Msg, "\n") {
				t.Errorf("the message is git's: %q", e.Msg)
			}
		})
	}
	src := git(r.URL, "")
	src.Commit = strings.Repeat("2", 40)
	_, err := s.Fetch(t.Context(), src, t.TempDir(), nil)
	wantError(t, err, bindery.ErrRefNotFound, bindery.User)
}

// The default policy: this machine and its networks are closed, by whatever name.
// TestHostNames tells a name that there is not, which nobody finds by trying again, from one that cannot be looked up now.
func TestHostNames(t *testing.T) {
	s := start(t, func(c *source.Config) {
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, &net.DNSError{Err: "as asked", Name: host, IsNotFound: host == "no-such-host.example.org", IsTemporary: true}
		}
	})
	for host, want := range map[string]*bindery.Error{
		"no-such-host.example.org": {Kind: bindery.ErrRepoNotFound, Fault: bindery.User},
		"later.example.org":        {Kind: bindery.ErrUnreachable, Fault: bindery.Transient},
	} {
		_, err := s.Resolve(t.Context(), git("https://"+host+"/o/r", ""))
		if e, ok := errors.AsType[*bindery.Error](err); !ok || e.Kind != want.Kind || e.Fault != want.Fault || !strings.Contains(e.Msg, host) {
			t.Errorf("%s: %v, want %v of %v", host, err, want.Kind, want.Fault)
		}
	}
}

func TestClosedAddresses(t *testing.T) {
	srv := sourcetest.Start(t)
	srv.Repo("demo").Commit("main", map[string]string{"a": "1"})
	port := srv.URL[strings.LastIndexByte(srv.URL, ':'):]
	s := start(t, func(c *source.Config) {
		c.Policy = source.Policy{}
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			switch host {
			case "rebound.example.org":
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			case "mapped.example.org":
				return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, nil
			}
			return nil, errors.New("no such host")
		}
	})
	for _, host := range []string{"127.0.0.1", "rebound.example.org", "mapped.example.org", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fd00::1]", "[fe80::1]", "100.64.0.1", "0.0.0.0", "2130706433", "0x7f.1"} {
		for _, scheme := range []string{"http", "https"} {
			_, err := s.Resolve(t.Context(), git(scheme+"://"+host+port+"/demo", ""))
			e, ok := errors.AsType[*bindery.Error](err)
			if !ok || (e.Kind != bindery.ErrNotAllowed && (e.Kind != bindery.ErrUnreachable || strings.ContainsAny(host, ".["))) {
				t.Errorf("%s://%s: got %v", scheme, host, err)
			}
		}
	}
	if got := srv.Requests(); len(got) != 0 {
		t.Errorf("the server was asked %q", got)
	}
}

// only lets the guard reach the test server under a public-looking name, and nothing else of this machine.
func only(srv *sourcetest.Server) func(*source.Config) {
	u, _ := url.Parse(srv.URL)
	return func(c *source.Config) {
		c.Policy = source.Policy{Nets: []netip.Prefix{netip.MustParsePrefix(u.Hostname() + "/32")}}
	}
}

func TestRedirects(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	commit := r.Commit("main", map[string]string{"a": "1"})
	srv.Redirect("/moved", srv.URL+"/demo")
	srv.Redirect("/inside", "http://127.0.0.2:1/demo")
	srv.Redirect("/metadata", "http://169.254.169.254/latest")
	srv.Redirect("/file", "file:///etc/passwd")
	s := start(t, only(srv))
	if got, err := s.Resolve(t.Context(), git(srv.URL+"/moved", "main")); err != nil || got.Commit != commit {
		t.Errorf("a repository that has moved: %+v, %v", got, err)
	}
	for _, path := range []string{"/inside", "/metadata"} {
		_, err := s.Resolve(t.Context(), git(srv.URL+path, ""))
		wantError(t, err, bindery.ErrNotAllowed, bindery.User)
	}
	if _, err := s.Resolve(t.Context(), git(srv.URL+"/file", "")); err == nil {
		t.Error("a redirect to a file was followed")
	}
}

func TestSubmodules(t *testing.T) {
	srv := sourcetest.Start(t)
	leaf := srv.Repo("libs/leaf")
	leafCommit := leaf.Commit("main", map[string]string{"leaf.txt": "leaf\n"})
	leaf.Commit("main", map[string]string{"leaf.txt": "newer\n"})
	mid := srv.Repo("libs/mid")
	mid.Commit("main", map[string]string{"mid.txt": "mid\n"})
	midCommit := mid.Submodule("main", "leaf", "deps/leaf", "../leaf.git", leafCommit)
	top := srv.Repo("top")
	top.Commit("main", map[string]string{"top.txt": "top\n"})
	top.Submodule("main", "a/strange name", "vendor/mid", srv.URL+"/libs/mid", midCommit)
	s := start(t)
	for range 2 {
		dir, said := checkout(t, s, git(top.URL, ""))
		if read(t, dir, "vendor/mid/mid.txt") != "mid\n" || read(t, dir, "vendor/mid/deps/leaf/leaf.txt") != "leaf\n" {
			t.Errorf("submodules are not complete; said %s", said)
		}
		wantRepo(t, dir, top.URL)
		wantRepo(t, filepath.Join(dir, "vendor/mid/deps/leaf"), srv.URL+"/libs/leaf.git")
		if got := inRepo(t, dir, "submodule", "status", "--recursive"); strings.ContainsAny(got, "-+U") && strings.HasPrefix(got, "-") {
			t.Errorf("git submodule status says %q", got)
		}
	}
}

func TestHostileSubmodules(t *testing.T) {
	srv := sourcetest.Start(t)
	leaf := srv.Repo("leaf")
	leafCommit := leaf.Commit("main", map[string]string{"leaf.txt": "leaf\n"})
	s := start(t, only(srv))
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ name, path, url string }{
		{"m", "sub", "http://10.1.2.3/leaf"},
		{"m", "sub", "http://169.254.169.254/leaf"},
		{"m", "sub", "file://" + filepath.Join(srv.Root, "leaf.git")},
		{"m", "sub", filepath.Join(srv.Root, "leaf.git")},
		{"m", "sub", "ext::sh -c touch% " + secret},
		{"m", "sub", "--upload-pack=touch " + secret},
		{"m", "sub", "../../../../../../etc"},
		{"m", "sub", "ssh://-oProxyCommand=id/x"},
		{"m", "sub", "git@git.example.org:o/r.git"},
		{"../../../hooks", "sub", leaf.URL},
		{"-x", "sub", leaf.URL},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := srv.Repo(fmt.Sprintf("hostile%d", i))
			r.Submodule("main", c.name, c.path, c.url, leafCommit)
			src, err := s.Resolve(t.Context(), git(r.URL, "main"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
			e, ok := errors.AsType[*bindery.Error](err)
			if !ok || e.Fault != bindery.User || (e.Kind != bindery.ErrNotAllowed && e.Kind != bindery.ErrRepoNotFound) {
				t.Errorf("submodule %+v: got %v", c, err)
			}
		})
	}
	// A submodule of a path that a link of the same tree leads out of: git cannot make such a tree, and we write no
	// .git file through a link.
	r := srv.Repo("through")
	out := t.TempDir()
	r.Link("main", "link", out)
	r.Submodule("main", "m", "link/sub", leaf.URL, leafCommit)
	if src, err := s.Resolve(t.Context(), git(r.URL, "main")); err == nil {
		_, _ = s.Fetch(t.Context(), src, t.TempDir(), nil)
	}
	if left, _ := os.ReadDir(out); len(left) != 0 {
		t.Errorf("something was written outside: %v", left)
	}
}

func TestLFS(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	r.Commit("main", map[string]string{".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "big.bin": srv.LFS("large content\n")})
	// git-lfs takes no proxy to a literal loopback address, and has no other way out; so the server gets a name.
	port := srv.URL[strings.LastIndexByte(srv.URL, ':'):]
	s := start(t, func(c *source.Config) {
		c.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
	})
	dir, said := checkout(t, s, git("http://git.example.org"+port+"/demo", ""))
	got := read(t, dir, "big.bin")
	if strings.Contains(said, "git-lfs is not installed") {
		t.Fatal("git-lfs is not installed; scripts/setup run does that")
	}
	if got != "large content\n" {
		t.Errorf("the file has %q; said %s", got, said)
	}
}

func TestLimits(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("d%d/f", i)] = strings.Repeat("same", 1000)
	}
	r.Commit("main", files)
	for name, change := range map[string]func(*source.Config){
		"bytes": func(c *source.Config) { c.MaxBytes = 500_000 },
		"files": func(c *source.Config) { c.MaxFiles = 100 },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, change)
			src, err := s.Resolve(t.Context(), git(r.URL, ""))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
			wantError(t, err, bindery.ErrInvalid, bindery.User)
		})
	}
}

func TestSlowAndCancelled(t *testing.T) {
	srv := sourcetest.Start(t)
	srv.Stall("/slow")
	s := start(t, func(c *source.Config) { c.ResolveTimeout = 300 * time.Millisecond })
	_, err := s.Resolve(t.Context(), git(srv.URL+"/slow", ""))
	wantError(t, err, bindery.ErrTimeout, bindery.Transient)
	ctx, cancel := context.WithCancel(t.Context())
	src := git(srv.URL+"/slow", "")
	src.Commit = strings.Repeat("3", 40)
	_, err = s.Fetch(ctx, src, t.TempDir(), func(string) { cancel() })
	wantError(t, err, bindery.ErrCancelled, bindery.User)
	cancel()
}

func TestAllowedDirectory(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("in/demo")
	commit := r.Commit("main", map[string]string{"a": "1"})
	srv.Repo("out").Commit("main", map[string]string{"a": "1"})
	if err := os.Symlink(filepath.Join(srv.Root, "out.git"), filepath.Join(srv.Root, "in/escape.git")); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *source.Config) { c.Policy = source.Policy{Dirs: []string{filepath.Join(srv.Root, "in")}} })
	src := git("file://"+r.Dir, "main")
	dir, _ := checkout(t, s, src)
	if inRepo(t, dir, "rev-parse", "HEAD") != commit {
		t.Error("another commit is checked out")
	}
	for _, path := range []string{"/out.git", "/in/../out.git", "/in/escape.git", "/in/%2e%2e/out.git", ""} {
		_, err := s.Resolve(t.Context(), git("file://"+srv.Root+path, ""))
		wantError(t, err, bindery.ErrNotAllowed, bindery.User)
	}
	for path, kind := range map[string]bindery.Kind{
		"/in/typo.git": bindery.ErrRepoNotFound, "/in/typo/deep.git": bindery.ErrRepoNotFound,
		"/typo.git": bindery.ErrNotAllowed, "/in/escape.git/typo": bindery.ErrNotAllowed, "/in/../typo.git": bindery.ErrNotAllowed,
	} {
		_, err := s.Resolve(t.Context(), git("file://"+srv.Root+path, ""))
		wantError(t, err, kind, bindery.User)
	}
}

func TestManyRefs(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	commit := r.Commit("main", map[string]string{"a": "1"})
	var packed strings.Builder
	packed.WriteString("# pack-refs with: peeled fully-peeled sorted \n")
	for i := range 10_000 {
		fmt.Fprintf(&packed, "%s refs/heads/branch-%06d\n", commit, i)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "packed-refs"), []byte(packed.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	for _, ref := range []string{"main", "branch-009999", commit[:8]} {
		if got, err := s.Resolve(t.Context(), git(r.URL, ref)); err != nil || got.Commit != commit {
			t.Errorf("Resolve(%q) = %q, %v", ref, got.Commit, err)
		}
	}
}

func TestLocal(t *testing.T) {
	s := start(t)
	dir := t.TempDir()
	src := bindery.Source{Provider: bindery.ProviderLocal, URL: dir}
	got, err := s.Resolve(t.Context(), src)
	if err != nil || got != src {
		t.Errorf("Resolve: %+v, %v", got, err)
	}
	if got, err := s.Fetch(t.Context(), src, t.TempDir(), nil); got != dir || err != nil {
		t.Errorf("Fetch: %q, %v", got, err)
	}
	src.URL = dir + "/nope"
	_, err = s.Resolve(t.Context(), src)
	wantError(t, err, bindery.ErrRepoNotFound, bindery.User)
}

func TestSpellings(t *testing.T) {
	srv := sourcetest.Start(t)
	srv.Exact()
	commit := srv.Repo("demo").Commit("main", map[string]string{"a": "1"})
	s := start(t)
	got, err := s.Resolve(t.Context(), git(srv.URL+"/demo", ""))
	if err != nil || got.Commit != commit {
		t.Fatalf("Resolve: %+v, %v", got, err)
	}
	if _, err := s.Fetch(t.Context(), got, t.TempDir(), nil); err != nil {
		t.Error(err)
	}
}

// A cache that a crash or a bad disk has damaged is fetched again.
func TestDamagedCache(t *testing.T) {
	srv := sourcetest.Start(t)
	r := srv.Repo("demo")
	r.Commit("main", map[string]string{"a": "1"})
	var cache string
	s := start(t, func(c *source.Config) { cache = c.Dir })
	checkout(t, s, git(r.URL, ""))
	packs, err := filepath.Glob(filepath.Join(cache, "repos/*/objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	if err := os.Remove(packs[0]); err != nil { // the checkout has it under another name
		t.Fatal(err)
	}
	if err := os.WriteFile(packs[0], []byte("PACK nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir, _ := checkout(t, s, git(r.URL, ""))
	wantRepo(t, dir, r.URL)
}

// Servers that serve only what their refs point to have to be asked for everything.
func TestOldServer(t *testing.T) {
	srv := sourcetest.Start(t)
	srv.Old()
	r := srv.Repo("demo")
	first := r.Commit("main", map[string]string{"a": "1"})
	second := r.Commit("main", map[string]string{"a": "2", "b": "3"})
	s := start(t)
	for _, c := range [][2]string{
		// The tip comes first: its history is cut off, and what follows lies behind the cut.
		{"main", second}, {first, first}, {second, second}, {first[:7], first},
	} {
		ref, want := c[0], c[1]
		src := git(r.URL, ref)
		dir, _ := checkout(t, s, src)
		if got := inRepo(t, dir, "rev-parse", "HEAD"); got != want {
			t.Errorf("%s: %s is checked out, want %s", ref, got, want)
		}
		wantRepo(t, dir, r.URL)
	}
	src, err := s.Resolve(t.Context(), git(r.URL, strings.Repeat("4", 40)))
	if err == nil {
		_, err = s.Fetch(t.Context(), src, t.TempDir(), nil)
	}
	wantError(t, err, bindery.ErrRefNotFound, bindery.User)
}
