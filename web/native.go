package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// maxBody and bodyWithin bound what a request may send, and how long it may take over it.
const (
	maxBody    = 1 << 20
	bodyWithin = 30 * time.Second
)

// An endpoint answers one request of the native API, already read and with its caller known.
type endpoint[Req, Resp any] func(ctx context.Context, c Caller, in Req) (Resp, error)

// call makes a handler of an endpoint and of what reads its request.
func call[Req, Resp any](do endpoint[Req, Resp], read func(r *http.Request, in *Req) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(bodyWithin)) // test recorders have none
		var in Req
		err := read(r, &in)
		_ = rc.SetReadDeadline(time.Time{}) // or it would end the request while it is worked on
		if err != nil {
			return err
		}
		ctx := context.WithValue(r.Context(), requestKey{}, r)
		out, err := do(ctx, visitOf(ctx).caller, in)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, out)
	}
}

// requestKey finds the request again where an answer holds URLs, which depend on how the hub was reached.
type requestKey struct{}

func nothing(*http.Request, *struct{}) error { return nil }

func id(r *http.Request, in *string) error {
	*in = r.PathValue("id")
	return nil
}

func body[T any](r *http.Request, in *T) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(in)
	if err == nil && dec.More() {
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Send one JSON object with the fields that the documentation names.",
			"The body of the request cannot be read: %s", bindery.Printable(err.Error()))
	}
	return nil
}

type stopRequest struct {
	id string
	api.StopSession
}

func stopping(r *http.Request, in *stopRequest) error {
	in.id = r.PathValue("id")
	if r.ContentLength == 0 {
		return nil
	}
	return body(r, &in.StopSession)
}

func needAdmin(c Caller) error {
	if c.Admin {
		return nil
	}
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Send a token of this hub: Authorization: Bearer TOKEN.", "This needs a token")
}

func (s *Server) getStatus(ctx context.Context, c Caller, _ struct{}) (api.Status, error) {
	if err := needAdmin(c); err != nil {
		return api.Status{}, err
	}
	out := api.Status{Version: s.cfg.Version, Generation: s.cfg.Generation, OK: true, Checks: []bindery.Check{}}
	if s.cfg.Checks != nil {
		out.Checks = s.cfg.Checks(ctx)
	}
	for _, ch := range out.Checks {
		out.OK = out.OK && (ch.OK || ch.Level != "required")
	}
	if s.cfg.Worker != nil {
		w, err := s.cfg.Worker(ctx)
		out.Worker, out.OK = w, out.OK && err == nil
	}
	live, err := s.cfg.Sessions.Sessions(ctx)
	out.Sessions = len(live)
	return out, err
}

func (s *Server) postBuild(ctx context.Context, c Caller, in api.NewBuild) (bindery.Build, error) {
	src, err := askedSource(c, in.Source)
	if err != nil {
		return bindery.Build{}, err
	}
	class := in.Class
	switch class {
	case "":
		class = bindery.Unattended
	case bindery.Attended, bindery.Unattended, bindery.Background:
	default:
		return bindery.Build{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use attended, unattended or background.", "%q is not a class", bindery.Printable(string(class)))
	}
	return s.submit(ctx, bindery.Ask{Source: src, Requester: c.Requester, Class: class, Retry: in.Retry})
}

func (s *Server) submit(ctx context.Context, ask bindery.Ask) (bindery.Build, error) {
	src, err := s.cfg.Builds.Resolve(ctx, ask.Source)
	if err != nil {
		return bindery.Build{}, err
	}
	ask.Source = src
	return s.cfg.Builds.Submit(ctx, ask)
}

// askedSource checks a source that came over the wire. Directories are for whoever is at the machine.
func askedSource(c Caller, in bindery.Source) (bindery.Source, error) {
	if err := needAdmin(c); err != nil {
		return in, err
	}
	sub, err := bindery.CleanSubdir(in.Subdir)
	if err != nil {
		return in, err
	}
	switch {
	case in.Provider == bindery.ProviderLocal && c.Local:
		return bindery.Source{Provider: in.Provider, URL: in.URL, Subdir: sub}, nil
	case in.Provider == bindery.ProviderGit || in.Provider == "":
		src, err := bindery.ParseGitSource(in.URL, in.Ref)
		src.Subdir = sub
		if bindery.IsCommit(in.Commit) && src.Ref == "" {
			src.Ref = in.Commit
		}
		return src, err
	case in.Provider == bindery.ProviderLocal:
		return in, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the hub's socket on its own machine.", "Directories are not built over the network")
	}
	return in, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use git.", "No provider found for prefix %s", bindery.Printable(in.Provider))
}

func (s *Server) getBuild(ctx context.Context, c Caller, id string) (bindery.Build, error) {
	b, err := s.cfg.Builds.Build(ctx, id)
	if err == nil && b.Source.Provider == bindery.ProviderLocal && !c.Admin {
		err = bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id.", "There is no such build")
	}
	if err != nil {
		return bindery.Build{}, err
	}
	return b, nil
}

// buildEvents is the stream of a build's own events, all of them, numbered, with nothing added.
func (s *Server) buildEvents(w http.ResponseWriter, r *http.Request) error {
	b, err := s.getBuild(r.Context(), visitOf(r.Context()).caller, r.PathValue("id"))
	if err != nil {
		return err
	}
	after, _ := strconv.ParseInt(r.Header.Get("Last-Event-Id"), 10, 64) // what is no number is the start
	st, ctx := s.newSender(w, r)
	defer st.close()
	for {
		before := after
		for e, err := range s.cfg.Builds.Events(ctx, b.ID, max(after, 0)) {
			if err != nil || st.send(strconv.FormatInt(e.Seq, 10), e) != nil {
				visitOf(r.Context()).err = err
				return nil // without its end mark the client knows that the stream was cut
			}
			after = e.Seq
		}
		if ctx.Err() != nil {
			return nil
		}
		b, err = s.cfg.Builds.Build(ctx, b.ID)
		if err != nil {
			return nil
		}
		if b.State.Ended() {
			_ = st.write([]byte("event: " + api.EndOfStream + "\ndata: {}\n\n")) // a client that has gone needs no end
			return nil
		}
		if after == before {
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

func (s *Server) getSessions(ctx context.Context, c Caller, _ struct{}) ([]api.Session, error) {
	if err := needAdmin(c); err != nil {
		return nil, err
	}
	all, err := s.cfg.Sessions.Sessions(ctx)
	out := make([]api.Session, 0, len(all))
	for _, sess := range all {
		sess.Token = ""
		out = append(out, s.shown(ctx, sess))
	}
	return out, err
}

func (s *Server) shown(ctx context.Context, sess bindery.Session) api.Session {
	r, _ := ctx.Value(requestKey{}).(*http.Request)
	return api.Session{Session: sess, URL: s.sessionURL(r, sess)}
}

// session returns a session that c may use; for all others it does not exist.
func (s *Server) session(ctx context.Context, c Caller, id string) (bindery.Session, error) {
	sess, err := s.cfg.Sessions.Session(ctx, id)
	if err != nil && !errors.Is(err, bindery.ErrNotFound) {
		return sess, err
	}
	if err != nil || !c.mayUse(sess) {
		return bindery.Session{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id, and that you sent its token.", "There is no such session")
	}
	return sess, nil
}

func (s *Server) getSession(ctx context.Context, c Caller, id string) (api.Session, error) {
	sess, err := s.session(ctx, c, id)
	if err != nil {
		return api.Session{}, err
	}
	if c.Admin && !c.Local {
		sess.Token = ""
	}
	return s.shown(ctx, sess), nil
}

func (s *Server) deleteSession(ctx context.Context, c Caller, in stopRequest) (struct{}, error) {
	sess, err := s.session(ctx, c, in.id)
	if err != nil {
		return struct{}{}, err
	}
	reason := bindery.Printable(in.Reason)
	if reason == "" {
		reason = "stopped by " + c.Requester
	}
	return struct{}{}, s.cfg.Sessions.StopSession(ctx, sess.ID, reason)
}

func (s *Server) postSession(ctx context.Context, c Caller, in api.NewSession) (api.Session, error) {
	if err := needAdmin(c); err != nil {
		return api.Session{}, err
	}
	ask := bindery.Ask{Requester: c.Requester, Class: bindery.Unattended}
	if in.Request != "" {
		ask.Request = bindery.Key("launch", c.Requester, in.Request)
	}
	b, err := s.wanted(ctx, c, in, ask)
	if err != nil {
		return api.Session{}, err
	}
	if b.State != bindery.BuildSucceeded {
		return api.Session{}, buildFailure(b)
	}
	ask.Source = b.Source
	sess, err := s.launches.get(ctx, b, ask)
	if err != nil {
		return api.Session{}, err
	}
	return s.shown(ctx, sess), nil
}

// wanted returns the finished build that a session is asked of; it waits for one that is still being made.
func (s *Server) wanted(ctx context.Context, c Caller, in api.NewSession, ask bindery.Ask) (bindery.Build, error) {
	var b bindery.Build
	var err error
	if in.Build != "" {
		b, err = s.getBuild(ctx, c, in.Build)
	} else if ask.Source, err = askedSource(c, in.Source); err == nil {
		b, err = s.submit(ctx, ask)
	}
	for err == nil && !b.State.Ended() {
		for _, err := range s.cfg.Builds.Events(ctx, b.ID, 0) {
			if err != nil {
				return b, err
			}
		}
		if b, err = s.cfg.Builds.Build(ctx, b.ID); err == nil && !b.State.Ended() {
			select {
			case <-ctx.Done():
				return b, ctx.Err()
			case <-time.After(time.Second):
			}
		}
	}
	return b, err
}

func (s *Server) sessionLog(w http.ResponseWriter, r *http.Request) error {
	sess, err := s.session(r.Context(), visitOf(r.Context()).caller, r.PathValue("id"))
	if err != nil {
		return err
	}
	if s.cfg.SessionLog == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Ask its launcher.", "The logs of sessions are not kept here")
	}
	log, err := s.cfg.SessionLog(r.Context(), sess.ID, r.URL.Query().Get("follow") == "1")
	if err != nil {
		return err
	}
	stop := context.AfterFunc(r.Context(), func() { _ = log.Close() }) // ends a read that waits
	defer stop()
	defer log.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	_ = rc.Flush()                                          // so that the follower of an empty log has an answer
	_, _ = io.Copy(flushed{w, rc, s.cfg.WriteTimeout}, log) // cut logs are seen as such by the client
	return nil
}

// flushed sends what is written to it at once, and gives up on a reader that takes nothing.
type flushed struct {
	w     io.Writer
	rc    *http.ResponseController
	limit time.Duration
}

func (f flushed) Write(b []byte) (int, error) {
	_ = f.rc.SetWriteDeadline(time.Now().Add(f.limit)) // test recorders have none
	n, err := f.w.Write(b)
	if err == nil {
		err = f.rc.Flush()
	}
	_ = f.rc.SetWriteDeadline(time.Time{})
	return n, err
}
