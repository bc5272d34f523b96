package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// Attach gives id a network namespace with an address. Asked again for the same id it returns the same port, made
// anew if a crash left only half of it. The namespace is pinned in the caller's mount namespace.
func (n *Network) Attach(ctx context.Context, id string) (Port, error) {
	if !validName.MatchString(id) || len(id) > 128 {
		return Port{}, bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "", "%q cannot be attached to the network", id)
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return Port{}, err
	}
	defer unlock()
	h, err := netlink.NewHandle()
	if err != nil {
		return Port{}, noNetwork("netlink", err)
	}
	defer h.Close()
	if _, err := h.LinkByName(n.cfg.Name); err != nil { // another process has retired it
		if err := n.raise(h); err != nil {
			return Port{}, err
		}
	}
	addr, found, err := n.leaseOf(id)
	if err != nil {
		return Port{}, err
	}
	port := Port{Netns: n.pinPath(id)}
	if found {
		port.Addr = addr
		if _, err := h.LinkByName(n.vethName(addr)); err == nil && pinned(port.Netns) {
			return port, nil
		}
		if err := n.release(h, id, addr); err != nil {
			return Port{}, err
		}
	}
	if port.Addr, err = n.lease(h, id); err != nil {
		return Port{}, err
	}
	if err := n.plug(h, id, port); err != nil {
		return Port{}, errors.Join(noNetwork("attach "+id, err), n.release(h, id, port.Addr))
	}
	return port, nil
}

// Detach takes away what Attach made, whatever of it is left.
func (n *Network) Detach(ctx context.Context, id string) error {
	if !validName.MatchString(id) || len(id) > 128 {
		return nil // cannot have been attached
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	addr, found, err := n.leaseOf(id)
	if err != nil {
		return err
	}
	if !found {
		return unpin(n.pinPath(id))
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return noNetwork("netlink", err)
	}
	defer h.Close()
	return n.release(h, id, addr)
}

// release removes the pair, the pin and, last, the lease: as long as anything is left, the lease says so.
func (n *Network) release(h *netlink.Handle, id string, addr netip.Addr) error {
	if link, err := h.LinkByName(n.vethName(addr)); err == nil {
		if err := h.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link of %s: %w", id, err)
		}
	}
	if br, err := h.LinkByName(n.cfg.Name); err == nil {
		_ = h.NeighDel(neighbour(br.Attrs().Index, addr)) // harmless when it stays: the address keeps its hardware address
	}
	if err := unpin(n.pinPath(id)); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.known, id)
	n.mu.Unlock()
	if err := os.Remove(n.leasePath(addr)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free %s: %w", addr, err)
	}
	return nil
}

// plug makes the namespace and the pair, and configures both ends.
func (n *Network) plug(h *netlink.Handle, id string, port Port) error {
	br, err := h.LinkByName(n.cfg.Name)
	if err != nil {
		return fmt.Errorf("bridge %s is not up: %w", n.cfg.Name, err)
	}
	inside, ns, err := pin(n.pinPath(id))
	if err != nil {
		return err
	}
	defer ns.Close()
	defer inside.Close()
	if err := n.plugHost(h, br, ns, port.Addr); err != nil {
		return err
	}
	if err := n.plugInside(inside, port.Addr); err != nil {
		return err
	}
	awaitCarrier(h, n.vethName(port.Addr))
	awaitCarrier(h, n.cfg.Name)
	return nil
}

// awaitCarrier waits for the kernel to notice that a link works: a pair once both its ends are up, the bridge once it has its
// first port. It does so on the side, and drops packets until then: the first question for a name, the first connection
// would be tried again only after a second or more.
func awaitCarrier(h *netlink.Handle, name string) {
	wait := 50 * time.Microsecond
	for deadline := time.Now().Add(500 * time.Millisecond); time.Now().Before(deadline); wait = min(2*wait, 5*time.Millisecond) {
		if link, err := h.LinkByName(name); err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(wait)
	}
}

// plugHost makes the pair and ties the container to its addresses: the port talks to the bridge only (isolated),
// its hardware address is entered by hand rather than learned, and so is the way from address to hardware address.
// So a container that forges frames can take over nobody else's traffic.
func (n *Network) plugHost(h *netlink.Handle, br netlink.Link, ns netns.NsHandle, addr netip.Addr) error {
	la := netlink.NewLinkAttrs()
	la.Name, la.MTU, la.MasterIndex = n.vethName(addr), br.Attrs().MTU, br.Attrs().Index
	mac := hardwareAddr(addr)
	pair := &netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerMTU: uint32(la.MTU), PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns))}
	if stale, err := h.LinkByName(la.Name); err == nil {
		_ = h.LinkDel(stale) // whose lease was lost
	}
	if err := h.LinkAdd(pair); err != nil {
		return fmt.Errorf("make pair: %w", err)
	}
	port, err := h.LinkByName(la.Name)
	if err != nil {
		return fmt.Errorf("find pair: %w", err)
	}
	if err := h.LinkSetIsolated(port, true); err != nil {
		return fmt.Errorf("isolate: %w", err)
	}
	if err := h.LinkSetLearning(port, false); err != nil {
		return fmt.Errorf("stop learning: %w", err)
	}
	if err := h.NeighSet(&netlink.Neigh{
		LinkIndex: port.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
		State: netlink.NUD_NOARP, HardwareAddr: mac,
	}); err != nil {
		return fmt.Errorf("enter hardware address: %w", err)
	}
	if err := h.NeighSet(neighbour(br.Attrs().Index, addr)); err != nil {
		return fmt.Errorf("enter neighbour: %w", err)
	}
	return h.LinkSetUp(port)
}

func neighbour(bridge int, addr netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: bridge, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: hardwareAddr(addr)}
}

// plugInside configures the container's end.
func (n *Network) plugInside(h *netlink.Handle, addr netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	if err := h.AddrAdd(eth, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: n.mask()}}); err != nil {
		return fmt.Errorf("set address: %w", err)
	}
	if err := h.LinkSetUp(eth); err != nil {
		return fmt.Errorf("eth0 up: %w", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: n.gateway.AsSlice()}); err != nil {
		return fmt.Errorf("set route: %w", err)
	}
	return nil
}

// pin makes a network namespace without IPv6 and keeps it by a bind mount at path. The handle works inside it.
func pin(path string) (*netlink.Handle, netns.NsHandle, error) {
	if err := unpin(path); err != nil {
		return nil, 0, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, 0, err
	}
	f.Close()
	var h *netlink.Handle
	var ns netns.NsHandle
	err = inNewNamespace(func() error {
		for _, conf := range []string{"all", "default"} {
			if err := writeSysctl("net/ipv6/conf/"+conf+"/disable_ipv6", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := unix.Mount(threadNetns, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("pin namespace: %w", err)
		}
		var err error
		if ns, err = netns.Get(); err != nil {
			return err
		}
		if h, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			ns.Close()
		}
		return err
	})
	if err != nil {
		return nil, 0, errors.Join(err, unpin(path))
	}
	return h, ns, nil
}

// threadNetns is a thread's own namespace: /proc/self would give the main thread's.
const threadNetns = "/proc/thread-self/ns/net"

// inNewNamespace runs f on a thread in a network namespace of its own, which ends with the last thing that f made to
// refer to it. The thread goes back to its old namespace; should that fail it is thrown away.
func inNewNamespace(f func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			ended <- err
			return
		}
		defer home.Close()
		err = unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		if back := netns.Set(home); back == nil {
			runtime.UnlockOSThread()
		}
		ended <- err
	}()
	return <-ended
}

// pinned reports whether path holds a namespace, seen from this mount namespace.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// unpin lets go of the namespace at path. Removing the file also ends the mount in mount namespaces that copied it.
func unpin(path string) error {
	for {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			break // not a mount, any more or here
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin namespace: %w", err)
	}
	return nil
}
