package source_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// forges are providers of every kind of forge at one server.
func forges(srv *sourcetest.Server, tokenFile string) func(*source.Config) {
	return func(c *source.Config) {
		for _, kind := range []string{bindery.ProviderGist, bindery.ProviderGitHub, bindery.ProviderGitLab} {
			url := srv.URL + "/" + kind
			api := srv.URL + "/api/v3"
			if kind == bindery.ProviderGitLab {
				api = srv.URL + "/api/v4"
			}
			c.Providers = append(c.Providers, source.Provider{
				Provider: bindery.Provider{ID: kind, Kind: kind, URL: url, API: api}.WithDefaults(), TokenFile: tokenFile,
			})
		}
	}
}

// asked reads a spec of a provider at the server.
func asked(t *testing.T, srv *sourcetest.Server, kind, spec string) bindery.Source {
	t.Helper()
	p := bindery.Provider{ID: kind, Kind: kind, URL: srv.URL + "/" + kind}.WithDefaults()
	src, err := p.ParseSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// forgeRepo makes a repository that the git server has at the forge's address, and the API by its bare name.
func forgeRepo(t *testing.T, srv *sourcetest.Server, kind, name string) *sourcetest.Repo {
	t.Helper()
	r := srv.Repo(name)
	if err := os.MkdirAll(filepath.Join(srv.Root, kind, filepath.Dir(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(r.Dir, filepath.Join(srv.Root, kind, name+".git")); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestForges(t *testing.T) {
	srv := sourcetest.Start(t)
	forge := srv.Forge()
	commits := map[string][2]string{}
	for _, kind := range []string{"gh", "gl", "gist"} {
		name := map[string]string{"gh": "ann/demo", "gl": "group/sub/demo", "gist": "ann/8a658f7f63b1"}[kind]
		r := forgeRepo(t, srv, kind, name)
		first := r.Commit("main", map[string]string{"a": "1"})
		second := r.Commit("main", map[string]string{"a": "2"})
		r.Git("update-ref", "refs/heads/feature/x", first)
		commits[kind] = [2]string{first, second}
	}
	s := start(t, forges(srv, ""))
	for _, round := range []string{"by the API", "again", "by git"} {
		if round == "by git" {
			forge.Answer(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
			})
			s = start(t, forges(srv, ""))
		}
		for _, c := range []struct {
			kind, spec string
			want       int
		}{
			{"gh", "ann/demo/HEAD", 1}, {"gh", "ann/demo/main", 1}, {"gh", "ann/demo/feature%2Fx", 0}, {"gh", "ann/demo.git/feature/x", 0},
			{"gh", "ann/demo/" + commits["gh"][0], 0}, {"gh", "ann/demo/" + commits["gh"][0][:8], 0},
			{"gl", "group%2Fsub%2Fdemo/main", 1}, {"gl", "group%2Fsub%2Fdemo/feature%2Fx", 0}, {"gl", "group%2Fsub%2Fdemo/HEAD", 1},
			{"gist", "ann/8a658f7f63b1", 1}, {"gist", "ann/8a658f7f63b1/master", 1}, {"gist", "ann/8a658f7f63b1/" + commits["gist"][0], 0},
		} {
			src := asked(t, srv, c.kind, c.spec)
			got, err := s.Resolve(t.Context(), src)
			if err != nil || got.Commit != commits[c.kind][c.want] {
				t.Errorf("%s: %s/%s is %q, %v", round, c.kind, c.spec, got.Commit, err)
			}
		}
	}
	if n := len(forge.Asked()); n < 3 || n > 3*4 {
		t.Errorf("%d questions were asked: %q", n, forge.Asked())
	}
	if _, err := s.Fetch(t.Context(), bindery.Source{Provider: "git", URL: srv.URL + "/gh/ann/demo", Commit: commits["gh"][1]}, t.TempDir(), nil); err != nil {
		t.Error(err)
	}
}

// TestGistsWithoutOwner: GitHub serves a gist by its number alone, too. Its API tells whose it is, so it becomes that owner's,
// and stays so while nobody answers; where the API was never asked, git tells the commit and no owner.
func TestGistsWithoutOwner(t *testing.T) {
	srv := sourcetest.Start(t)
	forge := srv.Forge()
	r := forgeRepo(t, srv, "gist", "ann/8a658f7f63b1")
	first := r.Commit("main", map[string]string{"a": "1"})
	second := r.Commit("main", map[string]string{"a": "2"})
	if err := os.Symlink(r.Dir, filepath.Join(srv.Root, "gist", "8a658f7f63b1.git")); err != nil {
		t.Fatal(err)
	}
	bare, owned := srv.URL+"/gist/8a658f7f63b1.git", srv.URL+"/gist/ann/8a658f7f63b1.git"
	check := func(s *source.Sources, when, at string) {
		t.Helper()
		for ref, want := range map[string]string{"": second, "main": second, first: first} {
			for range 2 {
				src := bindery.Source{Provider: bindery.ProviderGit, URL: bare, Ref: ref}
				if got, err := s.Resolve(t.Context(), src); err != nil || got.Commit != want || got.URL != at || got.Ref != ref {
					t.Errorf("%s: %q is %+v, %v", when, ref, got, err)
				}
			}
		}
	}
	token := filepath.Join(t.TempDir(), "token") // an anonymous visitor has no questions to spare
	if err := os.WriteFile(token, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, forges(srv, token))
	check(s, "by the API", owned)
	if _, err := s.Resolve(t.Context(), bindery.Source{Provider: bindery.ProviderGit, URL: srv.URL + "/gist/99"}); !errors.Is(err, bindery.ErrRepoNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	forge.Secret("8a658f7f63b1")
	if _, err := start(t, forges(srv, token)).Resolve(t.Context(), bindery.Source{Provider: bindery.ProviderGit, URL: bare}); !errors.Is(err, bindery.ErrNotAllowed) {
		t.Errorf("a secret one: %v", err)
	}
	forge.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	check(s, "again, by git", owned)
	check(start(t, forges(srv, token)), "by git", bare)
	forge.Answer(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"public":true,"owner":{"login":"../ann"},"history":[{"version":%q}]}`, second)
	})
	if got, err := start(t, forges(srv, token)).Resolve(t.Context(), bindery.Source{Provider: bindery.ProviderGit, URL: bare}); err != nil || got.URL != bare {
		t.Errorf("an owner that makes no sense: %+v, %v", got, err)
	}
}

// What a forge says when something is not there, and what we say when it says nothing that makes sense.
func TestForgeRefusals(t *testing.T) {
	srv := sourcetest.Start(t)
	forge := srv.Forge()
	repo := forgeRepo(t, srv, "gh", "ann/demo")
	commit := repo.Commit("main", map[string]string{"a": "1"})
	forgeRepo(t, srv, "gl", "group/demo").Commit("main", map[string]string{"a": "1"})
	forgeRepo(t, srv, "gist", "ann/8a658f7f63b1").Commit("main", map[string]string{"a": "1"})
	token := filepath.Join(t.TempDir(), "token") // an anonymous visitor has no questions to spare
	if err := os.WriteFile(token, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, forges(srv, token))
	for _, c := range []struct {
		kind, spec string
		want       bindery.Kind
	}{
		{"gh", "ann/demo/nosuchref", bindery.ErrRefNotFound}, {"gh", "ann/nosuch/main", bindery.ErrRepoNotFound},
		{"gl", "group%2Fdemo/nosuchref", bindery.ErrRefNotFound}, {"gl", "group%2Fnosuch/main", bindery.ErrRefNotFound},
		{"gist", "bob/8a658f7f63b1", bindery.ErrRepoNotFound}, {"gist", "ann/8a658f7f63b1/deadbeef", bindery.ErrRefNotFound}, {"gist", "ann/99", bindery.ErrRepoNotFound},
	} {
		_, err := s.Resolve(t.Context(), asked(t, srv, c.kind, c.spec))
		wantError(t, err, c.want, bindery.User)
	}
	forge.Secret("8a658f7f63b1")
	_, err := s.Resolve(t.Context(), asked(t, srv, "gist", "ann/8a658f7f63b1/main"))
	wantError(t, err, bindery.ErrNotAllowed, bindery.User)
	for name, h := range map[string]http.HandlerFunc{
		"garbage":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"no commit": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"sha":"../../etc/passwd"}`) },
		"a list":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[1]`) },
		"500":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"401":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"loop":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"metadata": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) { endless(w, r) },
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"file scheme": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
		},
	} {
		forge.Answer(h)
		s := start(t, forges(srv, token)) // with an empty memory
		got, err := s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/main"))
		if err != nil || got.Commit != commit {
			t.Errorf("an API that says %s: %+v, %v", name, got, err)
		}
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 1<<16)); err != nil {
			return
		}
	}
}

// Names that people push by are read by https where there is no key: in links, and in submodules.
func TestPushNamesAreReadByHTTP(t *testing.T) {
	srv := sourcetest.Start(t)
	srv.Forge()
	sub := srv.Repo("ann/part").Commit("main", map[string]string{"b": "2"})
	r := srv.Repo("ann/demo")
	r.Commit("main", map[string]string{"a": "1"})
	r.Submodule("main", "part", "part", "git@127.0.0.1:ann/part.git", sub)
	s := start(t, func(c *source.Config) {
		c.Providers = []source.Provider{{Provider: bindery.Provider{ID: "gh", Kind: "gh", URL: srv.URL}.WithDefaults()}}
	})
	src, err := bindery.ParseGitSource("git@127.0.0.1:ann/demo", "main")
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := checkout(t, s, src)
	if read(t, dir, "a") != "1" || read(t, dir, "part/b") != "2" {
		t.Error("not everything is there")
	}
	wantRepo(t, dir, srv.URL+"/ann/demo")
	src.URL = "ssh://git@127.0.0.2/ann/demo"
	_, err = s.Resolve(t.Context(), src)
	wantError(t, err, bindery.ErrNotAllowed, bindery.User)
}

// An API that does not answer is left alone for a while: a launch waits for it once, not each time.
func TestForgeIsLeftAlone(t *testing.T) {
	srv := sourcetest.Start(t)
	forge := srv.Forge()
	commit := forgeRepo(t, srv, "gl", "group/demo").Commit("main", map[string]string{"a": "1"})
	forge.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	s := start(t, forges(srv, ""))
	for range 3 {
		if got, err := s.Resolve(t.Context(), asked(t, srv, "gl", "group%2Fdemo/main")); err != nil || got.Commit != commit {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if got := forge.Asked(); len(got) != 1 {
		t.Errorf("it was asked %q", got)
	}
}

// The token reaches the API that it is for, and nothing else.
func TestForgeToken(t *testing.T) {
	srv, other := sourcetest.Start(t), sourcetest.Start(t)
	forge := srv.Forge()
	forgeRepo(t, srv, "gh", "ann/demo").Commit("main", map[string]string{"a": "1"})
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("t0ken-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, forges(srv, file))
	if _, err := s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/main")); err != nil {
		t.Fatal(err)
	}
	if n := s.GitHubLeft(); n != 4321 {
		t.Errorf("it takes %d more questions", n)
	}
	if got := forge.Asked(); len(got) != 1 || !strings.HasPrefix(got[0], "Bearer t0ken-secret ") {
		t.Errorf("the API was asked %q", got)
	}
	var leaked string
	other.Handle("/", func(w http.ResponseWriter, r *http.Request) {
		leaked += r.Header.Get("Authorization")
		http.NotFound(w, r)
	})
	forge.Answer(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusMovedPermanently)
	})
	_, _ = s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/elsewhere"))
	if leaked != "" || len(other.Requests()) == 0 {
		t.Errorf("the other host was asked %q and given %q", other.Requests(), leaked)
	}
	if err := os.WriteFile(file, []byte("two words"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/main")); err != nil {
		t.Errorf("a damaged token file failed a launch that git can serve: %v", err)
	}
}

// An hour of 10,000 launches over 100 refs is at most 100 questions for each minute that an answer is kept. Whatever
// comes, the API is asked 5 % of what it allows: of 60 without a token, of 5,000 with one.
func TestForgeBudget(t *testing.T) {
	for _, c := range []struct {
		token string
		most  int
	}{{"", 3}, {"t0ken", 250}} {
		srv := sourcetest.Start(t)
		forge := srv.Forge()
		r := forgeRepo(t, srv, "gh", "ann/demo")
		commit := r.Commit("main", map[string]string{"a": "1"})
		const refs = 12
		for i := range refs {
			r.Git("update-ref", fmt.Sprintf("refs/heads/b%d", i), commit)
		}
		file := ""
		if c.token != "" {
			file = filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(c.token), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := start(t, forges(srv, file))
		for i := range c.most + 20 {
			got, err := s.Resolve(t.Context(), asked(t, srv, "gh", fmt.Sprintf("ann/demo/b%d", i%refs)))
			if err != nil || got.Commit != commit {
				t.Fatalf("%d: %+v, %v", i, got, err)
			}
		}
		got := forge.Asked()
		if len(got) > c.most || len(got) < c.most/2 {
			t.Errorf("with the token %q the API was asked %d times, want at most %d", c.token, len(got), c.most)
		}
		fresh := 0
		for _, line := range got {
			if strings.HasSuffix(line, " 200") {
				fresh++
			}
		}
		if fresh > refs {
			t.Errorf("%d of %d questions were not conditional", fresh, len(got))
		}
	}
}

// A forge whose API and Git server are both down fails no launch of a ref that is known, also after a restart.
func TestForgeDown(t *testing.T) {
	srv := sourcetest.Start(t)
	forge := srv.Forge()
	commit := forgeRepo(t, srv, "gh", "ann/demo").Commit("main", map[string]string{"a": "1"})
	dir := filepath.Join(t.TempDir(), "git")
	same := func(c *source.Config) { c.Dir = dir }
	s := start(t, forges(srv, ""), same)
	if _, err := s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/main")); err != nil {
		t.Fatal(err)
	}
	forge.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })
	got, err := s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/main"))
	if err != nil || got.Commit != commit {
		t.Errorf("by git: %+v, %v", got, err)
	}
	srv.Fail("/gh/", http.StatusServiceUnavailable)
	again := start(t, forges(srv, ""), same)
	for _, s := range []*source.Sources{s, again} {
		if got, err := s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/main")); err != nil || got.Commit != commit {
			t.Errorf("with everything down: %+v, %v", got, err)
		}
	}
	_, err = s.Resolve(t.Context(), asked(t, srv, "gh", "ann/demo/unknown"))
	wantError(t, err, bindery.ErrUnreachable, bindery.Transient)
}
