package plan

import (
	"cmp"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// DefaultBase is the base of a plan when Options names none.
const DefaultBase = "debian:bookworm"

// Options are the parts of a plan that the repository does not decide.
type Options struct {
	Base string // "debian:SUITE" or an image reference; default: DefaultBase
	// Suites are the releases of Debian that may take the base's place because they have the Python that is asked for.
	// Nil means all of Suites().
	Suites []string
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
		opt:  opt,
		used: map[string]bool{},
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
	opt     Options
	plan    Plan
	binder  bool // there is a binder directory: the root has no say
	runtime runtime
	used    map[string]bool // files that have an effect: of the others ignoredFiles tells why they have none
}

// Each pack is a method in a file of its own. It reports whether it is the one, and plans all its installs.
//
// Packs build on each other, in repo2docker's classes: R and Julia are Python repositories too (pythonLayer), and apply
// an environment.yml (condaLayer); conda and Pipenv leave requirements.txt alone; Nix has no Python environment. What
// each adds is ordered as an author may rely on: Debian packages, conda, pip, R, and with the files in place local
// packages, Pipenv, R packages, Julia, postBuild.

// detect tries the packs in repo2docker's order: the first that finds its files wins.
func (d *detector) detect() error {
	if err := d.configDir(); err != nil {
		return err
	}
	if err := d.legacy(); err != nil {
		return err
	}
	if found, err := d.dockerfile(); found || err != nil {
		return err
	}
	for _, pack := range []func() (bool, error){d.julia, d.nix, d.r, d.conda, d.pipfile, d.python} {
		found, err := pack()
		if err != nil {
			return err
		}
		if found {
			return d.rest()
		}
	}
	return nil // not reached: python takes what nothing else did
}

// rest plans what every pack but the Dockerfile's has, and says what is left over.
func (d *detector) rest() error {
	for _, part := range []func() error{d.node, d.apt, d.scripts, d.ignoreFiles} {
		if err := part(); err != nil {
			return err
		}
	}
	d.plan.Command = []string{"jupyter", "notebook", "--ip", "0.0.0.0"}
	if d.plan.Pack == PackDefault && len(d.plan.Why) == 0 {
		d.why("", "no file says what to install: the default environment")
	}
	return d.ignoredFiles("")
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
		d.use(d.plan.PostBuild)
		d.why(d.plan.PostBuild, "runs after everything is installed, with the repository in place"+d.lineEndings(d.plan.PostBuild))
	}
	if d.plan.Start == "" {
		return nil
	}
	d.use(d.plan.Start)
	text := "runs at the start of every session, before the server"
	head := d.head(d.plan.Start)
	if !strings.HasPrefix(head, "#!") {
		text += "; beware: it has no #! line, so it may not start"
	}
	first, _, _ := strings.Cut(head, "\n")
	if whole, err := d.readText(d.plan.Start); err == nil && strings.Contains(first, "sh") && !startsServerRE.MatchString(whole) {
		text += "; beware: it does not end in exec \"$@\", so no server is started"
	}
	d.why(d.plan.Start, text+d.lineEndings(d.plan.Start))
	return nil
}

// startsServerRE is what runs the arguments of a shell script.
var startsServerRE = regexp.MustCompile(`\$\{?[@*]`)

// lineEndings is a warning about a script that was written on Windows: the kernel looks for "bash\r".
func (d *detector) lineEndings(file string) string {
	line, _, _ := strings.Cut(d.head(file), "\n")
	switch {
	case !strings.HasSuffix(line, "\r"):
		return ""
	case strings.HasPrefix(line, "#!"):
		return "; beware: its lines end as on Windows, so its interpreter will not be found: save it with line ends of Unix"
	}
	return "; beware: its lines end as on Windows, which a shell takes for part of the commands: save it with line ends of Unix"
}

func (d *detector) why(file, text string) { d.plan.Why = append(d.plan.Why, Decision{file, text}) }

func (d *detector) ignore(file, text string) {
	d.plan.Ignored = append(d.plan.Ignored, Decision{file, text})
}

// reads notes that the environment comes from file.
func (d *detector) reads(file string) {
	d.plan.Reads = append(d.plan.Reads, file)
	d.use(file)
}

// use notes that file has an effect.
func (d *detector) use(file string) { d.used[file] = true }

// userError is a mistake in the repository's files.
func userError(remedy, format string, args ...any) *bindery.Error {
	return bindery.Errorf(bindery.ErrPlan, bindery.User, remedy, format, args...)
}
