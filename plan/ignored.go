package plan

import (
	"io/fs"
	"slices"
	"strings"
)

// known returns the names that look like configuration, and what to say of each when nothing else explains why it has
// no effect.
func known() map[string]string {
	const notRead = "no rule of repo2docker reads it"
	const locks = "it counts only where no file that repo2docker knows says what to install, and beside an environment.yml that it is a lock of"
	return map[string]string{
		"Dockerfile": "", "environment.yml": "", "environment.yaml": "", "Pipfile": "", "Pipfile.lock": "", "requirements.txt": "",
		"runtime.txt": "", "apt.txt": "", "postBuild": "", "start": "", "default.nix": "", ".dockerignore": "", ".containerignore": "",
		"Project.toml": "", "JuliaProject.toml": "", "REQUIRE": "",
		"setup.py":          "a package is installed from the root only, and only if there is no binder directory",
		"pyproject.toml":    "it is no package: a package has both [project] and [build-system], in the root, with no binder directory",
		"DESCRIPTION":       "an R package is seen in the root only, and only if there is no binder directory",
		"install.R":         "R packages are installed only where runtime.txt asks for R with a date",
		"requirements3.txt": "it counts only beside a Python older than 3.7",
		"uv.lock":           "requirements.txt counts before it", ".python-version": "it counts only beside a uv.lock",
		"poetry.lock": notRead, "pdm.lock": notRead, "pixi.toml": locks, "pixi.lock": locks,
		"conda-lock.yml": locks, "renv.lock": "it counts where runtime.txt asks for R with a date, beside a DESCRIPTION, or alone", "package.json": "", "package-lock.json": "there is no package.json beside it", "npm-shrinkwrap.json": "there is no package.json beside it",
		"yarn.lock": "Node packages are installed by npm, from a package-lock.json", "pnpm-lock.yaml": "Node packages are installed by npm, from a package-lock.json",
		"Manifest.toml": "it counts only beside a Project.toml",
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
	names := known()
	folded := map[string]string{}
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
		found = append(found, Decision{file, d.reason(e, right, names[right], all)})
	}
	// ReadDir of an fs.FS sorts, but says so only in its documentation of one implementation.
	slices.SortFunc(found, func(a, b Decision) int { return strings.Compare(a.File, b.File) })
	d.plan.Ignored = append(d.plan.Ignored, found...)
	return nil
}

// reason says why the file e has no effect.
func (d *detector) reason(e fs.DirEntry, right, own, all string) string {
	switch {
	case e.IsDir():
		return "it is a directory"
	case e.Name() != right:
		return "file names count exactly: it would have to be " + right
	case all != "":
		return all
	case own != "":
		return own
	case strings.HasPrefix(right, "Pipfile"):
		return "runtime.txt asks for something other than Python"
	}
	return "another file was used"
}

func orDot(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}
