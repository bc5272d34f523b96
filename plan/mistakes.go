package plan

import (
	"fmt"
	"regexp"
	"strings"
)

// What many lists have that were written by a program on another machine cannot be installed on this one, as a rule. It
// is said here rather than by an installer, minutes later.

var (
	// condaBuiltRE is a requirement that conda's own pip freeze writes: where the package was built.
	condaBuiltRE = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*@\s*(file://\S*(?:_\d{10,}/work|conda-bld|feedstock_root|/croot/|/[A-Za-z]:[/\\]|/Users/)\S*)`)
	pipOwnRE     = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(.*)$`)
)

// foreignPip are packages of which the public index has nothing for Linux.
func foreignPip() map[string]string {
	return map[string]string{"pywin32": "Windows", "pypiwin32": "Windows", "pywinpty": "Windows", "windows-curses": "Windows", "pyobjc": "macOS", "pyobjc-core": "macOS"}
}

// foreignConda are packages of which conda's public channels have nothing for Linux.
func foreignConda() map[string]string {
	return map[string]string{
		"vs2015_runtime": "Windows", "vc": "Windows", "vc14_runtime": "Windows", "ucrt": "Windows", "wincertstore": "Windows", "win_inet_pton": "Windows", "pywin32": "Windows",
		"pywinpty": "Windows", "winpty": "Windows", "console_shortcut": "Windows", "msys2-conda-epoch": "Windows", "m2w64-gcc-libs": "Windows",
		"python.app": "macOS", "pyobjc-core": "macOS", "pyobjc-framework-cocoa": "macOS",
	}
}

// pipMistake returns an error for a requirement that surely cannot be installed. One with a marker may not be meant for here.
func pipMistake(at place, line string) error {
	line, _, _ = strings.Cut(line, " --") // hashes
	if strings.Contains(line, ";") {
		return nil
	}
	if m := condaBuiltRE.FindStringSubmatch(line); m != nil {
		return userError("Write the file by pip list --format=freeze in place of pip freeze, or name the packages that you import.",
			"%s: conda installed %s on the machine where the file was written, and %s was a directory there", at, m[1], printable(m[2]))
	}
	m := pipOwnRE.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	name := normal(m[1])
	if system := foreignPip()[name]; system != "" && !strings.Contains(m[2], "@") {
		return userError(fmt.Sprintf(`Take the line out, or end it with: ; sys_platform == %q`, map[string]string{"Windows": "win32", "macOS": "darwin"}[system]),
			"%s: %s is for %s only", at, m[1], system)
	}
	if name == "sklearn" && strings.TrimSpace(m[2]) == "" {
		return userError("Write scikit-learn in its place.", "%s: the package sklearn cannot be installed any more: its name is scikit-learn", at)
	}
	return nil
}

// condaMistake is pipMistake for what conda installs.
func condaMistake(file string, specs []numbered) error {
	for _, s := range specs {
		name, _ := splitSpec(s.text)
		if system := foreignConda()[name]; system != "" {
			return userError("Write the file by conda env export --from-history, which has only what was asked for, or take out what is for "+system+".",
				"%s, line %d: %s is for %s only", file, s.number, printable(name), system)
		}
	}
	return nil
}

var quoteRE = regexp.MustCompile(`(?:^|[\s\[{,:])(["'])`)

// yamlMistake says what is most likely wrong with a YAML file that its parser stopped at in some line, saying something: it
// speaks of tokens, of lines before a tab, and of the end of the file where a quotation mark is missing.
func yamlMistake(text string, stopped int, said string) error {
	all := lines(text)
	for i, line := range all {
		bare := strings.TrimLeft(line, " \t")
		if (i < stopped || strings.Contains(said, " tab ")) && bare != "" && strings.Contains(line[:len(line)-len(bare)], "\t") {
			return lineError(i+1, "it begins with a tab, and YAML wants spaces")
		}
		line = commentRE.ReplaceAllString(line, "")
		if m := quoteRE.FindStringSubmatch(line); i < stopped && m != nil && strings.Count(line, m[1])%2 == 1 {
			return lineError(i+1, "it has a quotation mark without the other: %s", printable(strings.TrimSpace(line)))
		}
	}
	return nil
}

// dockerUser says what a Dockerfile has sessions run as, where that does not do: Jupyter does not start as root.
func dockerUser(text string) string {
	line, user := 0, ""
	for i, l := range lines(text) {
		words := strings.Fields(l)
		switch {
		case len(words) < 2:
		case strings.EqualFold(words[0], "FROM"): // another stage
			line, user = 0, ""
		case strings.EqualFold(words[0], "USER"):
			line, user = i+1, words[1]
		}
	}
	name, _, _ := strings.Cut(user, ":")
	switch {
	case name == "root" || name == "0":
		return fmt.Sprintf("; beware: its last USER, line %d, is root, as which Jupyter does not start", line)
	case name == "":
		return "; beware: it has no USER, so sessions run as its base image's, and Jupyter does not start as root"
	}
	return ""
}
