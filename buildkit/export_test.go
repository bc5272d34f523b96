package buildkit_test

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// aRegistry serves a registry and returns the beginning of its images' names.
func aRegistry(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func pulled(t *testing.T, ref string) *remote.Descriptor {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Get(parsed)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// Layers leave in the compression that was asked for.
func TestCompressions(t *testing.T) {
	e, _ := start(t, config(t, tempDir(t)))
	host := aRegistry(t)
	for asked, want := range map[string]string{"": "+zstd", "zstd": "+zstd", "gzip": "+gzip", "estargz": "+gzip", "none": ".tar"} {
		j := small(t, "compressed", "the same")
		j.Push, j.Export.Compression = []string{host + "/ann/c:x" + asked}, asked
		solve(t, e, j)
		img, err := pulled(t, j.Push[0]).Image()
		if err != nil {
			t.Fatal(err)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range m.Layers {
			if !strings.HasSuffix(string(l.MediaType), want) {
				t.Errorf("%q: a layer is %s", asked, l.MediaType)
			}
			if toc := l.Annotations["containerd.io/snapshot/stargz/toc.digest"]; (asked == "estargz") != (toc != "") {
				t.Errorf("%q: the layer's table of contents is %q", asked, toc)
			}
		}
	}
	j := small(t, "compressed", "x")
	j.Export.Compression = "bzip2"
	if _, err := e.Solve(t.Context(), j, func(bindery.Event) {}); !errors.Is(err, bindery.ErrInvalid) {
		t.Errorf("bzip2: got %v, want invalid", err)
	}
}

// dockerJob is of a Dockerfile beside a program that copies its first argument's file to the second: a base would take
// longer to pack than everything else.
func dockerJob(t *testing.T, name, dockerfile string) plan.Job {
	t.Helper()
	j := job(name, repo(t, "Dockerfile", dockerfile))
	src := repo(t, "go.mod", "module cp\n", "main.go", `package main

import "os"

func main() {
	b, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = os.WriteFile(os.Args[2], append(b, '.'), 0o644)
	}
	if err != nil {
		panic(err)
	}
}
`)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(j.Dir, "cp"), ".")
	cmd.Dir, cmd.Env = src, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	j.Plan = plan.Plan{Pack: plan.PackDockerfile, Docker: "Dockerfile"}
	return j
}

// A statement is an in-toto one, as far as it is read here.
type statement struct {
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
	Predicate json.RawMessage `json:"predicate"`
}

// statements reads those that are pushed beside an image, by their type, and the image's own digest.
func statements(t *testing.T, ref string) (map[string]statement, v1.Hash) {
	t.Helper()
	index, err := pulled(t, ref).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	found, image := map[string]statement{}, v1.Hash{}
	for _, d := range m.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" {
			image = d.Digest
			continue
		}
		about, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := about.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			body, err := l.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			var s statement
			if err := json.NewDecoder(body).Decode(&s); err != nil {
				t.Fatal(err)
			}
			found[s.PredicateType] = s
		}
	}
	return found, image
}

// What is pushed carries what is in it and how it was made, as statements about its digest; the same image is there
// to launch, and lists the same packages.
func TestAttestations(t *testing.T) {
	e := shared(t)
	j := job("attested", repo(t, "x", ""))
	j.Push = []string{aRegistry(t) + "/ann/attested:1"}
	j.Source = bindery.Source{Provider: bindery.ProviderGit, URL: "https://git.example/ann/repo", Commit: strings.Repeat("ab", 20)}
	j.Export.SBOM, j.Export.Provenance = true, true
	made := solve(t, e, j)
	found, image := statements(t, j.Push[0])
	for kind, words := range map[string][]string{
		"https://spdx.dev/Document":      {"pkg:pypi/jupyterlab@4.", "pkg:deb/debian/git@1%3A", "distro=bookworm", "SPDX-2.3"},
		"https://slsa.dev/provenance/v1": {"git+https://git.example/ann/repo@abab", "pkg:pypi/jupyterlab@4.", "env-attested", `"gitCommit"`},
	} {
		s, ok := found[kind]
		if !ok {
			t.Errorf("no statement of type %s", kind)
			continue
		}
		if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != image.Hex {
			t.Errorf("%s is about %v, not %s", kind, s.Subject, image)
		}
		for _, w := range words {
			if !strings.Contains(string(s.Predicate), w) {
				t.Errorf("%s does not say %q", kind, w)
			}
		}
	}
	inv, err := e.Inventory(t.Context(), made.Image.Name)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, l := range inv.Locks() {
		files = append(files, l.Name)
		if l.Name == "requirements.txt" && !strings.Contains(l.Text, "\njupyterlab==4.") {
			t.Errorf("requirements.txt:\n%s", l.Text)
		}
	}
	if got := strings.Join(files, " "); got != "apt.txt requirements.txt" {
		t.Errorf("lock files %s", got)
	}
	if inv.Python != "3.11" || inv.Codename != "bookworm" {
		t.Errorf("Python %q on %q", inv.Python, inv.Codename)
	}
}

// Steps that one machine has finished are another's cache, by way of a registry.
func TestCacheInRegistry(t *testing.T) {
	const steps = "FROM scratch\nCOPY cp /\nRUN [\"/cp\", \"/cp\", \"/one\"]\nRUN [\"/cp\", \"/one\", \"/two\"]\n"
	const more = "RUN [\"/cp\", \"/two\", \"/"
	at := aRegistry(t) + "/ann/cache:main"
	first, stop := start(t, config(t, tempDir(t)))
	j := dockerJob(t, "cached", steps)
	j.Export.CacheTo = at
	if made := solve(t, first, j); made.Steps.Run != 2 {
		t.Fatalf("steps %+v, want two run", made.Steps)
	}
	stop()
	second, _ := start(t, config(t, tempDir(t)))
	j = dockerJob(t, "cached", steps+more+"three\"]\n")
	j.Export.CacheFrom = []string{at}
	if made := solve(t, second, j); made.Steps.Run != 1 || made.Steps.Cached != 2 {
		t.Errorf("steps %+v, want one run and two cached", made.Steps)
	}
	// A cache that is not there is no reason to fail a build.
	j = dockerJob(t, "uncached", steps+more+"four\"]\n")
	j.Export.CacheFrom = []string{at + "-missing"}
	solve(t, second, j)
}
