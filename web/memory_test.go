package web_test

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A memoryNet is a listener whose connections are memory: tens of thousands of them need no file descriptors, and cost
// little beside what the server spends on them.
type memoryNet struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryNet() *memoryNet {
	return &memoryNet{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memoryNet) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memoryNet) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memoryNet) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "127.0.0.1:1" }

// dial connects a client that asks for one thing and is called with what is written to it, by the one who writes.
func (m *memoryNet) dial(request string, got func([]byte)) *memoryConn {
	c := &memoryConn{request: []byte(request), got: got, gone: make(chan struct{})}
	m.conns <- c
	return c
}

// A memoryConn is the server's end. Reading gives the request and then waits until the client hangs up.
type memoryConn struct {
	request []byte
	got     func([]byte)
	gone    chan struct{}
	once    sync.Once

	mu      sync.Mutex
	expired bool          // the deadline of reads has passed
	wake    chan struct{} // ends a read that waits, when it does
}

func (c *memoryConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	if len(c.request) > 0 {
		n := copy(b, c.request)
		c.request = c.request[n:]
		c.mu.Unlock()
		return n, nil
	}
	if c.expired {
		c.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	c.wake = make(chan struct{})
	wake := c.wake
	c.mu.Unlock()
	select {
	case <-c.gone:
		return 0, io.EOF
	case <-wake:
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *memoryConn) Write(b []byte) (int, error) {
	select {
	case <-c.gone:
		return 0, net.ErrClosed
	default:
		c.got(b)
		return len(b), nil
	}
}

// hangUp is the client's end closing.
func (c *memoryConn) hangUp() { c.once.Do(func() { close(c.gone) }) }

func (c *memoryConn) Close() error                     { c.hangUp(); return nil }
func (c *memoryConn) LocalAddr() net.Addr              { return memoryAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return memoryAddr{} }
func (c *memoryConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline ends a read that waits when the time has passed already: the server does that to its own reads.
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired = !t.IsZero() && !t.After(time.Now()); c.expired && c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
	return nil
}
