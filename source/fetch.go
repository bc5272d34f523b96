package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A tree is one repository being put into the checkout: the repository itself or a submodule.
type tree struct {
	url    string
	commit string
	path   string // of its files, relative to the checkout; "" for the repository itself
	git    string // of its git directory, relative to the checkout
	depth  int    // of submodules in submodules
}

// A job is one checkout.
type job struct {
	*op
	real  string // the checkout
	path  string // the checkout in the box
	trees int    // put so far
	bytes int64
	files int
}

const (
	maxDepth = 10  // of submodules
	maxTrees = 250 // of one checkout
)

// fetch makes the checkout of src in dir, which it creates.
func (o *op) fetch(ctx context.Context, src bindery.Source, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return spaceOr(err)
	}
	if err := o.s.give(dir); err != nil {
		return err
	}
	path, release, err := o.s.box.open(dir)
	if err != nil {
		return err
	}
	defer release()
	j := &job{op: o, real: dir, path: path}
	return j.put(ctx, tree{url: src.URL, commit: src.Commit, git: ".git"})
}

// put checks a tree out, then its submodules.
func (j *job) put(ctx context.Context, t tree) error {
	if j.trees++; j.trees > maxTrees || t.depth > maxDepth {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use fewer submodules.", "The repository has more submodules, or deeper ones, than this hub allows")
	}
	mods, err := j.putFiles(ctx, t)
	if err != nil {
		return err
	}
	for _, m := range mods {
		j.say("Submodule " + bindery.Printable(m.path))
		if err := j.put(ctx, m); err != nil {
			return inSubmodule(m, err)
		}
	}
	return nil
}

// inSubmodule says which submodule err is about.
func inSubmodule(t tree, err error) error {
	e, ok := errors.AsType[*bindery.Error](err)
	if !ok || strings.HasPrefix(e.Msg, "Submodule ") {
		return err
	}
	return bindery.Errorf(e.Kind, e.Fault, e.Remedy, "Submodule %q: %s", bindery.Printable(t.path), e.Msg).Because(err)
}

// putFiles checks one tree out and returns its submodules. A cache that turns out damaged is emptied once.
func (j *job) putFiles(ctx context.Context, t tree) ([]tree, error) {
	identity := bindery.Source{Provider: bindery.ProviderGit, URL: t.url}.Identity()
	wide := len(t.commit) == 64
	c, err := j.openCache(ctx, identity, wide)
	if err != nil {
		return nil, err
	}
	defer c.close()
	mods, err := j.putFrom(ctx, c, t)
	if err == nil || !c.old || !unexpected(err) || ctx.Err() != nil {
		return mods, spaceOr(err)
	}
	j.s.cfg.Log.WarnContext(ctx, "a cached repository is damaged; it is fetched again", "repository", identity, "err", err)
	if err := errors.Join(j.s.empty(c, wide), j.clear(t)); err != nil {
		return nil, spaceOr(err)
	}
	mods, err = j.putFrom(ctx, c, t)
	return mods, spaceOr(err)
}

// clear takes away what a first try left of t.
func (j *job) clear(t tree) error {
	root, err := os.OpenRoot(j.real)
	if err != nil {
		return err
	}
	defer root.Close()
	if t.path != "" {
		return errors.Join(root.RemoveAll(t.git), root.RemoveAll(t.path), root.Mkdir(t.path, 0o755), j.s.give(filepath.Join(j.real, t.path)))
	}
	entries, err := os.ReadDir(j.real)
	for _, e := range entries {
		err = errors.Join(err, root.RemoveAll(e.Name()))
	}
	return err
}

func (j *job) putFrom(ctx context.Context, c *cache, t tree) ([]tree, error) {
	err := withSpellings(t.url, func(u string) error { return j.obtain(ctx, c, u, t.commit) })
	if err != nil {
		return nil, err
	}
	list, err := j.list(ctx, c, t.commit)
	if err != nil {
		return nil, err
	}
	mods, err := j.modules(ctx, c, t, list)
	if err != nil {
		return nil, err
	}
	linked, err := j.writeGit(ctx, c, t, mods)
	if err != nil {
		return nil, err
	}
	j.say(fmt.Sprintf("Checking out %d files, %.1f MB", list.files, float64(list.bytes)/1e6))
	gitDir, workTree := filepath.Join(j.path, t.git), filepath.Join(j.path, t.path)
	env := []string{"GIT_DIR=" + gitDir, "GIT_WORK_TREE=" + workTree}
	// The listing has bounded everything but files from Git LFS: they, their copy in .git, and the pack.
	if err := j.watched(ctx, j.real, 3*j.s.cfg.MaxBytes, func(ctx context.Context) error {
		_, err := j.git(ctx, call{dir: workTree, env: env, loud: j.s.lfs && list.attributes, args: []string{"read-tree", "--reset", "-u", "HEAD"}})
		return err
	}); err != nil {
		return nil, err
	}
	if err := j.forgetTimes(t); err != nil {
		return nil, err
	}
	if list.attributes && !j.s.lfs && j.wantsLFS(t) {
		j.say("Files in Git LFS are left as pointers: git-lfs is not installed on this machine")
	}
	if linked {
		return mods, nil
	}
	if _, err := j.git(ctx, call{dir: workTree, env: env, args: []string{"repack", "-a", "-d", "-q", "--window=0"}}); err != nil {
		return nil, err
	}
	return mods, os.Remove(filepath.Join(j.real, t.git, "objects", "info", "alternates"))
}

// A listing is what is to be known of a tree before its files are written.
type listing struct {
	files      int
	bytes      int64
	modules    bool              // it has a .gitmodules
	attributes bool              // it has a .gitattributes
	links      map[string]string // path of each submodule, and its commit

	rest     []byte
	maxBytes int64
	maxFiles int
	over     bool
}

// list reads the tree of commit and refuses one that is too large before any file of it is written. A small
// repository can name the same content a million times.
func (j *job) list(ctx context.Context, c *cache, commit string) (*listing, error) {
	l := &listing{links: map[string]string{}, maxBytes: j.s.cfg.MaxBytes - j.bytes, maxFiles: j.s.cfg.MaxFiles - j.files}
	_, err := j.git(ctx, call{dir: c.path, stdout: l, args: []string{"ls-tree", "-r", "-t", "-z", "-l", "--full-tree", commit}})
	if l.over {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Make the repository smaller, or fetch large data when the environment is built.",
			"The repository's files are more than this hub allows (%d files, %.1f GB)", j.s.cfg.MaxFiles, float64(j.s.cfg.MaxBytes)/1e9)
	}
	j.bytes, j.files = j.bytes+l.bytes, j.files+l.files
	return l, err
}

// Write takes the output of ls-tree: "mode type name size\tpath\0".
func (l *listing) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte{0})
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		meta, path, _ := strings.Cut(string(line), "\t")
		f := strings.Fields(meta)
		if len(f) != 4 {
			return 0, fmt.Errorf("git ls-tree said %q", line)
		}
		l.add(f[0], f[2], f[3], path)
		if l.over = l.bytes > l.maxBytes || l.files > l.maxFiles; l.over {
			return 0, errTooMuch
		}
	}
}

func (l *listing) add(mode, name, size, path string) {
	l.files++
	if n, err := strconv.ParseInt(size, 10, 64); err == nil {
		l.bytes += n
	}
	switch {
	case mode == "160000":
		l.links[path] = name
	case path == ".gitmodules":
		l.modules = true
	case filepath.Base(path) == ".gitattributes":
		l.attributes = true
	}
}

// writeGit makes the git directory of t. Its objects come by hard link when the cache has one pack of just this
// commit; else it borrows the cache's until they are packed anew, which linked says.
func (j *job) writeGit(ctx context.Context, c *cache, t tree, mods []tree) (linked bool, err error) {
	commit, err := j.git(ctx, call{dir: c.path, args: []string{"cat-file", "commit", t.commit}})
	if err != nil {
		return false, err
	}
	dir := filepath.Join(j.real, t.git)
	if err := j.makeGitDirs(t); err != nil {
		return false, spaceOr(err)
	}
	if err := j.s.writeRepo(dir, t.commit+"\n", j.config(t, mods)); err != nil {
		return false, spaceOr(err)
	}
	header, _, _ := strings.Cut(commit, "\n\n")
	if strings.Contains("\n"+header, "\nparent ") {
		if err := j.write(filepath.Join(dir, "shallow"), t.commit+"\n"); err != nil {
			return false, err
		}
	}
	if j.linkPack(ctx, c, dir) {
		return true, nil
	}
	return false, j.write(filepath.Join(dir, "objects", "info", "alternates"), c.path+"/objects\n")
}

func (j *job) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return spaceOr(err)
	}
	return j.s.give(path)
}

// makeGitDirs makes the git directory of t, and for a submodule the .git file that leads to it. Nothing of a
// repository's files can stand in the way: git checks no path out that has ".git" in it; and a link is not followed.
func (j *job) makeGitDirs(t tree) error {
	root, err := os.OpenRoot(j.real)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(t.git, 0o755); err != nil {
		return err
	}
	if t.path == "" {
		return j.s.give(filepath.Join(j.real, t.git))
	}
	if err := j.s.give(filepath.Join(j.real, filepath.Dir(t.git))); err != nil {
		return err
	}
	rel, err := filepath.Rel(t.path, t.git)
	if err != nil {
		return err
	}
	f, err := root.OpenFile(filepath.Join(t.path, ".git"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "gitdir: "+rel+"\n")
	if os.Geteuid() == 0 {
		err = errors.Join(err, f.Chown(j.s.cfg.UID, j.s.cfg.GID))
	}
	return errors.Join(err, f.Close())
}

// config is the configuration of a checkout's repository, so that fetch, pull and submodule work in it.
func (j *job) config(t tree, mods []tree) string {
	var b strings.Builder
	if t.path != "" {
		rel, err := filepath.Rel(t.git, t.path)
		if err == nil {
			fmt.Fprintf(&b, "\tworktree = %s\n", quote(rel))
		}
	}
	fmt.Fprintf(&b, "[remote \"origin\"]\n\turl = %s\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n", quote(t.url))
	for _, m := range mods {
		name, _ := moduleName(filepath.Base(m.git))
		fmt.Fprintf(&b, "[submodule %s]\n\tactive = true\n\turl = %s\n", quote(name), quote(m.url))
	}
	config := bareConfig("x", len(t.commit) == 40)
	return strings.TrimSuffix(config, "x") + b.String()
}

// quote writes s as a value of git's configuration. s has no control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// linkPack links the cache's pack into dir if the cache has one only, of one commit only.
func (j *job) linkPack(ctx context.Context, c *cache, dir string) bool {
	refs, err := j.git(ctx, call{dir: c.path, args: []string{"for-each-ref", "--count=2", "--format=%(refname)"}})
	if err != nil || strings.Count(refs, "\n") != 1 {
		return false
	}
	packs, err := filepath.Glob(filepath.Join(c.real, "objects", "pack", "pack-*.pack"))
	if err != nil || len(packs) != 1 {
		return false
	}
	for _, suffix := range []string{".pack", ".idx", ".rev"} {
		from := strings.TrimSuffix(packs[0], ".pack") + suffix
		err := os.Link(from, filepath.Join(dir, "objects", "pack", filepath.Base(from)))
		if err != nil && (suffix != ".rev" || !errors.Is(err, os.ErrNotExist)) {
			return false
		}
	}
	return true
}

// wantsLFS reports whether the first .gitattributes of t names the LFS filter.
func (j *job) wantsLFS(t tree) bool {
	root, err := os.OpenRoot(j.real)
	if err != nil {
		return false
	}
	defer root.Close()
	f, err := root.Open(filepath.Join(t.path, ".gitattributes"))
	if err != nil {
		return false
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return bytes.Contains(text, []byte("filter=lfs"))
}
