package web

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// replays remembers the answers to requests that carry an Idempotency-Key, so that a client whose connection broke may
// send its request again: it is carried out once. Failures are not remembered; trying again is what they are for.
type replays struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]*replay
	old []string // keys, oldest first
}

const (
	replayFor   = time.Hour
	mostReplays = 10_000
	longestKey  = 255
)

// A replay is one request and, once done is closed, its answer; without one it failed.
type replay struct {
	body   [sha256.Size]byte
	done   chan struct{}
	at     time.Time
	answer []byte
	status int
}

func newReplays(now func() time.Time) *replays {
	return &replays{now: now, all: map[string]*replay{}}
}

// once makes h answer a request and its repetitions alike.
func (rp *replays) once(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		keys := r.Header.Values(api.IdempotencyKey)
		if len(keys) == 0 {
			return h(w, r)
		}
		key := keys[0]
		odd := func(r rune) bool { return r < '!' || r > '~' }
		if key == "" || len(keys) > 1 || len(key) > longestKey || strings.ContainsFunc(key, odd) {
			return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use up to 255 visible ASCII characters.", "The Idempotency-Key cannot be used")
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWithin)) // test recorders have none
		text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Send a body of up to 1 MiB.", "The body of the request cannot be read").Because(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
		name := bindery.Key("replay", visitOf(r.Context()).caller.Requester, r.URL.Path, key)
		return rp.answer(w, r, name, sha256.Sum256(text), h)
	}
}

func (rp *replays) answer(w http.ResponseWriter, r *http.Request, name string, body [sha256.Size]byte, h handler) error {
	for {
		e, mine := rp.take(name, body)
		if mine {
			return rp.first(w, r, name, e, h)
		}
		if e.body != body {
			return bindery.Errorf(bindery.ErrConflict, bindery.User, "Make a new key for a new request.", "The Idempotency-Key was used for another request")
		}
		select {
		case <-e.done:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		if e.status != 0 {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Idempotency-Replayed", "true")
			w.WriteHeader(e.status)
			_, _ = w.Write(e.answer) // a client that has gone is not our error
			return nil
		}
	}
}

// first carries out a request and keeps its answer. Whatever happens, those who wait for it go on.
func (rp *replays) first(w http.ResponseWriter, r *http.Request, name string, e *replay, h handler) (err error) {
	rec := &recorded{ResponseWriter: w}
	defer func() { rp.settle(name, e, rec, err) }()
	err = http.ErrAbortHandler // should h panic
	err = h(rec, r)
	return err
}

// take returns the entry of a name; mine: it is new, and the caller's to settle.
func (rp *replays) take(name string, body [sha256.Size]byte) (e *replay, mine bool) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	for len(rp.old) > 0 {
		first := rp.all[rp.old[0]]
		if first != nil && rp.now().Sub(first.at) < replayFor && len(rp.old) < mostReplays {
			break
		}
		delete(rp.all, rp.old[0])
		rp.old = rp.old[1:]
	}
	if e = rp.all[name]; e != nil {
		return e, false
	}
	e = &replay{body: body, done: make(chan struct{}), at: rp.now()}
	rp.all[name] = e
	rp.old = append(rp.old, name)
	return e, true
}

func (rp *replays) settle(name string, e *replay, rec *recorded, err error) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	if err == nil && rec.status >= 200 && rec.status < 300 {
		e.answer, e.status = rec.body.Bytes(), rec.status
	} else if rp.all[name] == e {
		delete(rp.all, name)
	}
	close(e.done)
}

// recorded keeps a copy of what is answered.
type recorded struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *recorded) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorded) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorded) Unwrap() http.ResponseWriter { return w.ResponseWriter }
