package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// load counts what of a hub only its event streams know.
type load struct{ streams, launching, opened, resumed atomic.Int64 }

// Load says how many event streams are open, how many sessions are being started for them, and how many there were.
func (s *Server) Load() bindery.Load {
	l := &s.load
	return bindery.Load{Streams: int(l.streams.Load()), Launching: int(l.launching.Load()), Opened: l.opened.Load(), Resumed: l.resumed.Load()}
}

// A tale is what a watch remembers for its report.
type tale struct {
	began     time.Time
	resolved  time.Time
	build     bindery.Build
	cached    bool
	built     time.Time // there was an image
	launching time.Time
	session   string
	linger    bool // its stream stays open for a while when all is said
}

// report tells how a request ended. Those that were refused before anything was looked up are no launches, and neither
// is one that ended because the hub does: it will come back.
func (wa *watch) report(ctx context.Context, err error) {
	s := wa.s
	if s.cfg.Report == nil || wa.provider.ID == "" || errors.Is(context.Cause(ctx), errClosing) || wa.buildOnly {
		return
	}
	now := s.cfg.Now()
	rep := bindery.LaunchReport{
		Time: now, Status: bindery.LaunchSucceeded, Provider: wa.provider, Spec: strings.TrimRight(wa.spec.raw, "/"), Source: wa.ask.Source,
		Repo: wa.provider.RepoURL(wa.ask.Source), Build: wa.build.ID, Session: wa.session, Class: wa.ask.Class, Evidence: wa.ask.Evidence,
		Token: wa.token, Origin: s.ownHost(wa.r), RequestOrigin: requestOrigin(wa.r), Cached: wa.cached,
		Request: visitOf(wa.r.Context()).id, Began: wa.began, Parent: wa.r.Header.Get("Traceparent"),
	}
	if !wa.resolved.IsZero() {
		rep.Resolved = wa.resolved.Sub(wa.began)
	}
	if wa.build.Result != nil {
		rep.Generation = wa.build.Result.Generation
	}
	switch {
	case wa.session != "": // it got what it came for, whatever became of the stream
	case ctx.Err() != nil:
		rep.Status = bindery.LaunchLeft
	case errors.Is(err, bindery.ErrRepoQuota):
		rep.Status = bindery.LaunchRepoFull
	case errors.Is(err, bindery.ErrHubQuota):
		rep.Status = bindery.LaunchHubFull
	default:
		rep.Status = bindery.LaunchFailed
	}
	if err != nil && wa.session == "" {
		rep.Err = bindery.AsError(err)
	}
	if !wa.built.IsZero() {
		rep.Built = wa.built.Sub(wa.began)
	}
	if !wa.launching.IsZero() {
		rep.Started = max(now.Sub(wa.launching), 1) // not zero: it was tried
	}
	s.cfg.Report(rep)
}

// ownHost is the hub's host and port, by which it is known in the archive: the public one where that is configured, since
// a proxy may have put another into the request.
func (s *Server) ownHost(r *http.Request) string {
	if u, err := url.Parse(s.cfg.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return r.Host
}

// requestOrigin is the page that asked, else what the browser says of it.
func requestOrigin(r *http.Request) string {
	if o := r.Header.Get("Origin"); o != "" {
		return bindery.Printable(o)
	}
	return bindery.Printable(r.Header.Get("Sec-Fetch-Site"))
}
