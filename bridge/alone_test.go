package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bindery-hub/bindery/bridge"
)

// alone runs the test in a process with its own network and mount namespaces: a machine of its own, as far as this
// package can see. It returns false in the process that only waits for the other.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: network namespaces cannot be made")
	}
	if os.Getenv("BRIDGE_TEST_ALONE") == t.Name() {
		must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^")+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "BRIDGE_TEST_ALONE="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newNetwork(t testing.TB, change func(*bridge.Config)) *bridge.Network {
	t.Helper()
	dir := t.TempDir()
	cfg := bridge.Config{
		Name: "bndtest", Subnet: netip.MustParsePrefix("10.231.0.0/20"),
		Dir: filepath.Join(dir, "net"), RunDir: filepath.Join(dir, "run"),
	}
	if change != nil {
		change(&cfg)
	}
	n, err := bridge.New(cfg)
	must(t, err)
	t.Cleanup(func() {
		if err := n.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return n
}

// within runs f on a thread inside the namespace at path.
func within(t testing.TB, path string, f func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(path)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		ended <- err
	}()
	return <-ended
}

// dial connects from inside the namespace at path; "" is the test's own.
func dial(t testing.TB, path, addr string) error {
	t.Helper()
	f := func() error {
		c, err := net.DialTimeout("tcp4", addr, 400*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	}
	if path == "" {
		return f()
	}
	return within(t, path, f)
}

// listen accepts connections inside the namespace at path.
func listen(t testing.TB, path, addr string) {
	t.Helper()
	f := func() error {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					c.Close()
				}
			}
		}()
		return nil
	}
	if path == "" {
		must(t, f())
		return
	}
	must(t, within(t, path, f))
}

// outside is the rest of the world: a namespace at the other end of this machine's only link, with many addresses.
func outside(t *testing.T, addrs ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "outside")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, bridge.InNewNamespace(func() error {
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}))
	t.Cleanup(func() { must(t, unix.Unmount(path, unix.MNT_DETACH)) })
	ns, err := netns.GetFromPath(path)
	must(t, err)
	defer ns.Close()
	la := netlink.NewLinkAttrs()
	la.Name = "up0"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "up0", PeerNamespace: netlink.NsFd(int(ns))}))
	inside, err := netlink.NewHandleAt(ns)
	must(t, err)
	defer inside.Close()
	here, err := netlink.NewHandle()
	must(t, err)
	defer here.Close()
	configure := func(h *netlink.Handle, addrs ...string) netlink.Link {
		link, err := h.LinkByName("up0")
		must(t, err)
		for _, text := range addrs {
			addr, err := netlink.ParseAddr(text)
			must(t, err)
			must(t, h.AddrAdd(link, addr))
		}
		must(t, h.LinkSetUp(link))
		return link
	}
	configure(inside, append([]string{"203.0.113.1/24"}, addrs...)...)
	link := configure(here, "203.0.113.2/24")
	must(t, here.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(203, 0, 113, 1)}))
	return path
}

func attach(t testing.TB, n *bridge.Network, id string) bridge.Port {
	t.Helper()
	p, err := n.Attach(t.Context(), id)
	must(t, err)
	return p
}

func links(t testing.TB) map[string]bool {
	t.Helper()
	all, err := netlink.LinkList()
	must(t, err)
	names := map[string]bool{}
	for _, l := range all {
		names[l.Attrs().Name] = true
	}
	return names
}

func hostPort(a netip.Addr, port int) string { return fmt.Sprintf("%s:%d", a, port) }
