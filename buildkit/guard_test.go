package buildkit

import (
	"net/netip"
	"testing"

	"github.com/bindery-hub/bindery/plan"
)

func TestGuardKnowsWhatIsPublic(t *testing.T) {
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, nil, func(string) string { return "" })
	for addr, want := range map[string]bool{
		"1.1.1.1": true, "203.0.113.80": true, "198.51.100.7": true, "2606:4700::1111": true, "10.1.2.3": true,
		"10.2.0.1": false, "127.0.0.1": false, "169.254.169.254": false, "192.168.1.1": false, "172.16.0.1": false, "100.64.0.1": false,
		"0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "::1": false, "fe80::1": false, "fd00::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.2.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false,
	} {
		if got := g.open(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: open is %v, want %v", addr, got, want)
		}
	}
}

func TestGuardOpensNamedRegistriesOnly(t *testing.T) {
	g := newGuard(nil, nil, func(string) string { return "" })
	g.name(plan.Job{Push: []string{"registry.example:5000/a/b:c"}, Plan: plan.Plan{Base: "busybox"}})
	g.name(plan.Job{Plan: plan.Plan{Base: "debian:bookworm"}})
	for host, want := range map[string]bool{"registry.example:5000": true, "registry.example": false, "docker.io": true, "registry-1.docker.io": true, "other.example": false} {
		if got := g.isNamed(host); got != want {
			t.Errorf("%s: named is %v, want %v", host, got, want)
		}
	}
}
