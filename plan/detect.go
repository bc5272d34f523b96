package plan

import (
	"cmp"
	"io/fs"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// DefaultBase is the base of a plan when Options names none.
const DefaultBase = "debian:bookworm"

// Options are the parts of a plan that the repository does not decide.
type Options struct {
	Base string // "debian:SUITE" or an image reference; default: DefaultBase
}

// Detect reads the configuration files of the repository (or the directory of it) that fsys holds, and returns what
// they ask for. Nothing outside fsys is read, whatever the files say; fsys itself must refuse symbolic links that leave
// it, as that of an os.Root does.
//
// An error that a person can mend is a *bindery.Error. The plan returned beside it has whatever was decided before:
// its pack, as a rule.
func Detect(fsys fs.FS, opt Options) (Plan, error) {
	d := &detector{
		fsys: fsys,
		plan: Plan{
			Base: cmp.Or(opt.Base, DefaultBase),
			Apt:  []string{}, Env: []Install{}, Content: []Install{}, Reads: []string{}, Command: []string{},
			Why: []Decision{}, Ignored: []Decision{},
		},
	}
	err := d.detect()
	slices.Sort(d.plan.Reads)
	d.plan.Reads = slices.Compact(d.plan.Reads)
	return d.plan, err
}

// A detector makes one plan.
type detector struct {
	fsys    fs.FS
	plan    Plan
	binder  bool // there is a binder directory: the root has no say
	runtime runtime
}

// detect tries the packs in repo2docker's order: the first that finds its files wins.
func (d *detector) detect() error {
	if err := d.configDir(); err != nil {
		return err
	}
	if err := d.legacy(); err != nil {
		return err
	}
	for _, pack := range []func() (bool, error){d.dockerfile, d.julia, d.nix, d.r, d.conda, d.pipfile} {
		if found, err := pack(); found || err != nil {
			return err
		}
	}
	return d.python()
}

// configDir finds out where configuration files are read from.
func (d *detector) configDir() error {
	var found []string
	for _, name := range []string{"binder", ".binder"} {
		info, err := d.stat(name)
		if err != nil {
			return err
		}
		switch {
		case info == nil:
		case info.IsDir():
			found = append(found, name)
		default:
			d.ignore(name, "only a directory of this name holds configuration")
		}
	}
	if len(found) == 2 {
		return userError("Keep one of them: move every configuration file into binder/ and delete .binder/.",
			"The repository contains both a binder and a .binder directory")
	}
	if len(found) == 1 {
		d.plan.ConfigDir, d.binder = found[0], true
		d.why(found[0]+"/", "configuration is read from this directory only")
	}
	return nil
}

// config returns the path of the configuration file called name.
func (d *detector) config(name string) string {
	if !d.binder {
		return name
	}
	return d.plan.ConfigDir + "/" + name
}

// unsupported is the answer of the packs that are recognised and not built.
func (d *detector) unsupported(pack, file, what, remedy string) (bool, error) {
	d.plan.Pack = pack
	d.why(file, "asks for "+what)
	return true, userError(remedy, "%s asks for %s, which this version of Bindery does not build", file, what)
}

// first returns the first of the configuration files called names that exists, or "".
func (d *detector) first(names ...string) (string, error) {
	for _, name := range names {
		file := d.config(name)
		found, err := d.exists(file)
		if err != nil {
			return "", err
		}
		if found {
			return file, nil
		}
	}
	return "", nil
}

const pythonInstead = "List the Python packages in requirements.txt and delete the file, or write a Dockerfile."

func (d *detector) julia() (bool, error) {
	file, err := d.first("JuliaProject.toml", "Project.toml")
	if err != nil || file != "" {
		if err != nil {
			return false, err
		}
		return d.unsupported(PackJulia, file, "a Julia environment", "Write a Dockerfile that installs Julia, or move the file out of the way.")
	}
	file, err = d.first("REQUIRE")
	if err != nil || file == "" {
		return false, err
	}
	d.plan.Pack = PackJulia
	return true, userError("Write a Project.toml in its place.", "%s: Julia's REQUIRE files are no longer supported, their infrastructure is gone", file)
}

func (d *detector) nix() (bool, error) {
	file, err := d.first("default.nix")
	if err != nil || file == "" {
		return false, err
	}
	return d.unsupported(PackNix, file, "a Nix environment", "Write a Dockerfile that installs what default.nix names, or move the file out of the way.")
}

// r reads runtime.txt too, which the packs after it need.
func (d *detector) r() (bool, error) {
	if err := d.readRuntime(); err != nil {
		return false, err
	}
	if d.runtime.name == "r" && d.runtime.date != "" {
		return d.unsupported(PackR, d.runtime.file, "an R environment", "Write a Dockerfile that installs R, or name a Python version in runtime.txt.")
	}
	if d.binder {
		return false, nil
	}
	found, err := d.exists("DESCRIPTION")
	if err != nil || !found {
		return false, err
	}
	return d.unsupported(PackR, "DESCRIPTION", "an R package", "Write a Dockerfile that installs R, or make a binder directory with the files that are to count.")
}

func (d *detector) conda() (bool, error) {
	file, err := d.first("environment.yml", "environment.yaml")
	if err != nil || file == "" {
		return false, err
	}
	return d.unsupported(PackConda, file, "a conda environment", pythonInstead)
}

func (d *detector) pipfile() (bool, error) {
	if d.runtime.name != "" && d.runtime.name != "python" {
		return false, nil
	}
	file, err := d.first("Pipfile", "Pipfile.lock")
	if err != nil || file == "" {
		return false, err
	}
	return d.unsupported(PackPipfile, file, "a Pipenv environment", pythonInstead)
}

// shared reads the files that every pack but Dockerfile honours.
func (d *detector) shared() error {
	for _, part := range []func() error{d.apt, d.scripts, d.ignoreFiles} {
		if err := part(); err != nil {
			return err
		}
	}
	d.plan.Command = []string{"jupyter", "notebook", "--ip", "0.0.0.0"}
	return nil
}

// scripts finds postBuild and start.
func (d *detector) scripts() error {
	var err error
	if d.plan.PostBuild, err = d.first("postBuild"); err != nil {
		return err
	}
	if d.plan.Start, err = d.first("start"); err != nil {
		return err
	}
	if d.plan.PostBuild != "" {
		d.why(d.plan.PostBuild, "runs after everything is installed, with the repository in place"+d.lineEndings(d.plan.PostBuild))
	}
	if d.plan.Start == "" {
		return nil
	}
	text := "runs at the start of every session, before the server"
	head := d.head(d.plan.Start)
	if !strings.HasPrefix(head, "#!") {
		text += "; beware: it has no #! line, so it may not start"
	}
	d.why(d.plan.Start, text+d.lineEndings(d.plan.Start))
	return nil
}

// lineEndings is a warning about a script that was written on Windows: the kernel looks for "bash\r".
func (d *detector) lineEndings(file string) string {
	if line, _, _ := strings.Cut(d.head(file), "\n"); strings.HasPrefix(line, "#!") && strings.HasSuffix(line, "\r") {
		return "; beware: its lines end as on Windows, so its interpreter will not be found"
	}
	return ""
}

func (d *detector) why(file, text string) { d.plan.Why = append(d.plan.Why, Decision{file, text}) }

func (d *detector) ignore(file, text string) {
	d.plan.Ignored = append(d.plan.Ignored, Decision{file, text})
}

func (d *detector) reads(file string) { d.plan.Reads = append(d.plan.Reads, file) }

// userError is a mistake in the repository's files.
func userError(remedy, format string, args ...any) *bindery.Error {
	return bindery.Errorf(bindery.ErrPlan, bindery.User, remedy, format, args...)
}
