package web

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// operatorKey is where requests that come from the admin pages hold the name of the token that was signed in with.
type operatorKey struct{}

// Operator finds the token of scope admin that somebody has, by its name and a print that changes with the token.
func (s *Server) Operator(bearer string) (name, print string, ok bool) {
	t, ok := s.token(bearer)
	if !ok || t.Scope != api.ScopeAdmin {
		return "", "", false
	}
	return t.Name, printOf(t), true
}

// Stands reports whether a token that Operator has found is still configured.
func (s *Server) Stands(name, print string) bool {
	for _, t := range s.cfg.Tokens {
		if t.Name == name && t.Scope == api.ScopeAdmin && printOf(t) == print {
			return true
		}
	}
	return false
}

func printOf(t Token) string { return bindery.Key("operator", strings.ToLower(t.Hash))[:16] }

// Visitor says where a request of this server comes from, past the hub's proxies, and whether by https.
func (s *Server) Visitor(r *http.Request) (addr string, secure bool) {
	c := visitOf(r.Context()).caller
	return c.IP, c.secure
}

// Asset is the path of a static file.
func (s *Server) Asset(name string) (string, error) { return s.assets.url(name) }

// As is a transport by which the admin pages use the native API inside this process, as the token of that name.
func (s *Server) As(name string) http.RoundTripper { return inside{s, name} }

type inside struct {
	s    *Server
	name string
}

// RoundTrip answers a request of the native API at once and whole: it is for what has an end.
func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	in := r.WithContext(context.WithValue(r.Context(), operatorKey{}, t.name))
	in.RequestURI, in.RemoteAddr, in.Host = r.URL.RequestURI(), "127.0.0.1:0", r.URL.Host
	w := &kept{header: http.Header{}}
	t.s.local.ServeHTTP(w, in)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// kept is an answer in memory.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *kept) Header() http.Header { return w.header }
func (w *kept) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}
func (w *kept) Write(b []byte) (int, error) { return w.body.Write(b) }

// operator is the caller that the admin pages ask for.
func operator(name string) Caller {
	who := "token:" + name
	return Caller{Who: who, Requester: who, IP: "127.0.0.1", addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Scope: api.ScopeAdmin, Admin: true}
}

// Forgiver is a Queue that can forget a failure.
type Forgiver interface {
	ForgiveBuild(ctx context.Context, id, who, reason string) error
}

// forgiveBuild forgets that a build failed: the next one who asks has it built again.
func (s *Server) forgiveBuild(ctx context.Context, c Caller, in about[api.ForgiveBuild]) (struct{}, error) {
	f, ok := s.cfg.Queue.(Forgiver)
	if !ok {
		return struct{}{}, errNoQueue()
	}
	if _, err := s.getBuild(ctx, c, in.id); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, f.ForgiveBuild(ctx, in.id, c.Who, oneLine(in.body.Reason))
}

// adminRoutes hands everything below /admin to the admin pages.
func (s *Server) adminRoutes(mux *http.ServeMux) {
	if s.admin == nil || s.cfg.APIOnly {
		return
	}
	h := s.handle(func(w http.ResponseWriter, r *http.Request) error { s.admin.ServeHTTP(w, r); return nil }, s.errorPage)
	for _, pattern := range []string{"GET /admin", "GET /admin/{page...}", "POST /admin/{page...}"} {
		mux.Handle(pattern, h)
	}
}
