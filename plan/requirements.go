package plan

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// maxIncludes bounds how many files one requirements.txt may include.
const maxIncludes = 100

// requirements is what a requirement file says, with those that it includes.
type requirements struct {
	file      string   // that is read first; empty where the lines come from no requirement file
	includes  []string // files included, in order
	encodings map[string]string
	local     *place // the first line that needs the repository in place; nil if none does
	limits    bool   // what is read now is a constraint file, which asks for nothing
}

// A place is a line of a file; 0 is no line in particular.
type place struct {
	file string
	line int
}

// String names the place to a person.
func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s, line %d", p.file, p.line)
}

// before puts the place of an include before the error of what it includes.
func (p place) before(err error) error {
	e := *bindery.AsError(err)
	e.Msg = p.String() + ": " + e.Msg
	return &e
}

// readRequirements reads a requirement file and everything it includes. A line is local when its installation needs
// files of the repository other than the requirement files themselves.
func (d *detector) readRequirements(file string) (*requirements, error) {
	r := &requirements{file: file}
	data, err := d.read(file)
	if err != nil {
		return r, err
	}
	return r, d.readInto(r, file, data)
}

func (d *detector) readInto(r *requirements, file string, data []byte) error {
	text, encoding := decode(data)
	if encoding != "" {
		if r.encodings == nil {
			r.encodings = map[string]string{}
		}
		r.encodings[file] = encoding
	}
	return d.judgeLines(r, file, requirementLines(text))
}

// judgeLines follows the includes among requirement lines of file, and finds the first that is local.
func (d *detector) judgeLines(r *requirements, file string, lines []numbered) (err error) {
	for _, l := range lines {
		needs, included, idle := judge(l.text)
		at := place{file, l.number}
		if len(idle) > 0 {
			d.ignore(file, fmt.Sprintf("line %d: pip takes one package or one file of a line, so %s has no effect there", l.number, strings.Join(idle, ", ")))
		}
		if !r.limits {
			if err := pipMistake(at, l.text); err != nil {
				return err
			}
		}
		if included != "" {
			limits := r.limits
			_, more := optionOf(l.text, "--constraint")
			r.limits = limits || more
			needs, err = d.include(r, at, included)
			if r.limits = limits; err != nil {
				return err
			}
		}
		if needs && r.local == nil {
			r.local = &at
		}
	}
	return nil
}

// include follows -r and -c at a line. What is not a path inside the repository is left to the installer.
func (d *detector) include(r *requirements, at place, value string) (local bool, err error) {
	if strings.Contains(value, "${") || isURL(value) || path.IsAbs(value) {
		return true, nil
	}
	file := path.Join(path.Dir(at.file), value)
	if !fs.ValidPath(file) {
		return true, nil
	}
	if file == r.file || slices.Contains(r.includes, file) {
		return false, nil
	}
	info, err := d.stat(file)
	if err != nil {
		return false, at.before(err)
	}
	if info == nil {
		return false, userError("Add the file, or take the line out.", "%s, line %d: there is no %s", at.file, at.line, printable(file))
	}
	if r.includes = append(r.includes, file); len(r.includes) > maxIncludes {
		return false, userError("Put them into fewer files.", "%s, line %d: more than %d requirement files include each other", at.file, at.line, maxIncludes)
	}
	data, err := d.read(file)
	if err != nil {
		return false, at.before(err)
	}
	return false, d.readInto(r, file, data)
}

type numbered struct {
	number int // of the first physical line
	text   string
}

var commentRE = regexp.MustCompile(`(^|\s)#.*$`)

// requirementLines returns the logical lines of a requirement file: continued ones joined, comments and blanks gone.
func requirementLines(text string) []numbered {
	var out []numbered
	var joined strings.Builder // not one text added to another: there may be a million
	start := 0
	end := func() {
		if l := strings.TrimSpace(commentRE.ReplaceAllString(joined.String(), "")); l != "" {
			out = append(out, numbered{start, l})
		}
		joined.Reset()
	}
	for i, l := range lines(text) {
		if joined.Len() == 0 {
			start = i + 1
		}
		if body, more := strings.CutSuffix(l, `\`); more && !strings.HasPrefix(strings.TrimSpace(l), "#") {
			joined.WriteString(body + " ")
			continue
		}
		joined.WriteString(l)
		end()
	}
	end()
	return out
}

// judge says whether a requirement line needs the repository's files, which requirement file it includes, and which of
// its options pip leaves out.
func judge(line string) (local bool, included string, idle []string) {
	if !strings.HasPrefix(line, "-") {
		return needsFiles(line, false), "", nil
	}
	all := options(line)
	// Of one line pip takes one package or one file, the first, and nothing beside it.
	for _, name := range []string{"--editable", "--requirement", "--constraint"} {
		i := slices.IndexFunc(all, func(o option) bool { return o.name == name })
		if i < 0 {
			continue
		}
		value := all[i].value
		for _, o := range slices.Delete(all, i, i+1) {
			if !slices.Contains(idle, o.name) {
				idle = append(idle, o.name)
			}
		}
		if name == "--editable" {
			return value != "" && needsFiles(value, true), "", idle
		}
		return value != "", value, idle
	}
	for _, o := range all {
		switch o.name {
		case "--find-links":
			local = local || o.value != "" && needsFiles(o.value, true)
		case "--index-url", "--extra-index-url":
			local = local || strings.HasPrefix(o.value, ".")
		}
		local = local || strings.Contains(o.value, "file:")
	}
	return local, "", nil
}

// An option is one of a requirement line, by its first name, with its value.
type option struct{ name, value string }

// optionOf returns the value of the first option of a requirement line that has that name.
func optionOf(line, name string) (value string, ok bool) {
	if !strings.HasPrefix(line, "-") {
		return "", false
	}
	for _, o := range options(line) {
		if o.name == name {
			return o.value, true
		}
	}
	return "", false
}

// options reads the options of a requirement line as pip does: it splits the line like a shell, and long names may be
// cut short. What pip does not know is left out, and the installer complains about it.
func options(line string) []option {
	var all []option
	words := shellWords(line)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			break
		}
		name, value, joined := strings.Cut(word, "=")
		if !strings.HasPrefix(word, "--") && len(word) > 1 { // -rx, and -r=x, which uv reads
			name, value, joined = word[:2], strings.TrimPrefix(word[2:], "="), len(word) > 2
		}
		name, valued := optionName(name)
		if name == "" {
			continue
		}
		if valued && !joined && len(words) > 0 {
			value, words = words[0], words[1:]
		}
		all = append(all, option{name, value})
	}
	return all
}

// optionName returns the first name of an option that pip knows in requirement files, and whether a value follows it;
// or "".
func optionName(name string) (first string, valued bool) {
	valuedOptions := []string{
		"--requirement -r", "--constraint -c", "--editable -e", "--find-links -f", "--index-url --pypi-url -i", "--extra-index-url",
		"--no-binary", "--only-binary", "--trusted-host", "--use-feature", "--hash", "--global-option", "--config-settings -C",
	}
	found := 0
	for i, names := range append(valuedOptions, "--no-index", "--prefer-binary", "--require-hashes", "--pre") {
		for known := range strings.FieldsSeq(names) {
			if name != known && (!strings.HasPrefix(name, "--") || len(name) < 3 || !strings.HasPrefix(known, name)) {
				continue
			}
			first, _, _ = strings.Cut(names, " ")
			valued = i < len(valuedOptions)
			if name == known {
				return first, valued
			}
			found++
		}
	}
	if found != 1 { // cut too short
		return "", false
	}
	return first, valued
}

// shellWords splits a line like a shell.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, inside := byte(0), false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			if inside {
				words = append(words, word.String())
				word.Reset()
			}
			inside = false
			continue
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && i+1 < len(line) && (quote == 0 || quote == '"' && (line[i+1] == '"' || line[i+1] == '\\')):
			i++
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
		inside = true
	}
	if inside {
		words = append(words, word.String())
	}
	return words
}

// needsFiles reports whether a requirement is a file or directory of the repository. Where a path is what the option
// takes, a bare word is one too.
func needsFiles(value string, isPath bool) bool {
	if _, direct, ok := strings.Cut(value, "@"); ok && !isURL(value) {
		value, isPath = strings.TrimSpace(direct), true
	}
	if strings.Contains(value, "file:") || strings.HasPrefix(value, "${") {
		return true
	}
	if scheme, rest, ok := strings.Cut(value, "://"); ok && !strings.ContainsAny(scheme, " ;") {
		return strings.HasPrefix(rest, ".")
	}
	value, _, _ = strings.Cut(value, ";")
	value, _, _ = strings.Cut(value, " --")
	value = strings.TrimSpace(value)
	if strings.HasPrefix(value, ".") || strings.Contains(value, "/") || isPath {
		return value != ""
	}
	for _, archive := range []string{".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"} {
		if strings.HasSuffix(strings.ToLower(value), archive) {
			return true
		}
	}
	return false
}

func isURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && !strings.ContainsAny(scheme, " @;")
}
