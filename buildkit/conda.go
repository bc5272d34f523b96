package buildkit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

const (
	rattlerMount = "/run/bindery-rattler"
	specMount    = "/run/bindery-spec"
	warmMount    = "/run/bindery-warm"
	// condaSecret is where a step finds the credentials of private channels, in rattler's own form. It is mounted into
	// steps that run nothing of any package, and only there.
	condaSecret   = "/run/bindery-conda/auth.json"
	condaSecretID = "conda-credentials"
	// condaCache is shared by all repositories: nothing of a package runs in a step that has it, and what is in it is
	// found by its URL and verified by its hash.
	condaCache = "bindery-conda"
)

// condaSpec tells assets/rattle.py what to install where.
type condaSpec struct {
	Prefix      string              `json:"prefix"`
	Channels    []string            `json:"channels"`
	Specs       []string            `json:"specs"`
	Extra       []string            `json:"extra,omitempty"`
	Python      string              `json:"python,omitempty"`
	Constraints []string            `json:"constraints,omitempty"`
	Locked      []plan.CondaPackage `json:"locked,omitempty"`
	Variables   []plan.Variable     `json:"variables,omitempty"`
}

// condaInstall is the install that makes the plan's conda environment, if it has one.
func (g *grapher) condaInstall() (plan.Install, bool) {
	i := slices.IndexFunc(g.job.Plan.Env, func(in plan.Install) bool { return in.Tool == plan.ToolConda })
	if i < 0 {
		return plan.Install{}, false
	}
	return g.job.Plan.Env[i], true
}

// conda adds nothing: the conda environment is what everything else is installed into, so it was made first.
func (g *grapher) conda(s llb.State, _ plan.Install) llb.State { return s }

// condaEnvironment makes the environment that the plan's packages are solved for. The servers are installed into it, or
// beside it where they do not run on its Python. The conda command comes from a branch of its own, which is the same for
// all repositories with these channels.
func (g *grapher) condaEnvironment(ready llb.State, in plan.Install) llb.State {
	env := in.Conda
	rattler := g.fetchRattler(ready)
	command := g.condaCommand(ready, rattler, env.Channels)
	commands := llb.Diff(ready, command, llb.WithCustomName(hidden+"see what the conda command is made of"))
	const together = hidden + "bring the environments together"
	prefix := pyPrefix
	if env.Kernel {
		prefix = plan.KernelPrefix
	}
	spec := condaSpec{
		Prefix: prefix, Channels: env.Channels, Specs: orEmpty(env.Specs), Extra: env.Extra, Python: env.Python,
		Constraints: env.Constraints, Locked: env.Locked, Variables: env.Variables,
	}
	solved := ready.Run(args("/usr/bin/python3", "-I", assetsMount+"/rattle.py", "install", specMount+"/spec.json"),
		g.withRattler("Install "+env.File, rattler, spec), g.withChannels(env.Local)).Root()
	if env.Kernel {
		servers := g.server(ready)
		all := llb.Merge([]llb.State{servers, llb.Diff(ready, solved, llb.WithCustomName(hidden+"see what the environment is made of")), commands}, llb.WithCustomName(together))
		return g.withBase(all).Run(args("/bin/sh", assetsMount+"/conda-kernel.sh", prefix), g.mounted("Install the kernel of "+env.File), llb.User(userName)).Root()
	}
	served := solved.Run(args("/bin/sh", assetsMount+"/conda-server.sh"), g.withWarmServers(ready, in.Version),
		llb.WithCustomName("Install the Jupyter servers into the conda environment")).Root()
	return g.withBase(llb.Merge([]llb.State{served, commands}, llb.WithCustomName(together)))
}

// withChannels lends a step the directories of the repository that are channels.
func (g *grapher) withChannels(dirs []string) llb.RunOption {
	var all []llb.RunOption
	for _, dir := range dirs {
		files := g.local(localFiles, "channel "+dir, llb.IncludePatterns(escape([]string{dir})), llb.FollowPaths(escape([]string{dir})), llb.WithCustomName(hidden+"load a conda channel"))
		all = append(all, llb.AddMount(home+"/"+dir, files, llb.SourcePath("/"+dir), llb.Readonly))
	}
	return runOptions(all...)
}

func orEmpty(s []string) []string { return append([]string{}, s...) }

// withBase gives a merged state the variables of all images again: merging loses them.
func (g *grapher) withBase(s llb.State) llb.State { return withEnv(s, baseEnv(g.base)) }

// fetchRattler fetches the solver into a directory of its own.
func (g *grapher) fetchRattler(ready llb.State) llb.State {
	run := ready.Run(args("/bin/sh", assetsMount+"/fetch.sh", assetsMount+"/rattler.lock"), g.mounted("Fetch rattler"))
	return run.AddMount("/out", llb.Scratch())
}

// withRattler lets a step solve and download as the user. Nothing of any package runs in it.
func (g *grapher) withRattler(name string, rattler llb.State, spec condaSpec) llb.RunOption {
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		panic(err) // it is made of text
	}
	file := llb.Scratch().File(llb.Mkfile("/spec.json", 0o644, data), llb.WithCustomName(hidden+"say what the environment is made of"))
	return runOptions(
		g.mounted(name),
		llb.User(userName),
		llb.AddMount(specMount, file, llb.Readonly),
		llb.AddMount(rattlerMount, rattler, llb.Readonly),
		llb.AddMount(cacheMount, emptyCache(), llb.SourcePath("/cache"), llb.AsPersistentCacheDir(condaCache, llb.CacheMountShared)),
		llb.AddSecret(condaSecret, llb.SecretID(condaSecretID), llb.SecretFileOpt(userID, userID, 0o400), llb.SecretOptional),
		llb.AddEnv("BINDERY_CACHE", cacheMount),
		llb.AddEnv("TMPDIR", cacheMount+"/tmp"),
	)
}

// condaCommand puts conda and mamba into the root prefix: the channels' own where they have them, else Bindery's small
// command. Where conda-forge is among the channels nothing else is asked, so that one step serves everybody.
func (g *grapher) condaCommand(ready, rattler llb.State, channels []string) llb.State {
	if slices.Contains(channels, "conda-forge") {
		channels = []string{"conda-forge"}
	}
	channels = slices.DeleteFunc(slices.Clone(channels), func(c string) bool { return strings.HasPrefix(c, "file://") })
	spec := condaSpec{Prefix: "/srv/conda", Channels: channels, Specs: []string{"conda", "mamba"}}
	return ready.Run(args("/usr/bin/python3", "-I", assetsMount+"/rattle.py", "command", specMount+"/spec.json"),
		g.withRattler(condaCommandStep, rattler, spec)).Root()
}

// withWarmServers lets a step install the servers without the network and without a cache that others share: installing
// asks the environment's own Python, and that is a package of the repository's choice. What the servers are made of is
// fetched in a step that runs nothing of it, once for each Python, and lent to the step, which throws its copy away.
func (g *grapher) withWarmServers(ready llb.State, python string) llb.RunOption {
	dir := emptyCache()
	warm := dir
	if python != "" {
		fetch := ready.Run(args("/bin/sh", assetsMount+"/conda-warm.sh", python), g.uvIn(warmMount), llb.WithCustomName("Fetch the Jupyter servers for Python "+python))
		warm = fetch.AddMount(warmMount, dir)
	}
	return runOptions(g.uvIn(warmMount), llb.AddMount(warmMount, warm))
}

// uvIn lets a step run as the user with uv, whose cache is at dir.
func (g *grapher) uvIn(dir string) llb.RunOption {
	return runOptions(
		g.mounted("uv"),
		llb.User(userName),
		llb.AddMount(uvMount, g.uv, llb.Readonly),
		llb.AddEnv("UV_CACHE_DIR", dir+"/cache/uv"),
		llb.AddEnv("TMPDIR", dir+"/cache/tmp"),
		llb.AddEnv("UV_LINK_MODE", "copy"),
		llb.AddEnv("UV_NO_CONFIG", "1"),
		llb.AddEnv("UV_NO_PROGRESS", "1"),
		llb.AddEnv("PATH", loginPath+":"+g.path+":"+uvMount+"/bin"),
	)
}

// condaPip installs the pip section of an environment, as if its lines were a requirement file beside the environment's.
func (g *grapher) condaPip(s llb.State, in plan.Install) llb.State {
	text := []byte(strings.Join(in.Lines, "\n") + "\n")
	file := llb.Scratch().File(llb.Mkfile("/requirements.txt", 0o644, text), llb.WithCustomName(hidden+"write the pip section down"))
	prefix := pyPrefix
	if env, ok := g.condaInstall(); ok && env.Conda.Kernel {
		prefix = plan.KernelPrefix
	}
	argv := slices.Concat([]string{"/bin/bash", assetsMount + "/conda-pip.sh", prefix, in.From}, in.Args)
	return s.Run(args(argv...), g.withUV(condaPipStep+in.From, g.ownCache()), llb.AddMount(specMount, file, llb.Readonly)).Root()
}

// Names of steps that condaError knows again.
const (
	condaPipStep     = "Build and install the pip section of "
	condaCommandStep = "Install the conda command"
)

// buildRE is a spec as conda env export writes it.
var buildRE = regexp.MustCompile(`^[^=<>!~]+={1,2}[^=]+=[^=]+$`)

// Exit codes of assets/rattle.py.
const (
	condaUser        = 65
	condaUnreachable = 69
)

// condaError explains what making a conda environment failed with: whose fault it is, and which line is the matter. It
// is nil for every other step.
func condaError(j plan.Job, step string, code int, said string) *bindery.Error {
	p := j.Plan
	i := slices.IndexFunc(p.Env, func(in plan.Install) bool { return in.Tool == plan.ToolConda })
	if i < 0 || code < 0 {
		return nil
	}
	if from, ok := strings.CutPrefix(step, condaPipStep); ok {
		return condaPipError(p, from, said)
	}
	env := p.Env[i].Conda
	if code != condaUser && code != condaUnreachable || step != "Install "+env.File && step != condaCommandStep {
		return nil
	}
	if i := strings.LastIndex("\n"+said, "\nerror: "); i >= 0 {
		said = said[i+len("error: "):]
	}
	if code == condaUnreachable {
		return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again later; the operator can check the worker's network with bindery doctor, or name a mirror of the channel (conda.channels).",
			"%s%s", cmp.Or(mentions(j, serverOf(said)), env.File+": "), said)
	}
	var places []string
	built := false // a spec of these names a build
	for _, spec := range env.Specs {
		if line := env.Lines[spec]; line > 0 && strings.Contains(said, `"`+spec+`"`) {
			places = append(places, fmt.Sprintf("line %d", line))
			built = built || buildRE.MatchString(spec)
		}
	}
	where := env.File
	if places = slices.Compact(places); len(places) > 0 {
		where += ", " + strings.Join(places, " and ")
	}
	remedy := "Correct the environment so that its channels have what it asks for."
	if built {
		remedy = "Builds are of one system and go away: name versions only, as conda env export --no-builds writes them, or what you asked for, as --from-history does."
	}
	return bindery.Errorf(bindery.ErrStep, bindery.User, remedy, "%s: %s", where, said)
}

var condaPipRE = regexp.MustCompile(`(?:[\w./-]*/)?\.bindery-pip-section\.txt(?:, line (\d+))?`)

// condaPipError says where in the environment file a requirement stands that could not be installed. The installer has
// seen a file of its own.
func condaPipError(p plan.Plan, from, said string) *bindery.Error {
	i := strings.LastIndex(said, ".bindery-pip-section.txt")
	if i < 0 || trouble(said) != nil {
		return nil
	}
	said = said[strings.LastIndex(said[:i], "\n")+1:]
	var in plan.Install
	for _, one := range slices.Concat(p.Env, p.Content) {
		if one.Tool == plan.ToolCondaPip && one.From == from {
			in = one
			break
		}
	}
	said = condaPipRE.ReplaceAllStringFunc(said, func(place string) string {
		m := condaPipRE.FindStringSubmatch(place)
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 && n <= len(in.Numbers) {
			return fmt.Sprintf("%s, line %d", from, in.Numbers[n-1])
		}
		return from
	})
	return bindery.Errorf(bindery.ErrStep, bindery.User, "Correct the requirement and build again.", "%s", said)
}

// condaCredentials serves the credentials of private channels to the steps that ask for them.
func (e *Engine) condaCredentials() session.Attachable {
	if e.cfg.CondaCredentials == "" {
		return secretsprovider.FromMap(map[string][]byte{})
	}
	// Read for every build, so that a changed password needs no restart.
	data, err := os.ReadFile(e.cfg.CondaCredentials)
	if err != nil {
		e.cfg.Log.Error("the credentials of conda channels cannot be read", "err", err)
		return secretsprovider.FromMap(map[string][]byte{})
	}
	return secretsprovider.FromMap(map[string][]byte{condaSecretID: data})
}
