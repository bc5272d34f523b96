package main

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	mention = regexp.MustCompile("`(bindery [^`]+)`")
	inBlock = regexp.MustCompile(`(?m)^(?: {4})?(bindery .+)$`)
	beyond  = regexp.MustCompile(`(^|\s)[#|>&;].*$`) // what the shell takes, and comments
	argRE   = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)
	several = regexp.MustCompile(`^[^"'\s|]+(\|[^"'\s|]+)+$`) // words that one may choose from; "…": and others
	partial = regexp.MustCompile(`^(expected |missing flags)`)
)

// placeholders are what stands in the documentation for something that is more than a name.
var placeholders = map[string]string{"N": "1", "W": "1", "DIR": "."}

// TestDocumentedCommands parses each command line in the documentation: what it says can be typed. What a reader has to
// put in stands there in capitals, and prose may name a command without its arguments.
func TestDocumentedCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		prose := strings.ReplaceAll(string(text), "\\\n", " ")
		for _, re := range []*regexp.Regexp{mention, inBlock} {
			for _, m := range re.FindAllStringSubmatch(prose, -1) {
				for _, line := range choices(m[1]) {
					n++
					if err := parses(t, line); err != nil && !(re == mention && partial.MatchString(err.Error())) {
						t.Errorf("%s: %s: %v", filepath.Base(file), line, err)
					}
				}
			}
		}
	}
	if n < 150 {
		t.Errorf("only %d commands were found", n)
	}
}

// choices are the lines that one line stands for.
func choices(line string) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(strings.ReplaceAll(line, `\|`, "|")) {
		words := []string{word}
		if several.MatchString(word) {
			words = slices.DeleteFunc(strings.Split(word, "|"), func(w string) bool { return w == "…" })
		}
		var longer []string
		for _, before := range lines {
			for _, w := range words {
				longer = append(longer, strings.TrimSpace(before+" "+w))
			}
		}
		lines = longer
	}
	return lines
}

func parses(t *testing.T, line string) error {
	t.Helper()
	args := argRE.FindAllString(beyond.ReplaceAllString(strings.TrimPrefix(line, "bindery"), ""), -1)
	for i, arg := range args {
		args[i] = strings.Trim(cmp.Or(placeholders[arg], arg), `"'`)
	}
	helped := false
	a := &app{line: new(commandLine), stdout: io.Discard, stderr: io.Discard}
	parser, err := a.parser(func(int) { helped = true })
	if err != nil {
		t.Fatal(err)
	}
	if _, err = parser.Parse(args); helped {
		return nil
	}
	return err
}
