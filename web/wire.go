package web

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A wire is what a stream of events is written to.
type wire interface {
	// put returns when b, and the headers before it, were handed to the network.
	put(b []byte) error
	SetWriteDeadline(t time.Time) error
}

// An answerWire writes to an ordinary answer.
type answerWire struct {
	*http.ResponseController
	w http.ResponseWriter
}

func (a answerWire) put(b []byte) error {
	if _, err := a.w.Write(b); err != nil {
		return err
	}
	return a.Flush()
}

// A chunkWire writes to a connection that was taken out of the HTTP server's hands. A stream lives for minutes and says
// little: the server's buffers and the deep stack of its goroutine would be most of what a watcher costs.
type chunkWire struct {
	conn net.Conn
	head []byte // not written yet
	sent int64
}

var errGone = errors.New("the client has hung up")

// takeOver takes the connection of a request that is to be answered by a stream with these headers. Not every answer
// has a connection of its own.
func takeOver(w http.ResponseWriter, r *http.Request, now time.Time) (*chunkWire, bool) {
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 { // HTTP/1.0 knows no chunks
		return nil, false
	}
	h := w.Header().Clone()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, false
	}
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("Transfer-Encoding", "chunked")
	h.Set("Connection", "close")
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(&head) // memory takes everything
	head.WriteString("\r\n")
	return &chunkWire{conn: conn, head: bytes.Clone(head.Bytes())}, true
}

// put sends one chunk.
func (c *chunkWire) put(b []byte) error {
	out := c.head
	if len(b) > 0 {
		out = append(strconv.AppendInt(out, int64(len(b)), 16), "\r\n"...)
		out = append(append(out, b...), "\r\n"...)
	}
	c.sent += int64(len(out))
	c.head = nil
	if len(out) == 0 {
		return nil
	}
	_, err := c.conn.Write(out)
	return err
}

// SetWriteDeadline is the connection's.
func (c *chunkWire) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// hurry gives what is being written so long.
func (c *chunkWire) hurry(d time.Duration) { _ = c.conn.SetDeadline(time.Now().Add(d)) } // it is about to end anyway

// listen returns when the client hangs up. It has nothing more to say.
func (c *chunkWire) listen(gone context.CancelCauseFunc) {
	b := make([]byte, 16)
	for {
		if _, err := c.conn.Read(b); err != nil {
			gone(errGone)
			return
		}
	}
}

// end closes the connection, after the mark of the last chunk where the stream came to its end.
func (c *chunkWire) end(whole bool) {
	if whole && c.put(nil) == nil {
		_, _ = c.conn.Write([]byte("0\r\n\r\n")) // a client that has gone needs none
	}
	_ = c.conn.Close() // nothing is left to be written
}

// alone runs a stream on a connection that was taken over: the request's goroutine ends, and the stream has one of its
// own only while there is something to do for it alone.
func (s *Server) alone(line *chunkWire, wa *watch) {
	full := wa.r.Context()
	v := visitOf(full)
	v.detached = true
	base := context.WithoutCancel(full)
	wa.r = slim(base, wa.r)
	s.streams.Add(1)
	st, ctx := s.startSender(base, line)
	wa.st = st
	wa.ended = func() {
		defer s.streams.Done()
		line.end(context.Cause(ctx) == nil || errors.Is(context.Cause(ctx), context.Canceled))
		s.logVisit(wa.r, &response{status: http.StatusOK, bytes: line.sent}, v, s.cfg.Now().Sub(wa.began))
	}
	go line.listen(st.cancel)
	go wa.tell(ctx, nil)
}

// slim is what a stream needs of its request for as long as it lives.
func slim(ctx context.Context, r *http.Request) *http.Request {
	h := http.Header{}
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Traceparent"} {
		if v := r.Header.Values(name); len(v) > 0 {
			h[name] = v
		}
	}
	return (&http.Request{Method: r.Method, URL: r.URL, Host: r.Host, Header: h, RemoteAddr: r.RemoteAddr, Proto: r.Proto}).WithContext(ctx)
}
