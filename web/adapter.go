package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A handler answers a request or says why not. It returns an error only before it has written anything.
type handler func(w http.ResponseWriter, r *http.Request) error

type contextKey struct{}

// A visit is what the adapter knows about a request.
type visit struct {
	id       string // finds the request in the log
	caller   Caller
	route    string
	err      error // logged with the request
	detached bool  // its stream lives on, and logs it
}

func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(contextKey{}).(*visit)
	if v == nil {
		return &visit{}
	}
	return v
}

// A response remembers what was answered.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// adapt is what every request passes first: who asks, a request id, the headers of every answer, cross-origin writes
// refused, panics caught, one log line.
func (s *Server) adapt(mux *http.ServeMux, local bool) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(s.handle(func(http.ResponseWriter, *http.Request) error {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Send it from the hub's own pages or from a program.", "Another site may not do that here")
	}, writeProblem))
	inner := guard.Handler(s.clean(mux, local))
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := s.cfg.Now()
		v := &visit{id: strings.ToLower(rand.Text()[:16]), caller: s.callerOf(r, local)}
		r = r.WithContext(context.WithValue(bindery.WithLog(r.Context(), slog.String("request", v.id)), contextKey{}, v))
		w := &response{ResponseWriter: rw}
		setCommonHeaders(w.Header(), v.id)
		for name, value := range s.cfg.Headers {
			w.Header().Set(name, value)
		}
		if s.cfg.AllowOrigin != "" {
			w.Header().Set("Access-Control-Allow-Origin", s.cfg.AllowOrigin)
		}
		defer func() {
			if p := recover(); p != nil {
				s.panicked(w, r, p)
			}
			if !v.detached {
				s.logVisit(r, w, v, s.cfg.Now().Sub(start))
			}
		}()
		inner.ServeHTTP(w, r)
	})
}

func setCommonHeaders(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Access-Control-Allow-Headers", "cache-control")
}

// contentPolicy allows what our pages are made of: their own scripts, styles and images. Nothing inline runs.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// clean keeps away from the mux what it must not see: paths outside ours, callers of banned networks, paths that it
// would redirect. Such a redirect decodes and encodes the path again, and a spec must arrive as it was sent.
func (s *Server) clean(mux *http.ServeMux, local bool) http.Handler {
	stream := s.handle(s.buildStream, writeProblem)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local {
			var ours bool
			if r, ours = s.strip(r); !ours {
				s.refuse(w, r, http.StatusNotFound)
				return
			}
		}
		p := r.URL.EscapedPath()
		build := strings.HasPrefix(p, "/build/")
		switch {
		case p == "" || p[0] != '/' || (path.Clean(p) != p && path.Clean(p)+"/" != p):
			if build && r.Method == http.MethodGet {
				stream.ServeHTTP(w, r)
				return
			}
			s.refuse(w, r, http.StatusNotFound)
		case !build && !unbanned(p) && s.keepOut(visitOf(r.Context()).caller) != nil:
			s.refuse(w, r, http.StatusForbidden)
		case build && r.Method == http.MethodHead:
			w.Header().Set("Allow", "GET, OPTIONS") // the mux would take it for a GET, which starts a build
			s.refuse(w, r, http.StatusMethodNotAllowed)
		case r.Method == http.MethodOptions && methods(mux, r) != "":
			s.preflight(w, methods(mux, r)+", OPTIONS")
		default:
			s.route(mux, w, r)
		}
	})
}

// unbanned reports whether a path is open to everybody: probes, and files that are no page.
func unbanned(p string) bool {
	return p == "/versions" || p == "/health" || strings.HasPrefix(p, "/static/") || strings.HasPrefix(p, "/assets/") || strings.HasPrefix(p, "/extra_static/") ||
		slices.Contains(plainNames[:], strings.TrimPrefix(p, "/"))
}

func (s *Server) route(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	h, pattern := mux.Handler(r)
	if pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	ans := &answer{header: w.Header()}
	h.ServeHTTP(ans, r) // 404, or 405 with the methods that are allowed
	s.refuse(w, r, ans.status)
}

// methods lists what may be done at the path of r; empty: there is nothing.
func methods(mux *http.ServeMux, r *http.Request) string {
	var all []string
	probe := r.Clone(r.Context())
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe.Method = m
		if _, pattern := mux.Handler(probe); pattern != "" {
			all = append(all, m)
		}
	}
	return strings.Join(all, ", ")
}

// An answer keeps the status of what the mux would have said; the words are ours.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
func (a *answer) WriteHeader(status int)      { a.status = status }

// refuse answers a request that no route takes.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int) {
	v := visitOf(r.Context())
	v.err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check the address, or begin at the start page.", "There is nothing at this address")
	switch status {
	case http.StatusForbidden:
		v.err = s.keepOut(v.caller)
	case http.StatusMethodNotAllowed:
		v.err = bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use one of: "+w.Header().Get("Allow")+".", "%s is not possible here", bindery.Printable(r.Method))
	}
	p := api.ProblemOf(v.err, v.id)
	p.Status, p.Title = status, http.StatusText(status)
	if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/build/") {
		writeProblem(w, r, p)
		return
	}
	s.errorPage(w, r, p)
}

// handle makes an http.Handler of h, whose errors are shown by show.
func (s *Server) handle(h handler, show func(w http.ResponseWriter, r *http.Request, p api.Problem)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visitOf(r.Context())
		v.route = r.Pattern
		if err := h(w, r); err != nil {
			v.err = err
			show(w, r, api.ProblemOf(err, v.id))
		}
	})
}

func (s *Server) panicked(w *response, r *http.Request, p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	v := visitOf(r.Context())
	v.err = fmt.Errorf("panic: %v", p)
	s.cfg.Log.ErrorContext(r.Context(), "a request panicked", "request", v.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.status == 0 {
		writeProblem(w, r, api.ProblemOf(v.err, v.id))
	}
}

// logVisit writes the request's one line. Queries are left out: they carry tokens.
func (s *Server) logVisit(r *http.Request, w *response, v *visit, took fmt.Stringer) {
	level := slog.LevelDebug
	attrs := []slog.Attr{
		slog.String("request", v.id), slog.String("method", r.Method), slog.String("path", bindery.Printable(r.URL.EscapedPath())),
		slog.String("route", v.route), slog.Int("status", w.status), slog.Int64("bytes", w.bytes),
		slog.String("requester", v.caller.Requester), slog.String("took", took.String()),
	}
	if v.err != nil {
		e := bindery.AsError(v.err)
		level = slog.LevelInfo
		if e.Fault == bindery.Ours {
			level = slog.LevelError
		}
		attrs = append(attrs, slog.String("kind", string(e.Kind)), slog.String("fault", string(e.Fault)), slog.Any("err", v.err))
	}
	s.cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

func writeProblem(w http.ResponseWriter, _ *http.Request, p api.Problem) {
	writeAs(w, api.ProblemType, p.Status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	writeAs(w, "application/json", status, v)
	return nil
}

// writeTagged is for what rarely changes: who has it already is told so.
func writeTagged(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	sum := sha256.Sum256(b)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache") // it is asked for each time
	h.Set("Etag", `"`+hex.EncodeToString(sum[:12])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	return nil
}

func writeAs(w http.ResponseWriter, mediaType string, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"kind":"internal","fault":"ours","message":"The answer could not be written"}`)
	}
	w.Header().Set("Content-Type", mediaType)
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that has gone is not our error
}

func notFound(http.ResponseWriter, *http.Request) error {
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check the address, or begin at the start page.", "There is nothing at this address")
}
