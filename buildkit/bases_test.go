package buildkit_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// Every suite that is bootstrapped here takes the server environment. A suite's first time takes a minute.
func TestSuites(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: bootstraps two releases of Debian")
	}
	e := shared(t)
	for suite, python := range map[string]string{"bullseye": "3.9", "trixie": "3.13", "forky": "3.14"} {
		t.Run(suite, func(t *testing.T) {
			if suite == "forky" && os.Getenv("BINDERY_TEST_TESTING") == "" {
				t.Skip("Debian's testing is another every day: set BINDERY_TEST_TESTING to try it")
			}
			j := job("suite-"+suite, repo(t, "notebook.ipynb", "{}"))
			j.Plan.Base, j.Plan.Python = "debian:"+suite, python
			made := solve(t, e, j)
			got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", "python --version; jupyter lab --version; cat /etc/apt/sources.list")
			if !strings.Contains(got, "Python "+python) || !strings.Contains(got, "http://deb.debian.org/debian "+suite) {
				t.Errorf("got %s", got)
			}
		})
	}
}

// A version that no Debian has comes from uv's source.
func TestPythonOfUV(t *testing.T) {
	e := shared(t)
	j := job("python-of-uv", repo(t, "requirements.txt", "six==1.16.0\n"))
	j.Plan.Python, j.Plan.Env = "3.10", []plan.Install{{Tool: plan.ToolPip, Files: []string{"requirements.txt"}}}
	made := solve(t, e, j)
	got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", "python --version; python -c 'import six, ssl, sqlite3; print(six.__version__)'; jupyter lab --version; pip --version; ls -A /srv/conda/pythons")
	for _, want := range []string{"Python 3.10.16\n1.16.0\n4.", "python 3.10)"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	t.Log(got)
	checkClean(t, e, made)
	j.Plan.Python = "3.8" // which the mirror lacks
	if _, err := e.Solve(t.Context(), j, func(bindery.Event) {}); !errors.Is(err, bindery.ErrStep) || !strings.Contains(err.Error(), "python.downloads") {
		t.Errorf("got %v", err)
	}
}

// Any image with apt-get is a base; it comes from a registry.
// The registry wants a password, which only the Docker configuration of the one who runs the worker knows.
func TestBaseFromRegistry(t *testing.T) {
	e := shared(t)
	solve(t, e, job("base-needed", repo(t, "x", ""))) // bootstraps the base that is pushed
	const user, password = "ann", "open sesame"
	open := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		open.ServeHTTP(w, r)
	}))
	defer srv.Close()
	found, err := filepath.Glob(filepath.Join(cacheDir(), "bases", "bookworm-*", "index.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no base: %v", err)
	}
	index, err := layout.ImageIndexFromPath(filepath.Dir(found[0]))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/some/base:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: user, Password: password})); err != nil {
		t.Fatal(err)
	}
	j := job("pulled", repo(t, "notebook.ipynb", "{}"))
	j.Plan.Base = ref.String()
	if _, err := e.Solve(t.Context(), j, func(bindery.Event) {}); err == nil {
		t.Error("the base was pulled without a password")
	}
	known := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, ref.Context().RegistryStr(), base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	made := solve(t, e, j)
	if got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", "jupyter lab --version"); !strings.HasPrefix(got, "4.") {
		t.Errorf("got %q", got)
	}
}
