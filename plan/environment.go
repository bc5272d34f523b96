package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// An environment is what an environment.yml says.
type environment struct {
	name      string
	channels  []string
	specs     []numbered
	pip       []numbered
	variables []Variable
	ignored   []string // what it says without effect, in words
	read      int      // bytes
}

const (
	defaultChannel = "conda-forge"
	maxSpecs       = 5000 // of one file; exported environments have some hundreds
	maxChannels    = 100
)

// parseEnvironment reads an environment.yml. An error says what is wrong in which line.
func parseEnvironment(text string) (environment, error) {
	var env environment
	root, err := yamlRoot(text)
	if err != nil {
		return env, err
	}
	if err := env.count(root); err != nil {
		return env, err
	}
	implicit := true // conda-forge is a channel even where it is not named
	for key, value := range pairs(root) {
		switch key.Value {
		case "name":
			env.name = value.Value
		case "channels":
			implicit, err = env.takeChannels(value)
		case "dependencies":
			err = env.takeDependencies(value)
		case "variables":
			err = env.takeVariables(value)
		case "prefix":
			env.ignored = append(env.ignored, fmt.Sprintf("line %d: prefix has no effect, the environment is always at /srv/conda/envs/notebook", key.Line))
		case "pip":
			env.ignored = append(env.ignored, fmt.Sprintf("line %d: pip has no effect there: it is one of the dependencies, as - pip:", key.Line))
		default:
			env.ignored = append(env.ignored, fmt.Sprintf("line %d: %s has no effect", key.Line, printable(key.Value)))
		}
		if err != nil {
			return env, err
		}
	}
	if implicit && !slices.Contains(env.channels, defaultChannel) {
		env.channels = append(env.channels, defaultChannel)
	}
	return env, nil
}

// count counts what is in a list or a mapping before it is read: aliases let a small file say the same any number of
// times.
func (e *environment) count(n *yaml.Node) error {
	for _, item := range n.Content {
		if e.read += 1 + len(resolved(item).Value); e.read > maxConfig {
			return grammarError(fmt.Sprintf("line %d: with its aliases written out, the file is too large", item.Line))
		}
	}
	return nil
}

// full refuses more dependencies than anybody wants.
func (e *environment) full() error {
	if len(e.specs)+len(e.pip) > maxSpecs {
		return grammarError(fmt.Sprintf("there are more than %d dependencies", maxSpecs))
	}
	return nil
}

// parseYAML parses text into doc. A mapping may not have any number of keys: the parser compares each with all others.
func parseYAML(text string, doc any) error {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return err
	}
	const most = 1000 // lock files have twenty
	for todo := []*yaml.Node{&root}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = append(todo[:len(todo)-1], n.Content...)
		if n.Kind == yaml.MappingNode && len(n.Content) > 2*most {
			return grammarError(fmt.Sprintf("line %d: there are more than %d keys", n.Line, most))
		}
	}
	return root.Decode(doc)
}

var yamlLineRE = regexp.MustCompile(`line (\d+): (.*)`)

// yamlRoot parses text into a mapping; an empty file is an empty mapping.
func yamlRoot(text string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		if m := yamlLineRE.FindStringSubmatch(err.Error()); m != nil {
			stopped, _ := strconv.Atoi(m[1])
			if likely := yamlMistake(text, stopped, m[2]); likely != nil {
				return nil, likely
			}
			return nil, grammarError("line " + m[1] + " is not YAML: " + printable(m[2]))
		}
		return nil, grammarError("is not YAML")
	}
	if len(doc.Content) == 0 || isNull(doc.Content[0]) {
		return &yaml.Node{Kind: yaml.MappingNode}, nil
	}
	root := resolved(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		return nil, grammarError(fmt.Sprintf("line %d: there should be keys, such as dependencies:, and values", root.Line))
	}
	return root, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// resolved follows an alias. One that refers to another alias or to itself does not parse.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// pairs are the keys of a mapping with their values.
func pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], resolved(n.Content[i+1])) {
				return
			}
		}
	}
}

// list returns the items of a sequence; null is an empty one.
func (e *environment) list(n *yaml.Node, what string) ([]*yaml.Node, error) {
	if isNull(n) {
		return nil, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, grammarError(fmt.Sprintf("line %d: %s should be a list, with - and a space before each item", n.Line, what))
	}
	return n.Content, e.count(n)
}

// word returns a scalar's text on one line.
func word(n *yaml.Node, what string) (string, error) {
	n = resolved(n)
	text := strings.TrimSpace(n.Value)
	if n.Kind != yaml.ScalarNode || isNull(n) || text == "" {
		return "", grammarError(fmt.Sprintf("line %d: %s should be text", n.Line, what))
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", grammarError(fmt.Sprintf("line %d: %s has a character that cannot be printed", n.Line, what))
	}
	return text, nil
}

// takeChannels reports whether conda-forge is a channel without being named: nodefaults stands against that.
func (e *environment) takeChannels(n *yaml.Node) (implicit bool, err error) {
	items, err := e.list(n, "channels")
	if n.Kind == yaml.ScalarNode && !isNull(n) { // one channel, and no list
		items, err = []*yaml.Node{n}, nil
	}
	if err != nil {
		return true, err
	}
	implicit = true
	for _, item := range items {
		channel, err := word(item, "a channel")
		if err != nil {
			return true, err
		}
		if channel == "nodefaults" {
			implicit = false
			continue
		}
		if err := checkChannel(channel); err != nil {
			return true, grammarError(fmt.Sprintf("line %d: %s", item.Line, err))
		}
		if !slices.Contains(e.channels, channel) {
			e.channels = append(e.channels, channel)
		}
		if len(e.channels) > maxChannels {
			return true, grammarError(fmt.Sprintf("line %d: there are more than %d channels", item.Line, maxChannels))
		}
	}
	return implicit, nil
}

var channelRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./+-]*$`)

// checkChannel accepts a name, such as conda-forge or conda-forge/label/dev, and a URL.
func checkChannel(channel string) error {
	scheme, rest, isURL := strings.Cut(channel, "://")
	switch {
	case isURL && slices.Contains([]string{"http", "https", "file"}, scheme) && rest != "" && !strings.ContainsAny(rest, " \"'\\"):
		return nil
	case !isURL && channelRE.MatchString(strings.TrimPrefix(channel, "./")) && !strings.Contains(channel, ".."):
		return nil
	}
	return grammarError(fmt.Sprintf("%q is not a channel: it has a name, such as conda-forge, or a URL", printable(channel)))
}

func (e *environment) takeDependencies(n *yaml.Node) error {
	items, err := e.list(n, "dependencies")
	if err != nil {
		return err
	}
	for _, item := range items {
		item = resolved(item)
		if item.Kind != yaml.MappingNode {
			text, err := word(item, "a dependency")
			if err == nil {
				err = single(item)
			}
			if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "git+") {
				err = lineError(item.Line, "%q is for pip: write it below - pip:", printable(text))
			}
			if err != nil {
				return err
			}
			e.specs = append(e.specs, numbered{item.Line, text})
			if err := e.full(); err != nil {
				return err
			}
			continue
		}
		if err := e.count(item); err != nil {
			return err
		}
		for key, value := range pairs(item) {
			if key.Value != "pip" && value.Kind == yaml.ScalarNode && !isNull(value) {
				return lineError(key.Line, "a dependency is written with =, as %s=%s", printable(key.Value), printable(value.Value))
			}
			if key.Value != "pip" {
				e.ignored = append(e.ignored, fmt.Sprintf("line %d: of the sections among dependencies only pip is known, %s has no effect", key.Line, printable(key.Value)))
				continue
			}
			if err := e.takePip(value); err != nil {
				return err
			}
		}
	}
	return nil
}

// single refuses two items that the indentation makes one: YAML joins lines without a word.
func single(item *yaml.Node) error {
	if item.Style == 0 && strings.Contains(item.Value, " - ") {
		return lineError(item.Line, "%q is one item, since the line after it is indented further: indent both alike", printable(item.Value))
	}
	return nil
}

func (e *environment) takePip(n *yaml.Node) error {
	items, err := e.list(n, "pip")
	if err != nil {
		return err
	}
	for _, item := range items {
		item = resolved(item)
		if item.Kind == yaml.ScalarNode { // pip reads lines, so an item may have several
			if err := single(item); err != nil {
				return err
			}
			for i, l := range lines(item.Value) {
				if l = strings.TrimSpace(l); l != "" && strings.ContainsFunc(l, unicode.IsControl) {
					return grammarError(fmt.Sprintf("line %d: a requirement has a character that cannot be printed", item.Line+i))
				}
			}
			for _, l := range requirementLines(item.Value) {
				e.pip = append(e.pip, numbered{item.Line + l.number - 1, l.text})
			}
			if err := e.full(); err != nil {
				return err
			}
			continue
		}
		if _, err := word(item, "a requirement"); err != nil {
			return err
		}
	}
	return nil
}

var variableRE = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (e *environment) takeVariables(n *yaml.Node) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return grammarError(fmt.Sprintf("line %d: variables should be names and values", n.Line))
	}
	if err := e.count(n); err != nil {
		return err
	}
	for key, value := range pairs(n) {
		if !variableRE.MatchString(key.Value) {
			return grammarError(fmt.Sprintf("line %d: %q is not the name of a variable", key.Line, printable(key.Value)))
		}
		if value.Kind != yaml.ScalarNode || strings.ContainsRune(value.Value, 0) {
			return grammarError(fmt.Sprintf("line %d: %s should be text", value.Line, key.Value))
		}
		e.variables = append(e.variables, Variable{key.Value, value.Value})
	}
	slices.SortStableFunc(e.variables, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
