package buildkit

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// Names of the local directories that a session offers to a build.
const (
	localFiles = "files" // the repository without .git
	localGit   = "git"
)

// hidden begins the names of steps that are of no interest to a person.
const hidden = "[bindery] "

const (
	assetsMount = "/run/bindery-assets"
	uvMount     = "/run/bindery-uv"
	cacheMount  = "/run/bindery-cache"
	workMount   = "/run/bindery-work" // of one step alone
)

// A root is the file system that a graph starts from, with the environment of the image it came from.
type root struct {
	state llb.State
	env   []string
}

// graph draws the steps of job: apt first, for anything may compile against its packages; then the environments, side
// by side where they are at home in different directories; then the repository, so that a changed notebook runs nothing
// again; .git in a layer of its own, since it changes with every commit; last what may read everything.
func graph(job plan.Job, base root) llb.State {
	g := &grapher{job: job, assets: assetState(), base: pathOf(base.env)}
	g.path = g.base
	ready := g.setup(withEnv(base.state, baseEnv(g.base)))
	g.uv = g.tool(ready)
	env := g.environment(ready)
	if len(job.Plan.Apt) > 0 {
		env = llb.Merge([]llb.State{env, llb.Diff(ready, g.apt(ready), llb.WithCustomName(hidden+"see what the packages changed"))}, llb.WithCustomName(hidden+"bring packages and servers together"))
	}
	// From here on the repository's own variables count. What was drawn before is the same for all, and made once.
	g.path = searchPath(job.Plan, g.base)
	all := g.content(g.installs(withEnv(env, planEnv(job.Plan, g.base))))
	for _, in := range job.Plan.Content {
		all = g.install(all, in)
	}
	if job.Plan.PostBuild != "" {
		all = g.postBuild(all)
	}
	return all
}

// environment makes the notebook environment with the Jupyter servers in it, which the repository's packages go into.
func (g *grapher) environment(ready llb.State) llb.State {
	if in, ok := g.condaInstall(); ok {
		return g.condaEnvironment(ready, in)
	}
	return g.server(ready)
}

// installs draws what the environment part of the plan asks for. Installs without a prefix share the notebook
// environment and run one after the other. Those that share another prefix do so too, but beside the first.
func (g *grapher) installs(env llb.State) llb.State {
	ends := map[string]llb.State{}
	var prefixes []string // in the plan's order; what is merged later wins
	for _, in := range g.job.Plan.Env {
		s, begun := ends[in.Prefix]
		if !begun {
			s = env
			prefixes = append(prefixes, in.Prefix)
		}
		ends[in.Prefix] = g.install(g.withFiles(s, in), in)
	}
	merged := []llb.State{env}
	if own, ok := ends[""]; ok {
		merged[0] = own
	}
	for _, p := range prefixes {
		if p != "" {
			merged = append(merged, llb.Diff(env, ends[p], llb.WithCustomName(hidden+"see what changed in "+p)))
		}
	}
	if len(merged) == 1 {
		return merged[0]
	}
	return withEnv(llb.Merge(merged, llb.WithCustomName(hidden+"bring the environments together")), planEnv(g.job.Plan, g.base))
}

// install draws one install, by its tool.
func (g *grapher) install(s llb.State, in plan.Install) llb.State {
	switch in.Tool {
	case plan.ToolPip:
		return g.pip(s, in)
	case plan.ToolUV:
		return g.locked(s, in)
	case plan.ToolConda:
		return g.conda(s, in)
	case plan.ToolCondaPip:
		return g.condaPip(s, in)
	case plan.ToolR:
		return g.r(s, in)
	case plan.ToolJulia:
		return g.julia(s, in)
	case plan.ToolNix:
		return g.nix(s, in)
	case plan.ToolNPM:
		return g.npm(s, in)
	}
	panic("buildkit: a plan with tool " + in.Tool) // plan makes no other
}

// withFiles puts the files that an install reads where the repository will have them, and only those.
func (g *grapher) withFiles(s llb.State, in plan.Install) llb.State {
	reads := slices.Concat(in.Files, in.Includes) // not Plan.Reads: a new comment in apt.txt installs nothing anew
	if len(reads) == 0 {
		return s
	}
	slices.Sort(reads)
	reads = slices.Compact(reads)
	spec := g.local(localFiles, "spec", llb.IncludePatterns(escape(reads)), llb.FollowPaths(escape(reads)), llb.WithCustomName(hidden+"load requirement files"))
	return s.File(llb.Copy(spec, "/", home+"/", dated(llb.CopyInfo{CopyDirContentsOnly: true, ChownOpt: owned()})), llb.WithCustomName(hidden+"copy requirement files"))
}

type grapher struct {
	job    plan.Job
	assets llb.State
	base   string    // the base's PATH
	path   string    // PATH after the directories of every login: the plan's own, then the base's
	uv     llb.State // the directory with uv in it
}

func withEnv(s llb.State, vars []pair) llb.State {
	for _, v := range append(vars, stepEnv()...) {
		s = s.AddEnv(v.key, v.value)
	}
	return s.Dir(home)
}

// assetState holds our scripts. They are mounted into steps, not copied.
func assetState() llb.State {
	entries, err := assets.ReadDir("assets")
	if err != nil {
		panic(err) // embedded
	}
	var files *llb.FileAction
	for _, d := range entries {
		files = mkfile(files, "/"+d.Name(), asset(d.Name()))
	}
	return llb.Scratch().File(files, llb.WithCustomName(hidden+"lay out scripts"))
}

func mkfile(a *llb.FileAction, name string, data []byte) *llb.FileAction {
	if a == nil {
		return llb.Mkfile(name, 0o755, data)
	}
	return a.Mkfile(name, 0o755, data)
}

func (g *grapher) mounted(name string) llb.RunOption {
	return runOptions(llb.AddMount(assetsMount, g.assets, llb.Readonly), llb.AddEnv("ASSETS", assetsMount), llb.WithCustomName(name))
}

// runOptions makes one option of several.
func runOptions(opts ...llb.RunOption) llb.RunOption { return options(opts) }

type options []llb.RunOption

// SetRunOption applies all of them.
func (o options) SetRunOption(ei *llb.ExecInfo) {
	for _, opt := range o {
		opt.SetRunOption(ei)
	}
}

func args(argv ...string) llb.RunOption { return llb.Args(argv) }

func (g *grapher) setup(base llb.State) llb.State {
	return base.Dir("/").Run(args("/bin/sh", assetsMount+"/setup.sh"), g.mounted("Prepare the base")).Root().Dir(home)
}

// apt is the one branch that has to do with dpkg: what the plan names, what it names in case the archives have it, and
// an R that they have not. Debian's R takes most of a minute, so it goes first: that step is the same for all who have it.
func (g *grapher) apt(ready llb.State) llb.State {
	p := g.job.Plan
	names, common := slices.Clone(p.Apt), plan.DebianR()
	if !slices.ContainsFunc(common, func(n string) bool { return !slices.Contains(names, n) }) {
		ready = g.aptGet(ready, common)
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(common, n) })
	}
	var opts []llb.RunOption
	if len(p.AptExtra) > 0 {
		opts = append(opts, llb.AddEnv("APT_EXTRA", strings.Join(p.AptExtra, " ")))
	}
	if v := rBuild(p); v != "" {
		opts = append(opts, llb.AddEnv("R_BUILD", v))
	}
	if len(names)+len(opts) == 0 {
		return ready
	}
	return g.aptGet(ready, names, opts...)
}

func (g *grapher) aptGet(s llb.State, names []string, more ...llb.RunOption) llb.State {
	what := strings.Join(names, " ")
	if what == "" {
		what = "Debian's R packages"
	}
	return s.Run(args(append([]string{"/bin/sh", assetsMount + "/apt.sh"}, names...)...), g.mounted("Install "+what), runOptions(more...),
		llb.AddMount("/var/cache/apt", llb.Scratch(), llb.AsPersistentCacheDir("bindery-apt", llb.CacheMountLocked)),
		llb.AddMount("/var/lib/apt/lists", llb.Scratch(), llb.AsPersistentCacheDir("bindery-apt-lists", llb.CacheMountLocked)),
	).Root()
}

func (g *grapher) local(name, hint string, opts ...llb.LocalOption) llb.State {
	opts = append(opts, llb.SharedKeyHint(hint+" "+g.job.Source.Identity()+" "+g.job.Source.Subdir), llb.LocalUniqueID("bindery"))
	return llb.Local(name, opts...)
}

func owned() *llb.ChownOpt {
	id := &llb.UserOpt{UID: userID}
	return &llb.ChownOpt{User: id, Group: id}
}

// escape makes patterns that match exactly the given paths.
func escape(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
	}
	return out
}

func (g *grapher) content(env llb.State) llb.State {
	files := g.local(localFiles, "files", llb.ExcludePatterns(g.ignored()), llb.WithCustomName(hidden+"load the repository"))
	info := dated(llb.CopyInfo{CopyDirContentsOnly: true, ChownOpt: owned()})
	s := env.File(llb.Copy(files, "/", home+"/", info), llb.WithCustomName("Copy the repository"))
	if g.job.GitDir == "" {
		return s
	}
	git := g.local(localGit, "git", llb.WithCustomName(hidden+"load .git"))
	return s.File(llb.Copy(git, "/", home+"/", info), llb.WithCustomName("Copy .git"))
}

// ignored are the repository's own patterns. Its .git comes by itself.
func (g *grapher) ignored() []string {
	if g.job.GitDir == "" {
		return g.job.Plan.Ignore
	}
	return append(slices.Clone(g.job.Plan.Ignore), ".git")
}

// postBuild runs through a shell, since many such scripts name no interpreter.
func (g *grapher) postBuild(s llb.State) llb.State {
	script := "./" + path.Clean(g.job.Plan.PostBuild)
	return s.Run(args("/bin/sh", assetsMount+"/postbuild.sh", script), llb.User(userName), llb.AddMount(assetsMount, g.assets, llb.Readonly),
		llb.WithCustomName("Run "+g.job.Plan.PostBuild)).Root()
}
