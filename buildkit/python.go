package buildkit

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/client/llb"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

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
	return runOptions(
		g.mounted(name),
		llb.User(userName),
		llb.AddMount(uvMount, g.uv, llb.Readonly),
		llb.AddMount(cacheMount, emptyCache(), llb.SourcePath("/cache"), llb.AsPersistentCacheDir(cache, llb.CacheMountShared)),
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

// emptyCache has a directory of the user's at /cache, for a mount to start from.
func emptyCache() llb.State {
	return llb.Scratch().File(llb.Mkdir("/cache", 0o755, llb.WithUIDGID(userID, userID)), llb.WithCustomName(hidden+"make a cache directory"))
}

func (g *grapher) server(ready llb.State) llb.State {
	python := cmp.Or(g.job.Plan.Patches, g.job.Plan.Python)
	return ready.Run(args("/bin/sh", assetsMount+"/server.sh", python), g.withUV("Install the Jupyter servers", sharedCache)).Root()
}

// pip installs into the notebook environment. Before the first step that may run what a repository brings, one that
// runs no code of any package tries to do it all, with the cache that everybody shares.
func (g *grapher) pip(s llb.State, in plan.Install) llb.State {
	rest := g.withUV("Build and install "+whatOf(in), g.ownCache())
	if g.trusted(in) {
		s = s.Run(args(append(installer("wheels"), requirementArgs(in)...)...), g.withUV("Install "+whatOf(in), sharedCache), written(in)).Root()
		rest = runOptions(rest, llb.AddEnv(unlessVariable, pyPrefix+"/.bindery-done")) // most builds have nothing left to do
	}
	return s.Run(args(append(installer("all"), requirementArgs(in)...)...), rest, written(in)).Root()
}

// installer is the command that installs requirements. The base's Python runs it, alone: what the repository has under
// the name of a standard module is not for it.
func installer(mode string) []string {
	return []string{"/usr/bin/python3", "-IS", assetsMount + "/install.py", mode}
}

func requirementArgs(in plan.Install) []string {
	var argv []string
	for _, f := range in.Files {
		argv = append(argv, "--requirement="+f)
	}
	if len(in.Lines) > 0 {
		argv = append(argv, "--requirement="+specMount+"/requirements.txt")
	}
	return append(argv, in.Args...)
}

// written mounts the requirements that the plan has written itself.
func written(in plan.Install) llb.RunOption {
	if len(in.Lines) == 0 {
		return runOptions()
	}
	text := strings.Join(in.Lines, "\n") + "\n"
	file := llb.Scratch().File(llb.Mkfile("/requirements.txt", 0o644, []byte(text)), llb.WithCustomName(hidden+"write requirements"))
	return llb.AddMount(specMount, file, llb.Readonly)
}

// whatOf names an install to a person.
func whatOf(in plan.Install) string {
	words := append(slices.Clone(in.Files), slices.DeleteFunc(slices.Clone(in.Args), func(a string) bool { return strings.HasPrefix(a, "-") })...)
	switch {
	case slices.Equal(words, []string{"."}):
		return "the repository's own package"
	case len(words) == 0 && in.From != "":
		return "what " + in.From + " asks for"
	}
	return strings.Join(words, " ")
}

// locked installs a uv.lock: uv writes it out as requirements with hashes, without what is in the repository.
func (g *grapher) locked(s llb.State, in plan.Install) llb.State {
	args := append([]string{"--locked=" + path.Dir(in.Files[0])}, in.Args...)
	return g.pip(s, plan.Install{Tool: plan.ToolPip, From: in.Files[0], Args: append(args, "--no-deps")})
}

// trusted reports whether in is the first to install into the notebook environment: later ones meet an environment that
// runs packages of the repository's choice.
func (g *grapher) trusted(in plan.Install) bool {
	i := slices.IndexFunc(g.job.Plan.Env, func(e plan.Install) bool { return e.Prefix == "" })
	if i < 0 || slices.Contains(in.Args, ".") {
		return false
	}
	first := g.job.Plan.Env[i]
	if first.Tool == plan.ToolUV {
		return in.From == first.Files[0]
	}
	return first.Tool == in.Tool && slices.Equal(first.Files, in.Files) && slices.Equal(first.Lines, in.Lines)
}
