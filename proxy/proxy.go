// Package proxy carries visitors' traffic to their sessions, HTTP with WebSockets, on an origin that the hub has nothing on.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sessions knows where sessions are. A dispatcher is one.
type Sessions interface {
	// Address returns where the server of a session answers. It is called for every request.
	Address(id string) (addr string, ok bool)
	// Active notes that a session had traffic. It is called at most once per Config.ActiveGap and session.
	Active(id string)
}

// Config configures a Proxy.
type Config struct {
	Sessions Sessions // required
	Hub      string   // URL of the hub, for links back; may be empty
	// URL is the sessions' own public URL. When it is https, sessions are told that their visitors came by https.
	URL string
	// Proxies may say by X-Forwarded-For who the visitor is; nobody else may.
	Proxies []netip.Prefix

	ActiveGap   time.Duration // default: 10 seconds
	DialTimeout time.Duration // until a session takes a connection; default: 5 seconds
	Drain       time.Duration // Run gives requests so long to end; default: 5 seconds
	Log         *slog.Logger  // default: discard
}

// A Proxy is the handler of the sessions' origin. It serves /user/ID/ and nothing else.
type Proxy struct {
	cfg     Config
	forward *httputil.ReverseProxy
	notices *notices

	mu     sync.Mutex
	active map[string]time.Time // when Active was last called
}

// New makes a Proxy.
func New(cfg Config) (*Proxy, error) {
	if cfg.Sessions == nil {
		return nil, errors.New("proxy: Config needs Sessions")
	}
	for _, u := range []string{cmp.Or(cfg.Hub, "http://hub"), cmp.Or(cfg.URL, "http://sessions")} {
		if p, err := url.Parse(u); err != nil || (p.Scheme != "http" && p.Scheme != "https") {
			return nil, fmt.Errorf("proxy: %q is not an http or https URL", u)
		}
	}
	cfg.ActiveGap = cmp.Or(cfg.ActiveGap, 10*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 5*time.Second)
	cfg.Drain = cmp.Or(cfg.Drain, 5*time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	p := &Proxy{cfg: cfg, active: map[string]time.Time{}}
	var err error
	if p.notices, err = newNotices(cfg.Hub); err != nil {
		return nil, err
	}
	p.forward = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		ModifyResponse: p.answered,
		ErrorHandler:   p.broken,
		FlushInterval:  -1, // kernels' answers and event streams are wanted now
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		Transport: &http.Transport{
			Proxy:                  nil, // the machine's own proxy must never see a session's traffic
			DialContext:            (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext,
			DisableCompression:     true, // what the session sends is passed on as it is
			MaxIdleConns:           512,
			MaxIdleConnsPerHost:    16,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
			ExpectContinueTimeout:  time.Second,
		},
	}
	return p, nil
}

// Run serves l until ctx ends, gives requests Config.Drain to end, and cuts the rest: WebSockets do not end by themselves.
func (p *Proxy) Run(ctx context.Context, l net.Listener) error {
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	srv := &http.Server{
		Handler: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve sessions: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(base, p.cfg.Drain)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		_ = srv.Close() // it only reports what Shutdown did
	}
	cut() // WebSockets, which Shutdown does not know
	<-ended
	return nil
}

var pathRE = regexp.MustCompile(`^/user/([a-z0-9-]{1,63})(/.*)?$`)

// ServeHTTP sends /user/ID/... to the session's address. The path goes on as it came: it is matched as sent, so no
// encoding of it names another session than the one that is looked up.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := pathRE.FindStringSubmatch(r.URL.EscapedPath())
	if m == nil || r.Method == http.MethodConnect {
		p.notices.show(w, r, nothingHere)
		return
	}
	id := m[1]
	if m[2] == "" {
		p.addSlash(w, r, id)
		return
	}
	addr, ok := p.cfg.Sessions.Address(id)
	if !ok {
		p.notices.show(w, r, sessionGone)
		return
	}
	p.touch(id)
	ctx := context.WithValue(r.Context(), contextKey{}, target{id: id, addr: addr})
	p.forward.ServeHTTP(w, r.WithContext(ctx))
}

func (p *Proxy) addSlash(w http.ResponseWriter, r *http.Request, id string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p.notices.show(w, r, nothingHere)
		return
	}
	to := url.URL{Path: "/user/" + id + "/", RawQuery: r.URL.RawQuery}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to.String(), http.StatusFound)
}

type contextKey struct{}

// A target is the session that a request goes to.
type target struct{ id, addr string }

func targetOf(ctx context.Context) target {
	t, _ := ctx.Value(contextKey{}).(target)
	return t
}

// rewrite points the request at the session. Host, path and query stay as they came; what a client says of who it is
// does not.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	out.URL.Scheme, out.URL.Host = "http", targetOf(in.Context()).addr
	out.URL.RawQuery = in.URL.RawQuery // nothing here reads it
	out.Host = in.Host
	for _, h := range []string{"X-Real-Ip", "X-Scheme", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server"} {
		out.Header.Del(h) // ReverseProxy has dropped the other ones
	}
	dropOurs(out.Header)
	peer, err := netip.ParseAddrPort(in.RemoteAddr)
	if err == nil && p.trusted(peer.Addr()) {
		out.Header["X-Forwarded-For"] = in.Header["X-Forwarded-For"]
	}
	pr.SetXForwarded()
	if strings.HasPrefix(p.cfg.URL, "https:") {
		out.Header.Set("X-Forwarded-Proto", "https")
	}
}

// dropOurs takes the hub's own cookies away. Cookies know hosts and no ports, so where hub and sessions are one host a
// browser shows them to both.
func dropOurs(h http.Header) {
	var kept []string
	for pair := range strings.SplitSeq(strings.Join(h["Cookie"], ";"), ";") {
		if pair = strings.TrimSpace(pair); pair != "" && !isOurs(pair) {
			kept = append(kept, pair)
		}
	}
	h.Del("Cookie")
	if len(kept) > 0 {
		h.Set("Cookie", strings.Join(kept, "; "))
	}
}

// isOurs reports whether a cookie is the hub's by its name.
func isOurs(cookie string) bool {
	return strings.HasPrefix(strings.TrimPrefix(strings.TrimSpace(cookie), "__Host-Http-"), "bindery_")
}

func (p *Proxy) trusted(a netip.Addr) bool {
	for _, prefix := range p.cfg.Proxies {
		if prefix.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// answered takes from an answer what would act on other sessions of this origin or on the hub, and counts its bytes as activity.
func (p *Proxy) answered(resp *http.Response) error {
	t := targetOf(resp.Request.Context())
	base := "/user/" + t.id + "/"
	if scope := resp.Header.Get("Service-Worker-Allowed"); scope != "" && !strings.HasPrefix(scope, base) {
		resp.Header.Del("Service-Worker-Allowed")
	}
	for _, h := range []string{"Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc"} {
		resp.Header.Del(h)
	}
	if set := slices.DeleteFunc(resp.Header["Set-Cookie"], isOurs); len(set) == 0 {
		resp.Header.Del("Set-Cookie")
	} else {
		resp.Header["Set-Cookie"] = set
	}
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &liveConn{ReadWriteCloser: rw, touch: func() { p.touch(t.id) }}
		return nil
	}
	resp.Body = &liveBody{ReadCloser: resp.Body, touch: func() { p.touch(t.id) }}
	return nil
}

// broken answers when the session did not.
func (p *Proxy) broken(w http.ResponseWriter, r *http.Request, err error) {
	t := targetOf(r.Context())
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // the visitor has gone
	}
	p.cfg.Log.DebugContext(r.Context(), "a session did not answer", "session", t.id, "err", err)
	if _, still := p.cfg.Sessions.Address(t.id); !still {
		p.notices.show(w, r, sessionGone)
		return
	}
	p.notices.show(w, r, notAnswering)
}

// maxActive bounds the memory of when sessions were last noted; entries older than the gap mean nothing.
const maxActive = 10000

// touch calls Sessions.Active, not more often than the gap allows.
func (p *Proxy) touch(id string) {
	now := time.Now()
	p.mu.Lock()
	last, seen := p.active[id]
	due := !seen || now.Sub(last) >= p.cfg.ActiveGap
	if due {
		if len(p.active) >= maxActive {
			p.forget(now)
		}
		p.active[id] = now
	}
	p.mu.Unlock()
	if due {
		p.cfg.Sessions.Active(id)
	}
}

func (p *Proxy) forget(now time.Time) {
	for id, last := range p.active {
		if now.Sub(last) >= p.cfg.ActiveGap {
			delete(p.active, id)
		}
	}
}

// liveConn is an upgraded connection; liveBody the body of an answer. Bytes that flow say that the session is in use.
type liveConn struct {
	io.ReadWriteCloser
	touch func()
}

func (c *liveConn) Read(b []byte) (int, error) {
	n, err := c.ReadWriteCloser.Read(b)
	if n > 0 {
		c.touch()
	}
	return n, err
}

func (c *liveConn) Write(b []byte) (int, error) {
	if len(b) > 0 {
		c.touch()
	}
	return c.ReadWriteCloser.Write(b)
}

type liveBody struct {
	io.ReadCloser
	touch func()
}

func (c *liveBody) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if n > 0 {
		c.touch()
	}
	return n, err
}
