package buildkit

import (
	"github.com/moby/buildkit/client/llb"

	"github.com/bindery-hub/bindery/plan"
)

// conda is to come: no plan asks for it yet.
func (g *grapher) conda(_ llb.State, in plan.Install) llb.State {
	panic("buildkit: no plan has tool " + in.Tool)
}
