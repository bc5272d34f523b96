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
		needs, included := judge(l.text)
		at := place{file, l.number}
		if included != "" {
			if needs, err = d.include(r, at, included); err != nil {
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
	joined, start := "", 0
	for i, l := range lines(text) {
		if joined == "" {
			start = i + 1
		}
		if body, more := strings.CutSuffix(l, `\`); more && !strings.HasPrefix(strings.TrimSpace(l), "#") {
			joined += body + " "
			continue
		}
		l = strings.TrimSpace(commentRE.ReplaceAllString(joined+l, ""))
		joined = ""
		if l != "" {
			out = append(out, numbered{start, l})
		}
	}
	if joined = strings.TrimSpace(commentRE.ReplaceAllString(joined, "")); joined != "" {
		out = append(out, numbered{start, joined})
	}
	return out
}

// judge says whether a requirement line needs the repository's files, and which requirement file it includes.
func judge(line string) (local bool, included string) {
	option, value := cutOption(line)
	switch option {
	case "":
		return needsFiles(line, false), ""
	case "-r", "--requirement", "-c", "--constraint":
		return value != "", value
	case "-e", "--editable", "-f", "--find-links":
		return value != "" && needsFiles(value, true), ""
	case "-i", "--index-url", "--extra-index-url", "--pypi-url":
		return strings.Contains(value, "file:") || strings.HasPrefix(value, "."), ""
	}
	return strings.Contains(value, "file:"), ""
}

// cutOption splits an option from its value: "-r x", "-rx", "--requirement x", "--requirement=x".
func cutOption(line string) (option, value string) {
	if !strings.HasPrefix(line, "-") {
		return "", ""
	}
	if !strings.HasPrefix(line, "--") && len(line) >= 2 {
		return line[:2], unquote(strings.TrimSpace(strings.TrimPrefix(line[2:], "=")))
	}
	i := strings.IndexAny(line, "= \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], unquote(strings.TrimSpace(strings.TrimLeft(line[i:], "= \t")))
}

func unquote(s string) string {
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
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
