package web

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

func (s *Server) getSessions(ctx context.Context, c Caller, _ struct{}) ([]api.Session, error) {
	all, err := s.cfg.Sessions.Sessions(ctx)
	out := make([]api.Session, 0, len(all))
	for _, sess := range all {
		sess.Token = ""
		x := s.shown(ctx, sess)
		if c.Admin {
			x.Requester = sess.Requester
		}
		out = append(out, x)
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

func (s *Server) deleteSession(ctx context.Context, c Caller, in about[api.StopSession]) (struct{}, error) {
	sess, err := s.session(ctx, c, in.id)
	if err != nil {
		return struct{}{}, err
	}
	if err := checkReason(in.body.Reason); err != nil {
		return struct{}{}, err
	}
	reason := oneLine(in.body.Reason)
	if c.Admin {
		return struct{}{}, s.cfg.Sessions.OustSession(ctx, sess.ID, c.Who, reason)
	}
	return struct{}{}, s.cfg.Sessions.StopSession(ctx, sess.ID, cmp.Or(reason, "Stopped by its visitor"))
}

func (s *Server) postSession(ctx context.Context, c Caller, in api.NewSession) (api.Session, error) {
	ask := bindery.Ask{Requester: c.Requester, Address: c.address(), Launches: true}
	ask.Class, ask.Evidence = unsaid(c)
	if r, ok := ctx.Value(requestKey{}).(*http.Request); ok {
		in.Request = cmp.Or(in.Request, r.Header.Get(api.IdempotencyKey)) // this hub's memory is short, the session's record is not
	}
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
	if err := s.ruled(c, b.Source, &ask); err != nil { // the build may be somebody else's
		return api.Session{}, err
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
	} else if ask.Source, err = s.askedSource(c, in.Source); err == nil {
		b, err = s.submit(ctx, c, ask)
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
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if headOnly(w, r) {
		return nil
	}
	log, err := s.cfg.SessionLog(r.Context(), sess.ID, r.URL.Query().Get("follow") == "1")
	if err != nil {
		return err
	}
	stop := context.AfterFunc(r.Context(), func() { _ = log.Close() }) // ends a read that waits
	defer stop()
	defer log.Close()
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
