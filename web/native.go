package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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

// headOnly answers a HEAD, whose headers are set: what would go on, or be long, is not begun, and nobody watches.
func headOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodHead {
		return false
	}
	w.WriteHeader(http.StatusOK)
	return true
}

// requestKey finds the request again where an answer holds URLs, which depend on how the hub was reached.
type requestKey struct{}

func nothing(*http.Request, *struct{}) error { return nil }

func id(r *http.Request, in *string) error {
	*in = r.PathValue("id")
	return nil
}

// An about is a request about one thing, with an optional body.
type about[T any] struct {
	id   string
	body T
}

func aboutIt[T any](r *http.Request, in *about[T]) error {
	in.id = r.PathValue("id")
	if r.ContentLength == 0 {
		return nil
	}
	return body(r, &in.body)
}

// maxListed bounds lists.
const maxListed = 1000

// upTo reads how much of a list is wanted, which is most when nothing is said.
func upTo(most int) func(r *http.Request, in *int) error {
	return func(r *http.Request, in *int) error {
		*in = most
		n, ok, err := number(r, "limit", maxListed)
		if ok {
			*in = int(n)
		}
		return err
	}
}

// number reads a number of the query, from 1 to most; ok: there is one.
func number(r *http.Request, name string, most int64) (n int64, ok bool, err error) {
	all := r.URL.Query()[name]
	if len(all) == 0 {
		return 0, false, nil
	}
	if n, err = strconv.ParseInt(all[0], 10, 64); err != nil || len(all) > 1 || n < 1 || n > most {
		return 0, false, bindery.Errorf(bindery.ErrInvalid, bindery.User, fmt.Sprintf("Give one number from 1 to %d.", most),
			"%q is not what %s may be", bindery.Printable(strings.Join(all, ", ")), name)
	}
	return n, true, nil
}

func body[T any](r *http.Request, in *T) error {
	var text json.RawMessage
	dec := json.NewDecoder(r.Body)
	err := dec.Decode(&text)
	switch {
	case err != nil:
	case dec.More():
		err = errors.New("more than one JSON value")
	case text[0] != '{': // null would do nothing
		err = errors.New("it is not an object")
	default:
		strict := json.NewDecoder(bytes.NewReader(text))
		strict.DisallowUnknownFields()
		err = strict.Decode(in)
	}
	if err != nil {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Send one JSON object with the fields that the documentation names.",
			"The body of the request cannot be read: %s", bindery.Printable(err.Error()))
	}
	return nil
}

func needScope(c Caller, scope api.Scope) error {
	if scope == "" || c.Scope.Includes(scope) {
		return nil
	}
	if c.Scope == "" {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Send a token of this hub: Authorization: Bearer TOKEN.", "This needs a token")
	}
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator for another one.", "This needs a token with the scope %q", string(scope))
}

func (s *Server) getStatus(ctx context.Context, _ Caller, _ struct{}) (api.Status, error) {
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
