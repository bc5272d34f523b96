package buildkit

import (
	"context"
	"fmt"
	"sync"

	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// networks are the ones that a step may ask for. The host's own is not among them, but stands in where no Network
// is configured.
func (e *Engine) networks() map[pb.NetMode]network.Provider {
	m := map[pb.NetMode]network.Provider{pb.NetMode_NONE: network.NewNoneProvider(), pb.NetMode_UNSET: network.NewHostProvider()}
	if e.cfg.Network != nil {
		m[pb.NetMode_UNSET] = stepNetwork{e.cfg.Network}
	}
	return m
}

type stepNetwork struct{ n Network }

// New makes the network of one step.
func (s stepNetwork) New(ctx context.Context, _ string, _ network.NamespaceOptions) (network.Namespace, error) {
	path, release, err := s.n.Namespace(ctx)
	if err != nil {
		return nil, fmt.Errorf("network of a step: %w", err)
	}
	return &stepNamespace{path: path, release: sync.OnceValue(release)}, nil
}

// Close has nothing to do: the Network is its owner's.
func (stepNetwork) Close() error { return nil }

type stepNamespace struct {
	path    string
	release func() error
}

// Set puts a step into the namespace.
func (s *stepNamespace) Set(spec *specs.Spec) error {
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = s.path
			return nil
		}
	}
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: s.path})
	return nil
}

// Close releases the namespace; BuildKit may call it twice.
func (s *stepNamespace) Close() error { return s.release() }

// Sample has no figures.
func (s *stepNamespace) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
