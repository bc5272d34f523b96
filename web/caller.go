package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A Caller is who sent a request.
type Caller struct {
	Who       string // for the audit log: the requester, and the person where that is known
	Requester string // address block, "local", or "token:" and the start of its hash
	IP        string
	Scope     api.Scope // of the token that came with it; admin by the hub's socket
	Admin     bool      // Scope is admin
	Local     bool      // by the hub's socket
	here      bool      // from this very machine, with no proxy between
	addr      netip.Addr
	bearer    string
	secure    bool   // came by https
	user      string // who has signed in; it opens what can be looked at, and nothing else
}

// A Token of the native API as the configuration has it.
type Token struct {
	Hash  string    // as HashToken gives it
	Name  string    // in the audit log, and in rules as "token:NAME"; default: the start of its hash
	Scope api.Scope // default: admin
}

// HashToken returns what a Token holds of a bearer token, so that the configuration does not give it away.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func (s *Server) callerOf(r *http.Request, local bool) Caller {
	bearer := ""
	if scheme, rest, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "token")) {
		bearer = strings.TrimSpace(rest)
	}
	if name, ok := r.Context().Value(operatorKey{}).(string); ok && local {
		return operator(name)
	}
	if local {
		who := "local"
		if as := bindery.Printable(r.Header.Get(api.AsHeader)); as != "" {
			who += ":" + as
		}
		return Caller{
			Who: who, Requester: "local", IP: "127.0.0.1", addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
			Scope: api.ScopeAdmin, Admin: true, Local: true, bearer: bearer,
		}
	}
	c := Caller{bearer: bearer, secure: r.TLS != nil}
	peer := peerOf(r.RemoteAddr)
	if s.isProxy(peer) {
		peer = s.forwarded(r, peer)
		c.secure = c.secure || lastOf(r.Header.Values("X-Forwarded-Proto")) == "https"
	} else {
		c.here = peer.IsLoopback()
	}
	c.user = s.gate.userOf(r, s.secure(c))
	c.addr, c.IP, c.Requester = peer, peer.String(), block(peer)
	if t, ok := s.token(bearer); ok {
		c.Scope, c.Admin, c.Requester = t.Scope, t.Scope == api.ScopeAdmin, "token:"+t.Name
	}
	c.Who = c.Requester
	return c
}

// address is where c asks from, for rules about networks; empty for operators: nobody keeps himself out.
func (c Caller) address() string {
	if c.Admin || !c.addr.IsValid() {
		return ""
	}
	return c.IP
}

func (s *Server) isProxy(a netip.Addr) bool {
	return slices.ContainsFunc(s.cfg.Proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// forwarded walks X-Forwarded-For from its end, past our proxies, to the first address that none of them is. At a hop
// that is no address the last proxy stands for whoever came by it.
func (s *Server) forwarded(r *http.Request, peer netip.Addr) netip.Addr {
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(hops) {
		a, ok := hopOf(strings.TrimSpace(text))
		if !ok {
			return peer
		}
		if peer = a; !s.isProxy(peer) {
			return peer
		}
	}
	return peer
}

// hopOf reads one hop. Some proxies add the port that they were reached from.
func hopOf(text string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

// token compares the bearer token with all that are configured, in constant time.
func (s *Server) token(bearer string) (found Token, ok bool) {
	if bearer == "" {
		return found, false
	}
	sum := HashToken(bearer)
	for _, t := range s.cfg.Tokens {
		if subtle.ConstantTimeCompare([]byte(strings.ToLower(t.Hash)), []byte(sum)) == 1 {
			found, ok = t, true
		}
	}
	return found, ok
}

// mayUse reports whether c may see the token of a session: the machine's owner, a token of the API, or whoever has the
// session's own token.
func (c Caller) mayUse(sess bindery.Session) bool {
	own := sess.Token != "" && subtle.ConstantTimeCompare([]byte(c.bearer), []byte(sess.Token)) == 1
	return c.Admin || own
}

func peerOf(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return ap.Addr().Unmap().WithZone("")
}

// block is the part of an address that one household or company shares.
func block(a netip.Addr) string {
	p, err := a.Prefix(bindery.AddressBits(a))
	if err != nil {
		return a.String()
	}
	return p.String()
}

func lastOf(values []string) string {
	all := strings.Split(strings.Join(values, ","), ",")
	return strings.ToLower(strings.TrimSpace(all[len(all)-1]))
}

// hubURL is where this visitor sees the hub, without a slash at its end.
func (s *Server) hubURL(r *http.Request) string {
	if s.cfg.URL != "" {
		return s.cfg.URL + s.cfg.Base
	}
	scheme := "http"
	if visitOf(r.Context()).caller.secure {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: r.Host}).String() + s.cfg.Base
}

// launchHost is what links of this hub begin with, as sessions are told. It ends with a slash.
func (s *Server) launchHost(r *http.Request) string {
	if s.cfg.BadgeURL != "" {
		return s.cfg.BadgeURL + "/"
	}
	return s.hubURL(r) + "/"
}

// sessionURL is where this visitor finds a session. It ends with a slash.
func (s *Server) sessionURL(r *http.Request, sess bindery.Session) string {
	u, err := url.Parse(s.cfg.SessionURL)
	if err != nil { // New has parsed it
		return s.cfg.SessionURL + sess.BasePath()
	}
	if u.Hostname() == "" {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if visitOf(r.Context()).caller.Local || host == "" {
			host = "127.0.0.1"
		}
		u.Host = net.JoinHostPort(host, u.Port())
		if u.Port() == "" {
			u.Host = host
		}
	}
	return u.String() + sess.BasePath()
}
