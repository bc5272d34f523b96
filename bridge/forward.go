package bridge

import (
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// forward lets packets pass between the bridge and the machine's way out. The kernel asks the interface that a packet
// came in by, so it is switched on for these interfaces only, not for the whole machine.
func (n *Network) forward(h *netlink.Handle) error {
	for _, name := range append(n.uplinks(h), n.cfg.Name) {
		if err := writeSysctl(forwardingOf(name), "1"); err != nil {
			return err
		}
	}
	return nil
}

func forwardingOf(link string) string {
	return "net/ipv4/conf/" + link + "/forwarding"
}

func forwarding(link string) bool {
	have, err := os.ReadFile("/proc/sys/" + forwardingOf(link))
	return err == nil && strings.TrimSpace(string(have)) == "1"
}

// uplinks names the interfaces by which answers come back: those of default routes, and of routes to Config.Allow.
func (n *Network) uplinks(h *netlink.Handle) []string {
	indexes := defaultLinks(h)
	for _, p := range n.cfg.Allow {
		if !p.Addr().Is4() {
			continue
		}
		routes, _ := h.RouteGet(p.Addr().AsSlice()) // without a route there is nothing to forward
		for _, r := range routes {
			indexes = append(indexes, r.LinkIndex)
		}
	}
	var names []string
	for _, i := range indexes {
		link, err := h.LinkByIndex(i)
		if err != nil || link.Attrs().Flags&net.FlagLoopback != 0 || slices.Contains(names, link.Attrs().Name) {
			continue
		}
		names = append(names, link.Attrs().Name)
	}
	return names
}

// defaultLinks returns the interfaces of the default routes.
func defaultLinks(h *netlink.Handle) []int {
	routes, err := h.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	var indexes []int
	for _, r := range routes {
		if ones := 0; r.Dst != nil {
			if ones, _ = r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		indexes = append(indexes, r.LinkIndex)
		for _, hop := range r.MultiPath {
			indexes = append(indexes, hop.LinkIndex)
		}
	}
	return indexes
}

// uplinkMTU is the smallest packet size of the ways out, 0 if unknown: containers then never send larger ones.
func uplinkMTU(h *netlink.Handle) int {
	smallest := 0
	for _, i := range defaultLinks(h) {
		link, err := h.LinkByIndex(i)
		if err != nil {
			continue
		}
		if mtu := link.Attrs().MTU; smallest == 0 || mtu < smallest {
			smallest = mtu
		}
	}
	return smallest
}
