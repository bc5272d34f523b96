package plan

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// A requirement is one line of a requirement file, as it is written for an entry of another format.
type requirement struct {
	text   string
	hashed bool
	local  bool // it is in the repository
}

var (
	nameRE    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	clausesRE = regexp.MustCompile(`^(===|==|~=|!=|<=|>=|<|>)[^\s;#'"@,]+(\s*,\s*(===|==|~=|!=|<=|>=|<|>)\s*[^\s;#'"@,]+)*,?$`)
	webRE     = regexp.MustCompile(`^https?://[^\s#'"]+$`)
	urlRE     = regexp.MustCompile(`^(https?|ssh|git|file)://[^\s'"]+$`)
	scpRE     = regexp.MustCompile(`^([A-Za-z0-9._-]+@)?([A-Za-z0-9.-]+):([^/\s][^\s'"]*)$`)
	wordRE    = regexp.MustCompile(`^[A-Za-z0-9][^\s'"#;&]*$`)
	markerRE  = regexp.MustCompile(`^[A-Za-z0-9_.<>=!~()'" +*,-]+$`)
	hashRE    = regexp.MustCompile(`^[a-z0-9]+:[0-9a-fA-F]+$`)
)

// markerKeys are the words that an entry may use for a marker of its own.
func markerKeys() []string {
	return []string{
		"implementation_name", "implementation_version", "os_name", "platform_machine", "platform_python_implementation", "platform_release",
		"platform_system", "platform_version", "python_full_version", "python_version", "sys_platform",
	}
}

// pipenvRequirement writes the entry of a Pipfile, or of its lock file, as a requirement. dir is the file's directory.
func pipenvRequirement(dir, name string, entry any) (requirement, error) {
	if !nameRE.MatchString(name) {
		return requirement{}, grammarError("it is not the name of a package")
	}
	var e map[string]any
	switch v := entry.(type) {
	case string:
		e = map[string]any{"version": v}
	case map[string]any:
		e = v
	default:
		return requirement{}, grammarError("it is neither a version nor a table")
	}
	whole := name
	if extras := texts(e, "extras"); len(extras) > 0 {
		if slices.ContainsFunc(extras, func(x string) bool { return !nameRE.MatchString(x) }) {
			return requirement{}, grammarError("an extra is not a name")
		}
		whole += "[" + strings.Join(extras, ",") + "]"
	}
	r, err := pipenvOrigin(dir, whole, e)
	if err != nil {
		return r, err
	}
	marker, err := pipenvMarker(e)
	if err != nil {
		return r, err
	}
	if marker != "" {
		r.text += " ; " + marker
	}
	if r.local || strings.Contains(r.text, " @ ") {
		return r, nil
	}
	for _, h := range texts(e, "hashes") {
		if !hashRE.MatchString(h) {
			return r, grammarError("a hash is not ALGORITHM:HEXADECIMAL")
		}
		r.text, r.hashed = r.text+" --hash="+h, true
	}
	return r, nil
}

// pipenvOrigin writes where an entry comes from: a directory or file of the repository, a repository elsewhere, a URL,
// or an index.
func pipenvOrigin(dir, whole string, e map[string]any) (requirement, error) {
	for _, vcs := range []string{"git", "hg", "svn", "bzr"} {
		if url := text(e, vcs); url != "" {
			line, err := vcsURL(vcs, url, text(e, "ref"), text(e, "subdirectory"))
			return requirement{text: whole + " @ " + line}, err
		}
	}
	for _, key := range []string{"path", "file"} {
		where := text(e, key)
		switch {
		case where == "":
			continue
		case webRE.MatchString(where):
			return requirement{text: whole + " @ " + where}, nil
		}
		return localRequirement(dir, where, whole, e)
	}
	version := strings.TrimSpace(text(e, "version"))
	switch {
	case version == "" || version == "*":
		return requirement{text: whole}, nil
	case version[0] >= '0' && version[0] <= '9':
		version = "==" + version
	}
	if !clausesRE.MatchString(version) {
		return requirement{}, grammarError("its version is not one that pip understands")
	}
	return requirement{text: whole + strings.TrimSuffix(version, ",")}, nil
}

// localRequirement writes the path of an entry, which is relative to its file's directory, as one of the repository.
func localRequirement(dir, where, whole string, e map[string]any) (requirement, error) {
	p := path.Join(dir, where)
	if path.IsAbs(where) || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, " \t\n\r'\"#;") {
		return requirement{}, grammarError("its path is not one inside the repository")
	}
	line := "./" + p
	if i := strings.IndexByte(whole, '['); i >= 0 {
		line += whole[i:]
	}
	if editable, _ := e["editable"].(bool); editable {
		line = "-e " + line
	}
	return requirement{text: line, local: true}, nil
}

// vcsURL writes a version-controlled origin as pip has it.
func vcsURL(vcs, url, ref, subdirectory string) (string, error) {
	url = strings.TrimPrefix(url, vcs+"+")
	if m := scpRE.FindStringSubmatch(url); m != nil && !strings.Contains(url, "://") {
		url = "ssh://" + m[1] + m[2] + "/" + m[3]
	}
	if !urlRE.MatchString(url) {
		return "", grammarError("its origin is no URL")
	}
	url, fragment, _ := strings.Cut(url, "#")
	url = vcs + "+" + url
	if ref != "" {
		if !wordRE.MatchString(ref) {
			return "", grammarError("its ref is not a branch, tag or commit")
		}
		url += "@" + ref
	}
	if subdirectory != "" {
		if !wordRE.MatchString(subdirectory) {
			return "", grammarError("its subdirectory is not a path")
		}
		fragment = "subdirectory=" + subdirectory
	}
	if fragment != "" {
		url += "#" + fragment
	}
	return url, nil
}

// pipenvMarker joins an entry's markers.
func pipenvMarker(e map[string]any) (string, error) {
	var all []string
	if m := text(e, "markers"); m != "" {
		all = append(all, m)
	}
	for _, key := range markerKeys() {
		if m := text(e, key); m != "" {
			all = append(all, key+" "+m)
		}
	}
	for i, m := range all {
		if !markerRE.MatchString(m) {
			return "", grammarError("its marker is not one that pip understands")
		}
		if len(all) > 1 {
			all[i] = "(" + m + ")"
		}
	}
	return strings.Join(all, " and "), nil
}
