package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A Lock is a file that installs again what an inventory found, in the form that its package manager reads.
type Lock struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Note string `json:"note"` // what it is and how to use it
}

// Locks returns one lock file for each package manager that installed anything.
func (inv Inventory) Locks() []Lock {
	var out []Lock
	add := func(name, note, text string) {
		if text != "" {
			out = append(out, Lock{name, text, note})
		}
	}
	add("apt.txt", "every Debian package with its version; "+inv.Distribution, inv.lines(Debian, "/", func(p Package) string { return p.Name + "=" + p.Version }))
	add("conda.lock", "conda's explicit list, for `conda create --file`", inv.explicit(notebookEnv))
	add("requirements.txt", "pip's and uv's, for Python "+inv.Python, inv.requirements(notebookEnv))
	add("kernel.conda.lock", "the same of the kernel's own environment", inv.explicit(kernelEnv))
	add("kernel.requirements.txt", "pip's, of the kernel's own environment", inv.requirements(kernelEnv))
	add("renv.lock", "renv's, for `renv::restore()`", inv.renv())
	add("package.json", "packages that npm installed globally", inv.npm())
	add("package-lock.json", "npm's, for `npm ci`", string(inv.node))
	add("Manifest.toml", "Julia's, for `Pkg.instantiate()`", string(inv.julia))
	return out
}

// lines makes a sorted line of each package of an ecosystem in one place.
func (inv Inventory) lines(ecosystem, place string, line func(Package) string) string {
	var all []string
	for _, p := range inv.Packages {
		if p.Ecosystem == ecosystem && p.Place == place {
			if l := line(p); l != "" {
				all = append(all, l)
			}
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return ""
	}
	return strings.Join(slices.Compact(all), "\n") + "\n"
}

// requirements leaves out what conda has installed: pip sees it too, and must not fetch it again.
func (inv Inventory) requirements(env string) string {
	byConda := map[string]bool{}
	for _, p := range inv.Packages {
		if p.Ecosystem == Conda && p.Place == "/"+env {
			byConda[normal(p.Name)+" "+p.Version] = true
		}
	}
	return inv.lines(Python, "/"+env, func(p Package) string {
		switch {
		case byConda[normal(p.Name)+" "+p.Version]:
			return ""
		case strings.HasPrefix(p.Source, "file:"): // the repository's own
			return fmt.Sprintf("# %s==%s came with the repository", p.Name, p.Version)
		case p.Source != "" && p.Digest != "":
			return p.Name + " @ " + p.Source + "#" + strings.Replace(p.Digest, ":", "=", 1)
		case p.Source != "":
			return p.Name + " @ " + p.Source
		}
		return p.Name + "==" + p.Version
	})
}

// normal is a project's name as package indexes compare them.
func normal(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
}

func (inv Inventory) explicit(env string) string {
	text := inv.lines(Conda, "/"+env, func(p Package) string {
		if p.Source == "" {
			return fmt.Sprintf("# %s=%s=%s: its origin was not recorded", p.Name, p.Version, p.Build)
		}
		if sum, ok := strings.CutPrefix(p.Digest, "md5:"); ok {
			return p.Source + "#" + sum
		}
		return p.Source
	})
	if text == "" {
		return ""
	}
	return "@EXPLICIT\n" + text
}

func (inv Inventory) renv() string {
	type entry struct{ Package, Version, Source, Repository string }
	lock := struct {
		R struct {
			Version      string
			Repositories []struct{ Name, URL string }
		}
		Packages map[string]entry
	}{Packages: map[string]entry{}}
	lock.R.Version = inv.RVersion
	lock.R.Repositories = []struct{ Name, URL string }{{"CRAN", "https://cloud.r-project.org"}}
	for _, p := range inv.Packages { // libraries come in no order of search; the user's own wins
		if _, have := lock.Packages[p.Name]; p.Ecosystem == R && (!have || p.Place == "/srv/rlibs") {
			lock.Packages[p.Name] = entry{p.Name, p.Version, "Repository", "CRAN"}
		}
	}
	if len(lock.Packages) == 0 {
		return ""
	}
	return indented(lock)
}

func (inv Inventory) npm() string {
	deps := map[string]string{}
	for _, p := range inv.Packages {
		if p.Ecosystem == NPM && p.Place == globalNPM {
			deps[p.Name] = p.Version
		}
	}
	if len(deps) == 0 {
		return ""
	}
	return indented(map[string]any{"private": true, "dependencies": deps})
}

// indented is JSON for people; maps come out sorted.
func indented(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // of strings and maps of them: it cannot fail
	return b.String()
}
