package plan

import (
	"regexp"
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
	specRE    = regexp.MustCompile(`^([A-Za-z0-9_.-]+)\s*(.*)$`)
	bracketRE = regexp.MustCompile(`version\s*=\s*['"]?([^'"\]]*)['"]?`)
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
	name, version = strings.ToLower(m[1]), strings.TrimSpace(m[2])
	if inner := bracketRE.FindStringSubmatch(bracket); version == "" && inner != nil {
		return name, inner[1]
	}
	if rest, ok := strings.CutPrefix(version, "="); ok && !strings.HasPrefix(rest, "=") && !strings.ContainsAny(rest, ",|") {
		version, _, _ = strings.Cut(strings.TrimSpace(rest), "=") // name=version=build
		return name, "=" + strings.TrimSpace(version)
	}
	if !strings.ContainsAny(version, ",|<>!~=") {
		version, _, _ = strings.Cut(version, " ") // name version build
	}
	return name, version
}

// acceptsAll reports whether every spec accepts some patch version of Python xy.
func acceptsAll(specs []numbered, xy string) bool {
	const patches = 40 // more than any Python had
	for patch := range patches {
		version := xy + "." + strconv.Itoa(patch)
		all := true
		for _, s := range specs {
			if _, constraint := splitSpec(s.text); !condaAccepts(constraint, version) {
				all = false
				break
			}
		}
		if all {
			return true
		}
	}
	return false
}

// condaAccepts reports whether a version of numbers fits a constraint in conda's language: alternatives by |, each of
// terms joined by commas.
func condaAccepts(constraint, version string) bool {
	constraint = strings.NewReplacer(" ", "", "(", "", ")", "").Replace(constraint)
	if constraint == "" {
		return true
	}
	for _, alternative := range strings.Split(constraint, "|") {
		fits := true
		for _, term := range strings.Split(alternative, ",") {
			fits = fits && termAccepts(term, version)
		}
		if fits {
			return true
		}
	}
	return false
}

func termAccepts(term, version string) bool {
	bare := strings.TrimLeft(term, "=<>!~")
	op := term[:len(term)-len(bare)]
	bare, star := strings.CutSuffix(bare, "*")
	bare = strings.TrimSuffix(bare, ".")
	want, ok := numbers(bare)
	if !ok {
		return bare != "" || star || op == "" // letters: the solver knows better; and * is any
	}
	got, _ := numbers(version)
	order := compare(got, want)
	prefix := hasPrefix(got, want)
	switch op {
	case ">=":
		return order >= 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	case "<":
		return order < 0
	case "!=":
		return !(star && prefix) && order != 0
	case "~=":
		return order >= 0 && len(want) > 1 && hasPrefix(got, want[:len(want)-1])
	case "=":
		return prefix
	}
	return star && prefix || order == 0
}

// numbers splits a version made of numbers.
func numbers(version string) ([]int, bool) {
	var out []int
	for _, part := range strings.Split(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}
