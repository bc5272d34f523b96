package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	goruntime "runtime"
	"slices"
	"strings"
)

// condaPlatform is conda's name of what images are built for.
func condaPlatform() string {
	if goruntime.GOARCH == "arm64" {
		return "linux-aarch64"
	}
	return "linux-64"
}

// A condaLockFile is what a lock file has for the platform.
type condaLockFile struct {
	file     string
	text     string
	channels []string
	conda    []lockedPackage
	pip      []lockedPackage
	local    []string // requirement lines of local packages
	names    []string // of these
	skipped  []string // what of it is not installed, in words
	inputs   map[string]lockedInput
}

// A lockedInput is a file that a lock file was made from, where conda-lock was asked to note its sum.
type lockedInput struct{ SHA256 string }

type lockedPackage struct {
	name, version, url, sha256, md5 string
	purls                           []string // what a conda package is called elsewhere, where the lock file says so
	alien                           bool     // a conda package that is none of Python's
}

// condaLockText is the form of a conda-lock.yml.
type condaLockText struct {
	Version  int
	Metadata struct {
		Channels []struct{ URL string }
		Inputs   map[string]lockedInput `yaml:"inputs_metadata"`
	}
	Package []struct {
		Name, Version, Manager, Platform, URL, Category string
		Hash                                            struct{ MD5, SHA256 string }
		Dependencies                                    map[string]any
	}
}

// parseCondaLock reads a conda-lock.yml.
func parseCondaLock(text string) (*condaLockFile, error) {
	var doc condaLockText
	if err := parseYAML(text, &doc); err != nil {
		return nil, lockError(err)
	}
	if doc.Version != 1 || len(doc.Package) == 0 {
		return nil, lineError(lineOf(text, "version"), "it is not a lock file of version 1, as conda-lock writes it")
	}
	l := &condaLockFile{text: text, inputs: doc.Metadata.Inputs}
	for _, c := range doc.Metadata.Channels {
		l.channels = append(l.channels, c.URL)
	}
	other := 0
	for _, p := range doc.Package {
		switch {
		case p.Platform != condaPlatform():
			continue
		case p.Category != "" && p.Category != "main" && p.Category != "dev":
			other++
			continue
		}
		at := lockedPackage{name: p.Name, version: p.Version, url: p.URL, sha256: p.Hash.SHA256, md5: p.Hash.MD5}
		if p.Manager == "pip" {
			l.pip = append(l.pip, at)
			continue
		}
		_, python := p.Dependencies["python"]
		at.alien = p.Dependencies != nil && !python
		l.conda = append(l.conda, at)
	}
	if other > 0 {
		l.skipped = append(l.skipped, counted(other, "package")+" of categories other than main and dev")
	}
	return l, nil
}

func lockError(err error) error {
	if own, ok := errors.AsType[grammarError](err); ok {
		return own
	}
	if m := yamlLineRE.FindStringSubmatch(err.Error()); m != nil {
		return grammarError("line " + m[1] + " is not as a lock file has it")
	}
	return grammarError("is not a lock file")
}

// pixiLockText is the form of a pixi.lock. Until version 5 a package has a kind and a URL, then one key says both.
type pixiLockText struct {
	Version      int
	Environments map[string]struct {
		Channels []struct{ URL string }
		Packages map[string][]map[string]any
	}
	Packages []struct {
		Kind, Conda, Pypi, URL, Path, Name string
		Version                            string
		SHA256, MD5                        string
		Editable                           bool
		Purls                              []string
	}
}

// parsePixiLock reads the default environment of a pixi.lock.
func parsePixiLock(text string) (*condaLockFile, error) {
	var doc pixiLockText
	if err := parseYAML(text, &doc); err != nil {
		return nil, lockError(err)
	}
	if doc.Version < 4 || doc.Version > 6 {
		return nil, lineError(lineOf(text, "version"), "it is of version %d, and 4 to 6 are known: write it with a pixi of those", doc.Version)
	}
	env, ok := doc.Environments["default"]
	if !ok {
		return nil, lineError(lineOf(text, "environments"), "it has no environment called default")
	}
	l := &condaLockFile{text: text}
	for _, c := range env.Channels {
		l.channels = append(l.channels, strings.TrimRight(c.URL, "/"))
	}
	known := map[string]int{}
	for i, p := range doc.Packages {
		for _, at := range []string{p.Conda, p.Pypi, p.URL, p.Path} {
			if at != "" {
				known[at] = i
			}
		}
	}
	for _, ref := range env.Packages[condaPlatform()] {
		for kind, value := range ref {
			at, _ := value.(string)
			if kind != "conda" && kind != "pypi" || at == "" {
				continue
			}
			i, ok := known[at]
			if !ok {
				return nil, l.fault(at, "it names %q without saying what it is", printable(at))
			}
			p := doc.Packages[i]
			if err := l.takePixi(kind, lockedPackage{p.Name, p.Version, at, p.SHA256, p.MD5, p.Purls, false}, p.Editable); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

func (l *condaLockFile) takePixi(kind string, p lockedPackage, editable bool) error {
	remote := strings.Contains(p.url, "://")
	switch {
	case kind == "conda" && !remote:
		return l.fault(p.url, "pixi builds %q from source: that is not supported", printable(p.url))
	case kind == "conda":
		l.conda = append(l.conda, p)
	case remote:
		l.pip = append(l.pip, p)
	default:
		line := localLine(p.url, editable)
		if line == "" {
			return l.fault(p.url, "%q is not a directory of the repository", printable(p.url))
		}
		l.local, l.names = append(l.local, line), append(l.names, p.name)
	}
	return nil
}

// fault is an error of the last line with word in it: pixi says at the end what the packages are that it names before.
func (l *condaLockFile) fault(word, format string, args ...any) error {
	return lineError(1+strings.Count(l.text[:max(strings.LastIndex(l.text, word), 0)], "\n"), format, args...)
}

// localLine is the requirement line of a local package, or "" where the path is none.
func localLine(path string, editable bool) string {
	if path == "" || strings.HasPrefix(path, "/") || strings.HasPrefix(path, "-") || strings.ContainsAny(path, "\n\r\t #") {
		return ""
	}
	if !strings.HasPrefix(path, ".") {
		path = "./" + path
	}
	if editable {
		return "-e " + path
	}
	return path
}

var (
	condaFileRE = regexp.MustCompile(`^([A-Za-z0-9_.-]+)-([^-/]+)-([^-/]+)\.(?:conda|tar\.bz2)$`)
	pipNameRE   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	// lockedURLRE has the characters that a URL may have, except quotes.
	lockedURLRE = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9%._~:/?#\[\]@!$&()*+,;=-]+$`)
	pipVerRE    = regexp.MustCompile(`^[A-Za-z0-9.!+_-]+$`)
)

// packages checks the conda packages: their URLs and hashes end in files that programs read.
func (l *condaLockFile) packages() ([]CondaPackage, string, error) {
	var all []CondaPackage
	python := ""
	for _, p := range l.conda {
		where, hash, _ := strings.Cut(p.url, "#")
		if p.md5 == "" && p.sha256 == "" {
			p.md5 = hash
		}
		scheme, _, ok := strings.Cut(where, "://")
		if !ok || !slices.Contains([]string{"http", "https", "file"}, scheme) || !lockedURLRE.MatchString(where) {
			return nil, "", l.fault(where, "%q is not the URL of a package", printable(where))
		}
		name := condaFileRE.FindStringSubmatch(where[strings.LastIndex(where, "/")+1:])
		if name == nil {
			return nil, "", l.fault(where, "%q is not the URL of a conda package", printable(where))
		}
		if !isHash(p.sha256, 32) || !isHash(p.md5, 16) || p.sha256 == "" && p.md5 == "" {
			return nil, "", l.fault(where, "%s has no hash that can be checked", printable(name[1]))
		}
		if name[1] == "python" {
			python = name[2]
		}
		all = append(all, CondaPackage{URL: where, SHA256: p.sha256, MD5: p.md5})
	}
	if len(all) == 0 {
		return nil, "", l.fault("platforms", "it has no packages for %s: add the platform, and lock again", condaPlatform())
	}
	return all, python, nil
}

func isHash(s string, size int) bool {
	raw, err := hex.DecodeString(s)
	return s == "" || err == nil && len(raw) == size
}

// requirements are the pip packages as requirement lines. Those of the public index are named rather than linked to,
// so that an index of one's own serves them.
func (l *condaLockFile) requirements() ([]numbered, error) {
	var lines []numbered
	for _, p := range l.pip {
		if p.sha256 == "" || !isHash(p.sha256, 32) || !pipNameRE.MatchString(p.name) || !pipVerRE.MatchString(p.version) {
			return nil, l.fault(cmp.Or(p.url, p.name), "%s, a package for pip, has no name, version or hash that can be checked", printable(p.name))
		}
		line := p.name + "==" + p.version
		if !strings.HasPrefix(p.url, "https://files.pythonhosted.org/") {
			scheme, _, ok := strings.Cut(p.url, "://")
			if !ok || scheme != "https" && scheme != "http" && !strings.HasPrefix(scheme, "git+") || !lockedURLRE.MatchString(p.url) {
				return nil, l.fault(p.url, "%q is not the URL of a package", printable(p.url))
			}
			line = p.name + " @ " + p.url
		}
		lines = append(lines, numbered{1, line + " --hash=sha256:" + p.sha256})
	}
	return lines, nil
}

// lacks names the first spec, requirement or local package that the lock file does not fulfil: it was written before the
// last change, then. Where packages come from is not compared: the lock file says it of each. What conda may bring by
// another name than pip's is unsure: no lock file of conda-lock's says such names, and its own hash of what it was made
// from cannot be had from the file alone (it counts the machine that was assumed, and options).
func (l *condaLockFile) lacks(specs, pip, local []numbered) (missing string, unsure []numbered) {
	conda, pypi, similar, dirs := map[string]string{}, map[string][]string{}, map[string][]string{}, map[string]bool{}
	for _, p := range l.pip {
		pypi[normal(p.name)] = append(pypi[normal(p.name)], p.version)
	}
	for _, p := range l.conda { // pip finds these too, so they are not locked for it
		name, version := p.called()
		conda[name] = version
		if p.alien {
			continue
		}
		pypi[normal(name)] = append(pypi[normal(name)], version)
		if len(p.purls) == 0 {
			similar[stem(name)] = append(similar[stem(name)], version)
		}
		for _, purl := range p.purls {
			if of, ok := strings.CutPrefix(purl, "pkg:pypi/"); ok {
				of, _, _ = strings.Cut(of, "?")
				pypi[normal(of)] = append(pypi[normal(of)], version)
			}
		}
	}
	for _, name := range l.names {
		pypi[normal(name)] = append(pypi[normal(name)], "")
	}
	for _, line := range l.local {
		dirs[path.Clean(strings.TrimPrefix(line, "-e "))] = true
	}
	for _, s := range specs {
		name, constraint := splitSpec(s.text)
		text, found := conda[name]
		if version, known := parseCondaVersion(text); !found || known && !parseCondaConstraint(constraint).accepts(version) {
			return s.text, nil
		}
	}
	for _, line := range pip {
		name, lacking := lacksPip(pypi, line.text, normal)
		if !lacking {
			continue
		}
		if _, lacking = lacksPip(similar, line.text, stem); lacking || pypi[name] != nil {
			return line.text, nil
		}
		unsure = append(unsure, line)
	}
	for _, line := range local {
		if dir := path.Clean(strings.TrimPrefix(line.text, "-e ")); dir != "." && !dirs[dir] {
			return line.text, nil
		}
	}
	return "", unsure
}

// madeFrom reports whether the lock file says that it was made from this text of a file beside it.
func (l *condaLockFile) madeFrom(file, text string) bool {
	text = strings.ReplaceAll(text, "\r\n", "\n") // as conda-lock reads it
	return l.inputs[path.Base(file)].SHA256 == fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

// called returns the name and the version in the URL of a conda package.
func (p lockedPackage) called() (name, version string) {
	url, _, _ := strings.Cut(p.url, "#")
	if m := condaFileRE.FindStringSubmatch(url[strings.LastIndex(url, "/")+1:]); m != nil {
		return m[1], m[2]
	}
	return "", ""
}

// namedRE is a requirement of a package by its name, without a marker.
var namedRE = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(@[^;]*|\(?[=<>!~][^;@]*)?$`)

// lacksPip reports whether a lock file, which has these versions by key of a name, has none that fits a requirement. A
// marker may say that it is not for here, and what has no name cannot be looked for.
func lacksPip(versions map[string][]string, line string, key func(string) string) (name string, lacks bool) {
	text, _, _ := strings.Cut(line, " --") // hashes
	m := namedRE.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || needsFiles(text, false) {
		return "", false
	}
	name = key(m[1])
	asked, err := parseSpecifiers(strings.Trim(m[2], "() "))
	return name, !slices.ContainsFunc(versions[name], func(version string) bool {
		version, _, _ = strings.Cut(version, "+")
		return err != nil || !versionRE.MatchString(version) || asked.accepts(version)
	})
}

var separatorRE = regexp.MustCompile(`[-_.]+`)

// normal is the name of a Python package as indexes compare it.
func normal(name string) string { return separatorRE.ReplaceAllString(strings.ToLower(name), "-") }

var affixRE = regexp.MustCompile(`^(?:python|py)-?|(?:-(?:python|py|base|core|headless|binary|cpu|gpu))+$`)

// stem is what names of one package by conda and by pip mostly have in common: pytorch and torch, opencv and
// opencv-python-headless.
func stem(name string) string {
	return affixRE.ReplaceAllString(normal(name), "")
}

// selectorRE is a comment by which conda-lock takes a line for some platforms only.
var selectorRE = regexp.MustCompile(`#.*\[([^\[\]]+)\][^()]*$`)

// isElsewhere reports whether conda-lock leaves out a line of an environment.yml for the platform. YAML may count more lines
// than there are here: it knows other ends.
func isElsewhere(all []string, number int) bool {
	m := selectorRE.FindStringSubmatch(all[min(number, len(all))-1])
	return m != nil && !slices.Contains([]string{"linux", "unix", map[string]string{"linux-64": "linux64", "linux-aarch64": "aarch64"}[condaPlatform()]}, m[1])
}

// unsure returns the lines that have pip look for what conda may have brought by another name, in the finished environment:
// it installs what is not there. asked are all of the file's, of which options count too.
func (d *detector) unsure(file string, asked, unsure []numbered) []numbered {
	if len(unsure) == 0 {
		return nil
	}
	var names []string
	for _, line := range unsure {
		names = append(names, printable(line.text))
	}
	d.why(file, strings.Join(names, ", ")+": conda's name may be another one, so pip looks in the locked environment and installs what is not there")
	options := slices.DeleteFunc(slices.Clone(asked), func(line numbered) bool {
		_, editable := optionOf(line.text, "--editable")
		_, constraint := optionOf(line.text, "--constraint")
		return editable || constraint || !strings.HasPrefix(line.text, "-")
	})
	return slices.Concat(options, unsure)
}

// lockFile plans what a lock file has. made says so far what the file that it goes with asks for.
func (d *detector) lockFile(l *condaLockFile, made *CondaEnvironment) error {
	fail := func(err error) error {
		return userError("Lock the environment again.", "%s: %s", l.file, err)
	}
	locked, python, err := l.packages()
	if err != nil {
		return fail(err)
	}
	lines, err := l.requirements()
	if err != nil {
		return fail(err)
	}
	d.reads(l.file)
	for _, s := range l.skipped {
		d.ignore(l.file, s+" are not installed")
	}
	made.Channels, made.Locked, made.File = l.channels, locked, l.file
	if len(made.Channels) == 0 {
		made.Channels = []string{defaultChannel}
	}
	d.why(l.file, fmt.Sprintf("a conda environment of %s, exactly these", counted(len(locked), "package")))
	xy := ""
	if v, ok := parseCondaVersion(python); ok && len(v) > 1 {
		xy = fmt.Sprintf("%d.%d", v[0][0].number, v[1][0].number)
	}
	switch {
	case python == "":
		made.Kernel = true
		d.separateKernel(l.file, "")
	case xy != "" && old(xy):
		made.Kernel = true
		d.separateKernel(l.file, xy)
	default:
		d.plan.Python = xy
		d.why(l.file, "Python "+printable(python)+", in the conda environment")
	}
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolConda, Files: []string{}, Version: d.plan.Python, Conda: made})
	// Apart from each other: a line with a hash makes installers want one of every line.
	if err := d.condaPip(l.file, lines, "--no-deps"); err != nil {
		return err
	}
	var local []numbered
	for _, line := range l.local {
		local = append(local, numbered{1, line})
	}
	return d.condaPip(l.file, local, "--no-deps")
}
