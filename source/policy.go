package source

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// check refuses sources by their names alone; the guard refuses by address.
func (s *Sources) check(src bindery.Source) error {
	if src.IsArchive() {
		_, err := s.providerOf(src)
		return err
	}
	if src.Provider != bindery.ProviderGit {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use the provider git.", "There is no provider %q", bindery.Printable(src.Provider))
	}
	return s.cfg.Policy.checkURL(src.URL, src.Ref)
}

// reachable returns where a repository is read. People name public ones at the forges as they push to them, by
// git@host:owner/repository, in links and still more in submodules: without a key for the host they are read by https.
func (s *Sources) reachable(raw string) string {
	src, err := bindery.ParseGitSource(raw, "")
	if err != nil {
		return raw
	}
	u, err := url.Parse(src.URL)
	if err != nil || u.Scheme != "ssh" || s.cfg.Policy.SSH.allows(u) {
		return raw
	}
	for _, p := range s.cfg.Providers {
		base, err := url.Parse(p.URL)
		if err == nil && !p.IsArchive() && base.Path == "" && base.Host != "" && base.Hostname() == u.Hostname() {
			return p.URL + u.EscapedPath()
		}
	}
	return raw
}

func (p Policy) checkURL(raw, ref string) error {
	src, err := bindery.ParseGitSource(raw, ref)
	if err != nil {
		return err
	}
	u, err := url.Parse(src.URL)
	if err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a URL like https://host/owner/repository.", "%q is not a URL", bindery.Printable(raw)).Because(err)
	}
	switch u.Scheme {
	case "https", "http":
		return nil
	case "ssh":
		if p.SSH.allows(u) {
			return nil
		}
	case "file":
		plain := u.Path == raw[min(len("file://"), len(raw)):]
		if plain && p.allowsDir(u.Path) {
			return nil
		}
		if plain && p.lacks(u.Path) {
			return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check the address.", "There is no directory %s", bindery.Printable(u.Path))
		}
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the https URL of the repository, or ask the operator to allow its directory.",
			"Repositories in this machine's directories are not allowed here: %s", bindery.Printable(raw))
	}
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the https URL of the repository.", "Repositories are not read by %s here: %s", u.Scheme, bindery.Printable(raw))
}

// allowsDir reports whether dir, with symbolic links followed, is one of the allowed directories or below one.
func (p Policy) allowsDir(dir string) bool {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || !filepath.IsAbs(dir) {
		return false
	}
	return slices.ContainsFunc(p.Dirs, func(d string) bool { return real == d || strings.HasPrefix(real, d+"/") })
}

// lacks reports whether dir is not there, where it would be allowed. Elsewhere nobody is told what there is.
func (p Policy) lacks(dir string) bool {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || filepath.Clean(dir) != dir {
		return false
	}
	for dir != "/" {
		dir = filepath.Dir(dir)
		if _, err := os.Lstat(dir); err == nil {
			return p.allowsDir(dir)
		}
	}
	return false
}

// allowsAddr reports whether the guard may dial addr.
func (p Policy) allowsAddr(addr netip.Addr) bool {
	in := func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) }
	return slices.ContainsFunc(p.Nets, in) || (public(addr) && !own(addr.Unmap()))
}

// opened reports whether the operator named addr.
func (p Policy) opened(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Nets, func(n netip.Prefix) bool { return n.Contains(addr.Unmap()) })
}

// closed lists the ranges that are nobody's public servers. The documentation ranges of RFC 5737 are not in it:
// nothing answers there unless somebody put a mirror there on purpose.
func closed() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
		"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// public reports whether addr is a public address. An IPv6 address that carries an IPv4 one is judged by that.
func public(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if addr.Is6() {
		b := addr.As16()
		switch {
		case netip.MustParsePrefix("64:ff9b::/96").Contains(addr): // NAT64
			return public(netip.AddrFrom4([4]byte(b[12:16])))
		case netip.MustParsePrefix("2002::/16").Contains(addr): // 6to4
			return public(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return !slices.ContainsFunc(closed(), func(p netip.Prefix) bool { return p.Contains(addr) })
}

// own reports whether addr is one of this machine's: a service behind its firewall must not be reached from inside.
func own(addr netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		mine, ok := netip.AddrFromSlice(n.IP)
		return ok && mine.Unmap() == addr
	})
}
