package bridge_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bindery-hub/bindery/bridge"
)

// fakeResolver answers every question over UDP and TCP with itself, marked as an answer.
func fakeResolver(t *testing.T) string {
	t.Helper()
	u, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(t, err)
	l, err := net.Listen("tcp4", u.LocalAddr().String())
	must(t, err)
	t.Cleanup(func() { u.Close(); l.Close() })
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2] |= 0x80
			_, _ = u.WriteTo(buf[:n], from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			head := make([]byte, 2)
			_, _ = io.ReadFull(c, head)
			m := make([]byte, binary.BigEndian.Uint16(head))
			_, _ = io.ReadFull(c, m)
			m[2] |= 0x80
			_, _ = c.Write(append(head, m...))
			c.Close()
		}
	}()
	return u.LocalAddr().String()
}

var question = []byte{0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1}

// ask sends the question from inside the namespace at path and returns the answer.
func ask(t *testing.T, network, path, server string) (reply []byte, err error) {
	t.Helper()
	f := func() error {
		c, err := net.DialTimeout(network, server, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		must(t, c.SetDeadline(time.Now().Add(time.Second)))
		q := question
		if network == "tcp4" {
			q = append([]byte{0, byte(len(question))}, question...)
		}
		if _, err := c.Write(q); err != nil {
			return err
		}
		reply = make([]byte, 512)
		n, err := c.Read(reply)
		reply = reply[:n]
		return err
	}
	if path == "" {
		return reply, f()
	}
	err = within(t, path, f)
	return reply, err
}

func TestDNS(t *testing.T) {
	if !alone(t) {
		return
	}
	upstream := fakeResolver(t)
	var cfg bridge.Config
	n := newNetwork(t, func(c *bridge.Config) {
		c.Resolvers = []string{"127.0.0.1:1", upstream} // the first does not answer
		cfg = *c
	})
	must(t, n.Up(t.Context()))
	other, err := bridge.New(cfg)
	must(t, err)
	serve := func(n *bridge.Network) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.ServeDNS(ctx) }()
		return func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("ServeDNS: %v", err)
			}
		}
	}
	stopFirst := serve(n)
	server := hostPort(n.Gateway(), 53)
	eventually(t, func() bool { _, err := ask(t, "udp4", "", server); return err == nil })
	stopSecond := serve(other)
	a := attach(t, n, "a")
	want := append([]byte(nil), question...)
	want[2] |= 0x80
	for _, network := range []string{"udp4", "tcp4"} {
		got, err := ask(t, network, a.Netns, server)
		if network == "tcp4" && len(got) > 2 {
			got = got[2:]
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", network, err, diff)
		}
	}
	stopFirst()
	eventually(t, func() bool { _, err := ask(t, "udp4", a.Netns, server); return err == nil })
	stopSecond()
}

func TestDNSFailureIsSaidAtOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	n := newNetwork(t, func(c *bridge.Config) { c.Resolvers = []string{"127.0.0.1:1"} })
	must(t, n.Up(t.Context()))
	go func() { _ = n.ServeDNS(t.Context()) }()
	eventually(t, func() bool {
		reply, err := ask(t, "udp4", "", hostPort(n.Gateway(), 53))
		return err == nil && reply[3]&0x0f == 2
	})
}

func TestIsQuery(t *testing.T) {
	answer := append([]byte(nil), question...)
	answer[2] |= 0x80
	for name, m := range map[string][]byte{"empty": nil, "short": question[:11], "an answer": answer} {
		if bridge.IsQuery(m) {
			t.Errorf("%s passes for a question", name)
		}
	}
	if !bridge.IsQuery(question) {
		t.Error("a question does not pass for one")
	}
}

func FuzzFailure(f *testing.F) {
	f.Add(question)
	f.Fuzz(func(t *testing.T, m []byte) {
		if !bridge.IsQuery(m) {
			return
		}
		if r := bridge.Failure(m); len(r) != len(m) || bridge.IsQuery(r) || r[3]&0xf != 2 {
			t.Errorf("Failure(%x) = %x", m, r)
		}
	})
}

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	list := bridge.NewResolvers(path)
	if diff := cmp.Diff([]string{"127.0.0.1:53"}, list()); diff != "" {
		t.Error(diff)
	}
	must(t, os.WriteFile(path, []byte("# x\nsearch a b\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver evil;\nnameserver\n"), 0o600))
	if diff := cmp.Diff([]string{"10.0.0.1", "fe80::1%eth0"}, bridge.ParseResolvConf(path)); diff != "" {
		t.Error(diff)
	}
	eventually(t, func() bool { return cmp.Equal([]string{"10.0.0.1:53", "[fe80::1%eth0]:53"}, list()) })
	if diff := cmp.Diff([]string{"h:1", "1.1.1.1:53", "[::1]:53"}, bridge.WithPorts([]string{"h:1", "1.1.1.1", "::1"})); diff != "" {
		t.Error(diff)
	}
}

func TestChoose(t *testing.T) {
	dir := t.TempDir()
	name, subnet, err := bridge.Choose(t.Context(), dir)
	must(t, err)
	if len(name) != 9 || !strings.HasPrefix(name, "bnd") || subnet.Bits() != 20 || !netip.MustParsePrefix("10.64.0.0/10").Contains(subnet.Addr()) {
		t.Errorf("chose %s, %s", name, subnet)
	}
	must(t, os.WriteFile(filepath.Join(dir, "net", "network.json"), []byte(`{"name":"kept","subnet":"10.9.0.0/24"}`), 0o600))
	name, subnet, err = bridge.Choose(t.Context(), dir)
	must(t, err)
	if name != "kept" || subnet.String() != "10.9.0.0/24" {
		t.Errorf("the choice was not kept: %s, %s", name, subnet)
	}
	must(t, os.WriteFile(filepath.Join(dir, "net", "network.json"), []byte(`{`), 0o600))
	if _, _, err := bridge.Choose(t.Context(), dir); err == nil {
		t.Error("a broken choice was taken")
	}
}

func TestFree(t *testing.T) {
	first, err := bridge.Free(5, nil)
	must(t, err)
	if first.String() != "10.64.80.0/20" {
		t.Errorf("the fifth subnet is %s", first)
	}
	next, err := bridge.Free(5, []netip.Prefix{netip.MustParsePrefix("10.64.81.0/24")})
	must(t, err)
	if next.String() != "10.64.96.0/20" {
		t.Errorf("beside a taken one: %s", next)
	}
	wrapped, err := bridge.Free(1023, []netip.Prefix{netip.MustParsePrefix("10.127.0.0/16")})
	must(t, err)
	if wrapped.String() != "10.64.0.0/20" {
		t.Errorf("past the last: %s", wrapped)
	}
	if _, err := bridge.Free(5, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Error("no free subnet, and no error")
	}
}

// On the real machine: names by our forwarder, packages by our bridge.
func TestMirrorThroughTheBridge(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	if _, err := net.DefaultResolver.LookupHost(t.Context(), "deb.debian.org"); err != nil {
		t.Skipf("this machine reaches no mirror itself: %v", err)
	}
	n := newNetwork(t, func(c *bridge.Config) { c.Name, c.Subnet = "bndmirror", netip.MustParsePrefix("10.231.48.0/24") })
	must(t, n.Up(t.Context()))
	go func() { _ = n.ServeDNS(t.Context()) }()
	a := attach(t, n, "mirror")
	inside := func(network, addr string) (c net.Conn, err error) {
		if e := within(t, a.Netns, func() error {
			c, err = net.DialTimeout(network, addr, 5*time.Second)
			return nil
		}); e != nil {
			err = e
		}
		return c, err
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		return inside(network, hostPort(n.Gateway(), 53))
	}}
	var addrs []netip.Addr
	eventually(t, func() bool {
		var err error
		addrs, err = resolver.LookupNetIP(t.Context(), "ip4", "deb.debian.org")
		return err == nil
	})
	client := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, _ string) (net.Conn, error) {
		return inside("tcp4", hostPort(addrs[0], 80))
	}}}
	res, err := client.Get("http://deb.debian.org/debian/dists/bookworm/InRelease")
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != 200 || !strings.Contains(string(text), "Codename: bookworm") {
		t.Errorf("the mirror answers %s, %.80q", res.Status, text)
	}
	if unix.Access("/proc/sys/net/ipv4/ip_forward", unix.R_OK) == nil {
		v, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		t.Logf("net.ipv4.ip_forward is %s", strings.TrimSpace(string(v)))
	}
}

// eventually waits for ok, looking again and again.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("did not happen in ten seconds")
		}
	}
}
