package plan

import (
	"cmp"
	"io/fs"
	"slices"
	"strings"
)

// A known name looks like configuration. A file of that name that has no effect has none because of the first of before
// that has one; if none has, why says the reason.
type known struct {
	before []string
	why    string
}

func knownFiles() map[string]known {
	const notRead = "no rule of repo2docker reads it"
	const locks = "it counts only where no file that repo2docker knows says what to install"
	const noPackage = "there is no package.json beside it"
	const npmOnly = "Node packages are installed by npm, from a package-lock.json"
	const notPython = "runtime.txt asks for something other than Python"
	julia := []string{"JuliaProject.toml", "Project.toml"}
	nix := slices.Concat(julia, []string{"default.nix"})
	conda := slices.Concat(nix, []string{"environment.yml", "environment.yaml"})
	python := slices.Concat(conda, []string{"Pipfile", "Pipfile.lock", "pixi.toml", "conda-lock.yml"})
	return map[string]known{
		"Dockerfile": {}, "apt.txt": {}, "postBuild": {}, "start": {}, ".dockerignore": {}, ".containerignore": {}, "package.json": {},
		"JuliaProject.toml": {}, "Project.toml": {before: julia}, "REQUIRE": {before: julia}, "default.nix": {before: julia},
		"Manifest.toml":   {[]string{"JuliaManifest.toml"}, "it counts only beside a Project.toml"},
		"DESCRIPTION":     {nix, "an R package is seen in the root only, and only if there is no binder directory"},
		"install.R":       {nix, "R packages are installed only where runtime.txt asks for R with a date"},
		"renv.lock":       {nix, "it counts where runtime.txt asks for R with a date, beside a DESCRIPTION, or alone"},
		"environment.yml": {before: nix}, "environment.yaml": {before: conda},
		"pixi.toml": {conda, locks}, "pixi.lock": {conda, locks},
		"conda-lock.yml": {slices.Concat(nix, []string{"pixi.toml"}), locks + ", and beside an environment.yml that it is a lock of"},
		"Pipfile":        {slices.Concat(conda, []string{"DESCRIPTION"}), notPython}, "Pipfile.lock": {slices.Concat(conda, []string{"DESCRIPTION"}), notPython},
		"requirements.txt": {before: python}, "runtime.txt": {before: python},
		"setup.py":          {slices.Concat(python, []string{"pyproject.toml"}), "a package is installed from the root only"},
		"pyproject.toml":    {python, "it is no package: a package has both [project] and [build-system], in the root, with no binder directory"},
		"uv.lock":           {before: slices.Concat(python, []string{"requirements.txt", "pyproject.toml"})},
		".python-version":   {slices.Concat(python, []string{"requirements.txt", "runtime.txt"}), "it counts only beside a uv.lock"},
		"requirements3.txt": {why: "it is for servers beside a Python older than 3.7, and runtime.txt may not ask for that here"},
		"poetry.lock":       {why: notRead}, "pdm.lock": {why: notRead}, "yarn.lock": {why: npmOnly}, "pnpm-lock.yaml": {why: npmOnly},
		"npm-shrinkwrap.json": {[]string{"default.nix"}, noPackage}, "package-lock.json": {[]string{"default.nix", "npm-shrinkwrap.json"}, noPackage},
	}
}

// ignoredFiles says of every file that looks like configuration and is not used why it has no effect. The reason for
// all, if given, goes before each one's own.
func (d *detector) ignoredFiles(all string) error {
	if err := d.ignoredIn(d.plan.ConfigDir, all); err != nil {
		return err
	}
	if d.binder {
		return d.ignoredIn("", "configuration is read from "+d.plan.ConfigDir+"/ only")
	}
	return nil
}

func (d *detector) ignoredIn(dir, all string) error {
	names := knownFiles()
	folded := misspelt()
	for name := range names {
		folded[strings.ToLower(name)] = name
	}
	entries, err := fs.ReadDir(d.fsys, orDot(dir))
	if err != nil {
		return d.unreadable(orDot(dir), err)
	}
	var found []Decision
	for _, e := range entries {
		name, file := e.Name(), e.Name()
		if dir != "" {
			file = dir + "/" + name
		}
		right, looks := folded[strings.ToLower(name)]
		if !looks || d.used[file] || file == d.plan.Docker {
			continue
		}
		reason, err := d.reason(e, right, names[right], all)
		if err != nil {
			return err
		}
		found = append(found, Decision{file, reason})
	}
	// ReadDir of an fs.FS sorts, but says so only in its documentation of one implementation.
	slices.SortFunc(found, func(a, b Decision) int { return strings.Compare(a.File, b.File) })
	d.plan.Ignored = append(d.plan.Ignored, found...)
	return nil
}

// reason says why the file e has no effect.
func (d *detector) reason(e fs.DirEntry, right string, file known, all string) (string, error) {
	switch {
	case e.IsDir():
		return "it is a directory", nil
	case e.Name() != right:
		return "file names count exactly: it would have to be " + right, nil
	case all != "":
		return all, nil
	case right == "runtime.txt" && d.hasConda():
		return "the conda environment has a Python of its own", nil
	}
	if i := slices.IndexFunc(file.before, func(name string) bool { return d.used[d.config(name)] }); i >= 0 {
		return file.before[i] + " counts before it", nil
	}
	if right == "pyproject.toml" && d.isPoetry() {
		return "it is Poetry's, which is not read: name the packages in [project], or in a requirements.txt, as poetry export writes it", nil
	}
	if right == "pixi.lock" {
		if found, err := d.first("pixi.toml"); err != nil || found == "" && !d.pixiProject() {
			return "there is no pixi.toml beside it", err
		}
	}
	return cmp.Or(file.why, "another file was used"), nil
}

// isPoetry reports whether the root's pyproject.toml says what to install to Poetry alone.
func (d *detector) isPoetry() bool {
	text, err := d.readText("pyproject.toml")
	if err != nil {
		return false
	}
	doc, err := parseTOML(text)
	return err == nil && sub(doc, "tool", "poetry") != nil && sub(doc, "project") == nil
}

// misspelt are names that people give to files of another name.
func misspelt() map[string]string {
	return map[string]string{
		"requirement.txt": "requirements.txt", "requirements.txt.txt": "requirements.txt", "environments.yml": "environment.yml", "enviroment.yml": "environment.yml",
		"environment.yml.txt": "environment.yml", "apt.txt.txt": "apt.txt", "runtime.txt.txt": "runtime.txt", "postbuild.sh": "postBuild", "postbuild.txt": "postBuild",
	}
}

func orDot(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}
