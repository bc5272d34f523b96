package plan

import (
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// python is the pack of Python repositories and, with nothing to trigger it, the default one: the two do the same.
func (d *detector) python() (bool, error) {
	d.plan.Pack = PackDefault
	project, err := d.readProject()
	if err != nil {
		d.plan.Pack = PackPython
		return false, err
	}
	requirements, err := d.first("requirements.txt")
	if err != nil {
		return false, err
	}
	switch {
	case d.runtime.file != "":
		if d.runtime.name == "python" {
			d.plan.Pack = PackPython
		}
	case project.file != "" || requirements != "":
		d.plan.Pack = PackPython
	}
	return true, d.pythonLayer()
}

// pythonLayer plans the interpreter, the requirements and the package of a repository that is a Python one, whatever
// else it is: R's and Julia's packs come on top of it.
func (d *detector) pythonLayer() error {
	if err := d.readRuntime(); err != nil {
		return err
	}
	project, err := d.readProject()
	if err != nil {
		return err
	}
	requirements, err := d.first("requirements.txt")
	if err != nil {
		return err
	}
	if err := d.pythonVersion(project.requires); err != nil {
		return err
	}
	if requirements != "" {
		if err := d.pip(requirements); err != nil {
			return err
		}
	}
	if project.file != "" {
		d.use(project.file)
		d.plan.Content = append(d.plan.Content, Install{Tool: ToolPip, Files: []string{}, Args: []string{"."}})
		d.why(project.file, "the repository is a Python package, which is installed once its files are in place")
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
	isPackage, requires, err := parseProject(text)
	if err != nil {
		return p, userError("Mend the file: https://packaging.python.org shows its form.", "pyproject.toml: %s", err)
	}
	p.requires = requires
	if isPackage {
		p.file = "pyproject.toml"
	}
	return p, nil
}

// maxDepth is how deep the brackets of a pyproject.toml may nest: its parser is recursive.
const maxDepth = 1000

// parseProject parses the text of a pyproject.toml: it makes a package if it has both [project] and [build-system].
func parseProject(text string) (isPackage bool, requires string, err error) {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > maxDepth {
			return false, "", grammarError("is nested too deeply")
		}
	}
	var doc map[string]any
	if err := toml.Unmarshal([]byte(text), &doc); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, _ := at.Position()
			return false, "", grammarError(fmt.Sprintf("line %d is not TOML", row))
		}
		return false, "", grammarError("is not TOML")
	}
	_, built := doc["build-system"]
	table, _ := doc["project"].(map[string]any)
	if table == nil {
		return false, "", nil
	}
	switch v := table["requires-python"].(type) {
	case nil:
	case string:
		requires = v
	default:
		return false, "", grammarError("requires-python is not a string")
	}
	return built, requires, nil
}
