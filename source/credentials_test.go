package source_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

const secretToken = "glpat-verysecrettoken"

// private is a server whose repositories below /lab want the hub's credential.
func private(t *testing.T) (srv *sourcetest.Server, use func(*source.Config), seen func() []string) {
	t.Helper()
	srv = sourcetest.StartTLS(t)
	// By a name: git-lfs takes no proxy to a literal loopback address.
	srv.URL = strings.Replace(srv.URL, "127.0.0.1", "example.com", 1)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secretToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var shown []string
	srv.Protect("/lab/", func(r *http.Request) bool {
		user, pass, ok := r.BasicAuth()
		mu.Lock()
		defer mu.Unlock()
		if ok {
			shown = append(shown, r.Method+" "+r.URL.RequestURI()+" "+user)
		}
		return user == "oauth2" && pass == secretToken
	})
	use = func(c *source.Config) {
		c.CAFile = srv.CAFile
		c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		c.Providers = []source.Provider{{Provider: bindery.Provider{ID: "lab", Kind: bindery.ProviderGitLab, URL: srv.URL + "/lab"}.WithDefaults(), TokenFile: file}}
	}
	return srv, use, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return shown
	}
}

func TestPrivateRepository(t *testing.T) {
	srv, use, seen := private(t)
	part := srv.Repo("lab/group/part")
	commit := part.Commit("main", map[string]string{"b": "2"})
	r := srv.Repo("lab/group/demo")
	r.Commit("main", map[string]string{"a": "1", ".gitattributes": "big filter=lfs\n", "big": srv.LFS("large file")})
	r.Submodule("main", "part", "part", "../part", commit)
	var log strings.Builder
	s := start(t, use, func(c *source.Config) { c.Log = logTo(&log) })
	dir, said := checkout(t, s, git(srv.URL+"/lab/group/demo.git", "main"))
	if read(t, dir, "a") != "1" || read(t, dir, "part/b") != "2" {
		t.Error("not everything is there")
	}
	if got := inRepo(t, dir, "config", "remote.origin.url"); got != srv.URL+"/lab/group/demo.git" {
		t.Errorf("the checkout names %q", got)
	}
	if len(seen()) == 0 {
		t.Error("nobody was shown the credential")
	}
	if strings.Contains(said+log.String(), secretToken) {
		t.Error("the token was said or logged")
	}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if text := read(t, path); strings.Contains(text, secretToken) {
			t.Errorf("the token is in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The credential opens what it is for, and nothing else is shown it.
func TestCredentialStaysHome(t *testing.T) {
	srv, use, seen := private(t)
	srv.Repo("open/demo").Commit("main", map[string]string{"a": "1"})
	other := sourcetest.StartTLS(t)
	var leaked []string
	var mu sync.Mutex
	note := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		leaked = append(leaked, r.Header.Get("Authorization"))
		http.NotFound(w, r)
	}
	other.Handle("/", note)
	srv.Handle("/laboratory/", note)
	srv.Redirect("/lab/moved", other.URL+"/lab")
	s := start(t, use)
	if _, err := s.Resolve(t.Context(), git(srv.URL+"/open/demo", "main")); err != nil {
		t.Error(err)
	}
	for _, url := range []string{other.URL + "/lab/group/demo", srv.URL + "/laboratory/group/demo", srv.URL + "/lab/moved/demo", strings.Replace(srv.URL, "example.com", "127.0.0.1", 1) + "/lab/group/demo"} {
		if _, err := s.Resolve(t.Context(), git(url, "main")); err == nil {
			t.Errorf("%s was resolved", url)
		}
	}
	for _, a := range leaked {
		if a != "" {
			t.Errorf("somebody else was shown %q", a)
		}
	}
	for _, line := range seen() {
		if !strings.Contains(line, "/lab/") {
			t.Errorf("shown with %s", line)
		}
	}
	_, err := s.Resolve(t.Context(), git(srv.URL+"/lab/group/none", "main"))
	wantError(t, err, bindery.ErrRepoNotFound, bindery.User)
}

// A token that is not taken, or cannot be read, is the hub's fault to repair, and says nothing of itself.
func TestBadToken(t *testing.T) {
	srv, use, _ := private(t)
	srv.Repo("lab/group/demo").Commit("main", map[string]string{"a": "1"})
	s := start(t, use, func(c *source.Config) { c.Providers[0].TokenFile = "/nonexistent/token" })
	_, err := s.Resolve(t.Context(), git(srv.URL+"/lab/group/demo", "main"))
	wantError(t, err, bindery.ErrNotReady, bindery.Ours)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("wrongtoken"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s = start(t, use, func(c *source.Config) { c.Providers[0].TokenFile, c.Log = wrong, logTo(&log) })
	_, err = s.Resolve(t.Context(), git(srv.URL+"/lab/group/demo", "main"))
	if !errors.Is(err, bindery.ErrRepoNotFound) || strings.Contains(err.Error(), "wrongtoken") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(log.String(), "does not take the hub's token") || strings.Contains(log.String(), "wrongtoken") {
		t.Errorf("the log says %s", log.String())
	}
}
