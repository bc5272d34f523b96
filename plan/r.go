package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	rLibrary = "/srv/rlibs"                  // where R packages go that are not Debian's
	rServer  = "/usr/lib/rstudio-server/bin" // where RStudio is, in a base that has it
	// rSnapshot is the day of the package repository for those that name none: repo2docker takes the day before
	// yesterday, which builds something else each day.
	rSnapshot = "2026-08-01"
	// rOldest is repo2docker's: what was asked of the days before came from a server that is gone.
	rOldest = "2018-12-07"
)

// rOf is the R that a release of Debian has.
func rOf(suite string) string {
	return map[string]string{"bullseye": "4.0.4", "bookworm": "4.2.2", "trixie": "4.5.0"}[suite]
}

// rReleases are the versions of R that X.Y means where Debian has none of it, newest first.
func rReleases() []string {
	return []string{"4.6.1", "4.5.1", "4.4.2", "4.3.3", "4.2.3", "4.1.3", "4.0.5", "3.6.3", "3.5.3", "3.4.4", "3.3.3"}
}

// DebianR are the Debian packages that every repository of R has, the same for all.
func DebianR() []string {
	return []string{"r-base", "r-base-dev", "r-cran-devtools", "r-cran-irkernel", "r-cran-remotes", "r-cran-shiny"}
}

// r is the pack of R repositories. It reads runtime.txt, which the packs after it need too.
func (d *detector) r() (bool, error) {
	if err := d.readRuntime(); err != nil {
		return false, err
	}
	file, asked, err := d.rAsked()
	if err != nil || file == "" {
		return false, err
	}
	d.plan.Pack = PackR
	date, err := d.rDate()
	if err != nil {
		return true, err
	}
	d.reads(file)
	build, err := d.chooseR(file, asked)
	if err != nil {
		return true, err
	}
	for _, layer := range []func() error{d.condaLayer, d.pythonLayer} {
		if err := layer(); err != nil {
			return true, err
		}
	}
	// It names no Python, which the layer below remarks.
	d.plan.Ignored = slices.DeleteFunc(d.plan.Ignored, func(i Decision) bool { return i.File == d.runtime.file && d.runtime.name == "r" })
	d.rBase(file, build, date)
	return true, d.rPackages()
}

// rAsked returns the file that makes the repository one of R, and the version that it wants: "" for any.
func (d *detector) rAsked() (file, version string, err error) {
	if d.runtime.name == "r" {
		if d.runtime.date != "" {
			return d.runtime.file, d.runtime.version, nil
		}
		d.why(d.runtime.file, "beware: R is asked for with a date only, as r-"+d.runtime.version+"-"+rSnapshot+"; without one the line has no effect")
	}
	if !d.binder {
		if found, err := d.exists("DESCRIPTION"); err != nil || found {
			return "DESCRIPTION", "", err
		}
	}
	// A renv.lock is nobody's but R's. repo2docker does not know it, so whatever it does know comes first.
	other, err := d.first("environment.yml", "environment.yaml", "Pipfile", "Pipfile.lock", "requirements.txt", "runtime.txt")
	if err != nil || other != "" {
		return "", "", err
	}
	if file, err = d.first("renv.lock"); err != nil || file == "" {
		return "", "", err
	}
	lock, err := d.readLock(file)
	return file, lock.version, err
}

// rDate is the day whose state of the package repository counts.
func (d *detector) rDate() (string, error) {
	if d.runtime.name != "r" || d.runtime.date == "" {
		return rSnapshot, nil
	}
	day, err := time.Parse(time.DateOnly, d.runtime.date)
	if err != nil {
		return "", userError(runtimeRemedy, "%s: %q is not a date", d.runtime.file, printable(d.runtime.date))
	}
	if oldest, _ := time.Parse(time.DateOnly, rOldest); day.Before(oldest) {
		return "", userError("Name a day from "+rOldest+" on.", "%s: R packages as of %s are not kept anywhere any more", d.runtime.file, d.runtime.date)
	}
	return d.runtime.date, nil
}

// chooseR decides on R, and with it on the release of Debian. That comes before Python, which takes the release's own
// where it can, and may move to another only where R is right, too. It returns the version of R that is to be had as a
// build, where Debian has none that fits.
func (d *detector) chooseR(file, asked string) (build string, err error) {
	need, err := d.neededR()
	if err != nil {
		return "", err
	}
	base, isDebian := debian(d.plan.Base)
	own := rOf(base.name)
	if asked == "" && own == "" { // whatever the base's packages have, unseen
		return "", nil
	}
	fits := func(version string) bool { return isR(version, asked) && need.spec.accepts(version) }
	if own != "" && isR(own, asked) && !fits(own) {
		d.why("DESCRIPTION", "needs R "+need.text+", and the base's own is "+own)
	}
	candidates := suites()
	slices.Reverse(candidates) // the newest that fits, where the base's own does not
	for _, s := range slices.Insert(candidates, 0, base) {
		if version := rOf(s.name); isDebian && version != "" && fits(version) {
			d.plan.Base = "debian:" + s.name
			d.keepSuites(func(version string) bool { return version != "" && fits(version) || version == "" && asked == "" })
			return "", nil
		}
	}
	d.keepSuites(func(version string) bool { return version != "" }) // builds are of what is released
	if build = rRelease(asked, need.spec); build != "" {
		return build, nil
	}
	switch {
	case rRelease(asked, nil) == "":
		return "", userError("Name one of "+strings.Join(rReleases(), ", ")+", or X.Y.", "%s: there is no R %s", file, printable(asked))
	case asked != "":
		return "", userError("Change one of the two.", "%s asks for R %s, which DESCRIPTION, line %d (R %s) does not accept", file, asked, need.line, need.text)
	}
	return "", userError("Let Depends accept one of "+strings.Join(rReleases(), ", ")+".", "DESCRIPTION, line %d: there is no R that fits %q", need.line, need.text)
}

// keepSuites takes those releases of Debian from the ones that may take the base's place whose R is not ok: "" is one that
// is not known here.
func (d *detector) keepSuites(ok func(version string) bool) {
	all := d.opt.Suites
	if all == nil {
		all = Suites()
	}
	d.opt.Suites = slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !ok(rOf(s)) })
}

// neededR returns what the repository's own package says of R.
func (d *detector) neededR() (rNeed, error) {
	if d.binder {
		return rNeed{}, nil
	}
	found, err := d.exists("DESCRIPTION")
	if err != nil || !found {
		return rNeed{}, err
	}
	text, err := d.readText("DESCRIPTION")
	return parseNeed(text), err
}

// isR reports whether a version is one that is asked for: exactly, as X.Y, as X, or as any ("").
func isR(version, asked string) bool {
	return asked == "" || version == asked || strings.HasPrefix(version, asked+".")
}

// rBase plans R itself: Debian's, or a build.
func (d *detector) rBase(file, build, date string) {
	suite, isDebian := strings.CutPrefix(d.plan.Base, "debian:")
	own := rOf(suite)
	in := Install{Tool: ToolR, Files: []string{}, Version: own, Prefix: rLibrary, Env: map[string]string{"R_SNAPSHOT": date}}
	d.plan.Path = append(d.plan.Path, rServer)
	d.variable("R_LIBS_USER", rLibrary)
	if build == "" {
		d.plan.Apt = append(d.plan.Apt, DebianR()...)
		text := "R " + own + ", Debian's own"
		if !isDebian || own == "" {
			text = "R as the base's packages have it"
		}
		d.why(file, text+"; further packages from CRAN as of "+date)
	} else {
		in.Version, in.Args = build, []string{"build"}
		d.variable("R_HOME", "/opt/R/"+build+"/lib/R")
		d.variable("R_DOC_DIR", "/opt/R/"+build+"/lib/R/doc")
		d.variable("LD_LIBRARY_PATH", "/opt/R/"+build+"/lib/R/lib")
		// What R's builds of others are linked with, and the two kernels' messages.
		d.plan.Apt = append(d.plan.Apt, "libclang-dev", "libzmq3-dev", "psmisc")
		d.why(file, "R "+build+", a build that Debian does not have; packages from CRAN as of "+date)
	}
	d.why(file, "RStudio is offered where the base has rstudio-server, which Debian has not")
	d.plan.Env = append(d.plan.Env, in)
}

// rRelease is the newest version that is asked for and accepted, or "". An exact one need not be known here.
func rRelease(asked string, accepted specifiers) string {
	known := rReleases()
	if strings.Count(asked, ".") == 2 {
		known = []string{asked}
	}
	i := slices.IndexFunc(known, func(v string) bool { return isR(v, asked) && accepted.accepts(v) })
	if i < 0 {
		return ""
	}
	return known[i]
}

// rPackages plans what renv.lock, install.R and DESCRIPTION ask for, in this order: exact versions first.
func (d *detector) rPackages() error {
	lock, err := d.first("renv.lock")
	if err != nil {
		return err
	}
	if lock != "" {
		read, err := d.readLock(lock)
		if err != nil {
			return err
		}
		d.debianR(read.packages)
		d.plan.Env = append(d.plan.Env, Install{Tool: ToolR, Files: []string{lock}, Prefix: rLibrary})
		d.reads(lock)
		d.why(lock, "R packages with their versions; those that Debian has in the same version come from there")
	}
	if err := d.installR(); err != nil {
		return err
	}
	if slices.ContainsFunc(d.plan.Env, func(in Install) bool { return in.Tool == ToolR && in.Prefix == "" }) {
		for i := range d.plan.Env { // all in one order
			if d.plan.Env[i].Tool == ToolR {
				d.plan.Env[i].Prefix = ""
			}
		}
	}
	return d.description()
}

// description plans the repository's own R package.
func (d *detector) description() error {
	if d.binder {
		return nil
	}
	found, err := d.exists("DESCRIPTION")
	if err != nil || !found {
		return err
	}
	text, err := d.readText("DESCRIPTION")
	if err != nil {
		return err
	}
	d.debianR(dependencies(text))
	prefix := d.plan.Env[slices.IndexFunc(d.plan.Env, func(in Install) bool { return in.Tool == ToolR })].Prefix // R itself is there
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolR, Files: []string{"DESCRIPTION"}, Prefix: prefix})
	d.reads("DESCRIPTION")
	d.plan.Content = append(d.plan.Content, Install{Tool: ToolR, Files: []string{}, Args: []string{"."}})
	d.why("DESCRIPTION", "what the repository's R package depends on is installed; the package itself once the repository is in place")
	return nil
}

// installR plans install.R. It is a program: it runs before the repository is in place if it reads nothing of it, and
// beside the Python packages if it does not care for them.
func (d *detector) installR() error {
	file, err := d.first("install.R")
	if err != nil || file == "" {
		return err
	}
	text, err := d.readText(file)
	if err != nil {
		return err
	}
	d.use(file)
	packages, local, mixed := scanR(text)
	d.debianR(packages)
	in := Install{Tool: ToolR, Files: []string{file}, Prefix: rLibrary}
	if mixed || len(d.plan.Content) > 0 {
		in.Prefix = ""
	}
	if local || len(d.plan.Content) > 0 {
		d.plan.Content = append(d.plan.Content, in)
		d.why(file, "runs once the repository is in place; beware: when it fails the build goes on")
		return nil
	}
	d.plan.Env = append(d.plan.Env, in)
	d.reads(file)
	d.why(file, "installs R packages; beware: when it fails the build goes on")
	return nil
}

// debianR asks for Debian's packages of R packages, NAME or NAME=VERSION, where there are any: they need no compiling.
// They are built for Debian's R.
func (d *detector) debianR(packages []string) {
	if !slices.Contains(d.plan.Apt, "r-base") {
		return
	}
	for _, p := range packages {
		name, version, exact := strings.Cut(p, "=")
		deb := "r-cran-" + strings.ToLower(name)
		if exact {
			deb += "=" + version
		}
		d.plan.AptExtra = append(d.plan.AptExtra, deb)
	}
	slices.Sort(d.plan.AptExtra)
	d.plan.AptExtra = slices.Compact(d.plan.AptExtra)
}

func (d *detector) variable(key, value string) {
	if d.plan.Variables == nil {
		d.plan.Variables = map[string]string{}
	}
	d.plan.Variables[key] = value
}

// A renvLock is what is read of a renv.lock here; the build reads the rest.
type renvLock struct {
	version  string
	packages []string // NAME=VERSION of those that a repository has, sorted
}

func (d *detector) readLock(file string) (renvLock, error) {
	text, err := d.readText(file)
	if err != nil {
		return renvLock{}, err
	}
	lock, err := parseLock(text)
	if err != nil {
		d.plan.Pack = PackR
		return lock, userError("Write it anew, with renv::snapshot().", "%s: %s", file, err)
	}
	if lock.version != "" && !versionRE.MatchString(lock.version) {
		d.plan.Pack = PackR
		return lock, userError("Write it anew, with renv::snapshot().", "%s, line %d: R's version is %q", file, lineWith(text, `"Version"`), printable(lock.version))
	}
	if lock.version != "" { // a lock names R to the patch; Debian's of the same X.Y is as good
		lock.version = minor(lock.version)
	}
	return lock, nil
}

// minor cuts a version to X.Y.
func minor(version string) string {
	parts := strings.Split(version, ".")
	return strings.Join(parts[:min(2, len(parts))], ".")
}

func where(text string, at int) string {
	return fmt.Sprintf("line %d", 1+strings.Count(text[:at], "\n"))
}
