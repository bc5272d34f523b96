package bridge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

const (
	dnsPort       = 53
	dnsTry        = 2 * time.Second  // per resolver
	dnsIdle       = 10 * time.Second // of a TCP client
	dnsQueries    = 256              // asked at once by UDP; more are dropped, and their askers try again
	dnsClients    = 64               // TCP connections at once
	dnsHeader     = 12
	dnsMaxMessage = 65535
)

// ServeDNS answers the containers' questions on the gateway until ctx ends, by passing them on unread to the resolvers
// of this machine. Of several processes with one state directory one serves; the others wait until it is gone.
func (n *Network) ServeDNS(ctx context.Context) error {
	turn, err := lockFile(ctx, filepath.Join(n.cfg.Dir, "dns.lock"))
	if err != nil {
		return ended(ctx, err)
	}
	defer turn.Close()
	if err := n.Up(ctx); err != nil { // the process that served before may have retired the bridge
		return ended(ctx, err)
	}
	packets, listener, err := n.listenDNS(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	s := &dnsServer{
		subnet:    n.cfg.Subnet,
		resolvers: &resolvers{fixed: n.cfg.Resolvers, path: "/etc/resolv.conf"},
	}
	stop := context.AfterFunc(ctx, func() {
		packets.Close()
		listener.Close()
	})
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.serveTCP(ctx, listener) })
	s.serveUDP(ctx, packets)
	packets.Close()
	listener.Close()
	wg.Wait()
	return ctx.Err()
}

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// listenDNS binds both sockets to the gateway. The process that served before may still be on its way out, so a port in use
// is tried again for a while.
func (n *Network) listenDNS(ctx context.Context) (net.PacketConn, net.Listener, error) {
	addr := netip.AddrPortFrom(n.gateway, dnsPort).String()
	var lc net.ListenConfig
	for deadline := time.Now().Add(5 * time.Second); ; {
		packets, err := lc.ListenPacket(ctx, "udp4", addr)
		if err == nil {
			listener, tcpErr := lc.Listen(ctx, "tcp4", addr)
			if tcpErr == nil {
				return packets, listener, nil
			}
			packets.Close()
			err = tcpErr
		}
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(deadline) {
			return nil, nil, bindery.Errorf(bindery.ErrNotReady, bindery.Ours, noOtherNames, "Port 53 of %s cannot be used to answer containers", n.gateway).Because(err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

type dnsServer struct {
	subnet    netip.Prefix
	resolvers *resolvers
}

// serveUDP reads questions until the socket is closed.
func (s *dnsServer) serveUDP(ctx context.Context, conn net.PacketConn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, dnsQueries)
	buf := make([]byte, dnsMaxMessage)
	for {
		size, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !s.serves(from) || !isQuery(buf[:size]) {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		query := append([]byte(nil), buf[:size]...)
		wg.Go(func() {
			defer func() { <-slots }()
			_, _ = conn.WriteTo(s.answer(ctx, "udp", query), from) // the asker tries again
		})
	}
}

// serveTCP accepts clients until the listener is closed.
func (s *dnsServer) serveTCP(ctx context.Context, l net.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, dnsClients)
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			s.serveClient(ctx, conn)
		})
	}
}

func (s *dnsServer) serveClient(ctx context.Context, conn net.Conn) {
	if !s.serves(conn.RemoteAddr()) {
		return
	}
	for {
		_ = conn.SetDeadline(time.Now().Add(dnsIdle))
		query, err := readMessage(conn)
		if err != nil || !isQuery(query) {
			return
		}
		if writeMessage(conn, s.answer(ctx, "tcp", query)) != nil {
			return
		}
	}
}

// serves keeps the forwarder from answering anybody but the containers, wherever the packet came in.
func (s *dnsServer) serves(from net.Addr) bool {
	ap, err := netip.ParseAddrPort(from.String())
	return err == nil && s.subnet.Contains(ap.Addr().Unmap())
}

// answer asks the resolvers in turn. Without an answer from any it says so at once (SERVFAIL) rather than let the
// asker wait for its own time-out.
func (s *dnsServer) answer(ctx context.Context, network string, query []byte) []byte {
	for _, r := range s.resolvers.list() {
		if reply, err := exchange(ctx, network, r, query); err == nil {
			return reply
		}
	}
	return failure(query)
}

// exchange asks one resolver one question. A socket of its own per question gives each a random source port.
func exchange(ctx context.Context, network, resolver string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTry)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, resolver)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if network == "tcp" {
		if err := writeMessage(conn, query); err != nil {
			return nil, err
		}
		return readMessage(conn)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, dnsMaxMessage)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if size >= dnsHeader && buf[0] == query[0] && buf[1] == query[1] && buf[2]&0x80 != 0 {
			return buf[:size], nil
		}
	}
}

// isQuery admits messages that ask something; anything else is not worth a resolver's time.
func isQuery(m []byte) bool {
	return len(m) >= dnsHeader && m[2]&0xf8 == 0 && binary.BigEndian.Uint16(m[4:]) == 1
}

// failure is the question itself, turned into an answer that says "server failure".
func failure(query []byte) []byte {
	reply := append([]byte(nil), query...)
	reply[2] |= 0x80 // an answer
	reply[3] = 0x82  // recursion available; code 2
	return reply
}

// readMessage reads one message of DNS over TCP: its length in two bytes, then itself.
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, err
	}
	if len(m) < dnsHeader {
		return nil, fmt.Errorf("a DNS message of %d bytes", len(m))
	}
	return m, nil
}

func writeMessage(w io.Writer, m []byte) error {
	if len(m) > dnsMaxMessage {
		return fmt.Errorf("a DNS message of %d bytes", len(m))
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(m)+2), uint16(len(m))), m...))
	return err
}

// resolvers is the list of name servers to ask: a fixed one, or that of a resolv.conf, read again when it has changed.
type resolvers struct {
	fixed []string
	path  string

	mu      sync.Mutex
	looked  time.Time
	changed time.Time
	servers []string
}

func (r *resolvers) list() []string {
	if len(r.fixed) > 0 {
		return withPorts(r.fixed)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < time.Second {
		return r.servers
	}
	r.looked = time.Now()
	if st, err := os.Stat(r.path); err == nil && st.ModTime().Equal(r.changed) && r.servers != nil {
		return r.servers
	} else if err == nil {
		r.changed = st.ModTime()
	}
	r.servers = withPorts(parseResolvConf(r.path))
	return r.servers
}
