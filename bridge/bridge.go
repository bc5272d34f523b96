// Package bridge is the network of build steps, sessions: one isolated bridge with a packet filter of its own.
//
// Every container gets a network namespace with one address. It reaches public addresses, the DNS forwarder on the
// gateway and whatever Config.Allow opens: neither this machine, nor another container, nor a private network.
// Several processes may use the network of one state directory at once; a file lock keeps their changes apart.
package bridge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/vishvananda/netlink"

	bindery "github.com/bindery-hub/bindery"
)

// Config configures a Network.
type Config struct {
	Name   string         // of the bridge, at most 15 characters; required
	Subnet netip.Prefix   // IPv4, /8 to /29; its first address is the gateway; required
	Dir    string         // address leases; shared by all processes of one state directory; required
	RunDir string         // where namespaces are pinned, on a file system that a reboot empties; required
	Allow  []netip.Prefix // opened although they are private, link-local or reserved

	Resolvers []string // host or host:port; default: those of /etc/resolv.conf, read again when it changes
	Log       *slog.Logger
}

// A Port is a container's place in the network.
type Port struct {
	Netns string     // path of its network namespace
	Addr  netip.Addr // its address
}

// A Network is one bridge with its filter, leases and names.
type Network struct {
	cfg     Config
	gateway netip.Addr
	size    uint32 // addresses in the subnet

	turn  chan struct{} // one change at a time in this process; the lock file extends that to other processes
	mu    sync.Mutex
	known map[string]netip.Addr // where an id was last seen; only a hint, the lease decides
}

// New returns the network that cfg describes. It changes nothing on the machine; Up does.
func New(cfg Config) (*Network, error) {
	if cfg.Name == "" || len(cfg.Name) > 15 || !validName.MatchString(cfg.Name) {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use 1 to 15 letters and digits.", "%q cannot be the name of a bridge", cfg.Name)
	}
	if !cfg.Subnet.IsValid() || !cfg.Subnet.Addr().Is4() || cfg.Subnet.Bits() < 8 || cfg.Subnet.Bits() > 29 {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use an IPv4 network between /8 and /29, such as 10.64.0.0/20.", "%s cannot be the network of containers", cfg.Subnet)
	}
	if cfg.Dir == "" || cfg.RunDir == "" {
		return nil, errors.New("bridge: Config.Dir, Config.RunDir are required")
	}
	for _, p := range cfg.Allow {
		if !p.IsValid() {
			return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write it like 10.1.2.0/24.", "%s is not a network to allow", p)
		}
	}
	cfg.Subnet = cfg.Subnet.Masked()
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Network{
		cfg:     cfg,
		gateway: cfg.Subnet.Addr().Next(),
		size:    1 << (32 - cfg.Subnet.Bits()),
		turn:    make(chan struct{}, 1),
		known:   map[string]netip.Addr{},
	}, nil
}

// Gateway returns the bridge's own address: the containers' router, and the only name server they can ask.
func (n *Network) Gateway() netip.Addr { return n.gateway }

// Up makes the bridge, its filter and the forwarding of packets, or repairs what is left of them. It also frees the
// leases of containers that are gone. Doing it again is harmless.
func (n *Network) Up(ctx context.Context) error {
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	h, err := netlink.NewHandle()
	if err != nil {
		return noNetwork("netlink", err)
	}
	defer h.Close()
	if err := n.raise(h); err != nil {
		return err
	}
	return n.sweep(h, func(string) bool { return true })
}

func (n *Network) raise(h *netlink.Handle) error {
	if err := os.MkdirAll(n.cfg.RunDir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", n.cfg.RunDir, err)
	}
	if err := n.raiseBridge(h); err != nil {
		return noNetwork("bridge "+n.cfg.Name, err)
	}
	if err := n.installFilter(); err != nil {
		return noNetwork("packet filter", err)
	}
	if err := n.openOthers(); err != nil {
		return noNetwork("rules in the machine's own firewall", err)
	}
	if err := n.forward(h); err != nil {
		return noNetwork("forwarding", err)
	}
	return nil
}

// Retire takes the bridge and its filter down if nothing is attached, and reports whether it did. The next Attach, in
// whatever process, raises them again.
func (n *Network) Retire(ctx context.Context) (bool, error) {
	unlock, err := n.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	ids, err := n.Attached()
	if err != nil || len(ids) > 0 {
		return false, err
	}
	return true, n.lower()
}

// Down removes everything that Up and Attach made. Forwarding stays switched on: others may have come to rely on it.
func (n *Network) Down(ctx context.Context) error {
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return n.lower()
}

func (n *Network) lower() error {
	h, err := netlink.NewHandle()
	if err != nil {
		return noNetwork("netlink", err)
	}
	defer h.Close()
	errs := []error{n.sweep(h, func(string) bool { return false }), n.closeOthers(), n.removeFilter()}
	if link, err := h.LinkByName(n.cfg.Name); err == nil && link.Type() == "bridge" {
		errs = append(errs, h.LinkDel(link))
	}
	_ = os.Remove(n.cfg.RunDir) // it stays while something else is in it
	return errors.Join(errs...)
}

// raiseBridge makes the bridge with a fixed hardware address. A bridge without one takes the lowest of its ports',
// and every container would lose its router whenever that port goes.
func (n *Network) raiseBridge(h *netlink.Handle) error {
	link, err := h.LinkByName(n.cfg.Name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		la := netlink.NewLinkAttrs()
		la.Name, la.HardwareAddr = n.cfg.Name, hardwareAddr(n.gateway)
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		link, err = h.LinkByName(n.cfg.Name)
	}
	if err != nil {
		return err
	}
	if link.Type() != "bridge" {
		return bindery.Errorf(bindery.ErrConflict, bindery.Ours, "Remove that interface or choose another state directory.", "%s exists already, as a %s", n.cfg.Name, link.Type())
	}
	if err := n.address(h, link); err != nil {
		return err
	}
	if mtu := uplinkMTU(h); mtu > 0 && mtu != link.Attrs().MTU {
		if err := h.LinkSetMTU(link, mtu); err != nil {
			return err
		}
	}
	if err := writeSysctl("net/ipv6/conf/"+n.cfg.Name+"/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return h.LinkSetUp(link)
}

// address gives the bridge its address and takes away any that an earlier configuration gave it.
func (n *Network) address(h *netlink.Handle, link netlink.Link) error {
	want := &netlink.Addr{IPNet: &net.IPNet{IP: n.gateway.AsSlice(), Mask: n.mask()}}
	have, err := h.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.IPNet.String() == want.IPNet.String() {
			continue
		}
		if err := h.AddrDel(link, &a); err != nil {
			return err
		}
	}
	return h.AddrReplace(link, want)
}

func (n *Network) mask() net.IPMask { return net.CIDRMask(n.cfg.Subnet.Bits(), 32) }

// vethName is the host's end of the pair that serves addr: "v", six digits of the bridge, the place in the subnet.
func (n *Network) vethName(addr netip.Addr) string {
	return fmt.Sprintf("%s%x", n.vethPrefix(), n.offset(addr))
}

func (n *Network) vethPrefix() string {
	sum := sha256.Sum256([]byte(n.cfg.Name))
	return "v" + hex.EncodeToString(sum[:3])
}

func (n *Network) offset(addr netip.Addr) uint32 { return number(addr) - number(n.cfg.Subnet.Addr()) }

func (n *Network) at(offset uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number(n.cfg.Subnet.Addr())+offset)
	return netip.AddrFrom4(b)
}

// hardwareAddr follows from the address, so that an address that is used again is not looked for at its old place.
func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	b := addr.As4()
	return net.HardwareAddr{0x02, 0xb1, b[0], b[1], b[2], b[3]}
}

func number(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}

func (n *Network) leasePath(addr netip.Addr) string {
	return filepath.Join(n.cfg.Dir, "leases", addr.String())
}

func (n *Network) pinPath(id string) string { return filepath.Join(n.cfg.RunDir, id) }

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// noNetwork words a failure to set up the network for the operator.
func noNetwork(what string, err error) error {
	if e, ok := errors.AsType[*bindery.Error](err); ok {
		return e
	}
	return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Run as root on a kernel with bridge, veth and nftables; `bindery doctor` says which is missing.", "The container network cannot be set up (%s)", what).Because(err)
}
