package plan

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestServed is the oldest Python that the Jupyter servers run on.
const oldestServed = "3.9"

// condaPythons are the versions that repo2docker knows, the most wanted first: its default, then the newest.
func condaPythons() []string {
	return []string{"3.10", "3.14", "3.13", "3.12", "3.11", "3.9", "3.8", "3.7", "3.6", "3.5", "2.7"}
}

// old reports whether the servers do not run on Python xy.
func old(xy string) bool {
	major, minor, _ := strings.Cut(xy, ".")
	n, _ := strconv.Atoi(minor)
	return major == "2" || n < 9
}

var (
	specRE     = regexp.MustCompile(`^([A-Za-z0-9_.-]+)\s*(.*)$`)
	bracketRE  = regexp.MustCompile(`(?:^|[,\s])version\s*=\s*(?:'([^']*)'|"([^"]*)"|([^,'"\]]*))`)
	operatorRE = regexp.MustCompile(`\s*([=<>!~,|()]+)\s*`)
	buildRE    = regexp.MustCompile(`([^=<>!~,|])=[^=<>!~,|]*$`)
)

// splitSpec cuts a match specification into the package's name, in lower case, and the constraint of its version. What
// it does not understand is the solver's to judge.
func splitSpec(spec string) (name, version string) {
	if _, after, ok := strings.Cut(spec, "::"); ok {
		spec = after
	}
	spec, bracket, _ := strings.Cut(spec, "[")
	m := specRE.FindStringSubmatch(strings.TrimSpace(spec))
	if m == nil {
		return "", ""
	}
	name, version = strings.ToLower(m[1]), operatorRE.ReplaceAllString(m[2], "$1")
	if inner := bracketRE.FindStringSubmatch(bracket); version == "" && inner != nil {
		return name, inner[1] + inner[2] + inner[3]
	}
	version, _, _ = strings.Cut(version, " ") // the build, which may also stand behind =
	return name, buildRE.ReplaceAllString(version, "$1")
}

// acceptsAll reports whether every constraint accepts some version of Python xy: a release, or a version with a word in it
// that one of them names.
func acceptsAll(all []condaConstraint, xy string) bool {
	const patches = 40 // more than any Python had
	var versions []condaVersion
	for patch := range patches {
		v, _ := parseCondaVersion(xy + "." + strconv.Itoa(patch))
		versions = append(versions, v)
	}
	for _, c := range all {
		for _, terms := range c {
			for _, t := range terms {
				if t.known && t.version.hasWord() && t.version.hasPrefix(versions[0][:2]) && len(versions) < 2*patches {
					versions = append(versions, t.version)
				}
			}
		}
	}
	return slices.ContainsFunc(versions, func(v condaVersion) bool {
		return !slices.ContainsFunc(all, func(c condaConstraint) bool { return !c.accepts(v) })
	})
}

// A condaConstraint is what conda's language says of a version: alternatives by |, each of terms joined by commas.
type condaConstraint [][]condaTerm

type condaTerm struct {
	op      string
	version condaVersion
	star    bool // version is a prefix
	known   bool // else the solver knows better
}

// parseCondaConstraint leaves what is longer than anybody writes to the solver: judging it would take minutes.
func parseCondaConstraint(text string) condaConstraint {
	if len(text) > 1000 {
		return condaConstraint{{{}}}
	}
	text = strings.NewReplacer(" ", "", "(", "", ")", "").Replace(text)
	var c condaConstraint
	for alternative := range strings.SplitSeq(text, "|") {
		var terms []condaTerm
		for term := range strings.SplitSeq(alternative, ",") {
			bare := strings.TrimLeft(term, "=<>!~")
			t := condaTerm{op: term[:len(term)-len(bare)]}
			bare, t.star = strings.CutSuffix(bare, "*")
			t.version, t.known = parseCondaVersion(strings.TrimSuffix(bare, "."))
			terms = append(terms, t)
		}
		c = append(c, terms)
	}
	return c
}

func (c condaConstraint) accepts(v condaVersion) bool {
	return slices.ContainsFunc(c, func(terms []condaTerm) bool {
		return !slices.ContainsFunc(terms, func(t condaTerm) bool { return !t.accepts(v) })
	})
}

func (t condaTerm) accepts(v condaVersion) bool {
	if !t.known {
		return true
	}
	order := v.compare(t.version)
	prefix := v.hasPrefix(t.version)
	switch t.op {
	case ">=":
		return order >= 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	case "<":
		return order < 0
	case "!=":
		return !(t.star && prefix) && order != 0
	case "~=":
		return order >= 0 && len(t.version) > 1 && v.hasPrefix(t.version[:len(t.version)-1])
	case "=":
		return prefix
	}
	return t.star && prefix || order == 0
}

// A condaVersion is a version as conda compares it: its parts, each of numbers and words.
type condaVersion [][]condaAtom

// A condaAtom is a number or a word. Words come before all numbers, so that 1.0a1 is before 1.0; dev comes before the
// others, and post after everything: the rank says it. What a version has not is 0.
type condaAtom struct {
	rank, number int
	word         string
}

var condaAtomRE = regexp.MustCompile(`[0-9]{1,18}|[a-z]+`)

// parseCondaVersion does not know versions with an epoch or a local part.
func parseCondaVersion(text string) (condaVersion, bool) {
	var v condaVersion
	for part := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return strings.ContainsRune("._-", r) }) {
		var atoms []condaAtom
		if !startsWithDigit(part) {
			atoms = append(atoms, condaAtom{})
		}
		words := condaAtomRE.FindAllString(part, -1)
		if strings.Join(words, "") != part {
			return nil, false
		}
		for _, word := range words {
			atom := condaAtom{rank: -1, word: word}
			switch n, err := strconv.Atoi(word); {
			case err == nil:
				atom = condaAtom{number: n}
			case word == "dev":
				atom.rank = -2
			case word == "post":
				atom.rank = 1
			}
			atoms = append(atoms, atom)
		}
		v = append(v, atoms)
	}
	return v, len(v) > 0
}

func (v condaVersion) hasWord() bool {
	return slices.ContainsFunc(v, func(atoms []condaAtom) bool {
		return slices.ContainsFunc(atoms, func(a condaAtom) bool { return a.word != "" })
	})
}

// part returns one of the parts, or 0.
func (v condaVersion) part(i int) []condaAtom {
	if i < len(v) {
		return v[i]
	}
	return []condaAtom{{}}
}

func (v condaVersion) compare(w condaVersion) int {
	for i := range max(len(v), len(w)) {
		if c := compareAtoms(v.part(i), w.part(i)); c != 0 {
			return c
		}
	}
	return 0
}

// hasPrefix reports whether v begins with prefix: 3.11.0rc1 with 3.11 and with 3.11.0, but not with 3.1.
func (v condaVersion) hasPrefix(prefix condaVersion) bool {
	last := len(prefix) - 1
	for i := range last {
		if compareAtoms(v.part(i), prefix[i]) != 0 {
			return false
		}
	}
	atoms := v.part(last)
	return compareAtoms(atoms[:min(len(atoms), len(prefix[last]))], prefix[last]) == 0
}

func compareAtoms(a, b []condaAtom) int {
	for i := range max(len(a), len(b)) {
		var x, y condaAtom
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if c := cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(x.number, y.number), strings.Compare(x.word, y.word)); c != 0 {
			return c
		}
	}
	return 0
}
