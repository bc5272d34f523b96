package buildkit

import (
	"path"
	"slices"

	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// r installs R packages, or makes R itself ready. Only the latter has anything of root's: where packages come from.
func (g *grapher) r(s llb.State, in plan.Install) llb.State {
	if in.Version != "" || len(in.Files)+len(in.Args) == 0 {
		s = s.Run(args("/bin/bash", assetsMount+"/rsetup.sh"), g.mounted("Prepare R"), variables(in)).Root()
		return s.Run(args("/bin/bash", assetsMount+"/rinstall.sh", "setup"), g.withR("Install R's kernel", in)).Root()
	}
	what, file := ".", ""
	if len(in.Files) > 0 {
		file = in.Files[0]
		what = path.Base(file)
	}
	name := "Install what " + file + " asks for"
	if what == "." {
		name = "Install the repository's R package"
	}
	return s.Run(args("/bin/bash", assetsMount+"/rinstall.sh", what, file), g.withR(name, in)).Root()
}

// withR lets a step run as the user with R. What it fetches and compiles on the way stays outside of the image, in a place
// that is called the same in every build and is the step's alone: R keeps with a package where it was compiled.
func (g *grapher) withR(name string, in plan.Install) llb.RunOption {
	return runOptions(g.withUV(name, g.ownCache()),
		llb.AddMount(workMount, emptyCache(), llb.SourcePath("/cache"), llb.ForceNoOutput),
		llb.AddEnv("TMPDIR", workMount),
		llb.AddEnv("R_PROFILE", assetsMount+"/install.Rprofile"),
		llb.AddEnv("R_USER_CACHE_DIR", cacheMount+"/R"),
		llb.AddEnv("PATH", loginPath+":"+g.path+":"+uvMount+"/bin"),
		variables(in))
}

// variables are those that an install's steps have of their own.
func variables(in plan.Install) llb.RunOption {
	keys := make([]string, 0, len(in.Env))
	for k := range in.Env {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	opts := make([]llb.RunOption, len(keys))
	for i, k := range keys {
		opts[i] = llb.AddEnv(k, in.Env[k])
	}
	return runOptions(opts...)
}

// rBuild is the version of an R that Debian has not, or "". Its package is dpkg's business, and so of the one step that
// has to do with dpkg.
func rBuild(p plan.Plan) string {
	for _, in := range p.Env {
		if in.Tool == plan.ToolR && slices.Contains(in.Args, "build") {
			return in.Version
		}
	}
	return ""
}
