package plan

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A manifest is what a pixi.toml, or the part of a pyproject.toml that is pixi's, says of the default environment.
type manifest struct {
	file      string
	channels  []string
	specs     []numbered
	options   []numbered // of pip's, for the two that follow
	pip       []numbered
	local     []numbered // requirement lines of directories of the repository
	variables []Variable
	ignored   []string
}

// pixi is for repositories that pixi manages.
func (d *detector) pixi() (bool, error) {
	m, err := d.readManifest()
	if m == nil || err != nil {
		return false, err
	}
	d.plan.Pack = PackConda
	for _, text := range m.ignored {
		d.ignore(m.file, text)
	}
	file, err := d.first("pixi.lock")
	if err != nil {
		return true, err
	}
	if file != "" {
		l, err := d.lockText(file, parsePixiLock)
		if err != nil {
			return true, err
		}
		lacks, unsure := l.lacks(m.specs, m.pip, m.local)
		if lacks == "" {
			d.reads(m.file)
			if err := d.lockFile(l, &CondaEnvironment{Variables: m.variables}); err != nil {
				return true, err
			}
			return true, d.condaPip(m.file, d.unsure(m.file, m.options, unsure))
		}
		d.use(file) // the reason is said here
		d.ignore(file, fmt.Sprintf("it has nothing for %q of %s: lock again to have it count", printable(lacks), m.file))
	}
	return true, d.solveManifest(m)
}

// solveManifest plans the environment without a lock file.
func (d *detector) solveManifest(m *manifest) error {
	d.reads(m.file)
	made := &CondaEnvironment{Channels: m.channels, Variables: m.variables, Lines: map[string]int{}, File: m.file}
	for _, s := range m.specs {
		made.Specs = append(made.Specs, s.text)
		made.Lines[s.text] = s.number
	}
	d.why(m.file, "pixi's default environment, from "+strings.Join(made.Channels, ", "))
	if err := d.condaPython(m.file, m.specs, made); err != nil {
		return err
	}
	repodata, err := d.localChannels(m.file, made)
	if err != nil {
		return err
	}
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolConda, Files: []string{}, Includes: repodata, Version: d.plan.Python, Conda: made})
	for _, lines := range [][]numbered{m.pip, m.local} {
		if len(lines) == 0 {
			continue
		}
		if err := d.condaPip(m.file, slices.Concat(m.options, lines)); err != nil {
			return err
		}
	}
	return nil
}

// readManifest returns nil where pixi manages nothing.
func (d *detector) readManifest() (*manifest, error) {
	for _, name := range []string{"pixi.toml", "pyproject.toml"} {
		file, err := d.first(name)
		if err != nil {
			return nil, err
		}
		if file == "" {
			continue
		}
		text, err := d.readText(file)
		if err != nil {
			return nil, err
		}
		m, err := parseManifest(text, name == "pyproject.toml")
		if m == nil && err == nil {
			continue
		}
		if err != nil {
			d.plan.Pack = PackConda
			return nil, userError("Mend the file: https://pixi.sh shows its form.", "%s: %s", file, err)
		}
		m.file = file
		return m, nil
	}
	return nil, nil
}

// pixiProject reports whether the repository is a Python package that pixi manages.
func (d *detector) pixiProject() bool {
	text, err := d.readText("pyproject.toml")
	if err != nil {
		return false
	}
	doc, err := parseTOML(text)
	return err == nil && sub(doc, "tool", "pixi") != nil
}

// tomlTable is a table of a TOML file.
type tomlTable = map[string]any

func sub(t tomlTable, keys ...string) tomlTable {
	for _, k := range keys {
		t, _ = t[k].(tomlTable)
	}
	return t
}

// parseManifest reads pixi's tables. It returns nil for a pyproject.toml without any.
func parseManifest(text string, isProject bool) (*manifest, error) {
	doc, err := parseTOML(text)
	if err != nil {
		if isProject && !strings.Contains(text, "tool.pixi") {
			return nil, nil // whose it is says so
		}
		return nil, err
	}
	root := doc
	if isProject {
		if root = sub(doc, "tool", "pixi"); root == nil {
			return nil, nil
		}
	}
	m, lineOf := &manifest{}, keyLines(text)
	name := "workspace"
	if root[name] == nil {
		name = "project"
	}
	head := sub(root, name)
	if head == nil {
		return nil, grammarError("has no [workspace]")
	}
	if err := m.takeHead(text, name, head); err != nil {
		return nil, err
	}
	if isProject {
		m.takeProject(lineOf, sub(doc, "project"))
	}
	all := features(root)
	if err := m.takeOptions(text, lineOf, append([]tomlTable{head}, all...)); err != nil {
		return nil, err
	}
	for _, feature := range all {
		if err := m.takeFeature(text, lineOf, feature); err != nil {
			return nil, err
		}
		if len(m.specs)+len(m.pip)+len(m.local)+len(m.variables) > maxSpecs { // a feature may be named again and again
			return nil, grammarError(fmt.Sprintf("there are more than %d dependencies", maxSpecs))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sub(root, "environments"))) {
		if name != "default" {
			m.ignore(func() int { return lineOf(name) }, "of the environments only default counts")
			break
		}
	}
	if isProject && doc["build-system"] != nil && !slices.ContainsFunc(m.local, func(l numbered) bool { return strings.TrimPrefix(l.text, "-e ") == "." }) {
		m.local = append(m.local, numbered{lineOf("build-backend"), "."}) // as repo2docker does
	}
	return m, nil
}

// takeHead reads channels and platforms.
func (m *manifest) takeHead(content, name string, head tomlTable) error {
	channels, _ := head["channels"].([]any)
	for _, c := range channels {
		channel, ok := c.(string)
		if t, isTable := c.(tomlTable); isTable {
			channel, ok = t["channel"].(string)
		}
		if !ok {
			return lineError(lineOf(content, "channels"), "channels should be names or URLs")
		}
		if err := checkChannel(channel); err != nil {
			return lineError(lineWith(content, channel), "%s", err)
		}
		m.channels = append(m.channels, channel)
	}
	if len(m.channels) == 0 {
		return lineError(lineOfTable(content, name), "[%s] names no channels", name)
	}
	if platforms, ok := head["platforms"].([]any); ok && !slices.Contains(platforms, any(condaPlatform())) {
		return lineError(lineOf(content, "platforms"), "it is not for %s: add that to platforms", condaPlatform())
	}
	return nil
}

// features are the tables that the default environment is made of: the manifest itself, and what environments says.
func features(root tomlTable) []tomlTable {
	all := []tomlTable{root}
	env, _ := sub(root, "environments")["default"].(tomlTable)
	names, _ := env["features"].([]any)
	if list, ok := sub(root, "environments")["default"].([]any); ok {
		names = list
	}
	if without, _ := env["no-default-feature"].(bool); without {
		all = nil
	}
	for _, n := range names {
		name, _ := n.(string)
		if f := sub(root, "feature", name); f != nil {
			all = append(all, f)
		}
	}
	for _, f := range slices.Clone(all) {
		for _, target := range []string{"unix", "linux", condaPlatform()} {
			if t := sub(f, "target", target); t != nil {
				all = append(all, t)
			}
		}
	}
	return all
}

// takeProject takes the dependencies of a Python project: pixi installs them by pip's rules.
func (m *manifest) takeProject(lineOf func(string) int, project tomlTable) {
	dependencies, _ := project["dependencies"].([]any)
	for _, d := range dependencies {
		if line, ok := d.(string); ok && !strings.ContainsAny(line, "\n\r") && !strings.HasPrefix(strings.TrimSpace(line), "-") {
			m.pip = append(m.pip, numbered{lineOf("dependencies"), strings.TrimSpace(line)})
		}
	}
	if requires, ok := project["requires-python"].(string); ok && !strings.ContainsAny(requires, "\n\r") {
		m.specs = append(m.specs, numbered{lineOf("requires-python"), "python " + strings.ReplaceAll(requires, " ", "")})
	}
}

func (m *manifest) takeFeature(text string, lineOf func(string) int, f tomlTable) error {
	dependencies := sub(f, "dependencies")
	for _, name := range slices.Sorted(maps.Keys(dependencies)) {
		spec, err := condaSpec(name, dependencies[name])
		if err != nil {
			return lineError(lineOf(name), "%s", err)
		}
		m.specs = append(m.specs, numbered{lineOf(name), spec})
	}
	pip := sub(f, "pypi-dependencies")
	for _, name := range slices.Sorted(maps.Keys(pip)) {
		line, local, err := pipLine(name, pip[name])
		if err != nil {
			return lineError(lineOf(name), "%s", err)
		}
		at := numbered{lineOf(name), line}
		if local {
			m.local = append(m.local, at)
		} else {
			m.pip = append(m.pip, at)
		}
		if err := m.takeKeys(text, at, name, pip[name]); err != nil {
			return err
		}
	}
	activation := sub(f, "activation")
	if activation["scripts"] != nil {
		m.ignore(func() int { return lineOfTable(text, "activation") }, "activation scripts are not run")
	}
	for _, key := range slices.Sorted(maps.Keys(f)) {
		switch key {
		case "workspace", "project", "environments", "feature", "target", "dependencies", "pypi-dependencies", "pypi-options", "activation":
		default:
			m.ignore(func() int { return lineOfTable(text, key) }, printable(key)+" has no effect")
		}
	}
	env := sub(activation, "env")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value, ok := env[name].(string)
		if !ok || !variableRE.MatchString(name) || strings.ContainsRune(value, 0) {
			return lineError(lineOf(name), "%q is not a variable with a text", printable(name))
		}
		m.variables = append(m.variables, Variable{name, value})
	}
	return nil
}

var (
	condaNameRE    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	condaVersionRE = regexp.MustCompile(`^[A-Za-z0-9_.*+!<>=~,| ()-]*$`)
)

// condaSpec is the match specification of a dependency.
func condaSpec(name string, value any) (string, error) {
	if !condaNameRE.MatchString(name) {
		return "", grammarError(fmt.Sprintf("%q is not the name of a package", printable(name)))
	}
	version, build, channel := "*", "", ""
	switch v := value.(type) {
	case string:
		version = v
	case tomlTable:
		for key, inner := range v {
			text, _ := inner.(string)
			switch key {
			case "version":
				version = text
			case "build":
				build = text
			case "channel":
				channel = text
			default:
				return "", grammarError(fmt.Sprintf("%s: %q is not supported", printable(name), printable(key)))
			}
		}
	default:
		return "", grammarError(printable(name) + " should have a version")
	}
	if !condaVersionRE.MatchString(version) || !condaVersionRE.MatchString(build) {
		return "", grammarError(fmt.Sprintf("%s: %q is not a version", printable(name), printable(version)))
	}
	spec := name
	if version = strings.ReplaceAll(version, " ", ""); version != "*" && version != "" || build != "" {
		spec += " " + version
	}
	if build != "" {
		spec += " " + build
	}
	if channel != "" {
		if err := checkChannel(channel); err != nil {
			return "", err
		}
		spec = channel + "::" + spec
	}
	return spec, nil
}

// pipLine is the requirement line of a package for pip, and whether it is a directory of the repository.
func pipLine(name string, value any) (line string, local bool, err error) {
	if !pipNameRE.MatchString(name) {
		return "", false, grammarError(fmt.Sprintf("%q is not the name of a package", printable(name)))
	}
	spec, ok := value.(tomlTable)
	if !ok {
		spec = tomlTable{"version": value}
	}
	text := func(key string) string { s, _ := spec[key].(string); return s }
	if path := text("path"); path != "" {
		editable, _ := spec["editable"].(bool)
		if line = localLine(path, editable); line == "" {
			return "", false, grammarError(fmt.Sprintf("%s: %q is not a directory of the repository", printable(name), printable(path)))
		}
		return line, true, nil
	}
	extras, _ := spec["extras"].([]any)
	for i, e := range extras {
		word, _ := e.(string)
		if !pipNameRE.MatchString(word) {
			return "", false, grammarError(printable(name) + " has an extra without a name")
		}
		name += map[bool]string{true: "[", false: ","}[i == 0] + word
	}
	if len(extras) > 0 {
		name += "]"
	}
	direct := text("url")
	if git := text("git"); git != "" {
		direct = "git+" + git
		for _, key := range []string{"rev", "tag", "branch"} {
			if at := text(key); at != "" {
				direct += "@" + at
				break
			}
		}
		if dir := text("subdirectory"); dir != "" {
			direct += "#subdirectory=" + dir
		}
	}
	if direct != "" {
		if !isURL(direct) || strings.ContainsAny(direct, " \n\r\t\"'\\") {
			return "", false, grammarError(fmt.Sprintf("%s: %q is not a URL", printable(name), printable(direct)))
		}
		return name + " @ " + direct, false, nil
	}
	version := strings.ReplaceAll(text("version"), " ", "")
	if version == "*" {
		version = ""
	}
	if version != "" && !condaVersionRE.MatchString(version) || version == "" && spec["version"] != nil && text("version") != "*" && text("version") != "" {
		return "", false, grammarError(fmt.Sprintf("%s: %q is not a version", printable(name), printable(text("version"))))
	}
	if version != "" && !strings.ContainsAny(version[:1], "<>=!~") {
		version = "==" + version
	}
	return name + version, false, nil
}
