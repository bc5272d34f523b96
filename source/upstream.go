package source

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// connectThrough opens a tunnel to hostport through the machine's proxy up.
func connectThrough(ctx context.Context, up *url.URL, hostport string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	port := cmp.Or(up.Port(), map[string]string{"https": "443"}[up.Scheme], "80")
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(up.Hostname(), port))
	if err != nil {
		return nil, unreachable("The proxy of this machine cannot be reached").Because(err)
	}
	if up.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: up.Hostname(), MinVersion: tls.VersionTLS12})
	}
	if dl, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(dl)
	}
	tunnel, err := askTunnel(conn, up, hostport)
	if err != nil {
		_ = conn.Close()
		return nil, unreachable("The proxy of this machine does not lead to %s", hostport).Because(err)
	}
	_ = conn.SetDeadline(time.Time{})
	return tunnel, nil
}

func askTunnel(conn net.Conn, up *url.URL, hostport string) (net.Conn, error) {
	header := http.Header{}
	if up.User != nil {
		pass, _ := up.User.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(up.User.Username()+":"+pass)))
	}
	return askTunnelWith(conn, hostport, header)
}

// askTunnelWith asks a proxy for a tunnel.
func askTunnelWith(conn net.Conn, hostport string, header http.Header) (net.Conn, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: hostport}, Host: hostport, Header: header}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &url.Error{Op: "CONNECT", URL: hostport, Err: http.ErrNotSupported}
	}
	return readAhead{Conn: conn, r: r}, nil
}

// readAhead is a connection of which r has read the beginning.
type readAhead struct {
	net.Conn
	r io.Reader
}

func (c readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }
