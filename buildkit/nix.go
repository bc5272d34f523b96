package buildkit

import (
	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// nixWrapper is what starts everything in an image with a Nix environment: inside of it.
const nixWrapper = "/usr/local/bin/nix-shell-wrapper"

// nix makes Nix ready for the user and fetches its channel, or makes the environment that an expression describes.
func (g *grapher) nix(s llb.State, in plan.Install) llb.State {
	if len(in.Files) == 0 {
		s = s.Run(args("/bin/bash", assetsMount+"/nsetup.sh"), g.mounted("Prepare Nix")).Root()
		return s.Run(args("/bin/bash", assetsMount+"/ninstall.sh", "channel"), g.withUV("Install Nix's channel", g.ownCache()), variables(in)).Root()
	}
	return s.Run(args("/bin/bash", assetsMount+"/ninstall.sh", "shell", in.Files[0]), g.withUV("Install what "+in.Files[0]+" asks for", g.ownCache()), variables(in)).Root()
}
