package main

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// defaultStateDir is where everything is kept when nothing else is said.
const defaultStateDir = "/var/lib/bindery"

// An instance is one state directory with the names that are derived from it: two instances on one machine share
// no bridge, no cgroup and no namespace.
type instance struct {
	dir string // absolute, without symbolic links where it exists
	id  string // six hex digits
}

func newInstance(dir string) (instance, error) {
	abs, err := filepath.Abs(cmp.Or(dir, defaultStateDir))
	if err != nil {
		return instance{}, fmt.Errorf("state directory: %w", err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	sum := sha256.Sum256([]byte(abs))
	return instance{dir: abs, id: hex.EncodeToString(sum[:3])}, nil
}

func (i instance) path(elem ...string) string {
	return filepath.Join(append([]string{i.dir}, elem...)...)
}

func (i instance) cgroup() string { return "/bindery-" + i.id }
func (i instance) runDir() string { return "/run/bindery-" + i.id }

// create makes the state directory with its parts, open to its owner only.
func (i instance) create() error {
	for _, dir := range []string{"", "worker", "sessions", "net", "runs", "logs"} {
		if err := os.MkdirAll(i.path(dir), 0o700); err != nil {
			return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Choose a directory that can be written with --state-dir.",
				"The state directory %s cannot be made", i.dir).Because(err)
		}
	}
	if err := os.Chmod(i.dir, 0o700); err != nil {
		return fmt.Errorf("close the state directory: %w", err)
	}
	return nil
}

// secret returns the random text kept in the named file of the state directory, and makes it at the first call.
func (i instance) secret(name string) (string, error) {
	file := i.path(name)
	text, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(text))) >= 20 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	fresh := rand.Text()
	if err := writeFile(file, []byte(fresh+"\n")); err != nil {
		return "", fmt.Errorf("keep the secret: %w", err)
	}
	return fresh, nil
}

// writeFile replaces a file as a whole, readable by its owner only.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is gone after the rename
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// findRuntime looks for the program that starts containers: as named, beside our own executable, on the PATH.
func findRuntime(named string) (string, error) {
	missing := bindery.Errorf(bindery.ErrNotReady, bindery.Ours,
		"Install runc 1.1 or later (`make setup` builds one), or name it with --runtime or BINDERY_RUNC.", "The program runc was not found")
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", missing.Because(err)
		}
		return filepath.Abs(path)
	}
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), "runc")
		if path, err := exec.LookPath(beside); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("runc")
	if err != nil {
		return "", missing.Because(err)
	}
	return filepath.Abs(path)
}

// newID returns a fresh name of prefix and 16 characters that nobody can guess.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }
