package plan

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// A CondaEnvironment is what an Install with ToolConda makes: packages that are solved for, or those of a lock file.
type CondaEnvironment struct {
	Channels []string `json:"channels"`        // names and URLs, the most important first
	Specs    []string `json:"specs,omitempty"` // as the author wrote them
	// Extra are specs that the rules add: an interpreter, what a kernel needs.
	Extra []string `json:"extra,omitempty"`
	// Python is the X.Y that is tried first where Specs leave a choice. A solution with another one is taken if there
	// is none with this.
	Python string `json:"python,omitempty"`
	// Constraints hold for packages that get installed anyhow: the servers do not run on every Python.
	Constraints []string       `json:"constraints,omitempty"`
	Locked      []CondaPackage `json:"locked,omitempty"` // nothing is solved then
	// Local are the directories of the repository that are channels. The environment is made before the repository is in
	// place, so they have to be there by themselves.
	Local     []string   `json:"local,omitempty"`
	Variables []Variable `json:"variables,omitempty"`
	// Kernel says that the environment is the kernel's only, since the servers need a newer Python than it has.
	Kernel bool `json:"kernel,omitempty"`
	// Lines are where the specs are written, for errors. No part of a plan's JSON or of a key: a comment in the file
	// makes no other environment.
	Lines map[string]int `json:"-"`
	File  string         `json:"-"` // that they are written in
}

// A CondaPackage is one package of a lock file.
type CondaPackage struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256,omitempty"`
	MD5    string `json:"md5,omitempty"`
}

// A Variable is one environment variable that activating an environment sets.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// KernelPrefix is where a conda environment is made that the servers cannot live in.
const KernelPrefix = "/srv/conda/envs/kernel"

// conda is the pack of conda environments. requirements.txt has no say there. Lock files and pixi's files are no rules of
// repo2docker's: those alone count where it would find nothing to install.
func (d *detector) conda() (bool, error) {
	file, err := d.first("environment.yml", "environment.yaml")
	if err != nil {
		return false, err
	}
	if file != "" {
		d.plan.Pack = PackConda
		return true, d.environmentFile(file)
	}
	if known, err := d.first("Pipfile", "Pipfile.lock", "requirements.txt"); err != nil || known != "" {
		return false, err
	}
	if d.runtime.name == "python" {
		return false, nil
	}
	if project, err := d.readProject(); err == nil && project.file != "" && !d.pixiProject() {
		return false, nil
	}
	for _, more := range []func() (bool, error){d.pixi, d.condaLock} {
		if found, err := more(); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// condaLock is for a conda-lock.yml without an environment.yml.
func (d *detector) condaLock() (bool, error) {
	l, err := d.readCondaLock()
	if l == nil || err != nil {
		return false, err
	}
	d.plan.Pack = PackConda
	return true, d.lockFile(l, &CondaEnvironment{})
}

// readCondaLock returns nil where there is no conda-lock.yml.
func (d *detector) readCondaLock() (*condaLockFile, error) {
	file, err := d.first("conda-lock.yml")
	if err != nil || file == "" {
		return nil, err
	}
	return d.lockText(file, parseCondaLock)
}

func (d *detector) lockText(file string, parse func(string) (*condaLockFile, error)) (*condaLockFile, error) {
	text, err := d.readText(file)
	if err != nil {
		return nil, err
	}
	l, err := parse(text)
	if err != nil {
		d.plan.Pack = PackConda
		return nil, userError("Lock the environment again.", "%s: %s", file, err)
	}
	l.file = file
	return l, nil
}

// condaLayer applies an environment.yml where another pack is the repository's: R's or Julia's. Its interpreter is then
// the environment's.
func (d *detector) condaLayer() error {
	file, err := d.first("environment.yml", "environment.yaml")
	if err != nil || file == "" {
		return err
	}
	return d.environmentFile(file)
}

// hasConda reports whether the environment is conda's, and its interpreter too.
func (d *detector) hasConda() bool {
	return slices.ContainsFunc(d.plan.Env, func(in Install) bool { return in.Tool == ToolConda })
}

// environmentFile plans what an environment.yml asks for.
func (d *detector) environmentFile(file string) error {
	text, err := d.readText(file)
	if err != nil {
		return err
	}
	env, err := parseEnvironment(text)
	if err != nil {
		return userError("Mend the file: https://docs.conda.io shows its form.", "%s: %s", file, err)
	}
	d.reads(file)
	for _, key := range env.ignored {
		d.ignore(file, key)
	}
	if locked, err := d.lockOf(file, text, env); locked || err != nil {
		return err
	}
	if err := condaMistake(file, env.specs); err != nil {
		return err
	}
	made := &CondaEnvironment{Channels: env.channels, Variables: env.variables, Lines: map[string]int{}, File: file}
	for _, s := range env.specs {
		made.Specs = append(made.Specs, s.text)
		if made.Lines[s.text] == 0 {
			made.Lines[s.text] = s.number
		}
	}
	why := "a conda environment, from " + strings.Join(made.Channels, ", ")
	if env.name != "" {
		why += "; its name, " + printable(env.name) + ", has no effect"
	}
	d.why(file, why)
	if err := d.condaPython(file, env.specs, made); err != nil {
		return err
	}
	d.condaR(file, env.specs, made)
	repodata, err := d.localChannels(file, made)
	if err != nil {
		return err
	}
	d.plan.Env = append(d.plan.Env, Install{Tool: ToolConda, Files: []string{}, Includes: repodata, Version: d.plan.Python, Conda: made})
	return d.condaPip(file, env.pip)
}

// lockOf takes the lock file beside an environment.yml, unless it was written for another one.
func (d *detector) lockOf(file, text string, env environment) (bool, error) {
	l, err := d.readCondaLock()
	if l == nil || err != nil {
		return false, err
	}
	asked := d.required(file, env.pip, map[string]bool{})
	var unsure []numbered
	if !l.madeFrom(file, text) {
		all := lines(text)
		specs := slices.DeleteFunc(slices.Clone(env.specs), func(s numbered) bool { return isElsewhere(all, s.number) })
		var lacks string
		if lacks, unsure = l.lacks(specs, asked, nil); lacks != "" {
			d.use(l.file) // the reason is said here
			d.ignore(l.file, fmt.Sprintf("it has nothing for %q of %s: lock again to have it count", printable(lacks), file))
			return false, nil
		}
	}
	if err := d.lockFile(l, &CondaEnvironment{Variables: env.variables}); err != nil {
		return true, err
	}
	var local []numbered // no lock file has those
	for _, line := range env.pip {
		needs, included, _ := judge(line.text)
		if _, editable := optionOf(line.text, "--editable"); needs && included == "" || editable {
			local = append(local, line)
		}
	}
	return true, d.condaPip(file, append(local, d.unsure(file, asked, unsure)...))
}

// required are requirement lines of file with those of the requirement files that they include, as far as these are in
// the repository.
func (d *detector) required(file string, lines []numbered, seen map[string]bool) []numbered {
	var all []numbered
	for _, line := range lines {
		value, ok := optionOf(line.text, "--requirement")
		if !ok {
			all = append(all, line)
			continue
		}
		name := path.Join(path.Dir(file), value)
		if text, err := d.readText(name); err == nil && !seen[name] {
			seen[name] = true
			all = append(all, d.required(name, requirementLines(text), seen)...)
		}
	}
	return all
}

// condaPython decides the interpreter. repo2docker starts from its default and lets the solver move it; here a range is
// read as what it says, and the default is taken where the range has it.
func (d *detector) condaPython(file string, specs []numbered, made *CondaEnvironment) error {
	const most = 10_000 // bytes: all of it is read for each version
	var asked []numbered
	var constraints []condaConstraint
	size := 0
	for _, s := range specs {
		name, version := splitSpec(s.text)
		if name != "python" {
			continue
		}
		asked, constraints = append(asked, s), append(constraints, parseCondaConstraint(version))
		if size += len(s.text); size > most {
			return userError("Ask for one version, or for a range.", "%s, line %d: more is asked of Python than anybody can read", file, s.number)
		}
	}
	if len(asked) == 0 {
		made.Extra = append(made.Extra, "python")
	}
	var fit []string
	for _, xy := range condaPythons() {
		if acceptsAll(constraints, xy) {
			fit = append(fit, xy)
		}
	}
	if len(fit) == 0 {
		return userError("Ask for a Python from 3.5 to 3.14, or for 2.7.", "%s, line %d: there is no Python that fits %q",
			file, asked[0].number, printable(asked[0].text))
	}
	made.Python = fit[0]
	d.plan.Python = made.Python
	switch {
	case len(fit) == 1:
		made.Python = "" // the spec says it all
		d.why(file, "Python "+fit[0]+", in the conda environment")
	default:
		d.why(file, "Python "+fit[0]+" in the conda environment, unless the other packages need another one")
	}
	if old(fit[0]) {
		made.Kernel = true
		made.Extra = append(made.Extra, "ipykernel", "pip")
		d.separateKernel(file, fit[0])
		return nil
	}
	made.Constraints = append(made.Constraints, "python >="+oldestServed+",<3.15")
	return nil
}

// separateKernel keeps the environment away from the servers, which run on the base's own Python.
func (d *detector) separateKernel(file, python string) {
	own, _ := debian(d.plan.Base)
	d.plan.Python = own.python
	if python == "" {
		d.why(file, "it has no Python: the servers are beside it, and it is the kernel's only, in "+KernelPrefix)
	} else {
		d.why(file, fmt.Sprintf("the servers do not run on Python %s: the environment is the kernel's only, in %s", python, KernelPrefix))
	}
	if d.plan.Variables == nil {
		d.plan.Variables = map[string]string{}
	}
	d.plan.Variables["KERNEL_PYTHON_PREFIX"] = KernelPrefix
	d.plan.Variables["CONDA_DEFAULT_ENV"] = KernelPrefix
	d.plan.Variables["KERNEL_ENVIRONMENT_FILE"] = "/tmp/env/kernel-environment.lock"
	d.plan.Path = append(d.plan.Path, KernelPrefix+"/bin")
}

// repoDir is where the repository will be.
const repoDir = "/home/jovyan"

// localChannels finds the channels that are directories of the repository, and gives each the URL that it will have.
// Their repodata has a hash for every package, so that it stands for all of the directory.
func (d *detector) localChannels(file string, made *CondaEnvironment) (repodata []string, err error) {
	for i, channel := range made.Channels {
		dir, ok := strings.CutPrefix(channel, "file://"+repoDir+"/")
		if !ok {
			if dir, ok = strings.CutPrefix(channel, "./"); !ok {
				continue
			}
			dir = path.Join(path.Dir(file), dir)
		}
		dir = strings.TrimRight(dir, "/")
		if !fs.ValidPath(dir) || dir == "." {
			return nil, userError("Name a directory of the repository.", "%s: the channel %s is not a directory of the repository", d.placeOf(file, channel), printable(channel))
		}
		found := false
		for _, subdir := range []string{condaPlatform(), "noarch"} {
			name := path.Join(dir, subdir, "repodata.json")
			there, err := d.exists(name)
			if err != nil {
				return nil, err
			}
			if there {
				found, repodata = true, append(repodata, name)
			}
		}
		if !found {
			return nil, userError("Add it to the repository, with its repodata.json.", "%s: there is no channel in the directory %s", d.placeOf(file, channel), printable(dir))
		}
		made.Channels[i] = "file://" + repoDir + "/" + dir
		made.Local = append(made.Local, dir)
		d.why(dir, "a conda channel of the repository's own")
	}
	for _, name := range repodata {
		d.reads(name)
	}
	return repodata, nil
}

// placeOf returns the first line of a file that has word in it.
func (d *detector) placeOf(file, word string) place {
	text, err := d.readText(file)
	if err != nil {
		return place{file: file} // not reached: it has been read
	}
	return place{file, lineWith(text, word)}
}

// condaR adds what R in a notebook needs, where the environment has R packages.
func (d *detector) condaR(file string, specs []numbered, made *CondaEnvironment) {
	for _, s := range specs {
		if name, _ := splitSpec(s.text); strings.HasPrefix(name, "r-") {
			made.Extra = append(made.Extra, "r-base", "r-irkernel", "r-devtools")
			d.why(file, "it has R packages, so R's kernel comes with them")
			return
		}
	}
}

// condaPip plans the pip section: after the environment, and once the repository is in place if it needs that.
func (d *detector) condaPip(file string, lines []numbered, args ...string) error {
	if len(lines) == 0 {
		return nil
	}
	r := &requirements{}
	if err := d.judgeLines(r, file, lines); err != nil {
		return err
	}
	install := Install{Tool: ToolCondaPip, Files: []string{}, Includes: r.includes, Encodings: r.encodings, Args: args, From: file}
	for _, l := range lines {
		install.Lines, install.Numbers = append(install.Lines, l.text), append(install.Numbers, l.number)
	}
	for _, name := range r.includes {
		d.use(name)
	}
	if r.local != nil {
		d.plan.Content = append(d.plan.Content, install)
		d.why(file, fmt.Sprintf("its pip section is installed once the repository is in place, because of %s, line %d", r.local.file, r.local.line))
		return nil
	}
	d.plan.Env = append(d.plan.Env, install)
	d.why(file, "its pip section is installed into the conda environment")
	for _, name := range r.includes {
		d.reads(name)
		d.why(name, "included by "+file)
	}
	return nil
}
