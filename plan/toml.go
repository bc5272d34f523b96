package plan

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxDepth is how deep the brackets of a TOML file may nest: its parser is recursive.
const maxDepth = 1000

// parseTOML parses text. Its error says the line, and is for a person.
func parseTOML(text string) (map[string]any, error) {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > maxDepth {
			return nil, grammarError("is nested too deeply")
		}
	}
	if manyKeys(text) {
		return nil, grammarError("has too many keys")
	}
	var doc map[string]any
	if err := toml.Unmarshal([]byte(text), &doc); err != nil {
		if at, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, _ := at.Position()
			return nil, grammarError(fmt.Sprintf("line %d is not TOML", row))
		}
		return nil, grammarError("is not TOML")
	}
	return doc, nil
}

var (
	tomlStringRE  = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"|'[^'\n]*'`)
	tomlPackageRE = regexp.MustCompile(`^\[\[?package\.`)
)

// manyKeys reports whether the parser would take long: it compares each key with those before it, to find those that are
// there twice. Each package of a uv.lock is one for itself. Where it cannot tell, manyKeys counts too many.
func manyKeys(text string) bool {
	const most = 1 << 30 // comparisons: some seconds
	severalLines := strings.Contains(text, `"""`) || strings.Contains(text, "'''")
	all, own, cost, inPackage := 0, 0, 0, false
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if !severalLines {
			line = tomlStringRE.ReplaceAllString(line, "")
		}
		keys := strings.Count(line, "=") + strings.Count(line, ".")
		switch {
		case line == "[[package]]" && !severalLines:
			all, own, inPackage = all-own, 0, true
		case strings.HasPrefix(line, "["):
			inPackage = tomlPackageRE.MatchString(line)
		}
		if strings.HasPrefix(line, "[") {
			keys++
		}
		all += keys
		if inPackage {
			own += keys
		}
		if cost += keys * all; cost > most {
			return true
		}
	}
	return false
}

// table returns the table called key of t, or nil.
func table(t map[string]any, key string) map[string]any {
	sub, _ := t[key].(map[string]any)
	return sub
}

// text returns the string called key of t, or "".
func text(t map[string]any, key string) string {
	s, _ := t[key].(string)
	return s
}

// texts returns the strings of the list called key of t.
func texts(t map[string]any, key string) []string {
	list, _ := t[key].([]any)
	var all []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// tables returns the tables of the list called key of t.
func tables(t map[string]any, key string) []map[string]any {
	list, _ := t[key].([]any)
	var all []map[string]any
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}
