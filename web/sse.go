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

const (
	mostPending = 4 << 10 // what a stream collects before it is written
	mostBehind  = 1 << 20 // a reader who is so far behind is told by a goroutine of its own, not by the audience
)

// closingKey finds, in the context of a request, the context that ends when event streams are to end: before the server
// waits for all other requests.
type closingKey struct{}

var errClosing = errors.New("the hub is about to stop")

// A sender writes one event stream. Several may write to it at once: whoever comes while something is being written
// leaves its lines for the one that writes. It holds no goroutine, only the timers' entries.
type sender struct {
	limit  time.Duration
	every  time.Duration
	cancel context.CancelCauseFunc
	unhook func() bool // from the server's closing

	mu      sync.Mutex
	room    sync.Cond // something was written
	w       wire
	pending []byte // nobody writes it yet; nil between two lines
	writing bool   // somebody writes, without the lock
	due     bool   // pending will be written soon
	closed  bool
	err     error
	flushed time.Time
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
	st.room.L = &st.mu
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = st.put(nil) // the headers; fail has ended the stream
	st.flusher = time.AfterFunc(time.Hour, st.flushDue)
	st.keeper = time.AfterFunc(st.every, st.keepalive)
	return st, ctx
}

// send writes one event: its id unless that is empty, then its data as one line of JSON.
func (st *sender) send(id string, v any) error {
	b, err := eventLine(id, v)
	if err != nil {
		return err
	}
	return st.write(b)
}

func eventLine(id string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 0, len(b)+len(id)+16)
	if id != "" {
		line = append(append(append(line, "id: "...), id...), '\n')
	}
	return append(append(append(line, "data: "...), b...), "\n\n"...), nil
}

// write waits for a reader that is slow.
func (st *sender) write(b []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.writing && len(st.pending) > mostPending && st.err == nil {
		st.room.Wait()
	}
	if st.closed || st.err != nil {
		return st.err
	}
	st.pending = append(st.pending, b...)
	if wait := st.soon(); wait > 0 && len(st.pending) < mostPending {
		return nil
	}
	return st.flush()
}

// offer is write for those who must not wait. It reports false when the reader is too far behind.
func (st *sender) offer(b []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.err != nil {
		return true // its context has ended
	}
	if len(st.pending) > 0 && len(st.pending)+len(b) > mostBehind {
		return false
	}
	st.pending = append(st.pending, b...)
	if !st.due && st.soon() <= 0 {
		st.due = true
		go st.flushDue()
	}
	return true
}

// soon sees to it that what is pending will be written in its time, unless that has come already.
func (st *sender) soon() (wait time.Duration) {
	if wait = flushGap - time.Since(st.flushed); wait > 0 && !st.due {
		st.due = true
		st.flusher.Reset(wait)
	}
	return wait
}

// flush, put and fail are called with the lock held. put is without it while it writes.
func (st *sender) flush() error {
	for !st.writing && len(st.pending) > 0 && st.err == nil {
		out := st.pending
		st.pending = nil
		_ = st.put(out) // st.err keeps it
	}
	return st.err
}

func (st *sender) put(b []byte) error {
	st.writing, st.flushed = true, time.Now()
	st.mu.Unlock()
	_ = st.w.SetWriteDeadline(time.Now().Add(st.limit)) // test recorders have none
	err := st.w.put(b)
	st.mu.Lock()
	st.writing = false
	if err != nil && st.err == nil {
		st.err = err
		st.cancel(err)
	}
	st.room.Broadcast()
	return st.err
}

func (st *sender) flushDue() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.due = false
	if !st.closed {
		_ = st.flush() // put has ended the stream
	}
}

// keepalive writes a comment when nothing else was written for a while.
func (st *sender) keepalive() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.err != nil {
		return
	}
	quiet := time.Since(st.flushed)
	if quiet >= st.every {
		st.pending = append(st.pending, ":keepalive\n\n"...)
		_ = st.flush() // put has ended the stream
		quiet = 0
	}
	st.keeper.Reset(st.every - quiet)
}

// flushNow returns when what is pending was written.
func (st *sender) flushNow() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for st.writing {
		st.room.Wait()
	}
	if !st.closed {
		_ = st.flush() // put has ended the stream
	}
}

// close ends the timers. After it nothing writes to the response any more.
func (st *sender) close() {
	st.flushNow()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.closed = true
	for st.writing {
		st.room.Wait()
	}
	st.flusher.Stop()
	st.keeper.Stop()
	if st.err == nil {
		_ = st.w.SetWriteDeadline(time.Time{}) // the connection may be used again
	}
	st.unhook()
	st.cancel(nil)
}
