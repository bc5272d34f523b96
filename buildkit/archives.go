package buildkit

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// archives are where Debian packages come from. Empty fields mean Debian's own.
type archives struct {
	main     string
	security string
}

const (
	debianMain     = "http://deb.debian.org/debian"
	debianSecurity = "http://deb.debian.org/debian-security"
)

// lines are the sources.list of a suite.
func (a archives) lines(suite string) string {
	m, s := cmp.Or(a.main, debianMain), cmp.Or(a.security, debianSecurity)
	return "deb " + m + " " + suite + " main\n" +
		"deb " + m + " " + suite + "-updates main\n" +
		"deb " + s + " " + suite + "-security main\n"
}

// machineArchives reads which archives the machine itself uses, from sources.list and from the files beside it in
// either of apt's two formats. What is not Debian is passed over.
func machineArchives(dir string) archives {
	var a archives
	files, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*"))
	for _, f := range append([]string{filepath.Join(dir, "sources.list")}, files...) {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		switch filepath.Ext(f) {
		case ".list":
			a.readLines(string(b))
		case ".sources":
			a.readStanzas(string(b))
		}
	}
	return a
}

func (a *archives) readLines(text string) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if i, j := strings.Index(line, "["), strings.Index(line, "]"); i >= 0 && j > i {
			line = line[:i] + line[j+1:]
		}
		f := strings.Fields(line)
		if len(f) >= 3 && f[0] == "deb" {
			a.add(f[1], f[2:3])
		}
	}
}

func (a *archives) readStanzas(text string) {
	for _, stanza := range strings.Split(text, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(stanza) {
			k, v, ok := strings.Cut(line, ":")
			if ok && !strings.HasPrefix(line, "#") {
				fields[strings.ToLower(k)] = strings.TrimSpace(v)
			}
		}
		uris := strings.Fields(fields["uris"])
		if fields["enabled"] == "no" || len(uris) == 0 || !slices.Contains(strings.Fields(fields["types"]), "deb") {
			continue
		}
		a.add(uris[0], strings.Fields(fields["suites"]))
	}
}

// add takes uri as the archive of what suites are of.
func (a *archives) add(uri string, of []string) {
	if !strings.HasPrefix(uri, "http://") && !strings.HasPrefix(uri, "https://") {
		return
	}
	for _, s := range of {
		name, rest, _ := strings.Cut(strings.Trim(s, "/"), "-")
		known := []string{"stable", "oldstable", "oldoldstable", "testing", "bullseye", "bookworm", "trixie", "forky", "sid"}
		if !slices.Contains(known, name) {
			continue
		}
		switch rest {
		case "":
			a.main = cmp.Or(a.main, uri)
		case "security":
			a.security = cmp.Or(a.security, uri)
		}
	}
}
