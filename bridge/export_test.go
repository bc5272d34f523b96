package bridge

import "net/netip"

// For tests.
var (
	InNewNamespace = inNewNamespace
	WithPorts      = withPorts
	Free           = free
	IsQuery        = isQuery
	Failure        = failure
)

func (n *Network) VethName(a netip.Addr) string { return n.vethName(a) }

func ParseResolvConf(path string) []string { return parseResolvConf(path) }

// NewResolvers returns the list function of a resolv.conf at path.
func NewResolvers(path string) func() []string { return (&resolvers{path: path}).list }
