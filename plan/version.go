package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A suite is a release of Debian that a base may be made of.
type suite struct {
	name, python string
	release      string // of Python, to the patch; empty while it changes
}

// suites are those that can be bootstrapped, with their own Python, oldest first. The last is Debian's testing, by the
// name that it keeps once it is released.
func suites() []suite {
	return []suite{{"bullseye", "3.9", "3.9.2"}, {"bookworm", "3.11", "3.11.2"}, {"trixie", "3.13", "3.13.5"}, {"forky", "3.14", ""}}
}

// Suites returns the names of Debian's releases that a base may be made of.
func Suites() []string {
	var all []string
	for _, s := range suites() {
		all = append(all, s.name)
	}
	return all
}

// pythons are the versions that an environment may have, oldest first. What no suite has, uv brings.
func pythons() []string { return []string{"3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"} }

// pythonsText is the list of versions for a message.
func pythonsText() string {
	all := pythons()
	return all[0] + " to " + all[len(all)-1]
}

// suiteOf returns the suite that has a Python, if it may be used.
func (d *detector) suiteOf(python string) (suite, bool) {
	for _, s := range suites() {
		if s.python == python && (d.opt.Suites == nil || slices.Contains(d.opt.Suites, s.name)) {
			return s, true
		}
	}
	return suite{}, false
}

// debian returns the suite of a base "debian:SUITE", whose Python is empty when it is not known here. Other bases are
// images, whose Python only the build finds out.
func debian(base string) (s suite, ok bool) {
	name, ok := strings.CutPrefix(base, "debian:")
	if !ok {
		return suite{}, false
	}
	for _, s := range suites() {
		if s.name == name {
			return s, true
		}
	}
	return suite{name: name}, true
}

// pythonVersion decides the interpreter: what runtime.txt names, else the base's own, else the newest that
// requires-python of pyproject.toml, or of its lock file, accepts. Another Python than the base's own means another
// Debian, or one of uv's.
func (d *detector) pythonVersion(p pythonSpec) error {
	if d.hasConda() { // it has a Python of its own
		return nil
	}
	requires, at := p.project.requires, place{"pyproject.toml", p.project.line}
	if p.lock != nil && p.lock.requires != "" { // it holds for the project, and for the workspace's members
		requires, at = p.lock.requires, place{file: p.lock.file}
	}
	own, _ := debian(d.plan.Base)
	asked, err := d.runtimePython()
	by := place{file: d.runtime.file}
	if err == nil && asked == "" && p.lock != nil {
		if asked, by, err = d.pinnedPython(); asked != "" {
			d.reads(by.file)
		}
	}
	if err != nil {
		return err
	}
	if asked != "" {
		if err := d.usePython(asked, by); err != nil {
			return err
		}
	} else {
		d.plan.Python = own.python
	}
	if requires == "" {
		return nil
	}
	spec, err := parseSpecifiers(requires)
	if err != nil {
		return userError("Write it as PEP 440 has it, such as >=3.11.", "%s: requires-python: %s", at, err)
	}
	d.reads(at.file)
	switch {
	case d.plan.Python == "":
		d.why(at.file, fmt.Sprintf("requires Python %s; the base's own is used, unseen", printable(requires)))
		return nil
	case spec.accepts(d.plan.Python) && (asked != "" || own.fits(spec)):
		return nil
	case asked != "":
		return userError("Change one of the two.", "%s asks for Python %s, which %s (requires-python %q) does not accept",
			by, d.plan.Python, at, printable(requires))
	}
	return d.newestPython(spec, requires, at)
}

// newestPython takes the newest that requires-python accepts, not the nearest: that is what repo2docker's users have got
// used to. Which patch there is counts only where they would have been refused.
func (d *detector) newestPython(spec specifiers, requires string, at place) error {
	all := pythons()
	slices.Reverse(all)
	for _, version := range all {
		if spec.accepts(version) {
			return d.usePatch(version, spec, at)
		}
	}
	for _, version := range all {
		if spec.patches(version) != "" {
			return d.usePatch(version, spec, at)
		}
	}
	return userError("Let requires-python accept one of them, or write a Dockerfile.",
		"%s: requires-python is %q, and there is only Python %s", at, printable(requires), pythonsText())
}

// runtimePython returns the X.Y that runtime.txt asks for, or "" when any will do.
func (d *detector) runtimePython() (string, error) {
	r := d.runtime
	if r.file == "" {
		return "", nil
	}
	d.reads(r.file)
	switch {
	case strings.EqualFold(r.name, "python") && r.name != "python", r.name == "R":
		d.ignore(r.file, fmt.Sprintf("names count exactly: it would have to be %s", strings.ToLower(r.name)))
		return "", nil
	case r.name != "python":
		d.ignore(r.file, fmt.Sprintf("%q does not name a Python", printable(r.name)))
		return "", nil
	case r.date != "":
		d.ignore(r.file, "the date has no meaning for Python")
	}
	parts := strings.Split(r.version, ".")
	switch {
	case r.version == "":
		return "", nil
	case len(parts) == 1 && trimZeros(parts[0]) == "3":
		d.why(r.file, "any Python 3 will do")
		return "", nil
	case len(parts) == 1:
		return "", userError("Write one line such as python-3.11.", "%s asks for Python %s, and there is only Python %s", r.file, printable(r.version), pythonsText())
	case len(parts) > 2:
		d.ignore(r.file, "of the version, only "+printable(trimZeros(parts[0])+"."+trimZeros(parts[1]))+" counts")
	}
	return trimZeros(parts[0]) + "." + trimZeros(parts[1]), nil
}

// usePython takes Python version, because of a line: the base's own if it is that, else the Debian's that has it, else
// one that uv brings.
func (d *detector) usePython(version string, by place) error {
	file := by.file
	own, isDebian := debian(d.plan.Base)
	s, known := d.suiteOf(version)
	switch {
	case own.python == version:
		d.why(file, "Python "+version+", the base's own")
	case !slices.Contains(pythons(), version):
		remedy := "Ask for one of them there, or write a Dockerfile."
		if file == d.runtime.file {
			remedy = "Name one of them, such as python-3.11, or write a Dockerfile."
			if slices.Contains(condaPythons(), version) {
				remedy = "Name one of them, such as python-3.11, or ask conda for it, by python=" + version + " in an environment.yml in place of this file."
			}
		}
		return userError(remedy, "%s asks for Python %s, and there is only Python %s", by, printable(version), pythonsText())
	case !isDebian:
		d.why(file, "Python "+version+": the base image's own if it is that, else one that uv brings")
	case known:
		d.plan.Base = "debian:" + s.name
		d.why(file, "Python "+version+", so the base is Debian "+s.name+" in place of "+printable(own.name))
	default:
		d.why(file, "Python "+version+", which uv brings: the base has another")
	}
	d.plan.Python = version
	return nil
}

// usePatch takes a patch of Python version that the specifiers accept: Debian's where it is one, else one that uv brings.
func (d *detector) usePatch(version string, spec specifiers, by place) error {
	s, _ := d.suiteOf(version)
	if own, _ := debian(d.plan.Base); own.python == version {
		s = own
	}
	newest := fmt.Sprintf("%s.%d", version, mostPatches) // as uv has it
	if s.name != "" && s.fits(spec) || s.name == "" && spec.accepts(version) && spec.accepts(newest) {
		return d.usePython(version, by)
	}
	d.plan.Python, d.plan.Patches = version, spec.patches(version)
	d.why(by.file, "Python "+d.plan.Patches+", which uv brings")
	return nil
}

// fits reports whether the specifiers accept the suite's own Python.
func (s suite) fits(spec specifiers) bool { return spec.accepts(cmp.Or(s.release, s.python)) }

func trimZeros(digits string) string {
	if t := strings.TrimLeft(digits, "0"); t != "" {
		return t
	}
	return "0"
}

// specifiers are the comma-separated clauses of PEP 440.
type specifiers []specifier

type specifier struct {
	op      string
	release []int
	suffix  int  // -1: before the release (alpha, dev), 1: after it
	star    bool // release is a prefix
}

// parseSpecifiers parses requires-python.
func parseSpecifiers(text string) (specifiers, error) {
	var all specifiers
	for clause := range strings.SplitSeq(text, ",") {
		clause = strings.TrimSpace(clause)
		if clause == "" {
			continue
		}
		s, ok := parseSpecifier(clause)
		if !ok {
			return nil, grammarError(strconv.Quote(printable(clause)) + " is not a version specifier")
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSpecifier(clause string) (specifier, bool) {
	var s specifier
	for _, op := range []string{"===", "~=", "==", "!=", "<=", ">=", "<", ">"} {
		if rest, ok := strings.CutPrefix(clause, op); ok {
			s.op, clause = op, strings.TrimPrefix(strings.TrimSpace(rest), "v")
			break
		}
	}
	clause, s.star = strings.CutSuffix(clause, ".*")
	for clause != "" {
		digits := clause[:len(clause)-len(strings.TrimLeft(clause, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil || n > 1_000_000 {
			return s, false
		}
		s.release = append(s.release, n)
		clause = clause[len(digits):]
		if !strings.HasPrefix(clause, ".") || !startsWithDigit(clause[1:]) {
			break
		}
		clause = clause[1:]
	}
	switch rest := strings.ToLower(strings.TrimLeft(clause, ".-_")); {
	case rest == "":
	case strings.HasPrefix(rest, "post"):
		s.suffix = 1
	case strings.HasPrefix(rest, "a"), strings.HasPrefix(rest, "b"), strings.HasPrefix(rest, "rc"), strings.HasPrefix(rest, "c"), strings.HasPrefix(rest, "dev"):
		s.suffix = -1
	default:
		return s, false
	}
	ok := s.op != "" && len(s.release) > 0 && (clause == "" || !s.star) && (!s.star || s.op == "==" || s.op == "!=") &&
		(s.op != "~=" || len(s.release) > 1)
	return s, ok
}

func startsWithDigit(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }

// accepts reports whether X.Y, taken as the version X.Y.0, fulfils every clause.
func (all specifiers) accepts(version string) bool {
	var v []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return false
		}
		v = append(v, n)
	}
	for _, s := range all {
		if !s.accepts(v) {
			return false
		}
	}
	return true
}

const mostPatches = 30 // no Python had more

// patches returns the newest patches of Python X.Y that fulfil every clause, as specifiers, or "".
func (all specifiers) patches(version string) string {
	accepted := func(patch int) bool { return all.accepts(fmt.Sprintf("%s.%d", version, patch)) }
	newest := mostPatches
	for newest >= 0 && !accepted(newest) {
		newest--
	}
	if newest < 0 {
		return ""
	}
	oldest := newest
	for oldest > 0 && accepted(oldest-1) {
		oldest--
	}
	if newest < mostPatches {
		return fmt.Sprintf(">=%s.%d,<=%s.%d", version, oldest, version, newest)
	}
	major, minor, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(minor)
	return fmt.Sprintf(">=%s.%d,<%s.%d", version, oldest, major, n+1)
}

func (s specifier) accepts(v []int) bool {
	c := compare(v, s.release)
	if c == 0 {
		c = -s.suffix
	}
	switch s.op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case ">=":
		return c >= 0
	case "~=":
		return c >= 0 && hasPrefix(v, s.release[:len(s.release)-1])
	case "!=":
		return !s.equals(v, c)
	}
	return s.equals(v, c)
}

func (s specifier) equals(v []int, c int) bool {
	if s.star {
		return hasPrefix(v, s.release)
	}
	return c == 0
}

// compare compares two releases; missing parts are zero.
func compare(a, b []int) int {
	for i := range max(len(a), len(b)) {
		if x, y := part(a, i), part(b, i); x != y {
			return x - y
		}
	}
	return 0
}

func hasPrefix(v, prefix []int) bool {
	for i, n := range prefix {
		if part(v, i) != n {
			return false
		}
	}
	return true
}

func part(v []int, i int) int {
	if i < len(v) {
		return v[i]
	}
	return 0
}
