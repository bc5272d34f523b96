package plan

import (
	"strings"

	"github.com/moby/patternmatcher"
)

// ignoreFiles reads the patterns of the files that stay out of the image.
func (d *detector) ignoreFiles() error {
	var patterns []string
	for _, name := range []string{".dockerignore", ".containerignore"} {
		file, err := d.first(name)
		if err != nil {
			return err
		}
		if file == "" {
			continue
		}
		text, err := d.readText(file)
		if err != nil {
			return err
		}
		found := parseIgnore(text)
		for _, l := range found {
			if _, err := patternmatcher.New([]string{l.text}); err != nil {
				return userError("Mend the pattern: * ? [] and ! have Docker's meaning.", "%s, line %d: %q is no pattern", file, l.number, printable(l.text))
			}
			patterns = append(patterns, l.text)
		}
		d.use(file)
		d.why(file, counted(len(found), "pattern")+" of files that stay out of the image")
	}
	if len(patterns) > 0 {
		d.plan.Ignore = append(patterns, "!Dockerfile") // as Docker does, which needs it
	}
	return nil
}

// parseIgnore returns the patterns in the text of a .dockerignore, relative to the repository.
func parseIgnore(text string) []numbered {
	var patterns []numbered
	for i, line := range lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		not := ""
		if line[0] == '!' {
			not, line = "!", strings.TrimSpace(line[1:])
		}
		if line = strings.TrimLeft(line, "/"); line != "" {
			patterns = append(patterns, numbered{i + 1, not + line})
		}
	}
	return patterns
}

// An Ignorer tells which files of a tree the patterns of a Plan keep out of the image. It is used by one goroutine.
type Ignorer struct {
	m *patternmatcher.PatternMatcher
}

// A Verdict is what an Ignorer thinks of a directory: its files' verdicts start from it.
type Verdict struct {
	info patternmatcher.MatchInfo
	out  bool
}

// NewIgnorer makes an Ignorer of Plan.Ignore.
func NewIgnorer(patterns []string) (*Ignorer, error) {
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, userError("Mend the pattern: * ? [] and ! have Docker's meaning.", "A pattern of files to ignore means nothing").Because(err)
	}
	return &Ignorer{m}, nil
}

// Match judges a slash-separated path, given the verdict on its directory (the zero Verdict for the root).
func (g *Ignorer) Match(path string, parent Verdict) (Verdict, error) {
	out, info, err := g.m.MatchesUsingParentResults(path, parent.info)
	return Verdict{info, out}, err
}

// Out reports whether the path stays out of the image.
func (v Verdict) Out() bool { return v.out }

// Prunes reports whether nothing below dir, which is out, can be in: no pattern takes anything of it back.
func (g *Ignorer) Prunes(dir string) bool {
	for _, p := range g.m.Patterns() {
		if p.Exclusion() && reaches(p.String(), dir) {
			return false
		}
	}
	return true
}

// reaches reports whether pattern may match something below dir. It errs on the side of yes.
func reaches(pattern, dir string) bool {
	first, rest, below := strings.Cut(pattern, "/")
	top, _, _ := strings.Cut(dir, "/")
	if strings.Contains(first, "**") {
		return true
	}
	return below && rest != "" && (first == top || strings.ContainsAny(first, `*?[\\`))
}

// About reports whether a pattern concerns dir or something in it, so that dir cannot be taken as a whole.
func (g *Ignorer) About(dir string) bool {
	out, err := g.m.MatchesOrParentMatches(dir)
	if out || err != nil {
		return true
	}
	for _, p := range g.m.Patterns() {
		if reaches(p.String(), dir) {
			return true
		}
	}
	return false
}
