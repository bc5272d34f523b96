package plan

import (
	"iter"
	"regexp"
	"slices"
	"strings"
)

var (
	rCallRE    = regexp.MustCompile(`\b(?:install\.packages|pkg_install|p_load|BiocManager::install)\s*\(`)
	rNameRE    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]*[A-Za-z0-9]$`)
	rQuotedRE  = regexp.MustCompile(`"([^"\n]*)"|'([^'\n]*)'`)
	rVectorRE  = regexp.MustCompile(`([A-Za-z.][A-Za-z0-9._]*)\s*(?:<-|=)\s*c\s*\(`)
	rInsideRE  = regexp.MustCompile(`^[A-Za-z0-9._]$`)
	rWordRE    = regexp.MustCompile(`[A-Za-z.][A-Za-z0-9._]*`)
	rLocalRE   = regexp.MustCompile(`\b(?:source|sys\.source|readLines|readRDS|load|load_all|scan|install_local|install_deps|install_dev_deps|restore|untar|unzip|read[._][a-z0-9_.]+)\s*\(|repos\s*=\s*NULL|\bDESCRIPTION\b|\./`)
	rMixedRE   = regexp.MustCompile(`\b(?:reticulate|system|system2|python|pip|conda|jupyter|installspec)\b`)
	rDependRE  = regexp.MustCompile(`^\s*([A-Za-z][A-Za-z0-9.]*[A-Za-z0-9])\s*(\([^)]*\))?\s*$`)
	rNeedRE    = regexp.MustCompile(`^\s*R\s*\(\s*(>=|<=|==|!=|>|<)\s*([0-9]+(?:[.-][0-9]+)*)\s*\)\s*$`)
	rVersionRE = regexp.MustCompile(`^[0-9]+([.-][0-9]+)+$`)
	rCommentRE = regexp.MustCompile(`(?m)^([^"'#\n]*)#.*$`)
)

// scanR reads an install.R without running it: the names of packages that it installs from CRAN in any version, as far
// as they are written down; whether it reads files of the repository; and whether it minds the Python environment.
// What it misses costs time, not truth: the script itself is run all the same.
func scanR(text string) (packages []string, local, mixed bool) {
	text = rCommentRE.ReplaceAllString(text, "$1")
	assigned := vectors(text)
	for _, at := range rCallRE.FindAllStringIndex(text, 100) {
		call := argumentsOf(text[at[1]:])
		packages = append(packages, quotedNames(call)...)
		for _, word := range rWordRE.FindAllString(call, 20) {
			if at, ok := assigned[word]; ok {
				packages = append(packages, quotedNames(argumentsOf(text[at:]))...)
				delete(assigned, word) // once will do
			}
		}
	}
	slices.Sort(packages)
	return slices.Compact(packages), rLocalRE.MatchString(text), rMixedRE.MatchString(text)
}

// argumentsOf returns the text up to the parenthesis that closes a call.
func argumentsOf(text string) string {
	depth := 1
	for i := 0; i < len(text) && i < 1<<14; i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return text[:i]
			}
		}
	}
	return ""
}

// quotedNames are the strings of a piece of R that may be names of packages. Those of named arguments are not.
func quotedNames(text string) []string {
	var names []string
	for _, m := range rQuotedRE.FindAllStringSubmatchIndex(text, 500) {
		name := text[m[0]+1 : m[1]-1]
		before := strings.TrimRight(text[:m[0]], " \t\n\r")
		if strings.HasSuffix(before, "=") || !rNameRE.MatchString(name) {
			continue
		}
		names = append(names, name)
	}
	return names
}

// vectors are the variables that a vector is assigned to, pkgs <- c("a", "b"), each with where the first begins.
func vectors(text string) map[string]int {
	all := map[string]int{}
	for _, m := range rVectorRE.FindAllStringSubmatchIndex(text, -1) {
		if name := text[m[2]:m[3]]; all[name] == 0 && (m[2] == 0 || !rInsideRE.MatchString(text[m[2]-1:m[2]])) {
			all[name] = m[1]
		}
	}
	return all
}

// fieldParts yields what the fields called names have between commas in the text of a DESCRIPTION, with its line.
func fieldParts(text string, names ...string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		field := ""
		for i, line := range lines(text) {
			if line != "" && line[0] != ' ' && line[0] != '\t' {
				field, line, _ = strings.Cut(line, ":")
			}
			if !slices.Contains(names, field) {
				continue
			}
			for part := range strings.SplitSeq(line, ",") {
				if !yield(i+1, part) {
					return
				}
			}
		}
	}
}

// dependencies are the packages that the text of a DESCRIPTION needs in any version: those with a minimum may want a
// newer one than Debian has.
func dependencies(text string) []string {
	var names []string
	for _, part := range fieldParts(text, "Imports", "Depends", "LinkingTo") {
		if m := rDependRE.FindStringSubmatch(part); m != nil && m[1] != "R" && m[2] == "" {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A rNeed is what a DESCRIPTION says of R's version.
type rNeed struct {
	spec specifiers
	text string // such as ">= 4.4"
	line int    // of the first that it says
}

// parseNeed reads the text of a DESCRIPTION. What is no clause R has to complain of.
func parseNeed(text string) rNeed {
	var need rNeed
	for line, part := range fieldParts(text, "Depends") {
		m := rNeedRE.FindStringSubmatch(part)
		if m == nil {
			continue
		}
		clause, err := parseSpecifiers(m[1] + strings.ReplaceAll(m[2], "-", "."))
		if err != nil {
			continue
		}
		if need.spec == nil {
			need.line = line
		} else {
			need.text += ", "
		}
		need.spec, need.text = append(need.spec, clause...), need.text+m[1]+" "+m[2]
	}
	return need
}

// parseLock parses the text of a renv.lock.
func parseLock(text string) (renvLock, error) {
	var doc struct {
		R struct {
			Version string
		}
		Packages map[string]struct{ Package, Version, Source string }
	}
	if err := parseJSON(text, &doc); err != nil {
		return renvLock{}, err
	}
	lock := renvLock{version: doc.R.Version}
	for name, p := range doc.Packages {
		if !rNameRE.MatchString(name) || p.Package != "" && p.Package != name {
			return renvLock{}, grammarError(`"` + printable(name) + `" is not the name of an R package`)
		}
		if p.Source == "Repository" && rVersionRE.MatchString(p.Version) {
			lock.packages = append(lock.packages, name+"="+p.Version)
		}
	}
	slices.Sort(lock.packages)
	return lock, nil
}
