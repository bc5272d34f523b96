package buildkit

import (
	"context"
	"fmt"
	"slices"
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
	for mode, p := range m {
		m[mode] = withoutX32{p}
	}
	return m
}

// withoutX32 takes x32 out of the system calls' filters of steps: nobody has programs for it, and making its part of the
// filter is a quarter of what a start takes. BuildKit shows what it makes of a step to the step's network alone.
type withoutX32 struct{ network.Provider }

// New makes the network of one step.
func (p withoutX32) New(ctx context.Context, host string, opts network.NamespaceOptions) (network.Namespace, error) {
	ns, err := p.Provider.New(ctx, host, opts)
	if err != nil {
		return nil, err
	}
	return namespaceWithoutX32{ns}, nil
}

type namespaceWithoutX32 struct{ network.Namespace }

// Set puts a step into the namespace.
func (n namespaceWithoutX32) Set(spec *specs.Spec) error {
	if f := spec.Linux.Seccomp; f != nil {
		f.Architectures = slices.DeleteFunc(f.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	}
	return n.Namespace.Set(spec)
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
