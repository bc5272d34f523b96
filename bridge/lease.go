package bridge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// A lease is a symbolic link named for the address that points to the owner's id: it is made in one step, fails when
// the address is taken, and is never half-written.

// leases returns the owner of every leased address.
func (n *Network) leases() (map[netip.Addr]string, error) {
	entries, err := os.ReadDir(filepath.Join(n.cfg.Dir, "leases"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	all := make(map[netip.Addr]string, len(entries))
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil || !n.cfg.Subnet.Contains(addr) {
			continue // of an earlier subnet, or not ours
		}
		if id, err := os.Readlink(n.leasePath(addr)); err == nil {
			all[addr] = id
		}
	}
	return all, nil
}

// leaseOf finds the address that id holds. Where one was seen before is tried first.
func (n *Network) leaseOf(id string) (netip.Addr, bool, error) {
	n.mu.Lock()
	addr, hinted := n.known[id]
	n.mu.Unlock()
	if hinted {
		if owner, err := os.Readlink(n.leasePath(addr)); err == nil && owner == id {
			return addr, true, nil
		}
	}
	all, err := n.leases()
	for addr, owner := range all {
		if owner == id {
			return addr, true, nil
		}
	}
	return netip.Addr{}, false, err
}

// lease takes a free address for id. The search starts at a place that depends on the id, so that an address rests
// for a while before it is used again. Leases of dead containers are taken back when nothing else is free.
func (n *Network) lease(h *netlink.Handle, id string) (netip.Addr, error) {
	if err := os.MkdirAll(filepath.Join(n.cfg.Dir, "leases"), 0o700); err != nil {
		return netip.Addr{}, err
	}
	for range 2 {
		addr, err := n.take(id)
		if err == nil || !errors.Is(err, errFull) {
			return addr, err
		}
		if err := n.sweep(h, func(string) bool { return true }); err != nil {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, bindery.Errorf(bindery.ErrNotReady, bindery.Transient, "Stop some sessions, or give the network a larger subnet.", "All %d addresses of %s are in use", n.size-3, n.cfg.Subnet)
}

const errFull = bindery.Kind("no free address")

func (n *Network) take(id string) (netip.Addr, error) {
	hash := fnv.New32a()
	hash.Write([]byte(id))
	places := n.size - 3 // without the network's, the gateway's and the broadcast address
	for i := range places {
		addr := n.at(2 + (hash.Sum32()+i)%places)
		err := os.Symlink(id, n.leasePath(addr))
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return netip.Addr{}, fmt.Errorf("lease %s: %w", addr, err)
		}
		n.mu.Lock()
		n.known[id] = addr
		n.mu.Unlock()
		return addr, nil
	}
	return netip.Addr{}, errFull
}

// Attached returns the ids that hold an address, sorted.
func (n *Network) Attached() ([]string, error) {
	all, err := n.leases()
	ids := make([]string, 0, len(all))
	for _, id := range all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// Sweep detaches every id that keep does not want, and every one whose namespace is gone: what crashes left behind.
// Attached ids of all processes of the state directory are asked about, builds' included.
func (n *Network) Sweep(ctx context.Context, keep func(id string) bool) error {
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
	return n.sweep(h, keep)
}

// sweep is Sweep for a caller that holds the lock. A namespace that has died took its veth pair with it, in whichever
// mount namespace it was pinned: so the host's end of the pair tells whether a lease is alive. Nobody can be halfway
// through an Attach, since that needs the lock.
func (n *Network) sweep(h *netlink.Handle, keep func(id string) bool) error {
	all, err := n.leases()
	if err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	ours := make(map[string]netlink.Link)
	for _, l := range links {
		if l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, n.vethPrefix()) {
			ours[l.Attrs().Name] = l
		}
	}
	var errs []error
	for addr, id := range all {
		name := n.vethName(addr)
		if ours[name] == nil || !keep(id) {
			errs = append(errs, n.release(h, id, addr))
		}
		delete(ours, name)
	}
	for _, l := range ours { // of no lease at all
		if err := h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove %s: %w", l.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

// lock makes the caller the only one to change this network, on the whole machine, until it calls unlock.
func (n *Network) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := lockFile(ctx, filepath.Join(n.cfg.Dir, "lock"))
	if err != nil {
		<-n.turn
		return nil, err
	}
	return func() {
		f.Close()
		<-n.turn
	}, nil
}

// lockFile waits for the exclusive lock of path. Closing the file, or the end of the process, gives it up.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	wait := time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(wait):
			wait = min(2*wait, 250*time.Millisecond)
		}
	}
}
