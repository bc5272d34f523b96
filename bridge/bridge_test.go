package bridge_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
)

func TestNewRefuses(t *testing.T) {
	good := bridge.Config{Name: "b0", Subnet: netip.MustParsePrefix("10.1.0.0/24"), Dir: "d", RunDir: "r"}
	if _, err := bridge.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*bridge.Config){
		"no name":     func(c *bridge.Config) { c.Name = "" },
		"long name":   func(c *bridge.Config) { c.Name = "sixteen-letters-" },
		"slash":       func(c *bridge.Config) { c.Name = "a/b" },
		"option":      func(c *bridge.Config) { c.Name = "-b" },
		"IPv6":        func(c *bridge.Config) { c.Subnet = netip.MustParsePrefix("fd00::/64") },
		"no subnet":   func(c *bridge.Config) { c.Subnet = netip.Prefix{} },
		"tiny":        func(c *bridge.Config) { c.Subnet = netip.MustParsePrefix("10.1.0.0/30") },
		"no dir":      func(c *bridge.Config) { c.Dir = "" },
		"bad allowed": func(c *bridge.Config) { c.Allow = []netip.Prefix{{}} },
	} {
		cfg := good
		change(&cfg)
		if _, err := bridge.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Who may reach whom, tried with real packets.
func TestIsolation(t *testing.T) {
	if !alone(t) {
		return
	}
	world := outside(t, "8.8.8.8/32", "198.51.100.7/32", "192.0.2.9/32", "10.9.9.9/32", "10.50.0.1/32", "172.20.0.1/32", "192.168.7.7/32",
		"169.254.169.254/32", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "198.18.0.1/32")
	listen(t, world, "0.0.0.0:8000")
	listen(t, "", "0.0.0.0:8000")
	n := newNetwork(t, func(c *bridge.Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("10.50.0.0/16")} })
	must(t, n.Up(t.Context()))
	must(t, n.Up(t.Context()))
	a, b := attach(t, n, "a"), attach(t, n, "b")
	listen(t, a.Netns, "0.0.0.0:8000")
	listen(t, b.Netns, "0.0.0.0:8000")
	for _, tt := range []struct {
		what, from, to string
		open           bool
	}{
		{"public address", a.Netns, "8.8.8.8:8000", true},
		{"documentation range 2", a.Netns, "198.51.100.7:8000", true},
		{"documentation range 3", a.Netns, "203.0.113.1:8000", true},
		{"allowed private network", a.Netns, "10.50.0.1:8000", true},
		{"private 10/8", a.Netns, "10.9.9.9:8000", false},
		{"private 172.16/12", a.Netns, "172.20.0.1:8000", false},
		{"private 192.168/16", a.Netns, "192.168.7.7:8000", false},
		{"metadata", a.Netns, "169.254.169.254:8000", false},
		{"CGNAT", a.Netns, "100.100.100.200:8000", false},
		{"protocol assignments", a.Netns, "192.0.0.192:8000", false},
		{"cloud host agent", a.Netns, "168.63.129.16:8000", false},
		{"benchmark network", a.Netns, "198.18.0.1:8000", false},
		{"gateway, not DNS", a.Netns, hostPort(n.Gateway(), 8000), false},
		{"another address of the host", a.Netns, "203.0.113.2:8000", false},
		{"neighbour", a.Netns, hostPort(b.Addr, 8000), false},
		{"itself", a.Netns, hostPort(a.Addr, 8000), true},
		{"host to container", "", hostPort(a.Addr, 8000), true},
		{"outside to the host", world, "203.0.113.2:8000", true},
	} {
		err := dial(t, tt.from, tt.to)
		if (err == nil) != tt.open {
			t.Errorf("%s: dial %s: %v, want open=%v", tt.what, tt.to, err, tt.open)
		}
	}
	must(t, within(t, world, func() error {
		_, dst, _ := strings.Cut("x 10.231.0.0/20", " ")
		d, err := netlink.ParseIPNet(dst)
		if err != nil {
			return err
		}
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return h.RouteAdd(&netlink.Route{Dst: d, Gw: []byte{203, 0, 113, 2}})
	}))
	if err := dial(t, world, hostPort(a.Addr, 8000)); err == nil {
		t.Error("a neighbour of the host reaches a container")
	}
}

// A container that forges frames must not take over the traffic to another.
func TestForgedFramesChangeNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	n := newNetwork(t, nil)
	must(t, n.Up(t.Context()))
	a, b := attach(t, n, "a"), attach(t, n, "b")
	listen(t, b.Netns, "0.0.0.0:8000")
	must(t, within(t, a.Netns, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: netlink.NewIPNet(b.Addr.AsSlice())}
		return h.AddrAdd(eth, addr) // the kernel announces it, and answers for it
	}))
	_ = within(t, a.Netns, func() error { return dial(t, a.Netns, hostPort(n.Gateway(), 9)) })
	if err := dial(t, "", hostPort(b.Addr, 8000)); err != nil {
		t.Errorf("b no longer answers at its address: %v", err)
	}
}

func TestNoIPv6Inside(t *testing.T) {
	if !alone(t) {
		return
	}
	n := newNetwork(t, nil)
	must(t, n.Up(t.Context()))
	a := attach(t, n, "a")
	must(t, within(t, a.Netns, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		addrs, err := h.AddrList(nil, netlink.FAMILY_V6)
		if err == nil && len(addrs) > 0 {
			return fmt.Errorf("IPv6 addresses %v", addrs)
		}
		return err
	}))
}

func TestAttachIsIdempotentAndLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	ctx := t.Context()
	var run, dir string
	n := newNetwork(t, func(c *bridge.Config) { run, dir = c.RunDir, c.Dir })
	must(t, n.Up(ctx))
	before := links(t)
	a := attach(t, n, "a")
	if again := attach(t, n, "a"); again != a {
		t.Errorf("attached again: %v, first %v", again, a)
	}
	ids, err := n.Attached()
	must(t, err)
	if diff := cmp.Diff([]string{"a"}, ids); diff != "" {
		t.Error(diff)
	}
	must(t, n.Detach(ctx, "a"))
	must(t, n.Detach(ctx, "a"))
	must(t, n.Detach(ctx, "never"))
	must(t, n.Detach(ctx, "../../etc/passwd"))
	if diff := cmp.Diff(before, links(t)); diff != "" {
		t.Error(diff)
	}
	for _, d := range []string{run, filepath.Join(dir, "leases")} {
		if left, _ := os.ReadDir(d); len(left) > 0 {
			t.Errorf("%s still holds %v", d, left)
		}
	}
	if _, err := n.Attach(ctx, "../evil"); err == nil {
		t.Error("an id with a path was attached")
	}
}

// Every half of a port that a crash can leave is repaired by Attach and removed by Detach.
func TestHalves(t *testing.T) {
	if !alone(t) {
		return
	}
	ctx := t.Context()
	var cfg bridge.Config
	n := newNetwork(t, func(c *bridge.Config) { cfg = *c })
	must(t, n.Up(ctx))
	halves := map[string]func(p bridge.Port){
		"lease only": func(p bridge.Port) {
			must(t, n.Detach(ctx, "x"))
			must(t, os.Symlink("x", filepath.Join(cfg.Dir, "leases", p.Addr.String())))
		},
		"pin without namespace": func(p bridge.Port) { must(t, unix.Unmount(p.Netns, unix.MNT_DETACH)) },
		"no pin": func(p bridge.Port) {
			must(t, unix.Unmount(p.Netns, unix.MNT_DETACH))
			must(t, os.Remove(p.Netns))
		},
		"no pair": func(p bridge.Port) {
			l, err := netlink.LinkByName(n.VethName(p.Addr))
			must(t, err)
			must(t, netlink.LinkDel(l))
		},
		"no lease": func(p bridge.Port) { must(t, os.Remove(filepath.Join(cfg.Dir, "leases", p.Addr.String()))) },
	}
	for _, name := range slices.Sorted(maps.Keys(halves)) {
		p := attach(t, n, "x")
		halves[name](p)
		p = attach(t, n, "x")
		listen(t, p.Netns, "0.0.0.0:8000")
		if err := dial(t, "", hostPort(p.Addr, 8000)); err != nil {
			t.Errorf("%s: repaired, but %v", name, err)
		}
		halves[name](p)
		must(t, n.Detach(ctx, "x"))
	}
	must(t, n.Sweep(ctx, func(string) bool { return false }))
	if ids, err := n.Attached(); err != nil || len(ids) > 0 {
		t.Errorf("attached after all: %v, %v", ids, err)
	}
	for l := range links(t) {
		if strings.HasPrefix(l, "v") {
			t.Errorf("%s is left", l)
		}
	}
}

func TestSweep(t *testing.T) {
	if !alone(t) {
		return
	}
	ctx := t.Context()
	n := newNetwork(t, nil)
	must(t, n.Up(ctx))
	for _, id := range []string{"a", "b", "dead"} {
		attach(t, n, id)
	}
	l, err := netlink.LinkByName(n.VethName(attach(t, n, "dead").Addr))
	must(t, err)
	must(t, netlink.LinkDel(l))
	must(t, n.Sweep(ctx, func(id string) bool { return id != "b" }))
	ids, err := n.Attached()
	must(t, err)
	if diff := cmp.Diff([]string{"a"}, ids); diff != "" {
		t.Error(diff)
	}
}

// A full subnet says so, and takes back what the dead hold.
func TestFullSubnet(t *testing.T) {
	if !alone(t) {
		return
	}
	n := newNetwork(t, func(c *bridge.Config) { c.Subnet = netip.MustParsePrefix("10.231.16.0/29") })
	must(t, n.Up(t.Context()))
	seen := map[netip.Addr]bool{}
	for i := range 5 {
		seen[attach(t, n, fmt.Sprint("c", i)).Addr] = true
	}
	if len(seen) != 5 {
		t.Errorf("five containers have the addresses %v", seen)
	}
	if _, err := n.Attach(t.Context(), "more"); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a sixth of five addresses: %v", err)
	}
	must(t, unix.Unmount(attach(t, n, "c0").Netns, unix.MNT_DETACH))
	l, err := netlink.LinkByName(n.VethName(attach(t, n, "c1").Addr))
	must(t, err)
	must(t, netlink.LinkDel(l))
	attach(t, n, "more")
}

// Several processes share one directory; within one process, goroutines do.
func TestConcurrentAttach(t *testing.T) {
	if !alone(t) {
		return
	}
	var cfg bridge.Config
	first := newNetwork(t, func(c *bridge.Config) { cfg = *c })
	must(t, first.Up(t.Context()))
	second, err := bridge.New(cfg)
	must(t, err)
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[netip.Addr]string{}
	for i := range 20 {
		n := []*bridge.Network{first, second}[i%2]
		wg.Go(func() {
			id := fmt.Sprint("c", i)
			p, err := n.Attach(t.Context(), id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[p.Addr] != "" {
				t.Errorf("%s: %v, %v, also of %q", id, p, err, seen[p.Addr])
			}
			seen[p.Addr] = id
		})
	}
	wg.Wait()
	if p := attach(t, second, "c0"); seen[p.Addr] != "c0" {
		t.Errorf("the other process sees c0 at %v", p.Addr)
	}
}

// With Docker's rules in place, our packets pass, and after Down the rules are as before.
func TestDockerForwardDrop(t *testing.T) {
	for _, docker := range []bool{false, true} {
		t.Run(fmt.Sprintf("DOCKER-USER=%v", docker), func(t *testing.T) {
			if !alone(t) {
				return
			}
			world := outside(t, "8.8.8.8/32")
			listen(t, world, "0.0.0.0:8000")
			dropForward(t, docker)
			n := newNetwork(t, nil)
			before := rules(t)
			must(t, n.Up(t.Context()))
			must(t, n.Up(t.Context()))
			a := attach(t, n, "a")
			listen(t, a.Netns, "0.0.0.0:8000")
			if err := dial(t, a.Netns, "8.8.8.8:8000"); err != nil {
				t.Errorf("out: %v", err)
			}
			if err := dial(t, "", hostPort(a.Addr, 8000)); err != nil {
				t.Errorf("host to container: %v", err)
			}
			must(t, n.Down(t.Context()))
			if diff := cmp.Diff(before, rules(t)); diff != "" {
				t.Errorf("rules after Down:\n%s", diff)
			}
		})
	}
}

func dropForward(t *testing.T, docker bool) {
	t.Helper()
	c, err := nftables.New()
	must(t, err)
	table := c.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	drop := nftables.ChainPolicyDrop
	forward := c.AddChain(&nftables.Chain{Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	c.AddChain(&nftables.Chain{Table: table, Name: "INPUT", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	if docker {
		c.AddChain(&nftables.Chain{Table: table, Name: "DOCKER-USER"})
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "DOCKER-USER"}}})
	}
	input := &nftables.Chain{Table: table, Name: "INPUT"}
	c.AddRule(&nftables.Rule{Table: table, Chain: input, Exprs: []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{6, 0, 0, 0}, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}})
	must(t, c.Flush())
}

// rules lists the machine's rules as the nft program shows them.
func rules(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("no nft program to list rules; scripts/setup test installs it: %v", err)
	}
	return string(out)
}

// A bridge in use stays; one that nobody uses goes, and comes back for the next container.
func TestRetire(t *testing.T) {
	if !alone(t) {
		return
	}
	ctx := t.Context()
	before, wasRules := links(t), rules(t)
	n := newNetwork(t, nil)
	must(t, n.Up(ctx))
	for range 2 {
		attach(t, n, "a")
		if gone, err := n.Retire(ctx); gone || err != nil {
			t.Errorf("Retire with a container attached = %v, %v", gone, err)
		}
		must(t, n.Detach(ctx, "a"))
		if gone, err := n.Retire(ctx); !gone || err != nil {
			t.Errorf("Retire = %v, %v", gone, err)
		}
		if diff := cmp.Diff(before, links(t)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(wasRules, rules(t)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDownLeavesNothing(t *testing.T) {
	if !alone(t) {
		return
	}
	before, wasRules := links(t), rules(t)
	n := newNetwork(t, nil)
	must(t, n.Down(t.Context()))
	must(t, n.Up(t.Context()))
	attach(t, n, "a")
	must(t, n.Down(t.Context()))
	must(t, n.Down(t.Context()))
	if diff := cmp.Diff(before, links(t)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wasRules, rules(t)); diff != "" {
		t.Error(diff)
	}
}

func TestChecks(t *testing.T) {
	if !alone(t) {
		return
	}
	outside(t)
	n := newNetwork(t, func(c *bridge.Config) { c.Resolvers = []string{"203.0.113.1:9"} })
	before := links(t)
	for _, c := range n.Checks(t.Context()) {
		if want := c.Name != "name resolution"; c.OK != want {
			t.Errorf("%s: OK = %v, found %q", c.Name, c.OK, c.Found)
		}
		if !c.OK && c.Remedy == "" {
			t.Errorf("%s: no remedy", c.Name)
		}
	}
	if diff := cmp.Diff(before, links(t)); diff != "" {
		t.Errorf("the checks changed the machine:\n%s", diff)
	}
	everywhere, err := net.ListenPacket("udp4", "0.0.0.0:53")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	i := slices.IndexFunc(n.Checks(t.Context()), func(c bindery.Check) bool { return c.Name == "port 53" && !c.OK && c.Remedy != "" })
	if i < 0 {
		t.Error("a name server at all addresses is not in the way")
	}
}

func BenchmarkAttachDetach(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("not root")
	}
	n := newNetwork(b, func(c *bridge.Config) {
		c.Name, c.Subnet = "bndbench", netip.MustParsePrefix("10.231.32.0/20")
	})
	must(b, n.Up(b.Context()))
	b.Run("first", func(b *testing.B) { attachDetach(b, n) }) // the bridge has no port, and has to come up as well
	attach(b, n, "other")
	b.Run("further", func(b *testing.B) { attachDetach(b, n) })
}

func attachDetach(b *testing.B, n *bridge.Network) {
	var attached time.Duration
	from := time.Now()
	for b.Loop() {
		start := time.Now()
		attach(b, n, "x")
		attached += time.Since(start)
		must(b, n.Detach(b.Context(), "x"))
	}
	each := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(each(attached), "ms/attach")
	b.ReportMetric(each(time.Since(from)-attached), "ms/detach")
}
