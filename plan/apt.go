package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// aptRE is a package as apt-get install takes it: name, name:arch, then =version or /release. A name may not end in a
// minus: apt would take it for a request to remove the package.
var aptRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9.+-]*[a-z0-9.+])?(:[a-z0-9-]+)?(=[A-Za-z0-9][A-Za-z0-9.+~:-]*|/[A-Za-z0-9][A-Za-z0-9.~-]*)?$`)

// apt reads apt.txt if there is one, and adds its packages to those that a pack needs.
func (d *detector) apt() error {
	defer func() {
		slices.Sort(d.plan.Apt)
		d.plan.Apt = slices.Compact(d.plan.Apt)
	}()
	file, err := d.first("apt.txt")
	if err != nil || file == "" {
		return err
	}
	text, err := d.readText(file)
	if err != nil {
		return err
	}
	names, at, line, bad := parseApt(text)
	if bad != "" {
		return userError("Write one Debian package on each line, as NAME, NAME=VERSION, NAME:ARCH or NAME/RELEASE.",
			"%s, line %d: %q is not the name of a Debian package", file, line, printable(bad))
	}
	d.reads(file)
	d.plan.Apt = append(d.plan.Apt, names...)
	if len(at) > 0 {
		d.plan.AptLines = at
	}
	d.why(file, counted(len(names), "Debian package")+" to install")
	return nil
}

// parseApt returns the packages that the text of an apt.txt names, sorted, without repetitions, with the first line of
// each; or the first word that is not a package, and its line.
func parseApt(text string) (names []string, at map[string]int, line int, bad string) {
	names, at = []string{}, map[string]int{}
	for i, l := range lines(text) {
		l, _, _ = strings.Cut(l, "#")
		for _, word := range strings.Fields(l) {
			if !aptRE.MatchString(word) {
				return nil, nil, i + 1, word
			}
			if at[word] == 0 {
				at[word] = i + 1
			}
			names = append(names, word)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), at, 0, ""
}

// lines splits text at \n, \r\n and \r.
func lines(text string) []string {
	return strings.Split(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
