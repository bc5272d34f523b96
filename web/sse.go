package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// flushGap bounds how often a busy stream is flushed: a replay of ten thousand lines is not ten thousand packets.
const flushGap = 25 * time.Millisecond

// closingKey finds, in the context of a request, the context that ends when event streams are to end: before the server
// waits for all other requests.
type closingKey struct{}

var errClosing = errors.New("the hub is about to stop")

// A sender writes one event stream. Timers write to it too, so everything is under its lock. It holds no goroutine:
// a watcher costs its request's own and the timers' entries.
type sender struct {
	limit  time.Duration
	every  time.Duration
	cancel context.CancelCauseFunc
	unhook func() bool // from the server's closing

	mu      sync.Mutex
	w       wire
	closed  bool
	err     error
	flushed time.Time
	dirty   bool
	flusher *time.Timer
	keeper  *time.Timer
}

// newSender sends the headers of a stream at once. The context it returns ends when the reader has gone, was too slow,
// or the server closes; close must be called.
func (s *Server) newSender(w http.ResponseWriter, r *http.Request) (*sender, context.Context) {
	streamHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	return s.startSender(r.Context(), answerWire{http.NewResponseController(w), w})
}

func streamHeaders(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
}

// startSender is newSender for a wire to which the headers were written.
func (s *Server) startSender(ctx context.Context, w wire) (*sender, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := func() bool { return true }
	if closing, ok := ctx.Value(closingKey{}).(context.Context); ok {
		unhook = context.AfterFunc(closing, func() {
			cancel(errClosing)
			if c, ok := w.(*chunkWire); ok { // the server cuts the others
				c.hurry(s.cfg.Drain)
			}
		})
	}
	st := &sender{limit: s.cfg.WriteTimeout, every: s.cfg.Keepalive, cancel: cancel, unhook: unhook, w: w}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.deadline()
	st.flush()
	st.flusher = time.AfterFunc(time.Hour, st.flushLater)
	st.keeper = time.AfterFunc(st.every, st.keepalive)
	return st, ctx
}

// send writes one event: its id unless that is empty, then its data as one line of JSON.
func (st *sender) send(id string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line := make([]byte, 0, len(b)+len(id)+16)
	if id != "" {
		line = append(append(append(line, "id: "...), id...), '\n')
	}
	line = append(append(append(line, "data: "...), b...), "\n\n"...)
	return st.write(line)
}

func (st *sender) write(b []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.err != nil {
		return st.err
	}
	st.deadline()
	if _, err := st.w.Write(b); err != nil {
		return st.fail(err)
	}
	st.keeper.Reset(st.every)
	if wait := flushGap - time.Since(st.flushed); wait > 0 {
		if !st.dirty {
			st.dirty = true
			st.flusher.Reset(wait)
		}
		return nil
	}
	return st.flush()
}

// flush, deadline and fail are called with the lock held.
func (st *sender) flush() error {
	st.dirty, st.flushed = false, time.Now()
	if err := st.w.Flush(); err != nil {
		return st.fail(err)
	}
	return nil
}

func (st *sender) deadline() {
	_ = st.w.SetWriteDeadline(time.Now().Add(st.limit)) // test recorders have none
}

func (st *sender) fail(err error) error {
	st.err = err
	st.cancel(err)
	return err
}

func (st *sender) flushLater() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.closed && st.err == nil && st.dirty {
		st.deadline()
		_ = st.flush() // fail has ended the stream
	}
}

func (st *sender) keepalive() { _ = st.write([]byte(":keepalive\n\n")) } // fail has ended the stream

// flushNow sends what is buffered.
func (st *sender) flushNow() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.closed && st.err == nil && st.dirty {
		st.deadline()
		_ = st.flush() // fail has ended the stream
	}
}

// close ends the timers. After it nothing writes to the response any more.
func (st *sender) close() {
	st.flushNow()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.closed = true
	st.flusher.Stop()
	st.keeper.Stop()
	if st.err == nil {
		_ = st.w.SetWriteDeadline(time.Time{}) // the connection may be used again
	}
	st.unhook()
	st.cancel(nil)
}
