package buildkit_test

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
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
func TestBaseFromRegistry(t *testing.T) {
	e := shared(t)
	solve(t, e, job("base-needed", repo(t, "x", ""))) // bootstraps the base that is pushed
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
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
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	j := job("pulled", repo(t, "notebook.ipynb", "{}"))
	j.Plan.Base = ref.String()
	made := solve(t, e, j)
	if got := inside(t, e, made.Image.Name, "/bin/bash", "-lc", "jupyter lab --version"); !strings.HasPrefix(got, "4.") {
		t.Errorf("got %q", got)
	}
}
