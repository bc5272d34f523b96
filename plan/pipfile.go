package plan

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// pipfile is the pack of Pipenv environments. requirements.txt and setup.py have no say there. Pipenv itself is not run:
// what it would install is written as requirements, of the lock file if there is one, of the Pipfile otherwise, with
// the development packages in both cases.
func (d *detector) pipfile() (bool, error) {
	if d.runtime.name != "" && d.runtime.name != "python" {
		return false, nil
	}
	file, err := d.first("Pipfile", "Pipfile.lock")
	if err != nil || file == "" {
		return false, err
	}
	d.plan.Pack = PackPipfile
	pip, err := d.readPipenv()
	if err != nil {
		return false, err
	}
	if err := d.pipenvPython(pip); err != nil {
		return false, err
	}
	return true, d.pipenvInstalls(pip)
}

// A pipenv is what a Pipfile and its lock file say.
type pipenv struct {
	file   string         // what is installed from
	text   string         // its text, for line numbers
	doc    map[string]any // the same
	locked bool
	wants  []wanted
}

// A wanted is the version of Python that a line asks for.
type wanted struct {
	by     place
	python string
}

// readPipenv reads both files; of the Pipfile beside a lock file only the Python version counts.
func (d *detector) readPipenv() (pipenv, error) {
	var p pipenv
	for _, name := range []string{"Pipfile.lock", "Pipfile"} {
		file, err := d.first(name)
		if err != nil {
			return p, err
		}
		if file == "" {
			continue
		}
		content, err := d.readText(file)
		if err != nil {
			return p, err
		}
		var doc map[string]any
		requires := "requires"
		if name == "Pipfile" {
			if doc, err = parseTOML(content); err != nil {
				return p, userError("Mend the file, or make it anew with pipenv.", "%s: %s", file, err)
			}
		} else {
			if err := parseJSON(content, &doc); err != nil {
				return p, userError("Make it anew with pipenv lock.", "%s: %s", file, err)
			}
			p.locked = true
		}
		d.reads(file)
		of := doc
		if p.locked && name != "Pipfile" {
			of = table(doc, "_meta")
		}
		python, key := pipenvVersion(table(of, requires))
		line := lineOf(content, key)
		if name == "Pipfile.lock" {
			line = lineWith(content, `"`+key+`"`)
		}
		p.wants = append(p.wants, wanted{place{file, line}, python})
		if p.file == "" {
			p.file, p.text, p.doc = file, content, doc
		}
	}
	return p, nil
}

var firstVersionRE = regexp.MustCompile(`\d+(\.\d+)*`)

// pipenvVersion returns the X.Y that a requires section asks for, or "", and the key that says it.
func pipenvVersion(requires map[string]any) (python, key string) {
	for _, key := range []string{"python_full_version", "python_version"} {
		if v := firstVersionRE.FindString(text(requires, key)); v != "" {
			parts := strings.SplitN(v, ".", 3)
			if len(parts) == 1 {
				return "", ""
			}
			return trimZeros(parts[0]) + "." + trimZeros(parts[1]), key
		}
	}
	return "", ""
}

func (d *detector) pipenvPython(p pipenv) error {
	own, _ := debian(d.plan.Base)
	d.plan.Python = own.python
	for _, w := range p.wants {
		if w.python != "" {
			return d.usePython(w.python, w.by)
		}
	}
	return nil
}

// pipenvInstalls plans the packages: those that come from an index, those with a hash apart, since pip wants hashes
// for all or for none; then, with the repository in place, those that are in it.
func (d *detector) pipenvInstalls(p pipenv) error {
	sections := []string{"packages", "dev-packages"}
	sources := tables(p.doc, "source")
	var args []string
	if p.locked {
		sections, sources = []string{"default", "develop"}, tables(table(p.doc, "_meta"), "sources")
		args = []string{"--no-deps"}
	}
	indexes, err := pipenvIndexes(p, sources)
	if err != nil {
		return err
	}
	var hashed, plain, local []string
	seen, lineOf := map[string]bool{}, keyLines(p.text)
	for _, section := range sections {
		packages := table(p.doc, section)
		for _, name := range slices.Sorted(maps.Keys(packages)) {
			r, err := pipenvRequirement(path.Dir(p.file), name, packages[name])
			if err != nil {
				return userError("Mend the entry, or lock anew with pipenv.", "%s, line %d: %q: %s", p.file, lineOf(name), printable(name), err)
			}
			if seen[r.text] { // in both sections
				continue
			}
			seen[r.text] = true
			line := fmt.Sprintf("%s # %s, line %d", r.text, p.file, lineOf(name))
			switch {
			case r.local:
				local = append(local, line)
			case r.hashed:
				hashed = append(hashed, line)
			default:
				plain = append(plain, line)
			}
		}
	}
	d.why(p.file, counted(len(hashed)+len(plain)+len(local), "package")+" to install"+map[bool]string{true: ", as locked"}[p.locked])
	for _, lines := range [][]string{hashed, plain} {
		if len(lines) > 0 {
			d.plan.Env = append(d.plan.Env, Install{Tool: ToolPip, Files: []string{}, From: p.file, Lines: append(slices.Clone(indexes), lines...), Args: args})
		}
	}
	if len(local) > 0 {
		d.plan.Content = append(d.plan.Content, Install{Tool: ToolPip, Files: []string{}, From: p.file, Lines: append(indexes, local...), Args: args})
		d.why(p.file, counted(len(local), "package")+" of the repository itself, installed once its files are in place")
	}
	return nil
}

// pipenvIndexes turns sources into options: the first takes the public index's place, the others come beside it.
func pipenvIndexes(p pipenv, sources []map[string]any) ([]string, error) {
	var options []string
	for i, s := range sources {
		url := text(s, "url")
		if !webRE.MatchString(url) {
			return nil, userError("Write the URL of a package index.", "%s, line %d: source %q is no http or https URL", p.file, lineWith(p.text, cmp.Or(url, "source")), printable(url))
		}
		option := "--extra-index-url "
		if i == 0 {
			option = "--index-url "
		}
		options = append(options, option+url)
	}
	return options, nil
}

var keyRE = regexp.MustCompile(`^\s*(?:["']?([A-Za-z0-9._-]+)["']?\s*[=:]|\[.*?\.(?:"([^"]+)"|'([^']+)'|([A-Za-z0-9_-]+))\])`)

// keyLines reads content once, for a function that returns the number of the line that gives name as a key, or 1.
func keyLines(content string) func(name string) int {
	at := map[string]int{}
	for i, l := range lines(content) {
		if m := keyRE.FindStringSubmatch(l); m != nil {
			name := strings.Join(m[1:], "") // one of them
			if at[name] == 0 {
				at[name] = i + 1
			}
		}
	}
	return func(name string) int { return max(at[name], 1) }
}

// lineOf is keyLines for one name.
func lineOf(content, name string) int { return keyLines(content)(name) }

// lineOfTable returns the number of the first line of a TOML file that begins a table called name, or gives it as a key,
// or 1.
func lineOfTable(content, name string) int {
	name = `["']?` + regexp.QuoteMeta(name) + `["']?`
	begins := regexp.MustCompile(`^\s*(\[+\s*(.*\.)?` + name + `\s*[\].]|` + name + `\s*[=.])`)
	for i, l := range lines(content) {
		if begins.MatchString(l) {
			return i + 1
		}
	}
	return 1
}
