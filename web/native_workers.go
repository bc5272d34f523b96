package web

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// workersOf returns what knows the workers.
func (s *Server) workersOf() (Workers, error) {
	if s.cfg.Workers == nil {
		return nil, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Ask the operator of this hub.", "This hub has no workers to look at")
	}
	return s.cfg.Workers, nil
}

func (s *Server) getWorkers(ctx context.Context, _ Caller, _ struct{}) ([]bindery.WorkerView, error) {
	w, err := s.workersOf()
	if err != nil {
		return nil, err
	}
	all, err := w.Workers(ctx)
	return append([]bindery.WorkerView{}, all...), err
}

func (s *Server) getWorker(ctx context.Context, _ Caller, name string) (bindery.WorkerView, error) {
	w, err := s.workersOf()
	if err != nil {
		return bindery.WorkerView{}, err
	}
	all, err := w.Workers(ctx)
	if err != nil {
		return bindery.WorkerView{}, err
	}
	if i := slices.IndexFunc(all, func(v bindery.WorkerView) bool { return v.Name == name }); i >= 0 {
		return all[i], nil
	}
	return bindery.WorkerView{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery workers ls` lists them.", "There is no worker %q", bindery.Printable(name))
}

// postWorker is for the hub's socket: whoever names a socket has the hub talk to it.
func (s *Server) postWorker(ctx context.Context, c Caller, in api.NewWorker) (bindery.WorkerView, error) {
	w, err := s.workersOf()
	if err != nil {
		return bindery.WorkerView{}, err
	}
	if !c.Local {
		return bindery.WorkerView{}, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Run `bindery worker --hub` on the hub's machine, or join over the network with a token of `bindery workers token`.",
			"Sockets are named by the hub's own socket only")
	}
	if err := bindery.CheckWorkerName(in.Name); err != nil {
		return bindery.WorkerView{}, err
	}
	if !filepath.IsAbs(in.Socket) || in.Socket != filepath.Clean(in.Socket) {
		return bindery.WorkerView{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give an absolute path.", "%q is not the path of a socket", bindery.Printable(in.Socket))
	}
	if err := w.AddWorker(ctx, c.Who, in); err != nil {
		return bindery.WorkerView{}, err
	}
	return s.getWorker(ctx, c, in.Name)
}

// changeWorker does what an operator wants of a worker, and shows it.
func (s *Server) changeWorker(ctx context.Context, c Caller, name, reason string, do func(w Workers, reason string) error) (bindery.WorkerView, error) {
	w, err := s.workersOf()
	if err == nil {
		err = checkReason(reason)
	}
	if err == nil {
		err = do(w, oneLine(reason))
	}
	if err != nil {
		return bindery.WorkerView{}, err
	}
	return s.getWorker(ctx, c, name)
}

func checkReason(reason string) error {
	if len(reason) > 1000 {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use at most 1000 bytes.", "The reason is too long")
	}
	return nil
}

func (s *Server) drainWorker(ctx context.Context, c Caller, in about[api.ChangeWorker]) (bindery.WorkerView, error) {
	return s.changeWorker(ctx, c, in.id, in.body.Reason, func(w Workers, reason string) error { return w.DrainWorker(ctx, in.id, c.Who, reason) })
}

func (s *Server) resumeWorker(ctx context.Context, c Caller, in about[api.ChangeWorker]) (bindery.WorkerView, error) {
	return s.changeWorker(ctx, c, in.id, in.body.Reason, func(w Workers, reason string) error { return w.ResumeWorker(ctx, in.id, c.Who, reason) })
}

func (s *Server) deleteWorker(ctx context.Context, c Caller, in about[api.RemoveWorker]) (struct{}, error) {
	w, err := s.workersOf()
	if err == nil {
		err = checkReason(in.body.Reason)
	}
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, w.RemoveWorker(ctx, in.id, c.Who, oneLine(in.body.Reason), in.body.Force)
}

// Bounds of join tokens: they are for setting machines up, not for keeping.
const (
	mostJoins   = 1000
	longestJoin = 7 * 24 * time.Hour
)

func (s *Server) postJoinToken(ctx context.Context, c Caller, in api.NewJoinToken) (api.JoinToken, error) {
	w, err := s.workersOf()
	if err != nil {
		return api.JoinToken{}, err
	}
	bad := func(remedy, format string, args ...any) (api.JoinToken, error) {
		return api.JoinToken{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, remedy, format, args...)
	}
	if err := checkReason(in.Reason); err != nil {
		return api.JoinToken{}, err
	}
	in.Reason = oneLine(in.Reason)
	switch {
	case in.Uses < 0 || in.Uses > mostJoins:
		return bad("Give a number from 1 to 1000.", "%d is not how many workers may join by a token", in.Uses)
	case in.For < 0 || in.For > longestJoin:
		return bad("Give a time of up to a week.", "A token cannot be valid for %s", in.For)
	case in.Pool != "":
		if err := bindery.CheckWorkerName(in.Pool); err != nil {
			return api.JoinToken{}, err
		}
	}
	return w.AddJoinToken(ctx, c.Who, in)
}

// orBody is body for requests that may have none.
func orBody[T any](r *http.Request, in *T) error {
	if r.ContentLength == 0 {
		return nil
	}
	return body(r, in)
}
