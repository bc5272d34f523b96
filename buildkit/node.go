package buildkit

import (
	"path"
	"slices"

	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// npm installs Node packages. Taking them runs none of their code, so that has the cache which everybody shares: npm checks
// what it finds there against the lock file. What runs code has a cache of the repository's own.
func (g *grapher) npm(s llb.State, in plan.Install) llb.State {
	dir := "."
	if len(in.Files) > 0 {
		dir = path.Dir(in.Files[0])
		s = s.Run(args("/bin/sh", assetsMount+"/npm.sh", dir, "unpack"), g.withUV("Install "+in.Files[0], sharedCache)).Root()
	} else if in.From != "" {
		dir = path.Dir(in.From)
	}
	if len(in.Args) == 0 {
		return s
	}
	name := "Build and install Node packages"
	if slices.Equal(in.Args, []string{plan.NPMPrepare}) {
		name = "Run the install scripts of " + in.From
	}
	return s.Run(args(append([]string{"/bin/sh", assetsMount + "/npm.sh", dir}, in.Args...)...), g.withUV(name, g.ownCache())).Root()
}
