// Package pythons is a mirror of Python interpreters in uv's own format, for tests: uv's source may be out of reach.
package pythons

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A maker writes an interpreter's files under python/, as uv expects them.
type maker func(*tar.Writer) error

// versions are the interpreters that there are. Those of a Go module are python-build-standalone's, as uv's own are, without
// headers. That of Maven's repository was built for Java programs, and is complete.
func versions() map[string]maker {
	return map[string]maker{
		"3.10.16": ofModule("v0.0.0-3.10.16-20241219-1"),
		"3.11.11": ofModule("v0.0.0-3.11.11-20241219-1"),
		"3.12.1":  ofMaven("3.12.1-1.5.10", "a135fcf4dc01adebf7ea439252276fc3196db80f7e0dd3da0b61f1ec489b68bd"),
		"3.13.1":  ofModule("v0.0.0-3.13.1-20241219-1"),
		"3.14.6":  ofModule("v0.0.0-3.14.6-20260610-1"),
	}
}

// A Mirror serves /list.json, for UV_PYTHON_DOWNLOADS_JSON_URL, and the archives that the list names. Archives are made
// when they are first asked for.
type Mirror struct {
	dir string // keeps the archives
	mu  sync.Mutex
}

// New returns a Mirror that keeps its archives in dir, which may hold those of an earlier one.
func New(dir string) *Mirror { return &Mirror{dir: dir} }

// An entry of uv's list. There is no checksum: it would take making every archive to write the list.
type entry struct {
	Name string `json:"name"`
	Arch struct {
		Family  string  `json:"family"`
		Variant *string `json:"variant"`
	} `json:"arch"`
	OS         string  `json:"os"`
	Libc       string  `json:"libc"`
	Major      int     `json:"major"`
	Minor      int     `json:"minor"`
	Patch      int     `json:"patch"`
	Prerelease string  `json:"prerelease"`
	URL        string  `json:"url"`
	SHA256     *string `json:"sha256"`
	Variant    *string `json:"variant"`
}

// ServeHTTP answers for the list and for the archives.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/list.json" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list("http://" + r.Host)) // a client that is gone is no matter
		return
	}
	version, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, ".tar.gz"), "/cpython-")
	if _, known := versions()[version]; !ok || !known {
		http.NotFound(w, r)
		return
	}
	file, err := m.archive(version)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	http.ServeFile(w, r, file)
}

func list(url string) map[string]entry {
	all := map[string]entry{}
	for version := range versions() {
		e := entry{Name: "cpython", OS: "linux", Libc: "gnu", URL: url + "/cpython-" + version + ".tar.gz"}
		e.Arch.Family = "x86_64"
		parts := strings.Split(version, ".")
		for i, at := range []*int{&e.Major, &e.Minor, &e.Patch} {
			*at, _ = strconv.Atoi(parts[i]) // constants
		}
		all["cpython-"+version+"-linux-x86_64-gnu"] = e
	}
	return all
}

// archive returns the file with an interpreter, which it makes if need be.
func (m *Mirror) archive(version string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	file := filepath.Join(m.dir, "cpython-"+version+".tar.gz")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(m.dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	z, err := gzip.NewWriterLevel(tmp, gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	t := tar.NewWriter(z)
	if err := errors.Join(versions()[version](t), t.Close(), z.Close()); err != nil {
		return "", fmt.Errorf("pack Python %s: %w", version, err)
	}
	return file, os.Rename(tmp.Name(), file)
}

const module = "github.com/kluctl/go-embed-python"

// ofModule has the go command fetch a version of the module, outside of any other.
func ofModule(version string) maker {
	return func(t *tar.Writer) error {
		cmd := exec.Command("go", "mod", "download", "-json", module+"@"+version)
		cmd.Dir = os.TempDir()
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("go mod download: %w: %s", err, out)
		}
		var got struct{ Dir string }
		if err := json.Unmarshal(out, &got); err != nil {
			return fmt.Errorf("go mod download: %w", err)
		}
		return pack(t, filepath.Join(got.Dir, "python", "internal", "data", "linux-amd64"))
	}
}

// pack writes what files.json lists, under python/ as uv expects it. Larger files are kept compressed.
func pack(t *tar.Writer, from string) error {
	text, err := os.ReadFile(filepath.Join(from, "files.json"))
	if err != nil {
		return err
	}
	var index struct {
		Files []struct {
			Name       string
			Perm       fs.FileMode
			Symlink    string
			Compressed bool
		}
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return err
	}
	for _, f := range index.Files {
		h := &tar.Header{Name: "python/" + f.Name, Mode: int64(f.Perm.Perm()), Format: tar.FormatPAX}
		switch {
		case f.Perm.IsDir():
			h.Typeflag = tar.TypeDir
			h.Name += "/"
		case f.Symlink != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Symlink, 0o777
		}
		var data []byte
		if h.Typeflag == 0 {
			if data, err = content(filepath.Join(from, f.Name), f.Compressed); err != nil {
				return err
			}
			h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(data); err != nil {
			return err
		}
	}
	return nil
}

func content(file string, compressed bool) ([]byte, error) {
	if !compressed {
		return os.ReadFile(file)
	}
	f, err := os.Open(file + ".gz")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// ofMaven makes one of what Maven's repository has.
func ofMaven(version, sum string) maker {
	return func(t *tar.Writer) error {
		files, err := Maven(version, sum)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: "python/" + name, Mode: 0o755, Size: int64(len(files[name])), Format: tar.FormatPAX}
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			if _, err := t.Write(files[name]); err != nil {
				return err
			}
		}
		return nil
	}
}

// Maven fetches a version of org.bytedeco:cpython, with the jar's sum, and returns the files of the installation in it, by
// their paths.
func Maven(version, sum string) (map[string][]byte, error) {
	resp, err := http.Get("https://repo1.maven.org/maven2/org/bytedeco/cpython/" + version + "/cpython-" + version + "-linux-x86_64.jar")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != sum {
		return nil, fmt.Errorf("%s: %s with sum %s, want %s", resp.Request.URL, resp.Status, got, sum)
	}
	jar, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(version, ".", 3)
	files := map[string][]byte{}
	for _, f := range jar.File {
		name, ok := strings.CutPrefix(f.Name, "org/bytedeco/cpython/linux-x86_64/")
		at := place(name, "python"+parts[0]+"."+parts[1])
		if !ok || at == "" || !f.Mode().IsRegular() {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		if files[at], err = io.ReadAll(r); err != nil {
			return nil, err
		}
		_ = r.Close() // of memory
	}
	return files, nil
}

// place is where a file of the jar belongs, or "". Libraries lie beside the directories there.
func place(name, python string) string {
	dir, base := path.Split(name)
	switch {
	case strings.HasPrefix(base, "libpython") && dir == "":
		return "lib/" + base
	case strings.HasPrefix(base, "libffi.so.") && dir == "": // where the one module that wants it looks
		return "lib/" + python + "/" + base
	case name == "bin/"+python, strings.HasPrefix(name, "include/"), strings.HasPrefix(name, "lib/"+python+"/") && !strings.Contains(name, "/test/"):
		return name
	}
	return ""
}
