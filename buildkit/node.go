package buildkit

import (
	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// npm is to come: no plan asks for it yet.
func (g *grapher) npm(_ llb.State, in plan.Install) llb.State {
	panic("buildkit: no plan has tool " + in.Tool)
}
