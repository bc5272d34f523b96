package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// handler is the protocol.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"PUT /v1/builds/{id}/{attempt}":        s.putBuild,
		"GET /v1/builds/{id}/{attempt}":        s.getBuild,
		"DELETE /v1/builds/{id}/{attempt}":     s.deleteBuild,
		"GET /v1/builds/{id}/{attempt}/events": s.getEvents,
		"POST /v1/builds/{id}/{attempt}/ack":   s.postAck,
		"GET /v1/status":                       s.getStatus,
		"GET /v1/alive":                        getAlive,
		"PUT /v1/drain":                        s.putDrain,
		"GET /v1/preflight":                    s.getPreflight,
		"PUT /v1/room":                         s.putRoom,
		"POST /v1/resolve":                     s.postResolve,
		"POST /v1/plan":                        s.postPlan,
		"GET /v1/images":                       s.getImages,
		"GET /v1/disk":                         s.getDisk,
		"GET /v1/dropped":                      s.getDropped,
		"DELETE /v1/dropped":                   s.deleteDropped,
		"GET /v1/images/{name...}":             s.getImage,
		"GET /v1/packages/{name...}":           s.getPackages,
		"DELETE /v1/images/{name...}":          s.deleteImage,
		"PUT /v1/rootfs/{session}":             s.putRootfs,
		"DELETE /v1/rootfs/{session}":          s.deleteRootfs,
	} {
		mux.Handle(pattern, s.adapt(h))
	}
	return mux
}

// adapt counts requests and answers their errors.
func (s *Server) adapt(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked(+1)
		defer s.asked(-1)
		err := h(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		e := bindery.AsError(err)
		if e.Fault == bindery.Ours && e.Kind != bindery.ErrNotFound {
			s.cfg.Log.ErrorContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		_ = writeJSON(w, api.StatusOf(e.Kind), e) // an Error always marshals
	})
}

func (s *Server) asked(n int) {
	s.mu.Lock()
	s.asking += n
	s.active = s.cfg.Now()
	s.mu.Unlock()
	s.wake()
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(v); err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Send a JSON object.", "The request cannot be read").Because(err)
	}
	return nil
}

func keyOf(r *http.Request) (key, error) {
	n, err := strconv.Atoi(r.PathValue("attempt"))
	if err != nil {
		n = 0
	}
	k := key{r.PathValue("id"), n}
	return k, k.check()
}

func number(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Give a number from 0.", "%q is not the number of an event", bindery.Printable(text))
	}
	return n, nil
}

func (s *Server) putBuild(w http.ResponseWriter, r *http.Request) error {
	k, err := keyOf(r)
	if err != nil {
		return err
	}
	var req bindery.BuildRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if k != (key{req.ID, req.Attempt}) {
		return bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Name the same build in both.", "The request's path and body name different builds")
	}
	if err := s.start(req); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) getBuild(w http.ResponseWriter, r *http.Request) error {
	k, err := keyOf(r)
	if err != nil {
		return err
	}
	a, err := s.find(k)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a.log.state())
}

func (s *Server) deleteBuild(w http.ResponseWriter, r *http.Request) error {
	k, err := keyOf(r)
	if err != nil {
		return err
	}
	if err := s.cancel(k); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) postAck(w http.ResponseWriter, r *http.Request) error {
	k, err := keyOf(r)
	if err != nil {
		return err
	}
	seq, err := number(r, "seq")
	if err != nil {
		return err
	}
	if err := s.ack(k, seq); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	k, err := keyOf(r)
	if err != nil {
		return err
	}
	after, err := number(r, "after")
	if err != nil {
		return err
	}
	a, err := s.find(k)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := &stream{w: w, rc: http.NewResponseController(w)}
	if err := out.rc.Flush(); err != nil {
		return nil
	}
	if err := a.log.follow(r.Context(), after, out); err != nil && r.Context().Err() == nil && !out.broken {
		s.cfg.Log.ErrorContext(r.Context(), "an event stream broke", "build", k.build, "attempt", k.attempt, "err", err)
		panic(http.ErrAbortHandler) // so that the reader does not take it for the end
	}
	return nil
}

// stream is an event stream's connection. A reader that takes nothing for a minute is cut off; it can resume.
type stream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	broken bool
}

func (s *stream) Write(p []byte) (int, error) {
	_ = s.rc.SetWriteDeadline(time.Now().Add(time.Minute)) // not every test server has deadlines
	n, err := s.w.Write(p)
	if err == nil {
		err = s.rc.Flush()
	}
	s.broken = err != nil
	return n, err
}

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	prepared, err := s.cfg.Images.Prepared(r.Context())
	if err != nil {
		return err
	}
	out := bindery.WorkerStatus{
		Name: s.cfg.Name, Version: s.cfg.Version, Generation: s.cfg.Generation,
		Slots: s.cfg.Slots, Builds: s.list(), Prepared: prepared, Checks: []bindery.Check{},
		Pool: s.cfg.Pool, Labels: s.cfg.Labels, Machine: s.cfg.Machine,
	}
	if s.cfg.Checks != nil {
		out.Checks = s.cfg.Checks(r.Context())
	}
	if s.cfg.GitHub != nil {
		out.GitHubLeft = s.cfg.GitHub()
	}
	if s.cfg.Usage != nil {
		if out.CacheSize, out.DiskFree, err = s.cfg.Usage(r.Context()); err != nil && !errors.Is(err, context.Canceled) {
			s.cfg.Log.WarnContext(r.Context(), "the cache cannot be measured", "err", err)
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// getPreflight answers with the last look at the machine, and has the next one begin. Only the first is waited for, a
// while: a disk that hangs must not hold up whoever asks.
func (s *Server) getPreflight(w http.ResponseWriter, r *http.Request) error {
	p := s.cfg.Probe
	if p == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Use another worker.", "This worker does not look at its machine")
	}
	writes, err := time.ParseDuration(r.URL.Query().Get("writes"))
	if err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Give a duration such as 15s.", "It is not said how old the write rate may be")
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		p.Refresh(context.WithoutCancel(r.Context()), writes)
	}()
	if p.Last().At.IsZero() {
		select {
		case <-looked:
		case <-time.After(firstLook):
		case <-r.Context().Done():
		}
	}
	return writeJSON(w, http.StatusOK, p.Last())
}

// firstLook is how long the first look at the machine is waited for.
const firstLook = 5 * time.Second

// putRoom drops of the cache what nothing holds.
func (s *Server) putRoom(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Room != nil {
		if err := s.cfg.Room(r.Context()); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func getAlive(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// putDrain tells the worker to take no more builds and to end with the last one.
func (s *Server) putDrain(w http.ResponseWriter, _ *http.Request) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.wake()
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) postResolve(w http.ResponseWriter, r *http.Request) error {
	var src bindery.Source
	if err := decode(r, &src); err != nil {
		return err
	}
	out, err := s.cfg.Resolver.Resolve(r.Context(), src)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) postPlan(w http.ResponseWriter, r *http.Request) error {
	var req planRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	out, err := s.cfg.Planner.Plan(r.Context(), req.Source, req.Base)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) getImages(w http.ResponseWriter, r *http.Request) error {
	out, err := s.cfg.Images.Images(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) getImage(w http.ResponseWriter, r *http.Request) error {
	out, err := s.cfg.Images.Image(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) getDisk(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Disk == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Use another worker.", "This worker does not count its disk")
	}
	out, err := s.cfg.Disk(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

// getDropped answers with the images that went for want of room; what is deleted of them is known to whoever asks.
func (s *Server) getDropped(w http.ResponseWriter, r *http.Request) error {
	out := []bindery.Dropped{}
	if s.cfg.Dropper != nil {
		var err error
		if out, err = s.cfg.Dropper.Dropped(r.Context()); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) deleteDropped(w http.ResponseWriter, r *http.Request) error {
	last, err := number(r, "last")
	if err == nil && s.cfg.Dropper != nil {
		err = s.cfg.Dropper.ForgetDropped(r.Context(), last)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getPackages answers with what an image has installed, in the form that the engine has for it.
func (s *Server) getPackages(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Packages == nil {
		return bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Use another worker.", "This worker does not look into images")
	}
	out, err := s.cfg.Packages(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) deleteImage(w http.ResponseWriter, r *http.Request) error {
	if err := s.cfg.Images.RemoveImage(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func sessionOf(r *http.Request) (string, error) {
	id := r.PathValue("session")
	if regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`).MatchString(id) {
		return id, nil
	}
	return "", bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Use up to 63 letters, digits and hyphens.", "%q is not the id of a session", bindery.Printable(id))
}

func (s *Server) putRootfs(w http.ResponseWriter, r *http.Request) error {
	id, err := sessionOf(r)
	if err != nil {
		return err
	}
	var req prepareRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	out, err := s.cfg.Images.Prepare(r.Context(), id, req.Image)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) deleteRootfs(w http.ResponseWriter, r *http.Request) error {
	id, err := sessionOf(r)
	if err != nil {
		return err
	}
	if err := s.cfg.Images.Release(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
