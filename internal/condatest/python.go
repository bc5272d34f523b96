package condatest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// interpreters are the versions of a Go module that carries CPython, by the interpreter's X.Y. The Go proxy serves it
// wherever this module's own dependencies come from.
func interpreters() map[string]string {
	return map[string]string{
		"3.10": "v0.0.0-3.10.16-20241219-1",
		"3.11": "v0.0.0-3.11.11-20241219-1",
		"3.13": "v0.0.0-3.13.1-20241219-1",
		"3.14": "v0.0.0-3.14.6-20260610-1",
	}
}

const carrier = "github.com/kluctl/go-embed-python"

// Python returns the package python of version X.Y: an interpreter with its standard library, and without pip.
func Python(ctx context.Context, xy string) (Package, error) {
	module, ok := interpreters()[xy]
	if !ok {
		return Package{}, fmt.Errorf("there is no Python %s to make a package of", xy)
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", carrier+"@"+module)
	cmd.Dir = os.TempDir() // outside the module: its go.mod names no such thing
	out, err := cmd.Output()
	if err != nil {
		return Package{}, fmt.Errorf("go mod download %s: %w: %s", carrier, err, out)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return Package{}, err
	}
	files, err := interpreter(filepath.Join(got.Dir, "python", "internal", "data", "linux-amd64"))
	if err != nil {
		return Package{}, fmt.Errorf("python %s: %w", xy, err)
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(module, "v0.0.0-"), "-")
	return Package{Name: "python", Version: version, Build: "0_cpython", Files: files}, nil
}

// interpreter reads the module's folder: plain and gzipped files, and a list of them with modes and links.
func interpreter(dir string) (map[string]File, error) {
	data, err := os.ReadFile(filepath.Join(dir, "files.json"))
	if err != nil {
		return nil, err
	}
	var list struct {
		Files []struct {
			Name, Symlink string
			Perm          uint32
			Compressed    bool
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	files := map[string]File{}
	for _, f := range list.Files {
		switch {
		case fs.FileMode(f.Perm).IsDir(), strings.Contains(f.Name, "/site-packages/"), strings.HasPrefix(f.Name, "bin/pip"):
		case f.Symlink != "":
			files[f.Name] = File{Link: f.Symlink}
		default:
			data, err := content(filepath.Join(dir, filepath.FromSlash(f.Name)), f.Compressed)
			if err != nil {
				return nil, err
			}
			files[f.Name] = File{Data: data, Executable: f.Perm&0o100 != 0}
		}
	}
	return files, nil
}

func content(file string, compressed bool) ([]byte, error) {
	if !compressed {
		return os.ReadFile(file)
	}
	data, err := os.ReadFile(file + ".gz")
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
