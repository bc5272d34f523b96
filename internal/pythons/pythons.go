// Package pythons is a mirror of Python interpreters in uv's own format, for tests: uv's source may be out of reach.
package pythons

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// versions are the interpreters that a Go module carries, by the module's version. They are python-build-standalone's,
// as uv's own are, without headers.
func versions() map[string]string {
	return map[string]string{
		"3.10.16": "v0.0.0-3.10.16-20241219-1",
		"3.11.11": "v0.0.0-3.11.11-20241219-1",
		"3.13.1":  "v0.0.0-3.13.1-20241219-1",
		"3.14.6":  "v0.0.0-3.14.6-20260610-1",
	}
}

const module = "github.com/kluctl/go-embed-python"

// A Mirror serves /list.json, for UV_PYTHON_DOWNLOADS_JSON_URL, and the archives that the list names. Archives are made
// when they are first asked for, from modules that the Go proxy has.
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
	from, err := download(version)
	if err != nil {
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
	if err := errors.Join(pack(t, from), t.Close(), z.Close()); err != nil {
		return "", fmt.Errorf("pack Python %s: %w", version, err)
	}
	return file, os.Rename(tmp.Name(), file)
}

// download has the go command fetch the module, outside of any other, and returns the directory with the interpreter.
func download(version string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module+"@"+versions()[version])
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download: %w: %s", err, out)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	return filepath.Join(got.Dir, "python", "internal", "data", "linux-amd64"), nil
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
