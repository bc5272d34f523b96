package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// resolve finds the commit of src.Ref in the repository at url.
func (o *op) resolve(ctx context.Context, url string, src bindery.Source) (string, error) {
	if bindery.IsCommit(src.Ref) {
		return o.probe(ctx, url, src.Ref)
	}
	refs, err := o.listRefs(ctx, url, src.Ref)
	if err != nil {
		return "", err
	}
	var found []string
	for _, name := range refNames(src.Ref) {
		if _, ok := refs[name]; ok {
			found = append(found, name)
		}
	}
	if len(found) > 1 {
		o.s.cfg.Log.InfoContext(ctx, "several refs fit; the first is taken", "repository", src.Identity(), "refs", found)
	}
	if len(found) > 0 {
		return refs[found[0]], nil
	}
	if shortRE().MatchString(src.Ref) {
		return o.resolveShort(ctx, url, src.Ref)
	}
	return "", noRef(src.Ref)
}

func shortRE() *regexp.Regexp { return re(`^[0-9a-f]{4,63}$`) }

func noRef(ref string) error {
	if ref == "" {
		return bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Push a commit to it, or name a branch that exists.", "The repository has no default branch with a commit")
	}
	return bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Check the name of the branch, tag or commit.", "The repository has no branch, tag or commit %q", bindery.Printable(ref))
}

// refNames lists the full names that ref may stand for, in the order in which they are tried.
func refNames(ref string) []string {
	switch {
	case ref == "" || ref == "HEAD":
		return []string{"HEAD"}
	case strings.HasPrefix(ref, "refs/"):
		return []string{ref}
	}
	names := []string{"refs/heads/" + ref, "refs/tags/" + ref, "refs/" + ref}
	if branch, ok := strings.CutPrefix(ref, "origin/"); ok {
		names = append(names, "refs/heads/"+branch)
	}
	return names
}

// listRefs asks the server for the refs that ref may stand for. Annotated tags are peeled.
func (o *op) listRefs(ctx context.Context, url, ref string) (map[string]string, error) {
	args := []string{"ls-remote", "--", url}
	for _, name := range refNames(ref) {
		args = append(args, name, name+"^{}")
	}
	out, err := o.git(ctx, call{args: args})
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		sha, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || !bindery.IsCommit(sha) {
			continue
		}
		peeled, isPeeled := strings.CutSuffix(name, "^{}")
		if _, known := refs[peeled]; !known || isPeeled {
			refs[peeled] = sha
		}
	}
	return refs, nil
}

// scratchRepo makes an empty bare repository that remove deletes.
func (o *op) scratchRepo() (path string, remove func(), err error) {
	dir, err := os.MkdirTemp(o.s.probeDir(), "")
	if err != nil {
		return "", nil, spaceOr(err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	if err := o.s.writeRepo(dir, "ref: refs/heads/main\n", bareConfig("", true)); err != nil {
		remove()
		return "", nil, spaceOr(err)
	}
	return o.s.box.cachePath(filepath.Join("probe", filepath.Base(dir))), remove, nil
}

// probe asks the server whether it has commit, without its files where the server can leave them out. A server that
// does not answer such questions is believed; Fetch will see.
func (o *op) probe(ctx context.Context, url, commit string) (string, error) {
	if len(commit) != 40 {
		return commit, nil // of a SHA-256 repository, which a SHA-1 repository cannot ask about
	}
	repo, remove, err := o.scratchRepo()
	if err != nil {
		return "", err
	}
	defer remove()
	_, err = o.git(ctx, call{dir: repo, args: []string{"fetch", "--quiet", "--depth=1", "--filter=tree:0", "--no-tags", "--no-write-fetch-head", "origin", commit},
		env: []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=remote.origin.url", "GIT_CONFIG_VALUE_0=" + url}})
	switch {
	case err == nil:
	case asksTooMuch(err):
		return commit, nil
	case errors.Is(err, bindery.ErrRefNotFound):
		return "", noRef(commit)
	default:
		return "", err
	}
	kind, err := o.git(ctx, call{dir: repo, args: []string{"cat-file", "-t", commit}})
	if err != nil {
		return "", err
	}
	switch strings.TrimSpace(kind) {
	case "commit":
		return commit, nil
	case "tag":
		peeled, err := o.git(ctx, call{dir: repo, args: []string{"rev-parse", "--verify", "--quiet", commit + "^{commit}"}})
		return strings.TrimSpace(peeled), err
	}
	return "", noRef(commit)
}

// asksTooMuch reports whether err is a server's refusal to serve a commit by its name.
func asksTooMuch(err error) bool {
	g, ok := errors.AsType[*errGit](err)
	return ok && re(`unadvertised object|dumb http transport|does not support shallow|shallow capabilities`).MatchString(g.stderr)
}

// resolveShort fetches the commits of all branches and tags, without files where the server can leave them out, and
// looks for the one that begins with short.
func (o *op) resolveShort(ctx context.Context, url, short string) (string, error) {
	repo, remove, err := o.scratchRepo()
	if err != nil {
		return "", err
	}
	defer remove()
	_, err = o.git(ctx, call{dir: repo, args: []string{"fetch", "--quiet", "--filter=tree:0", "--no-tags", "--no-write-fetch-head", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"},
		env: []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=remote.origin.url", "GIT_CONFIG_VALUE_0=" + url}})
	if err != nil {
		return "", err
	}
	names, err := o.git(ctx, call{dir: repo, args: []string{"rev-parse", "--disambiguate=" + short}})
	if err != nil {
		return "", err
	}
	kinds, err := o.git(ctx, call{dir: repo, args: []string{"cat-file", "--batch-check=%(objecttype) %(objectname)"}, stdin: strings.NewReader(names)})
	if err != nil {
		return "", err
	}
	var commits []string
	for line := range strings.Lines(kinds) {
		if sha, ok := strings.CutPrefix(strings.TrimSpace(line), "commit "); ok {
			commits = append(commits, sha)
		}
	}
	switch len(commits) {
	case 0:
		return "", noRef(short)
	case 1:
		return commits[0], nil
	}
	return "", bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Give more of its digits.", "%d commits begin with %q, such as %s and %s", len(commits), short, commits[0], commits[1])
}
