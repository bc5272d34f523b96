// Package corpus is the collection of sample repositories for the tests of planning, building, running.
package corpus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A Sample is one repository: a directory of testdata/repos, or one that is written by a program because it is large
// or because its names are more than a Git checkout can be asked to bear everywhere.
type Sample struct {
	Name  string
	Built bool         // it is built, and its ./verify is run in the image
	Slow  bool         // building or running it takes a minute or more, or much disk
	Fails bindery.Kind // of the error that planning or building it ends with; empty if none
	Says  string       // part of that error's message, or of the log before it
	write func(dir string) error
}

// Samples returns all samples.
func Samples() []Sample {
	return slices.Concat(commonSamples(), pythonSamples())
}

func commonSamples() []Sample {
	return []Sample{
		{Name: "empty", write: func(string) error { return nil }},
		{Name: "default", Built: true},
		{Name: "requirements", Built: true},
		{Name: "scientific", Built: true, Slow: true},
		{Name: "binder-dir", Built: true},
		{Name: "dot-binder-dir", Built: true},
		{Name: "apt-postbuild", Built: true},
		{Name: "start", Built: true},
		{Name: "package", Built: true},
		{Name: "local-requirement", Built: true},
		{Name: "utf16", Built: true},
		{Name: "non-ascii", Built: true},
		{Name: "dockerfile", Built: true},
		{Name: "dockerfile-binder-dir", Built: true},
		{Name: "binder-file"},
		{Name: "lower-case"},
		{Name: "profile", Built: true},
		{Name: "links", Built: true},
		{Name: "apt-forms"},
		{Name: "r", Built: true, Slow: true}, // R itself: most of a minute
		{Name: "r-description", Built: true, Slow: true},
		{Name: "r-renv", Built: true, Slow: true},
		{Name: "julia"}, // Julia's and Nix's servers are not reached by tests either
		{Name: "julia-binder-dir"},
		{Name: "julia-manifest"},
		{Name: "julia-package"},
		{Name: "julia-both-projects"},
		{Name: "julia-ranges"},
		{Name: "julia-conda"},
		{Name: "nix"},
		{Name: "nix-binder-dir"},
		{Name: "nix-local"},
		{Name: "everything", Built: true, Slow: true}, // R, Python, apt, postBuild, start, ignored files, in .binder
		{Name: "r-conda"},                             // a combination that needs conda-forge
		{Name: "r-binder-dir"},
		{Name: "r-install-alone"},
		{Name: "r-no-date"},
		{Name: "r-description-python"},
		{Name: "r-build"}, // an R that comes from servers that tests do not reach
		{Name: "odd-names", Built: true, write: writeOddNames},
		{Name: "large", Built: true, Slow: true, write: writeLarge},
		{Name: "many", Built: true, Slow: true, write: writeMany},

		// Tests bring a channel. What is not in it is planned only.
		{Name: "conda-pip", Built: true}, {Name: "conda-local", Built: true}, {Name: "pixi", Built: true},
		{Name: "conda"}, {Name: "conda-both-names"}, {Name: "conda-star"}, {Name: "conda-kernel"}, {Name: "conda-py2"}, {Name: "conda-r"},
		{Name: "conda-private"}, {Name: "conda-empty"}, {Name: "conda-lock"}, {Name: "conda-lock-stale"}, {Name: "pixi-lock"},

		{Name: "both-binder-dirs", Fails: bindery.ErrPlan, Says: "both a binder and a .binder"},
		{Name: "requirement-include-missing", Fails: bindery.ErrPlan, Says: "more.txt"},
		{Name: "apt-hostile", Fails: bindery.ErrPlan, Says: "apt.txt, line 2"},
		{Name: "dockerfile-legacy", Fails: bindery.ErrPlan, Says: "andrewosh/binder-base"},
		{Name: "dockerfile-legacy-binder-dir", Fails: bindery.ErrPlan, Says: "andrewosh/binder-base"},
		{Name: "conda-list", Fails: bindery.ErrPlan, Says: "environment.yml"},
		{Name: "r-unknown", Fails: bindery.ErrPlan, Says: "5.9"},
		{Name: "apt-missing", Fails: bindery.ErrStep, Says: "apt.txt, line 2"},
		{Name: "conda-bad", Fails: bindery.ErrPlan, Says: "is not YAML"},
		{Name: "r-old", Fails: bindery.ErrPlan, Says: "2016-05-01"},
		{Name: "julia-require", Fails: bindery.ErrPlan, Says: "REQUIRE"},
		{Name: "julia-missing", Fails: bindery.ErrPlan, Says: "there is no Julia"},
		{Name: "dockerfile-fails", Fails: bindery.ErrStep, Says: "about to fail"},
		{Name: "postbuild-fails", Fails: bindery.ErrStep, Says: "about to fail"},
		{Name: "requirement-missing", Fails: bindery.ErrStep, Says: "bindery-has-no-such-requirement"},

		{Name: "start-fails"}, // builds; its sessions die
	}
}

// Find returns the sample called name.
func Find(name string) (Sample, error) {
	for _, s := range Samples() {
		if s.Name == name {
			return s, nil
		}
	}
	return Sample{}, fmt.Errorf("there is no sample %q", name)
}

// Generated reports whether the sample is written by a program rather than kept in testdata/repos.
func (s Sample) Generated() bool { return s.write != nil }

// Write puts the sample's files into the directory dir, which it makes if need be.
func (s Sample) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if s.write != nil {
		return s.write(dir)
	}
	root, err := Root()
	if err != nil {
		return err
	}
	return copyTree(filepath.Join(root, "testdata", "repos", s.Name), dir)
}

// WriteGit puts the sample's files into dir and makes it a Git repository with one commit on main, whose name it
// returns. Equal files make equal commits.
func (s Sample) WriteGit(ctx context.Context, dir string) (commit string, err error) {
	if err := s.Write(dir); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"},
		{"add", "--all", "--force"},
		{"commit", "--quiet", "--allow-empty", "--message=sample " + s.Name},
	} {
		if _, err := git(ctx, dir, args...); err != nil {
			return "", err
		}
	}
	return git(ctx, dir, "rev-parse", "HEAD")
}

// git runs git in dir, deaf to the machine's configuration.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C.UTF-8",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_AUTHOR_DATE=2024-01-31T12:00:00Z",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org", "GIT_COMMITTER_DATE=2024-01-31T12:00:00Z",
	}
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, e.Stderr)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Root returns the directory of the module that the working directory is in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is in no Go module")
		}
		dir = parent
	}
}

// copyTree copies directories, files with their execute bits, and symbolic links.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644) // as a checkout has it, whatever the umask was where the sample was written
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}
