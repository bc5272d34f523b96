package bridge

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// parseResolvConf returns the name servers of a resolv.conf. Without any it is this machine, as it is for the C library.
func parseResolvConf(path string) []string {
	text, _ := os.ReadFile(path)
	var servers []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if _, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, fields[1])
		}
	}
	if len(servers) == 0 {
		return []string{"127.0.0.1"}
	}
	return servers
}

// withPorts adds the port of DNS where none is given.
func withPorts(servers []string) []string {
	out := make([]string, len(servers))
	for i, s := range servers {
		out[i] = s
		if _, _, err := net.SplitHostPort(s); err != nil {
			out[i] = net.JoinHostPort(strings.Trim(s, "[]"), strconv.Itoa(dnsPort))
		}
	}
	return out
}
