package corpus_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/internal/corpus"
	"github.com/bindery-hub/bindery/plan"
)

// mutations are ways to change a file. A declared input must have one that leaves it readable and changes what it
// says; to a file that is none, nothing that is done to it may matter.
func mutations(name string, data []byte) [][]byte {
	appended := func(s string) []byte { return append(bytes.Clone(data), s...) }
	replaced := func(pattern, by string) []byte { return regexp.MustCompile(pattern).ReplaceAll(data, []byte(by)) }
	out := [][]byte{appended("\n"), appended("\n# changed\n")}
	switch base := filepath.Base(name); {
	case base == "apt.txt":
		out = append(out, appended("\nsl\n"))
	case base == "runtime.txt":
		out = append(out, []byte("python-3.9\n"), []byte("python-3.13\n"), []byte("r-2023-02-03\n"), []byte("r-4.2-2023-02-03\n"))
	case strings.HasPrefix(base, "environment.y"):
		out = append(out, []byte("dependencies:\n  - zlib\n"), replaced(`(?m)^dependencies:.*$`, "dependencies:\n  - zlib"), replaced(`(?m)^( *)- numpy.*$`, "$1- numpy=1.99"))
	case strings.HasSuffix(base, ".toml"):
		out = append(out, replaced(`requires-python *=.*`, `requires-python = "==3.9.*"`), appended("\n[tool.changed]\nx = 1\n"), replaced(`julia *=.*`, `julia = "=1.9.4"`),
			replaced(`(?m)^dependencies *= *\[`, `dependencies = ["cowsay", `), replaced(`(?m)^\[dependencies\]$`, "[dependencies]\nzlib = \"*\""))
	case strings.HasSuffix(base, ".lock"), strings.HasSuffix(base, ".json"), strings.HasSuffix(base, ".yml"), strings.HasSuffix(base, ".yaml"):
		out = append(out, replaced(`"Version": "0[^"]*"`, `"Version": "0.9.9"`), replaced(`"version": "[^"]*"`, `"version": "9.9.9"`), replaced(`: 1111`, `: 3333`), replaced(`six-1\.16\.0`, `six-1.15.0`))
	case base == ".python-version":
		out = append(out, []byte("3.9\n"), []byte("3.12\n"), []byte("3.13\n"))
	case base == "Pipfile":
		out = append(out, replaced(`(?m)^six *=.*$`, `six = "*"`), replaced(`python_version *=.*`, `python_version = "3.13"`))
	}
	return out
}

// silent are declared inputs that cannot change the environment as long as another file is there, and the reason.
func silent() map[string]string {
	return map[string]string{
		"pipfile-lock/Pipfile":     "Pipfile.lock has everything, the version of Python included",
		"pixi-lock/pyproject.toml": "pixi.lock has everything",
	}
}

// TestMutations changes every file of every sample in turn. An input that the plan declares changes the environment's
// key; nothing else does, so that a changed notebook, README or postBuild builds no environment.
func TestMutations(t *testing.T) {
	inputs, others := 0, 0
	for _, s := range corpus.Samples() {
		if s.Slow && s.Generated() {
			continue // their files are all alike
		}
		t.Run(s.Name, func(t *testing.T) {
			dir := t.TempDir()
			if err := s.Write(dir); err != nil {
				t.Fatal(err)
			}
			reads, key := keyOf(t, dir)
			if key == "" {
				return // it cannot be planned
			}
			for _, name := range filesOf(t, dir) {
				if _, known := silent()[s.Name+"/"+name]; known {
					continue
				}
				if slices.Contains(reads, name) {
					inputs++
					judgeInput(t, dir, name, key)
					continue
				}
				others++
				judgeOther(t, dir, name, key)
			}
			// And a file more.
			if err := os.WriteFile(filepath.Join(dir, "another notebook.ipynb"), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, got := keyOf(t, dir); got != key {
				t.Error("a new notebook changes the environment's key")
			}
		})
	}
	if inputs < 20 || others < 100 {
		t.Errorf("only %d inputs and %d other files", inputs, others)
	}
	t.Logf("%d declared inputs changed the key, %d other files did not", inputs, others)
}

// keyOf plans a directory: what its environment reads, and its key; none when it cannot be planned.
func keyOf(t *testing.T, dir string) (reads []string, key string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	p, err := plan.Detect(root.FS(), plan.Options{})
	if err != nil {
		return nil, ""
	}
	if key, err = p.EnvKey("g", root.FS()); err != nil {
		t.Fatal(err)
	}
	return p.Reads, key
}

func filesOf(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// with puts data into a file while f runs.
func with(t *testing.T, dir, name string, data []byte, f func()) {
	t.Helper()
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{data, old} {
		if err := os.WriteFile(path, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
		if f != nil {
			f()
		}
		f = nil
	}
}

func contents(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func judgeInput(t *testing.T, dir, name, key string) {
	t.Helper()
	changed := false
	for _, m := range mutations(name, contents(t, dir, name)) {
		with(t, dir, name, m, func() {
			_, got := keyOf(t, dir)
			changed = changed || got != "" && got != key
		})
	}
	if !changed {
		t.Errorf("%s is a declared input, and no change of it changes the environment's key", name)
	}
}

func judgeOther(t *testing.T, dir, name, key string) {
	t.Helper()
	for _, m := range mutations(name, contents(t, dir, name)) {
		with(t, dir, name, m, func() {
			if _, got := keyOf(t, dir); got != "" && got != key {
				t.Errorf("%s is no declared input, and changing it changes the environment's key:\n%s", name, m)
			}
		})
	}
}
