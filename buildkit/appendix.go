package buildkit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
)

// appended is a plan's image with the operator's appendix built on it: lines of a Dockerfile, as repo2docker puts them at
// the end of its own. They run as the user unless they say otherwise, and may change user, entrypoint and command.
func (s *solve) appended(ctx context.Context, c gateway.Client, env llb.State, config []byte) (*gateway.Result, error) {
	const below = "bindery-plan"
	inputs := map[string]*pb.Definition{}
	for name, st := range map[string]llb.State{
		below: env,
		// Nothing of the repository but what is in the image: the appendix is another's. An input may not be empty.
		"context":    llb.Scratch().File(llb.Mkfile("/.dockerignore", 0o644, []byte("*\n")), llb.WithCustomName(hidden+"lay out an empty context")),
		"dockerfile": llb.Scratch().File(llb.Mkfile("/Dockerfile", 0o644, []byte("FROM "+below+"\n"+s.job.Appendix+"\n")), llb.WithCustomName(hidden+"write the appendix")),
	} {
		def, err := st.Marshal(ctx, llb.Platform(platforms.DefaultSpec()), llb.LocalUniqueID("bindery"))
		if err != nil {
			return nil, fmt.Errorf("appendix: %w", err)
		}
		inputs[name] = def.ToPB()
	}
	meta, err := json.Marshal(map[string][]byte{exptypes.ExporterImageConfigKey: config})
	if err != nil {
		return nil, fmt.Errorf("appendix: %w", err)
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{
		Frontend:       "dockerfile.v0",
		FrontendOpt:    map[string]string{"cmdline": "bindery", "context:" + below: "input:" + below, "input-metadata:" + below: string(meta)},
		FrontendInputs: inputs,
		Evaluate:       true,
	})
	if err != nil {
		return nil, fmt.Errorf("appendix: %w", err)
	}
	return res, nil
}
