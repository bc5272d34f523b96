package buildkit

import (
	"runtime"

	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// julia installs Julia itself, as root, and its kernel, which are the same for all projects of a version; or a
// project's packages, as the user.
func (g *grapher) julia(s llb.State, in plan.Install) llb.State {
	if len(in.Files) == 0 {
		s = s.Run(args("/bin/bash", assetsMount+"/jsetup.sh"), g.mounted("Install Julia "+in.Version), variables(in)).Root()
		return s.Run(args("/bin/bash", assetsMount+"/jinstall.sh", "kernel"), g.withUV("Install Julia's kernel", g.ownCache())).Root()
	}
	return s.Run(args("/bin/bash", assetsMount+"/jinstall.sh", "project"), g.withUV("Install what "+in.Files[0]+" asks for", g.ownCache()), variables(in)).Root()
}

// juliaArch is what Julia calls this machine, and what its downloads do.
func juliaArch() (long, short string) {
	if runtime.GOARCH == "arm64" {
		return "aarch64", "aarch64"
	}
	return "x86_64", "x64"
}

// archEnv are the variables of a plan that depend on the machine it is built on, which no plan knows.
func archEnv(p plan.Plan) []pair {
	if p.Variables["JULIA_PATH"] == "" {
		return nil
	}
	long, short := juliaArch()
	return []pair{{"JULIA_ARCH", long}, {"JULIA_ARCH_SHORT", short}}
}
