package condatest

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bindery-hub/bindery/internal/pythons"
)

// OldKernel returns a Python that no Jupyter server runs on any more, and the last ipykernel for it with all that it needs,
// as two packages. They are a real interpreter, of Maven's repository, and what its own pip installs.
func OldKernel(ctx context.Context) (python, kernel Package, err error) {
	python = Package{Name: "python", Version: "3.7.9", Files: map[string]File{}}
	kernel = Package{Name: "ipykernel", Version: "6.16.2", Files: map[string]File{}}
	files, err := pythons.Maven("3.7.9-1.5.4", "0521c8dfb6c132946513e747a28f3a93bac945f83d7cda829956f69453b03f31")
	if err != nil {
		return python, kernel, err
	}
	dir, err := os.MkdirTemp("", "bindery-kernel-")
	if err != nil {
		return python, kernel, err
	}
	defer os.RemoveAll(dir)
	for name, data := range files {
		file := filepath.Join(dir, "python", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return python, kernel, err
		}
		if err := os.WriteFile(file, data, 0o755); err != nil {
			return python, kernel, err
		}
		python.Files[name] = File{Data: data, Executable: name == "bin/python3.7"}
	}
	python.Files["bin/python"] = File{Link: "python3.7"}
	target := filepath.Join(dir, "kernel")
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "python", "bin", "python3.7"), "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--target", target, "ipykernel==6.16.2")
	if out, err := cmd.CombinedOutput(); err != nil {
		return python, kernel, fmt.Errorf("pip install ipykernel: %w: %s", err, out)
	}
	return python, kernel, filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(target, path)
		kernel.Files["lib/python3.7/site-packages/"+filepath.ToSlash(name)] = File{Data: data}
		return err
	})
}
