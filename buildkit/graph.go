package buildkit

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"

	bindery "github.com/bindery-hub/bindery"
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
)

// A root is the file system that a graph starts from, with the environment of the image it came from.
type root struct {
	state llb.State
	env   []string
}

// graph draws the steps of job: apt first, for anything may compile against its packages; then the environments;
// then the repository, so that a changed notebook runs nothing again; .git in a layer of its own, since it changes
// with every commit; last what may read everything.
func graph(job plan.Job, base root) llb.State {
	g := &grapher{job: job, assets: assetState(), path: pathOf(base.env)}
	ready := g.setup(withEnv(base.state, pathOf(base.env)))
	g.uv = g.tool(ready)
	env := g.server(ready)
	if len(job.Plan.Apt) > 0 {
		env = llb.Merge([]llb.State{env, llb.Diff(ready, g.apt(ready), llb.WithCustomName(hidden+"see what the packages changed"))}, llb.WithCustomName(hidden+"bring packages and servers together"))
		env = withEnv(env, pathOf(base.env))
	}
	if len(job.Plan.Env) > 0 {
		env = g.requirements(env)
	}
	all := g.content(env)
	for _, in := range job.Plan.Content {
		all = g.pip(all, in)
	}
	if job.Plan.PostBuild != "" {
		all = g.postBuild(all)
	}
	return all
}

type grapher struct {
	job    plan.Job
	assets llb.State
	path   string    // the base's PATH
	uv     llb.State // the directory with uv in it
}

func withEnv(s llb.State, path string) llb.State {
	for _, v := range append(baseEnv(path), stepEnv()...) {
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

// tool fetches uv into a directory of its own.
func (g *grapher) tool(ready llb.State) llb.State {
	// Debian's python3-venv brings pip as a wheel, which runs as it is: that spares making an environment for it.
	const script = `PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --no-cache-dir ` +
		`--disable-pip-version-check --no-deps --only-binary :all: --require-hashes --target /out -r ` + assetsMount + `/uv.lock`
	run := ready.Run(args("/bin/sh", "-ec", script), g.mounted("Fetch uv"))
	return run.AddMount("/out", llb.Scratch())
}

// sharedCache is of steps that run nothing but what Bindery trusts. Steps that run what a repository brings have a
// cache of their repository's own: they could leave anything in it.
const sharedCache = "bindery-uv"

func (g *grapher) ownCache() string {
	return sharedCache + "-" + bindery.Key("cache", g.job.Source.Identity())[:16]
}

// withUV lets a step run as the user with uv, and with a cache that stays on this machine. uv copies out of it:
// links do not reach from one mount into another, even on the same file system.
func (g *grapher) withUV(name, cache string) llb.RunOption {
	owned := llb.Scratch().File(llb.Mkdir("/cache", 0o755, llb.WithUIDGID(userID, userID)), llb.WithCustomName(hidden+"make a cache directory"))
	return runOptions(
		g.mounted(name),
		llb.User(userName),
		llb.AddMount(uvMount, g.uv, llb.Readonly),
		llb.AddMount(cacheMount, owned, llb.SourcePath("/cache"), llb.AsPersistentCacheDir(cache, llb.CacheMountShared)),
		llb.AddEnv("UV_CACHE_DIR", cacheMount),
		llb.AddEnv("XDG_CACHE_HOME", cacheMount+"/xdg"),
		llb.AddEnv("TMPDIR", cacheMount+"/tmp"),
		llb.AddEnv("UV_LINK_MODE", "copy"),
		llb.AddEnv("UV_NO_CONFIG", "1"),
		llb.AddEnv("UV_NO_PROGRESS", "1"),
		llb.AddEnv("UV_PYTHON_INSTALL_DIR", "/srv/conda/pythons"),
		llb.AddEnv("PATH", loginPath+":"+g.path+":"+uvMount+"/bin"),
	)
}

func (g *grapher) server(ready llb.State) llb.State {
	return ready.Run(args("/bin/sh", assetsMount+"/server.sh", g.job.Plan.Python), g.withUV("Install the Jupyter servers", sharedCache), llb.AddEnv("UV_COMPILE_BYTECODE", "1")).Root()
}

func (g *grapher) apt(ready llb.State) llb.State {
	argv := append([]string{"/bin/sh", assetsMount + "/apt.sh"}, g.job.Plan.Apt...)
	return ready.Run(args(argv...), g.mounted("Install "+strings.Join(g.job.Plan.Apt, " ")),
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

// requirements puts the files that the environment reads where the repository will have them, and only those, then
// installs.
func (g *grapher) requirements(env llb.State) llb.State {
	var reads []string // not Plan.Reads: a new comment in apt.txt installs nothing anew
	for _, in := range g.job.Plan.Env {
		reads = append(append(reads, in.Files...), in.Includes...)
	}
	slices.Sort(reads)
	reads = slices.Compact(reads)
	spec := g.local(localFiles, "spec", llb.IncludePatterns(escape(reads)), llb.FollowPaths(escape(reads)), llb.WithCustomName(hidden+"load requirement files"))
	env = env.File(llb.Copy(spec, "/", home+"/", &llb.CopyInfo{CopyDirContentsOnly: true, ChownOpt: owned()}), llb.WithCustomName(hidden+"copy requirement files"))
	for i, in := range g.job.Plan.Env {
		if i == 0 { // later ones meet an environment that runs packages of the repository's choice
			env = env.Run(args(append([]string{"/bin/bash", assetsMount + "/wheels.sh"}, requirementArgs(in)...)...), g.withUV("Install "+whatOf(in), sharedCache)).Root()
		}
		env = g.pip(env, in)
	}
	return env
}

// escape makes patterns that match exactly the given paths.
func escape(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(p)
	}
	return out
}

func (g *grapher) pip(s llb.State, in plan.Install) llb.State {
	argv := append([]string{"/bin/bash", assetsMount + "/pip.sh"}, requirementArgs(in)...)
	return s.Run(args(argv...), g.withUV("Build and install "+whatOf(in), g.ownCache())).Root()
}

func requirementArgs(in plan.Install) []string {
	var argv []string
	for _, f := range in.Files {
		argv = append(argv, "--requirement="+f)
	}
	return append(argv, in.Args...)
}

// whatOf names an install to a person.
func whatOf(in plan.Install) string {
	what := strings.Join(append(slices.Clone(in.Files), in.Args...), " ")
	if what == "." {
		return "the repository's own package"
	}
	return what
}

func (g *grapher) content(env llb.State) llb.State {
	files := g.local(localFiles, "files", llb.ExcludePatterns(g.ignored()), llb.WithCustomName(hidden+"load the repository"))
	info := &llb.CopyInfo{CopyDirContentsOnly: true, ChownOpt: owned()}
	s := env.File(llb.Copy(files, "/", home+"/", info), llb.WithCustomName("Copy the repository"))
	if g.job.GitDir == "" {
		return s
	}
	git := g.local(localGit, "git", llb.WithCustomName(hidden+"load .git"))
	into := &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true, ChownOpt: owned()}
	return s.File(llb.Mkdir(home+"/.git", 0o755, llb.WithUIDGID(userID, userID)).Copy(git, "/", home+"/.git/", into), llb.WithCustomName("Copy .git"))
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
	return s.Run(args("/bin/sh", "-c", `"$1"`, "sh", script), llb.User(userName), llb.WithCustomName("Run "+g.job.Plan.PostBuild)).Root()
}
