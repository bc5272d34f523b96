package buildkit

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// aptRefusal is how apt-get says that the archives have no such package, version or release.
var aptRefusal = regexp.MustCompile(`E: (?:Unable to locate package |Package '|(?:Version|Release) '[^']+' for '|Couldn't find any package by (?:glob|regex) ')([^'\s]+)`)

// aptFailed is what apt-get exits with.
const aptFailed = 100

// aptError says which lines of apt.txt name what this release of Debian has not. It is nil for every other failure.
func aptError(p plan.Plan, step string, code int, said string) *bindery.Error {
	if code != aptFailed || !strings.HasPrefix(step, "Install ") {
		return nil
	}
	type refused struct {
		name string
		line int
	}
	var all []refused
	for _, m := range aptRefusal.FindAllStringSubmatch(said, -1) {
		name, _, _ := strings.Cut(m[1], ":")
		for asked, line := range p.AptLines {
			if end := strings.IndexAny(asked, ":=/"); asked == name || end > 0 && asked[:end] == name {
				all = append(all, refused{asked, line})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b refused) int { return cmp.Or(a.line-b.line, strings.Compare(a.name, b.name)) })
	var text []string
	for _, r := range slices.Compact(all) {
		text = append(text, fmt.Sprintf("%s, line %d: %s has no package %s.", path.Join(p.ConfigDir, "apt.txt"), r.line, baseName(p.Base), r.name))
	}
	return bindery.Errorf(bindery.ErrStep, bindery.User, "Look its name up at packages.debian.org, for this release, or take it out.", "%s", strings.Join(text, "\n"))
}

// baseName is a base as a person calls it.
func baseName(base string) string {
	if suite := suiteOf(cmp.Or(base, defaultBase)); suite != "" {
		return "Debian " + suite
	}
	return "the base image"
}
