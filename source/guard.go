package source

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A guard is the proxy that all of git's traffic goes through. Each operation has a ticket, which is the proxy
// password of its git processes; what the guard refuses is written on the ticket, so that the person gets the
// reason instead of git's reading of a status code.
type guard struct {
	policy Policy
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	proxy  func(*url.URL) (*url.URL, error)
	log    *slog.Logger
	http   *http.Transport
	places chan struct{} // one for each open connection

	credentials []credential
	ssh         SSH

	mu      sync.Mutex
	tickets map[string]*ticket
}

// A ticket belongs to one operation.
type ticket struct {
	name string // the proxy credential

	mu  sync.Mutex
	err *bindery.Error // why the guard turned the operation down, the first time
}

const (
	maxConns    = 256
	dialTimeout = 20 * time.Second
)

func newGuard(cfg Config) (*guard, error) {
	roots, err := trust(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	g := &guard{policy: cfg.Policy, lookup: cfg.Lookup, proxy: cfg.Proxy, log: cfg.Log, tickets: map[string]*ticket{}, credentials: credentials(cfg.Providers), ssh: cfg.Policy.SSH, places: make(chan struct{}, maxConns)}
	if g.lookup == nil {
		g.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if g.proxy == nil {
		g.proxy = func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) }
	}
	g.http = &http.Transport{
		DialContext:            g.dialURL,
		TLSClientConfig:        roots,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 1 << 20,
		IdleConnTimeout:        30 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute,
	}
	return g, nil
}

// admitOp makes a ticket.
func (g *guard) admitOp() *ticket {
	t := &ticket{name: rand.Text()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tickets[t.name] = t
	return t
}

func (g *guard) dismiss(t *ticket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.tickets, t.name)
}

// ticket finds the ticket that a request shows. A ticket is a name of 128 random bits, so a map will do.
func (g *guard) ticket(r *http.Request) *ticket {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Proxy-Authorization"), "Basic "))
	if err != nil {
		return nil
	}
	name, _, _ := strings.Cut(string(raw), ":")
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tickets[name]
}

func (t *ticket) note(err *bindery.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = cmp.Or(t.err, err)
}

func (t *ticket) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = nil
}

func (t *ticket) reason() *bindery.Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// serve answers on l until ctx ends. Tunnels are cut then.
func (g *guard) serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           g,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	defer g.http.CloseIdleConnections()
	err := srv.Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve git's proxy: %w", err)
}

// ServeHTTP is the proxy: CONNECT for https, absolute URLs for http.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := g.ticket(r)
	if t == nil {
		w.Header().Set("Proxy-Authenticate", `Basic realm="git"`)
		http.Error(w, "no ticket", http.StatusProxyAuthRequired)
		return
	}
	select {
	case g.places <- struct{}{}:
		defer func() { <-g.places }()
	case <-r.Context().Done():
		return
	}
	if r.Method == http.MethodConnect && r.Header.Get(sshCommand) != "" {
		g.serveSSH(w, r, t)
		return
	}
	if r.Method == http.MethodConnect {
		g.tunnel(w, r, t)
		return
	}
	if r.URL.Scheme != "http" || r.URL.Host == "" {
		http.Error(w, "this is a proxy", http.StatusBadRequest)
		return
	}
	g.forward(w, r, t)
}

func (g *guard) forward(w http.ResponseWriter, r *http.Request, t *ticket) {
	rewrite, modify, err := g.rewriting(r)
	if err != nil {
		g.refuse(w, t, err)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        rewrite,
		ModifyResponse: modify,
		Transport:      g,
		FlushInterval:  -1,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { g.refuse(w, t, err) },
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	proxy.ServeHTTP(w, r)
}

func (g *guard) tunnel(w http.ResponseWriter, r *http.Request, t *ticket) {
	up, err := g.upstream(r.Context(), &url.URL{Scheme: "https", Host: r.Host})
	var far net.Conn
	switch {
	case err != nil:
	case up != nil:
		far, err = connectThrough(r.Context(), up, r.Host)
	default:
		far, err = g.dialURL(r.Context(), "tcp", r.Host)
	}
	if err != nil {
		g.refuse(w, t, err)
		return
	}
	defer far.Close()
	near, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no tunnel", http.StatusInternalServerError)
		return
	}
	defer near.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	defer context.AfterFunc(r.Context(), func() { _, _ = near.Close(), far.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() { pour(far, rest(near, buf)) })
	wg.Go(func() { pour(near, far) })
	wg.Wait()
}

// rest is what a client sends after its request. What was read ahead comes from the server's buffer, the rest from the
// connection itself: the server would take the end of it for the end of everything.
func rest(conn net.Conn, ahead *bufio.ReadWriter) io.Reader {
	return io.MultiReader(io.LimitReader(ahead, int64(ahead.Reader.Buffered())), conn)
}

// pour copies one direction of a tunnel and tells the other end that nothing follows.
func pour(to net.Conn, from io.Reader) {
	_, _ = io.Copy(to, from) // an end that is gone ends the tunnel
	if c, ok := to.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
		return
	}
	_ = to.Close()
}

// refuse notes err on the ticket and answers git with a status it gives up on.
func (g *guard) refuse(w http.ResponseWriter, t *ticket, err error) {
	if errors.Is(err, context.Canceled) {
		http.Error(w, "cancelled", http.StatusBadGateway)
		return
	}
	e, ok := errors.AsType[*bindery.Error](err)
	if !ok {
		e = unreachable("The server of the repository did not answer").Because(err)
	}
	t.note(e)
	status := http.StatusBadGateway
	if e.Kind == bindery.ErrNotAllowed {
		status = http.StatusForbidden
	}
	http.Error(w, e.Msg, status)
}

func unreachable(format string, args ...any) *bindery.Error {
	return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Check the address; try again later.", format, args...)
}

// upstream returns the machine's proxy for u, or nil for the direct way. Behind a proxy the name is looked up by it;
// still, a name that leads to a closed address from here is refused, and one that leads to opened ones goes direct.
func (g *guard) upstream(ctx context.Context, u *url.URL) (*url.URL, error) {
	up, err := g.proxy(u)
	if err != nil || up == nil {
		return nil, err
	}
	addrs, err := g.allowed(ctx, u.Hostname(), cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]))
	if errors.Is(err, bindery.ErrNotAllowed) {
		return nil, err
	}
	if err == nil && g.policy.opened(addrs[0]) {
		return nil, nil
	}
	return up, nil
}

// allowed looks host up and returns those of its addresses that may be dialled, at least one.
func (g *guard) allowed(ctx context.Context, host, port string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = g.lookup(ctx, host); err != nil || len(addrs) == 0 {
		if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
			return nil, bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check the address.", "There is no host %q", bindery.Printable(host)).Because(err)
		}
		return nil, unreachable("There is no address for the host %q", bindery.Printable(host)).Because(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Correct the URL.", "%q is not a port", bindery.Printable(port))
	}
	var out []netip.Addr
	for _, a := range addrs {
		usual := n == 80 || n == 443 || n >= 1024
		if g.policy.opened(a) || (usual && g.policy.allowsAddr(a)) {
			out = append(out, a.Unmap())
		}
	}
	if len(out) == 0 {
		return nil, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use a repository on a public server, or ask the operator to allow this address.",
			"%q is not a public address, and repositories there are not allowed here", bindery.Printable(net.JoinHostPort(host, port)))
	}
	return out, nil
}

// dialURL dials the first address of hostport that is allowed and answers. The address that was checked is the one
// that is dialled; the name is not looked up again.
func (g *guard) dialURL(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Correct the URL.", "%q is not an address", bindery.Printable(hostport))
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addrs, err := g.allowed(ctx, host, port)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs[:min(len(addrs), 6)] {
		each, stop := context.WithTimeout(ctx, dialTimeout/2)
		conn, err := (&net.Dialer{}).DialContext(each, "tcp", net.JoinHostPort(a.String(), port))
		stop()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, unreachable("The host %q cannot be reached", bindery.Printable(hostport)).Because(errors.Join(errs...))
}
