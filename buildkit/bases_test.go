package buildkit_test

import (
	"encoding/base64"
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
)

// Every suite that is bootstrapped here takes the server environment. A suite's first time takes a minute.
func TestSuites(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: bootstraps two releases of Debian")
	}
	e := shared(t)
	for suite, python := range map[string]string{"bullseye": "3.9", "trixie": "3.13"} {
		t.Run(suite, func(t *testing.T) {
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
