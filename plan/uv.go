package plan

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A lock is what a uv.lock says, as far as a plan needs it: uv itself reads the rest when it installs.
type lock struct {
	file     string
	project  string   // the pyproject.toml beside it
	requires string   // requires-python: of the project and of all members
	members  []string // pyproject.toml of the workspace's other members, which uv opens
	indexes  []string // other than the public one
	local    []string // requirements for packages of the repository, beside the project itself
	isBuilt  bool     // the project itself is a package
}

// readUVLock reads the uv.lock of a repository, if it counts: it needs its project beside it.
func (d *detector) readUVLock() (*lock, error) {
	file, err := d.first("uv.lock")
	if err != nil || file == "" {
		return nil, err
	}
	project, err := d.first("pyproject.toml")
	if err != nil {
		return nil, err
	}
	if project == "" {
		d.leave(file, "there is no pyproject.toml beside it")
		return nil, nil
	}
	content, err := d.readText(file)
	if err != nil {
		return nil, err
	}
	doc, err := parseTOML(content)
	if err != nil {
		return nil, userError("Make it anew with uv lock.", "%s: %s", file, err)
	}
	l := &lock{file: file, project: project, requires: text(doc, "requires-python")}
	packages := tables(doc, "package")
	isRoot := isProject
	if !slices.ContainsFunc(packages, isRoot) {
		rootless, err := d.rootless(project)
		if err != nil {
			return nil, err
		}
		if isRoot = isMember; !rootless || !slices.ContainsFunc(packages, isRoot) {
			d.leave(file, "it does not have this project in it")
			return nil, nil
		}
	}
	seen := map[string]bool{}
	for _, p := range packages {
		url := text(table(p, "source"), "registry")
		if webRE.MatchString(url) && !publicRE.MatchString(url) && !seen[url] {
			seen[url] = true
			l.indexes = append(l.indexes, url)
		}
	}
	groups := table(table(doc, "manifest"), "dependency-groups")
	return l, d.lockMembers(l, content, packages, reachable(packages, isRoot, tables(groups, "dev")))
}

// isProject reports whether a package of a lock file is the project beside it.
func isProject(p map[string]any) bool {
	return text(table(p, "source"), "editable") == "." || text(table(p, "source"), "virtual") == "."
}

// isMember reports whether a package of a lock file may be a member of the workspace. Others of the repository that look
// the same are needed by a member, so that nothing comes of taking them for one.
func isMember(p map[string]any) bool {
	return text(table(p, "source"), "editable") != "" || text(table(p, "source"), "virtual") != ""
}

// rootless reports whether a pyproject.toml is that of a workspace only, and of no project. All members are then installed.
func (d *detector) rootless(project string) (bool, error) {
	content, err := d.readText(project)
	if err != nil {
		return false, err
	}
	doc, err := parseTOML(content)
	if err != nil {
		return false, userError("Mend the file: https://packaging.python.org shows its form.", "%s: %s", project, err)
	}
	return table(doc, "project") == nil && sub(doc, "tool", "uv", "workspace") != nil, nil
}

// publicRE are the names that Python's public index has had.
var publicRE = regexp.MustCompile(`(?i)^https?://(www\.)?(pypi\.org|pypi\.python\.org|pypi\.io)(:\d+)?/(simple|pypi)?/?$`)

// lockMembers finds the packages of the repository itself: those that uv opens to read the lock file, and, of these, those
// that the project needs.
func (d *detector) lockMembers(l *lock, content string, packages []map[string]any, needed map[string]bool) error {
	for _, p := range packages {
		source := table(p, "source")
		for _, kind := range []string{"editable", "virtual", "directory", "path"} {
			where := text(source, kind)
			if where == "" {
				continue
			}
			at := path.Join(path.Dir(l.file), where)
			if !fs.ValidPath(at) || strings.ContainsAny(at, " \t\n\r'\"#;") {
				return userError("Move it into the repository, and lock anew.", "%s, line %d: package %q is at %q, outside the repository",
					l.file, lineWith(content, `"`+where+`"`), printable(text(p, "name")), printable(where))
			}
			if where == "." {
				l.isBuilt = kind == "editable"
				continue
			}
			member := path.Join(at, "pyproject.toml")
			if found, err := d.exists(member); err != nil {
				return err
			} else if found {
				l.members = append(l.members, member)
			}
			if !needed[text(p, "name")] || kind == "virtual" {
				continue
			}
			line := "./" + at
			if kind == "editable" {
				line = "-e " + line
			}
			l.local = append(l.local, line)
		}
	}
	return nil
}

// reachable returns the packages that the roots and the group need on one machine or another, the roots and their default
// groups included.
func reachable(packages []map[string]any, isRoot func(map[string]any) bool, group []map[string]any) map[string]bool {
	byName := map[string]map[string]any{}
	seen := map[string]bool{}
	var todo []string
	visit := func(deps []map[string]any) {
		for _, dep := range deps {
			if name := text(dep, "name"); !seen[name] {
				seen[name] = true
				todo = append(todo, name)
			}
		}
	}
	visit(group)
	for _, p := range packages {
		byName[text(p, "name")] = p
		if isRoot(p) {
			seen[text(p, "name")] = true
			visit(tables(p, "dependencies"))
			visit(tables(table(p, "dev-dependencies"), "dev"))
		}
	}
	for len(todo) > 0 {
		p := byName[todo[0]]
		todo = todo[1:]
		visit(tables(p, "dependencies"))
		for extra := range table(p, "optional-dependencies") {
			visit(tables(table(p, "optional-dependencies"), extra))
		}
	}
	return seen
}

// locked plans the installation of a uv.lock: what comes from elsewhere first, then what is in the repository.
func (d *detector) locked(l *lock) {
	var args []string
	for _, url := range l.indexes {
		args = append(args, "--extra-index-url="+url)
	}
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolUV, Files: []string{l.file}, Includes: append([]string{l.project}, l.members...), Args: args})
	d.why(l.file, "Python packages to install, as locked, with the dev group")
	d.reads(l.file)
	d.reads(l.project)
	for _, m := range l.members {
		d.reads(m)
	}
	if len(l.local) > 0 {
		d.plan.Content = append(d.plan.Content, Install{Tool: ToolPip, Files: []string{}, From: l.file, Lines: l.local, Args: []string{"--no-deps"}})
		d.why(l.file, counted(len(l.local), "package")+" of the repository itself, installed once its files are in place")
	}
}

var pinnedPythonRE = regexp.MustCompile(`^(?:cpython[@-])?(\d+)\.(\d+)(?:\.\d+)?$`)

// pinnedPython returns the X.Y of the .python-version beside a uv.lock, where uv would read it.
func (d *detector) pinnedPython() (version string, by place, err error) {
	file, err := d.first(".python-version")
	if err != nil || file == "" {
		return "", by, err
	}
	content, err := d.readText(file)
	if err != nil {
		return "", by, err
	}
	for i, l := range lines(content) {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		m := pinnedPythonRE.FindStringSubmatch(l)
		if m == nil {
			d.leave(file, printable(l)+" is not a version such as 3.12")
			return "", by, nil
		}
		return trimZeros(m[1]) + "." + trimZeros(m[2]), place{file, i + 1}, nil
	}
	return "", by, nil
}
