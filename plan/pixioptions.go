package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mostIgnored bounds what is said of one manifest: finding the line of each takes the reading of all.
const mostIgnored = 100

// ignore notes once that something on a line has no effect.
func (m *manifest) ignore(line func() int, what string) {
	if len(m.ignored) >= mostIgnored {
		return
	}
	if text := fmt.Sprintf("line %d: %s", line(), what); !slices.Contains(m.ignored, text) {
		m.ignored = append(m.ignored, text)
	}
}

// takeKeys reads what else is said of a package for pip. An index of its own is asked for the others too, as a Pipfile's is.
func (m *manifest) takeKeys(text string, at numbered, name string, value any) error {
	keys, _ := value.(tomlTable)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch key {
		case "version", "extras", "path", "editable", "url", "git", "rev", "tag", "branch", "subdirectory":
		case "index":
			if err := m.takeOption(text, at.number, key, keys[key]); err != nil {
				return err
			}
		default:
			m.ignore(func() int { return at.number }, fmt.Sprintf("%s of %s has no effect", printable(key), printable(name)))
		}
	}
	return nil
}

// takeOptions takes pixi's options for pip from tables: those of the workspace, then those of its features.
func (m *manifest) takeOptions(text string, lineOf func(string) int, tables []tomlTable) error {
	for _, table := range tables {
		options := sub(table, "pypi-options")
		for _, key := range slices.Sorted(maps.Keys(options)) {
			line := lineOf(key)
			switch key {
			case "index-url", "extra-index-urls", "find-links":
				items, ok := options[key].([]any)
				if !ok {
					items = []any{options[key]}
				}
				for _, item := range items {
					if err := m.takeOption(text, line, key, item); err != nil {
						return err
					}
				}
			case "no-index":
				if options[key] == true {
					m.options = append(m.options, numbered{line, "--no-index"})
				}
			default:
				m.ignore(func() int { return line }, printable(key)+" has no effect")
			}
		}
	}
	return nil
}

// takeOption writes an index, or a place of archives, as pip has it. Of main indexes the last counts.
func (m *manifest) takeOption(content string, line int, key string, item any) error {
	where, _ := item.(string)
	dir := ""
	if t, isTable := item.(tomlTable); isTable {
		where, dir = text(t, "url"), text(t, "path")
	}
	if n := lineWith(content, where+dir); where+dir != "" && n > 1 {
		line = n
	}
	option := map[string]string{"index-url": "--index-url ", "find-links": "--find-links "}[key]
	switch {
	case dir != "" && key == "find-links":
		if where = localLine(dir, false); where == "" {
			return lineError(line, "%s: %q is not a directory of the repository", key, printable(dir))
		}
	case !webRE.MatchString(where):
		return lineError(line, "%s: %q is not the URL of an index", key, printable(where))
	}
	if key == "index-url" {
		m.options = slices.DeleteFunc(m.options, func(o numbered) bool { return strings.HasPrefix(o.text, option) })
	}
	at := numbered{line, cmp.Or(option, "--extra-index-url ") + where}
	if !slices.ContainsFunc(m.options, func(o numbered) bool { return o.text == at.text }) {
		m.options = append(m.options, at)
	}
	return nil
}
