package sourcetest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A Repo is a repository of a Server. Its commits have fixed authors and times, so equal contents give equal names.
type Repo struct {
	Name string
	URL  string
	Dir  string // the bare repository

	t     testing.TB
	count int
}

// Repo makes the empty repository name, which may have slashes; its default branch is main.
func (s *Server) Repo(name string) *Repo {
	s.t.Helper()
	r := &Repo{Name: name, URL: s.URL + "/" + name, Dir: filepath.Join(s.Root, name+".git"), t: s.t}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	r.Git("init", "--quiet", "--bare", "--initial-branch=main", ".")
	r.Git("config", "uploadpack.allowFilter", "true")
	// Large files are stored as they are and served as they are stored: packing is not what is tested.
	r.Git("config", "core.bigFileThreshold", "1m")
	r.Git("config", "core.compression", "0")
	return r
}

// Git runs git in the repository and returns what it printed.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	return r.git("", nil, args...)
}

func (r *Repo) git(stdin string, env []string, args ...string) string {
	r.t.Helper()
	date := fmt.Sprintf("%d +0000", 1700000000+60*r.count)
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir, cmd.Stdin = r.Dir, strings.NewReader(stdin)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_DIR=" + r.Dir, "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.org", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.org",
		"GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date,
	}, env...)
	out, err := cmd.Output()
	if err != nil {
		detail := ""
		if x, ok := err.(*exec.ExitError); ok {
			detail = string(x.Stderr)
		}
		r.t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, detail)
	}
	return strings.TrimSpace(string(out))
}

// Commit adds files, path and text, to the tip of branch and returns the commit. A text that begins with "#!" makes
// an executable file.
func (r *Repo) Commit(branch string, files map[string]string) string {
	r.t.Helper()
	var index strings.Builder
	for _, path := range slices.Sorted(maps.Keys(files)) {
		mode := "100644"
		if strings.HasPrefix(files[path], "#!") {
			mode = "100755"
		}
		blob := r.git(files[path], nil, "hash-object", "-w", "--stdin")
		fmt.Fprintf(&index, "%s %s\t%s\x00", mode, blob, path)
	}
	return r.CommitIndex(branch, index.String())
}

// Link adds a symbolic link to the tip of branch.
func (r *Repo) Link(branch, path, target string) string {
	r.t.Helper()
	blob := r.git(target, nil, "hash-object", "-w", "--stdin")
	return r.CommitIndex(branch, fmt.Sprintf("120000 %s\t%s\x00", blob, path))
}

// Submodule adds a submodule and its lines in .gitmodules, as the only ones there, to the tip of branch.
func (r *Repo) Submodule(branch, name, path, url, commit string) string {
	r.t.Helper()
	text := fmt.Sprintf("[submodule %q]\n\tpath = %s\n\turl = %s\n", name, path, url)
	blob := r.git(text, nil, "hash-object", "-w", "--stdin")
	return r.CommitIndex(branch, fmt.Sprintf("100644 %s\t.gitmodules\x00160000 %s\t%s\x00", blob, commit, path))
}

// CommitIndex adds lines of `git update-index -z --index-info` to the tip of branch.
func (r *Repo) CommitIndex(branch, lines string) string {
	r.t.Helper()
	env := []string{"GIT_INDEX_FILE=" + filepath.Join(r.t.TempDir(), "index")}
	parent := r.tip(branch)
	if parent != "" {
		r.git("", env, "read-tree", parent)
	}
	r.git(lines, env, "update-index", "-z", "--add", "--index-info")
	return r.commitTree(branch, parent, r.git("", env, "write-tree"))
}

// CommitDir makes the contents of dir a commit on the tip of branch, in place of what was there.
func (r *Repo) CommitDir(branch, dir string) string {
	r.t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	env := []string{"GIT_INDEX_FILE=" + filepath.Join(r.t.TempDir(), "index"), "GIT_WORK_TREE=" + abs}
	r.git("", env, "add", "--force", "--all", ".")
	return r.commitTree(branch, r.tip(branch), r.git("", env, "write-tree"))
}

func (r *Repo) tip(branch string) string {
	return r.Git("for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

func (r *Repo) commitTree(branch, parent, tree string) string {
	r.t.Helper()
	r.count++
	args := []string{"commit-tree", "-m", fmt.Sprintf("Commit %d", r.count), tree}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	commit := r.Git(args...)
	r.Git("update-ref", "refs/heads/"+branch, commit)
	return commit
}

// Tag makes a plain tag, Annotate one with a message.
func (r *Repo) Tag(name, commit string) { r.t.Helper(); r.Git("tag", name, commit) }

// Annotate makes an annotated tag.
func (r *Repo) Annotate(name, commit string) {
	r.t.Helper()
	r.Git("tag", "-a", "-m", "Tag "+name, name, commit)
}
