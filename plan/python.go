package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// python is the pack of Python repositories and, with nothing to trigger it, the default one: the two do the same.
func (d *detector) python() (bool, error) {
	d.plan.Pack = PackDefault
	p, err := d.readPython()
	if err != nil {
		d.plan.Pack = PackPython
		return false, err
	}
	switch {
	case d.runtime.file != "":
		if d.runtime.name == "python" {
			d.plan.Pack = PackPython
		}
	case p.project.file != "" || p.requirements != "" || p.lock != nil:
		d.plan.Pack = PackPython
	}
	return true, d.pythonPlan(p)
}

// pythonLayer plans the interpreter, the requirements and the package of a repository that is a Python one, whatever
// else it is: R's and Julia's packs come on top of it.
func (d *detector) pythonLayer() error {
	p, err := d.readPython()
	if err != nil {
		return err
	}
	return d.pythonPlan(p)
}

// A pythonSpec is what a repository says of its Python environment.
type pythonSpec struct {
	project      project
	requirements string
	lock         *lock // nil where requirements count
}

func (d *detector) readPython() (pythonSpec, error) {
	var p pythonSpec
	err := d.readRuntime()
	if err != nil {
		return p, err
	}
	if p.project, err = d.readProject(); err != nil {
		return p, err
	}
	if p.requirements, err = d.first("requirements.txt"); err != nil {
		return p, err
	}
	if p.requirements == "" {
		p.lock, err = d.readUVLock()
	}
	return p, err
}

func (d *detector) pythonPlan(p pythonSpec) error {
	if err := d.pythonVersion(p); err != nil {
		return err
	}
	if p.requirements != "" {
		if err := d.pip(p.requirements); err != nil {
			return err
		}
	}
	own := Install{Tool: ToolPip, Files: []string{}, Args: []string{"."}}
	switch {
	case p.lock != nil:
		d.locked(p.lock)
		own.Args = []string{"--no-deps", "."}
		if p.lock.isBuilt && !d.binder && p.project.file == "" { // [tool.uv] package = true
			p.project.file = p.lock.project
		}
	case p.requirements == "" && len(p.project.dependencies) > 0:
		// What it needs is known from the one file, so that another notebook need not install that again.
		d.plan.Env = append(d.plan.Env, Install{Tool: ToolPip, Files: []string{}, From: p.project.file, Lines: p.project.dependencies})
		d.reads(p.project.file)
	}
	if p.project.file != "" {
		for _, name := range []string{"setup.py", "pyproject.toml"} { // its own building reads both
			if found, err := d.exists(name); err != nil {
				return err
			} else if found {
				d.use(name)
			}
		}
		d.plan.Content = append(d.plan.Content, own)
		d.why(p.project.file, "the repository is a Python package, which is installed once its files are in place")
	}
	return nil
}

// pip plans the installation of a requirement file: before the repository is in place if it can be, so that editing
// a notebook does not install everything anew.
func (d *detector) pip(file string) error {
	r, err := d.readRequirements(file)
	if err != nil {
		return err
	}
	install := Install{Tool: ToolPip, Files: []string{file}, Includes: r.includes, Encodings: r.encodings}
	d.use(file)
	for _, name := range r.includes {
		d.use(name)
	}
	if r.local != nil {
		d.plan.Content = append(d.plan.Content, install)
		d.why(file, fmt.Sprintf("Python packages, installed once the repository is in place, because of %s, line %d", r.local.file, r.local.line))
		return nil
	}
	d.plan.Env = append(d.plan.Env, install)
	d.why(file, "Python packages to install")
	d.reads(file)
	for _, name := range r.includes {
		d.reads(name)
		d.why(name, "included by "+file)
	}
	return nil
}

// A project is what makes a repository a Python package, and what it says of its interpreter.
type project struct {
	file     string // setup.py or pyproject.toml; empty if the repository is no package
	requires string // requires-python, even if it is no package
	line     int    // of requires-python
	// dependencies are those of a pyproject.toml that says all of them itself, and is a package.
	dependencies []string
}

// readProject looks at the root, and only without a binder directory.
func (d *detector) readProject() (project, error) {
	var p project
	if d.binder {
		return p, nil
	}
	found, err := d.exists("setup.py")
	if err != nil {
		return p, err
	}
	if found {
		p.file = "setup.py"
	}
	if found, err = d.exists("pyproject.toml"); err != nil || !found {
		return p, err
	}
	text, err := d.readText("pyproject.toml")
	if err != nil {
		return p, err
	}
	isPackage, parsed, err := parseProject(text)
	if err != nil {
		return p, userError("Mend the file: https://packaging.python.org shows its form.", "pyproject.toml: %s", err)
	}
	p.requires, p.line = parsed.requires, lineOf(text, "requires-python")
	if isPackage {
		p.file, p.dependencies = "pyproject.toml", parsed.dependencies
	}
	return p, nil
}

// parseProject parses the text of a pyproject.toml: it makes a package if it has both [project] and [build-system].
func parseProject(content string) (isPackage bool, p project, err error) {
	doc, err := parseTOML(content)
	if err != nil {
		return false, p, err
	}
	_, built := doc["build-system"]
	t := table(doc, "project")
	if t == nil {
		return false, p, nil
	}
	switch v := t["requires-python"].(type) {
	case nil:
	case string:
		p.requires = v
	default:
		return false, p, lineError(lineOf(content, "requires-python"), "requires-python is not a string")
	}
	if slices.Contains(texts(t, "dynamic"), "dependencies") {
		return built, p, nil
	}
	lineWith := wordLines(content)
	for _, dep := range texts(t, "dependencies") {
		dep = strings.TrimSpace(dep)
		if needsFiles(dep, false) || !requirementRE.MatchString(dep) {
			return built, project{requires: p.requires}, nil // left to the package's own installation, and to its complaints
		}
		p.dependencies = append(p.dependencies, fmt.Sprintf("%s # pyproject.toml, line %d", dep, lineWith(dep)))
	}
	return built, p, nil
}

// requirementRE is a dependency on one line that no requirement file takes for an option.
var requirementRE = regexp.MustCompile(`^[A-Za-z0-9][^\n\r#]*$`)

// wordLines reads content once, for a function that returns the number of the first line that has word in it, or 1.
func wordLines(content string) func(word string) int {
	all := lines(content)
	content = strings.Join(all, "\n")
	ends, end := make([]int, len(all)), -1
	for i, l := range all {
		end += len(l) + 1
		ends[i] = end
	}
	left := 1 << 28 // bytes to look through: with thousands of dependencies numbers may end, and the planner must
	return func(word string) int {
		if left < 0 {
			return 1
		}
		at := strings.Index(content, word)
		if left -= at; at < 0 {
			left -= len(content)
		}
		i, _ := slices.BinarySearch(ends, max(at, 0))
		return i + 1
	}
}

// lineWith is wordLines for one word.
func lineWith(content, word string) int { return wordLines(content)(word) }
