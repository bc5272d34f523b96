package source

import (
	"context"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// modules lists the submodules of a tree that are to be checked out. We do their work ourselves, rather than let
// `git submodule` do it, so that each goes through the same checks, cache and limits as the repository.
func (j *job) modules(ctx context.Context, c *cache, t tree, list *listing) ([]tree, error) {
	if len(list.links) == 0 || !list.modules {
		return nil, nil
	}
	out, err := j.git(ctx, call{dir: c.path, args: []string{"config", "-z", "--no-includes", "--blob", t.commit + ":.gitmodules", "--list"}})
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Correct the file.", "Git cannot read the repository's .gitmodules").Because(err)
	}
	settings := map[string]map[string]string{} // by name of submodule
	for item := range strings.SplitSeq(out, "\x00") {
		key, value, _ := strings.Cut(item, "\n")
		rest, ok := strings.CutPrefix(key, "submodule.")
		dot := strings.LastIndexByte(rest, '.')
		if !ok || dot <= 0 {
			continue
		}
		name, what := rest[:dot], rest[dot+1:]
		if settings[name] == nil {
			settings[name] = map[string]string{}
		}
		settings[name][what] = value
	}
	var mods []tree
	for name, set := range settings {
		m, err := j.module(t, name, set, list)
		if err != nil {
			return nil, err
		}
		if m.commit != "" {
			mods = append(mods, m)
		}
	}
	for p := range list.links {
		if !slices.ContainsFunc(mods, func(m tree) bool { return m.path == filepath.Join(t.path, p) }) {
			j.say("Submodule " + bindery.Printable(p) + " is left empty")
		}
	}
	slices.SortFunc(mods, func(a, b tree) int { return strings.Compare(a.path, b.path) })
	return slices.CompactFunc(mods, func(a, b tree) bool { return a.path == b.path }), nil
}

// module makes the tree of one submodule; one without a commit is not wanted.
func (j *job) module(t tree, name string, set map[string]string, list *listing) (tree, error) {
	p := strings.TrimSuffix(set["path"], "/")
	commit, ok := list.links[p] // so p is a path of the tree, where git itself allows nothing like ".."
	if !ok || set["update"] == "none" || set["url"] == "" {
		return tree{}, nil
	}
	refuse := func(err error, msg string) error {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Correct .gitmodules: a submodule needs a plain name and the https URL of a public repository.",
			"Submodule %q %s", bindery.Printable(name), msg).Because(err)
	}
	dir, ok := moduleDir(name)
	if !ok || !filepath.IsLocal(p) || !bindery.IsCommit(commit) {
		return tree{}, refuse(nil, "has a name or path that is not allowed")
	}
	raw, err := relative(t.url, set["url"])
	if err != nil {
		return tree{}, refuse(err, "has a URL that leads nowhere")
	}
	raw = j.s.reachable(raw)
	if err := j.s.cfg.Policy.checkURL(raw, ""); err != nil {
		return tree{}, refuse(err, "is at "+bindery.Printable(redact(raw))+", which is not allowed here")
	}
	return tree{url: raw, commit: commit, path: filepath.Join(t.path, p), git: filepath.Join(t.git, "modules", dir), depth: t.depth + 1}, nil
}

// moduleDir is the name of a submodule's git directory below modules: one path element, whatever the name is.
func moduleDir(name string) (string, bool) {
	ok := name != "" && len(name) <= 200 && !strings.HasPrefix(name, "-") && !strings.Contains("/"+name+"/", "/../") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) && name != "." && name != ".."
	dir := url.PathEscape(name)
	return dir, ok && len(dir) <= 255
}

func moduleName(dir string) (string, error) { return url.PathUnescape(dir) }

// relative resolves the URL of a submodule, which may be relative to that of its parent.
func relative(parent, raw string) (string, error) {
	if !strings.HasPrefix(raw, "./") && !strings.HasPrefix(raw, "../") {
		return raw, nil
	}
	u, err := url.Parse(strings.TrimSuffix(parent, "/"))
	if err != nil {
		return "", err
	}
	joined := path.Join(u.Path, raw)
	u.Path, u.RawPath = joined, ""
	return u.String(), nil
}

// redact takes user and password out of a URL for a message.
func redact(raw string) string {
	if at := strings.LastIndexByte(raw, '@'); at >= 0 {
		if i := strings.Index(raw, "://"); i >= 0 && i < at {
			return raw[:i+3] + raw[at+1:]
		}
	}
	return raw
}
