package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// probe tries to reach addresses and says of each whether it could. Its arguments are NAME=HOST:PORT.
const probe = `#!/usr/bin/env python3
import concurrent.futures, socket, sys

def try_one(arg):
    name, _, address = arg.partition("=")
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
        return f"probe {name} open"
    except OSError as e:
        return f"probe {name} closed {e}"

with concurrent.futures.ThreadPoolExecutor(16) as pool:
    for line in pool.map(try_one, sys.argv[1:]):
        print(line)
for name, path in (("docker", "/var/run/docker.sock"), ("disk", "/dev/vda"), ("mem", "/dev/mem"), ("kcore", "/proc/kcore")):
    try:
        open(path, "rb").read(1)
        print(f"probe {name} open")
    except OSError as e:
        print(f"probe {name} closed {e}")
`

// TestIsolation: neither a step of a build nor a session reaches the machine, a neighbour, a private address or a
// cloud's metadata. Both reach the package index.
func TestIsolation(t *testing.T) {
	h := theHub(t)
	before := h.remains(t)
	neighbour, _ := h.launch(t, made(t, requirements(nil)), "main")
	s, err := h.client(t).Session(t.Context(), neighbour.session())
	if err != nil {
		t.Fatal(err)
	}
	// A server on every address of this machine, as a careless one would be.
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	gateway := h.subnet.Addr().Next().String()
	targets := []string{
		"neighbour=" + s.Address,
		"gateway=" + gateway + ":" + port,
		"hub=" + gateway + h.listen[strings.LastIndex(h.listen, ":"):],
		"metadata=169.254.169.254:80",
		"private=10.255.255.53:53",
		"private16=192.168.0.1:80",
		"loopback=127.0.0.1:" + port,
	}
	for _, addr := range ownAddresses(t) {
		targets = append(targets, "machine="+net.JoinHostPort(addr, port))
	}
	srv := sourcetest.Start(t)
	repo := srv.Repo("ann/probe")
	repo.Commit("main", map[string]string{
		"probe.py":         probe,
		"requirements.txt": "six==1.16.0\n",
		"postBuild":        fmt.Sprintf("#!/bin/bash\npython3 probe.py %s index=pypi.org:443\n", strings.Join(targets, " ")),
		"start":            fmt.Sprintf("#!/bin/bash\npython3 probe.py %s index=pypi.org:443 >probed.txt 2>&1\nexec \"$@\"\n", strings.Join(targets, " ")),
	})
	ready, all := h.launch(t, repo.URL, "main")
	t.Run("step", func(t *testing.T) { judge(t, all.text()) })
	t.Run("session", func(t *testing.T) { judge(t, content(t, ready, "probed.txt")) })
	h.stop(t, ready.session())
	h.stop(t, neighbour.session())
	h.settles(t, before)
}

// judge reads what the probe said: the index is open, all else is closed.
func judge(t testing.TB, text string) {
	t.Helper()
	count := 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "probe" {
			continue
		}
		count++
		if want := f[1] == "index"; want != (f[2] == "open") {
			t.Errorf("%s is %s", f[1], strings.Join(f[2:], " "))
		}
	}
	if count < 9 {
		t.Errorf("the probe said too little:\n%s", text)
	}
}

// ownAddresses are the machine's, but for loopback.
func ownAddresses(t testing.TB) []string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			all = append(all, n.IP.String())
		}
	}
	return all
}
