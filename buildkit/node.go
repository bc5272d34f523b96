package buildkit

import (
	"path"
	"slices"

	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// npm installs Node packages. Taking them runs none of their code, so that has the cache which everybody shares: npm checks
// what it finds there against the lock file. What runs code has a cache of the repository's own, and so has what goes by
// settings of its own: a .npmrc may name the program to be run as Git, or a proxy, and so may a .gitconfig.
func (g *grapher) npm(s llb.State, in plan.Install) llb.State {
	dir := "."
	if len(in.Files) > 0 {
		dir = path.Dir(in.Files[0])
		cache := sharedCache
		if in.Prefix == "" || slices.Contains(in.Includes, path.Join(dir, ".npmrc")) { // without a prefix all files are there
			cache = g.ownCache()
		}
		s = s.Run(args("/bin/sh", assetsMount+"/npm.sh", dir, "unpack"), g.withUV("Install "+in.Files[0], cache)).Root()
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
