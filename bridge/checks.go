package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// Checks says what the network needs of this machine. It changes nothing: what must be tried is tried in a network namespace
// of its own.
func (n *Network) Checks(ctx context.Context) []bindery.Check {
	return []bindery.Check{
		n.checkRight(),
		check("bridge, veth", "Load the kernel modules bridge, veth (`modprobe bridge veth`).", n.tryLinks()),
		check("nftables", "Load the kernel modules nf_tables, nft_ct, nft_masq, nft_chain_nat (`modprobe nf_tables`).", n.tryFilter()),
		n.checkForwarding(),
		n.checkFirewall(),
		checkPort(),
		n.checkResolver(ctx),
	}
}

func check(name, remedy string, err error) bindery.Check {
	if err != nil {
		return bindery.Check{Name: name, Level: "required", Found: err.Error(), Remedy: remedy}
	}
	return bindery.Check{Name: name, OK: true, Level: "required", Found: "works"}
}

func (n *Network) checkRight() bindery.Check {
	c := bindery.Check{Name: "network administration", Level: "required", Found: "CAP_NET_ADMIN is missing", Remedy: "Run as root."}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		hex, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err == nil && set>>unix.CAP_NET_ADMIN&1 == 1 && set>>unix.CAP_SYS_ADMIN&1 == 1 {
			return bindery.Check{Name: c.Name, OK: true, Level: c.Level, Found: "CAP_NET_ADMIN, CAP_SYS_ADMIN"}
		}
	}
	return c
}

// tryLinks makes an isolated port on a bridge in a throwaway namespace.
func (n *Network) tryLinks() error {
	return inNewNamespace(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		la := netlink.NewLinkAttrs()
		la.Name = n.cfg.Name
		br := &netlink.Bridge{LinkAttrs: la}
		if err := h.LinkAdd(br); err != nil {
			return fmt.Errorf("no bridge: %w", err)
		}
		la = netlink.NewLinkAttrs()
		la.Name, la.MasterIndex = "v0", br.Attrs().Index
		pair := &netlink.Veth{LinkAttrs: la, PeerName: "v1"}
		if err := h.LinkAdd(pair); err != nil {
			return fmt.Errorf("no veth: %w", err)
		}
		if err := h.LinkSetIsolated(pair, true); err != nil {
			return fmt.Errorf("no isolated ports: %w", err)
		}
		return nil
	})
}

// tryFilter installs the real filter in a throwaway namespace.
func (n *Network) tryFilter() error { return inNewNamespace(n.installFilter) }

func (n *Network) checkForwarding() bindery.Check {
	c := bindery.Check{Name: "packet forwarding", Level: "required"}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		c.Found, c.Remedy = err.Error(), "Run as root, with a kernel that has rtnetlink."
		return c
	}
	defer h.Close()
	links := n.uplinks(h)
	if len(links) == 0 {
		c.Level, c.Found, c.Remedy = "advised", "no default route", "Connect this machine to a network; builds fetch packages."
		return c
	}
	off := slices.DeleteFunc(slices.Clone(links), forwarding)
	c.OK, c.Found = true, "on for "+strings.Join(links, ", ")
	if len(off) == 0 {
		return c
	}
	c.Found = "will be switched on for " + strings.Join(off, ", ") + ", and for no other interface"
	if unix.Access("/proc/sys/"+forwardingOf(off[0]), unix.W_OK) != nil {
		c.OK, c.Found = false, "off for "+strings.Join(off, ", ")+", and /proc/sys cannot be written"
		c.Remedy = "Run `sysctl -w net.ipv4.ip_forward=1` on the host."
	}
	return c
}

func (n *Network) checkFirewall() bindery.Check {
	c := bindery.Check{Name: "other firewalls", OK: true, Level: "advised", Found: "none in the way"}
	names, err := n.foreignDrops()
	if err != nil && !errors.Is(err, unix.ENOENT) {
		c.OK, c.Found, c.Remedy = false, err.Error(), "Load the kernel module nf_tables (`modprobe nf_tables`)."
	}
	if len(names) > 0 {
		c.OK, c.Found = false, strings.Join(names, ", ")+" may drop the containers' packets"
		c.Remedy = fmt.Sprintf("Accept forwarded packets from and to the interface %s there, and DNS from it to this machine.", n.cfg.Name)
	}
	return c
}

// noOtherNames is what to do when somebody listens at port 53 of all addresses.
const noOtherNames = "Let this machine's own name server (`ss -lunp sport = :53` shows it) listen on its own addresses only, not on all: bind-dynamic in dnsmasq, interface in unbound, listen-on in named."

// checkPort finds out whether port 53 is taken at all addresses of this machine, and so will be at the bridge's. An
// address of the loopback that nobody uses tells.
func checkPort() bindery.Check {
	const unused = "127.53.53.53:53"
	packets, err := net.ListenPacket("udp4", unused)
	if err == nil {
		_ = packets.Close() // nothing was sent
		var l net.Listener
		if l, err = net.Listen("tcp4", unused); err == nil {
			_ = l.Close() // nobody called
		}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return bindery.Check{Name: "port 53", Level: "required", Found: "taken at all addresses", Remedy: noOtherNames}
	}
	return bindery.Check{Name: "port 53", OK: true, Level: "required", Found: "not taken at all addresses"}
}

// checkResolver asks each resolver for the servers of the root, which every one knows.
func (n *Network) checkResolver(ctx context.Context) bindery.Check {
	c := bindery.Check{Name: "name resolution", Level: "required", Remedy: "Check the name servers in /etc/resolv.conf."}
	query := []byte{0xb1, 0xd0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1} // NS of "."
	servers := (&resolvers{fixed: n.cfg.Resolvers, path: "/etc/resolv.conf"}).list()
	var errs []string
	for _, s := range servers {
		if _, err := exchange(ctx, "udp", s, query); err != nil {
			errs = append(errs, err.Error())
			continue
		}
		return bindery.Check{Name: c.Name, OK: true, Level: c.Level, Found: s + " answers"}
	}
	c.Found = "no answer: " + strings.Join(errs, "; ")
	return c
}
