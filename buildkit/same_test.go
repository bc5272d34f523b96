package buildkit_test

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// Equal inputs make equal digests: two machines that start from nothing, at another time, with files of other times and
// other owners, make the same image bit by bit. Layers are not compressed here: that takes longer than all else, and is
// the same for the same bytes.
func TestEqualInputsMakeEqualDigests(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: makes everything twice")
	}
	shared(t) // which serves what the machine may not reach
	engines := [2]*buildkit.Engine{}
	for i := range engines {
		c := config(t, tempDir(t))
		c.Volatile, c.Trust = true, sharedTrust
		engines[i], _ = start(t, c)
	}
	t.Run("every tool", func(t *testing.T) {
		j, events := makeTwice(t, engines, everyTool)
		sideBySide(t, events, "Install cowsay", "Install the Jupyter servers")
		sideBySide(t, events, "Install package-lock.json", "Install requirements.txt")
		oneLayer(t, engines[1], j)
		frozen(t, engines[1], j, "apt.txt requirements.txt package-lock.json")
	})
	packages := cran(t)
	for _, tt := range []struct {
		name  string
		job   func(t *testing.T) plan.Job
		locks string
	}{
		{"conda", everyConda, "apt.txt conda.lock requirements.txt"},
		{"Python of uv's", pythonOfUV, "apt.txt requirements.txt"},
		{"R", func(t *testing.T) plan.Job { return everyR(t, packages) }, "apt.txt requirements.txt renv.lock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j, _ := makeTwice(t, engines, tt.job)
			frozen(t, engines[1], j, tt.locks)
		})
	}
}

// makeTwice makes a job on each of two engines, and compares what they have written. It returns the second job's story.
func makeTwice(t *testing.T, engines [2]*buildkit.Engine, job func(t *testing.T) plan.Job) (j plan.Job, events []bindery.Event) {
	t.Helper()
	var digests, layouts []string
	for i, e := range engines {
		j = job(t)
		j.EnvKey, j.ImageKey = "environment", "image" // tests make up keys that are new each time
		touch(t, j.Dir, time.Date(2001+20*i, 2, 3, 4, 5, 6, 7, time.UTC), 1000*i)
		j.OCI = filepath.Join(tempDir(t), "layout")
		j.Export.SBOM, j.Export.Provenance, j.Export.Compression = true, true, "none"
		s := &story{t: t}
		began := time.Now()
		made, err := e.Solve(t.Context(), j, s.emit)
		if err != nil {
			t.Fatalf("%v\n%s", err, s.text())
		}
		t.Logf("built and written in %.1f s", time.Since(began).Seconds())
		digests, layouts = append(digests, made.Digest), append(layouts, j.OCI)
		events = s.events
	}
	if digests[0] != digests[1] {
		t.Errorf("two digests: %q", digests)
		differences(t, layouts)
	}
	return j, events
}

// frozen checks which lock files there are of what a job has installed.
func frozen(t *testing.T, e *buildkit.Engine, j plan.Job, want string) {
	t.Helper()
	inv, err := e.Inventory(t.Context(), j.Name)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, l := range inv.Locks() {
		files = append(files, l.Name)
	}
	if got := strings.Join(files, " "); got != want {
		t.Errorf("lock files %s, want %s", got, want)
	}
}

// differences reports the files that differ between two images.
func differences(t *testing.T, layouts []string) {
	t.Helper()
	one, two := entries(t, layouts[0]), entries(t, layouts[1])
	maps.Copy(one, missing(two, one))
	shown := 0
	for _, name := range slices.Sorted(maps.Keys(one)) {
		if one[name] != two[name] && shown < 200 {
			shown++
			t.Errorf("%s\n  %s\n  %s", name, one[name], two[name])
		}
	}
}

// missing returns what from has and in has not, as nothing.
func missing(from, in map[string]string) map[string]string {
	out := map[string]string{}
	for name := range from {
		if _, ok := in[name]; !ok {
			out[name] = ""
		}
	}
	return out
}

// sideBySide checks by a build's timeline that two of its steps ran at the same time.
func sideBySide(t *testing.T, events []bindery.Event, names ...string) {
	t.Helper()
	last := map[string]bindery.Step{}
	for _, ev := range events {
		if ev.Step != nil {
			last[ev.Step.Name] = *ev.Step
		}
	}
	one, two := last[names[0]], last[names[1]]
	if one.Ended.IsZero() || two.Ended.IsZero() || one.Cached || two.Cached {
		t.Errorf("no times of %q: %+v, %+v", names, one, two)
		return
	}
	if !one.Started.Before(two.Ended) || !two.Started.Before(one.Ended) {
		t.Errorf("one after the other: %q from %v to %v, %q from %v to %v", one.Name, one.Started, one.Ended, two.Name, two.Started, two.Ended)
	}
}

// oneLayer changes a notebook of j, apart from what runs with the files in place: no step runs, and all layers but the
// last are what they were.
func oneLayer(t *testing.T, e *buildkit.Engine, j plan.Job) {
	t.Helper()
	j.Name, j.GitDir, j.Plan.PostBuild, j.Plan.Content = "bindery/notebook", "", "", nil
	j.Export.SBOM, j.Export.Provenance = false, false
	var all [][]string
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(j.Dir, "index.ipynb"), fmt.Appendf(nil, "{%d}", i), 0o644); err != nil {
			t.Fatal(err)
		}
		j.ImageKey, j.OCI = fmt.Sprint("notebook-", i), filepath.Join(tempDir(t), "layout")
		if made := solve(t, e, j); made.Steps.Run != 0 {
			t.Errorf("with notebook %d: %+v", i, made.Steps)
		}
		all = append(all, layers(t, j.OCI))
	}
	n := len(all[0]) - 1
	if n < 3 || len(all[1]) != n+1 || !slices.Equal(all[0][:n], all[1][:n]) || all[0][n] == all[1][n] {
		t.Errorf("a changed notebook changed other layers than the last one: %q", all)
	}
}

// layers are the digests of an image's layers.
func layers(t *testing.T, dir string) []string {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range manifest.Layers {
		out = append(out, l.Digest.String())
	}
	return out
}

// everyTool is a repository for most of what installs something: Debian, uv with wheels and with sources, npm, a package
// of its own, a postBuild that installs more.
func everyTool(t *testing.T) plan.Job {
	t.Helper()
	j := sample(t, "node")
	for name, text := range map[string]string{
		"apt.txt":          "cowsay\n",
		"requirements.txt": "pyyaml==6.0.2\ndocopt==0.6.2\n",
		"setup.py":         "from setuptools import setup\nsetup(name='mine', version='1.0', py_modules=['mine'])\n",
		"mine.py":          "X = {'a', 'b', 'c'}\n",
		"postBuild":        "set -e\npython -m pip install --no-cache-dir toolz==1.0.0\ndate > /dev/null\nmkdir made\necho made > made/file\n",
		"start":            "#!/bin/sh\nexec \"$@\"\n",
		".git/HEAD":        "ref: refs/heads/main\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(j.Dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(j.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if j.Plan, err = plan.Detect(os.DirFS(j.Dir), plan.Options{}); err != nil {
		t.Fatal(err)
	}
	j.GitDir = filepath.Join(j.Dir, ".git")
	return j
}

// everyConda is a repository with a bit of everything that conda installs, and a postBuild that installs more.
func everyConda(t *testing.T) plan.Job {
	t.Helper()
	return condaJob(t, "same-conda", repo(t, "environment.yml", scienceYML("pyyaml==6.0.2"), "mine.py", "X = {'a', 'b', 'c'}\n",
		"postBuild", "set -e\npython -c 'import mine, yaml'\nconda run -n notebook greet > greeted\nmamba list > listed\n"))
}

// pythonOfUV is a repository whose Python is in no Debian, and one that orders sets by address where None is in them. Its
// postBuild installs a package with such a set.
func pythonOfUV(t *testing.T) plan.Job {
	t.Helper()
	return condaJob(t, "same-uv", repo(t, "runtime.txt", "python-3.10\n", "requirements.txt", "pyyaml==6.0.2\ndocopt==0.6.2\n",
		"mine.py", "X = {'a', 'b', 'c'}\n", "postBuild", "set -e\npython -c 'import mine'\npip install --no-cache-dir click==8.1.7\n"))
}

// everyR is a repository with R's packages: of Debian, of CRAN, of a lock file, its own; with help pages and code to compile.
func everyR(t *testing.T, packages string) plan.Job {
	t.Helper()
	return planned(t, "same-r", rRepository(t, ""), "BINDERY_R_CRAN", packages)
}

// touch gives everything in dir a time and an owner.
func touch(t *testing.T, dir string, when time.Time, owner int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Chown(path, owner, owner)
		}
		if err == nil {
			err = os.Chtimes(path, when, when)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entries describes every file of every layer of an image, and what else is said of it.
func entries(t *testing.T, dir string) map[string]string {
	t.Helper()
	path, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, d := range m.Manifests {
		if d.MediaType.IsIndex() {
			if index, err = index.ImageIndex(d.Digest); err != nil {
				t.Fatal(err)
			}
			if m, err = index.IndexManifest(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, d := range m.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		found[fmt.Sprintf("%d config", i)] = string(config)
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for n, l := range layers {
			body, err := l.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				text, err := io.ReadAll(body)
				if err != nil {
					t.Fatal(err)
				}
				found[fmt.Sprintf("%d statement %d", i, n)] = fmt.Sprintf("%x", sha256.Sum256(text))
				continue
			}
			list(t, found, fmt.Sprintf("layer %d ", n), tar.NewReader(body))
		}
	}
	return found
}

func list(t *testing.T, found map[string]string, prefix string, r *tar.Reader) {
	t.Helper()
	for at := 0; ; at++ {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			t.Fatal(err)
		}
		found[prefix+h.Name] = fmt.Sprintf("%d %c %o %d:%d %s %d %s %v %x", at, h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Format(time.RFC3339Nano), h.Size, h.Linkname, h.PAXRecords, sum.Sum(nil)[:6])
	}
}
