package worker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A Client talks to a worker, at a socket or over the network. It may be used by many at once.
type Client struct {
	socket string // empty: it is reached over the network
	base   string
	http   *http.Client
}

// NewClient makes a Client. It connects when it is used, and again after the worker was replaced.
func NewClient(socket string) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, socket) },
	}
	return &Client{socket: socket, base: "http://worker", http: &http.Client{Transport: t}}
}

// newTLSClient makes the Client of a worker at a host and port. A connection that is silent is found broken in half a
// minute: a machine may vanish without a word.
func newTLSClient(address string, cfg *tls.Config) *Client {
	d := &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	t := &http.Transport{DialContext: d.DialContext, TLSClientConfig: cfg, TLSHandshakeTimeout: 5 * time.Second}
	return &Client{base: "https://" + address, http: &http.Client{Transport: t}}
}

// do sends one request and decodes the answer into out, when there is one.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if method == http.MethodPut || method == http.MethodDelete || method == http.MethodPost {
		req.Header["Idempotency-Key"] = nil // all of ours are: let the transport try again on a connection that was closed meanwhile
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var e bindery.Error
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&e) != nil || e.Kind == "" {
		if resp.StatusCode == http.StatusNotFound {
			return nil, bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "Restart it.", "The worker is of an older version: it does not know %s", path)
		}
		return nil, fmt.Errorf("%s %s: the worker answered %s", method, path, resp.Status)
	}
	return nil, &e
}

// broken is the error of a conversation that ended early.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return bindery.Errorf(bindery.ErrWorkerLost, bindery.Transient, "Try again in a moment.", "The worker does not answer").Because(err)
}

func buildPath(id string, attempt int) string {
	return "/v1/builds/" + url.PathEscape(id) + "/" + strconv.Itoa(attempt)
}

// Start starts the attempt that req names. Doing so again is harmless; with another request it is a conflict.
func (c *Client) Start(ctx context.Context, req bindery.BuildRequest) error {
	return c.do(ctx, http.MethodPut, buildPath(req.ID, req.Attempt), req, nil)
}

// Attempt says how an attempt stands. It is ErrNotFound when the worker never had it or all of it was acknowledged.
func (c *Client) Attempt(ctx context.Context, id string, attempt int) (bindery.BuildAttempt, error) {
	var out bindery.BuildAttempt
	err := c.do(ctx, http.MethodGet, buildPath(id, attempt), nil, &out)
	return out, err
}

// Events yields the events of an attempt after number after, waiting for more, until the last one. When the worker
// goes away before, it yields an ErrWorkerLost and ends; calling it again with the last number seen goes on.
func (c *Client) Events(ctx context.Context, id string, attempt int, after int64) iter.Seq2[bindery.Event, error] {
	return func(yield func(bindery.Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := c.send(ctx, http.MethodGet, buildPath(id, attempt)+"/events?after="+strconv.FormatInt(after, 10), nil)
		if err != nil {
			yield(bindery.Event{}, err)
			return
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for {
			line, err := r.ReadBytes('\n')
			var ev bindery.Event
			if err == nil {
				err = json.Unmarshal(line, &ev)
			}
			if errors.Is(err, io.EOF) && len(line) == 0 && after > 0 {
				if st, serr := c.Attempt(ctx, id, attempt); serr == nil && st.Done && st.LastSeq <= after {
					return // there was nothing after after
				}
			}
			if err != nil {
				yield(bindery.Event{}, c.broken(ctx, err))
				return
			}
			after = ev.Seq
			if !yield(ev, nil) || ev.Last() {
				return
			}
		}
	}
}

// Ack says that events up to seq are kept elsewhere. With the last one, the worker forgets the attempt.
func (c *Client) Ack(ctx context.Context, id string, attempt int, seq int64) error {
	return c.do(ctx, http.MethodPost, buildPath(id, attempt)+"/ack?seq="+strconv.FormatInt(seq, 10), nil, nil)
}

// Cancel ends an attempt. Its last event says so.
func (c *Client) Cancel(ctx context.Context, id string, attempt int) error {
	return c.do(ctx, http.MethodDelete, buildPath(id, attempt), nil, nil)
}

// Status asks the worker how it is. PID is in this process's PID namespace.
func (c *Client) Status(ctx context.Context) (bindery.WorkerStatus, error) {
	var out bindery.WorkerStatus
	if err := c.do(ctx, http.MethodGet, "/v1/status", nil, &out); err != nil {
		return out, err
	}
	out.PID = c.pid(ctx)
	return out, nil
}

// Preflight returns what the worker found of its machine. It measures how fast it writes when it last did so before
// writes.
func (c *Client) Preflight(ctx context.Context, writes time.Duration) (bindery.Preflight, error) {
	var out bindery.Preflight
	err := c.do(ctx, http.MethodGet, "/v1/preflight?writes="+url.QueryEscape(writes.String()), nil, &out)
	return out, err
}

// MakeRoom has the worker drop of its cache what nothing holds.
func (c *Client) MakeRoom(ctx context.Context) error {
	return c.do(ctx, http.MethodPut, "/v1/room", nil, nil)
}

// pid asks the kernel who listens at the socket.
func (c *Client) pid(ctx context.Context) int {
	if c.socket == "" {
		return 0
	}
	conn, err := dial(ctx, c.socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// Alive returns nil when the worker answers.
func (c *Client) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.do(ctx, http.MethodGet, "/v1/alive", nil, nil)
}

// Gone waits until no worker answers.
func (c *Client) Gone(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for c.Alive(ctx) == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// Drain tells the worker to take no more builds and to end when the last one has.
func (c *Client) Drain(ctx context.Context) error {
	return c.do(ctx, http.MethodPut, "/v1/drain", nil, nil)
}

// Resolve finds the commit of src.
func (c *Client) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	var out bindery.Source
	err := c.do(ctx, http.MethodPost, "/v1/resolve", src, &out)
	return out, err
}

// Plan says what a build of src would do, as JSON.
func (c *Client) Plan(ctx context.Context, src bindery.Source, base string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.do(ctx, http.MethodPost, "/v1/plan", planRequest{Source: src, Base: base}, &out)
	return out, err
}

func imagePath(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/v1/images/" + strings.Join(parts, "/")
}

// Image returns the image called name, or ErrNotFound.
func (c *Client) Image(ctx context.Context, name string) (bindery.Image, error) {
	var out bindery.Image
	err := c.do(ctx, http.MethodGet, imagePath(name), nil, &out)
	return out, err
}

// Packages lists what the image called name has installed, as JSON.
func (c *Client) Packages(ctx context.Context, name string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.do(ctx, http.MethodGet, strings.Replace(imagePath(name), "/v1/images/", "/v1/packages/", 1), nil, &out)
	return out, err
}

// Images lists all images.
func (c *Client) Images(ctx context.Context) ([]bindery.Image, error) {
	var out []bindery.Image
	err := c.do(ctx, http.MethodGet, "/v1/images", nil, &out)
	return out, err
}

// Disk says where the bytes of the worker's disk are.
func (c *Client) Disk(ctx context.Context) (bindery.DiskUse, error) {
	var out bindery.DiskUse
	err := c.do(ctx, http.MethodGet, "/v1/disk", nil, &out)
	return out, err
}

// Dropped lists the images that the worker removed because its disk was short of room, the oldest first. It tells of them
// until it is told that this is known.
func (c *Client) Dropped(ctx context.Context) ([]bindery.Dropped, error) {
	var out []bindery.Dropped
	err := c.do(ctx, http.MethodGet, "/v1/dropped", nil, &out)
	return out, err
}

// ForgetDropped has the worker forget those up to the one with the number last.
func (c *Client) ForgetDropped(ctx context.Context, last int64) error {
	return c.do(ctx, http.MethodDelete, "/v1/dropped?last="+strconv.FormatInt(last, 10), nil, nil)
}

// RemoveImage removes the image called name.
func (c *Client) RemoveImage(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, imagePath(name), nil, nil)
}

// Prepare makes a root file system of image for session, or finds it made.
func (c *Client) Prepare(ctx context.Context, session, image string) (bindery.Rootfs, error) {
	var out bindery.Rootfs
	err := c.do(ctx, http.MethodPut, "/v1/rootfs/"+url.PathEscape(session), prepareRequest{Image: image}, &out)
	return out, err
}

// Release removes the root file system of session, if there is one.
func (c *Client) Release(ctx context.Context, session string) error {
	return c.do(ctx, http.MethodDelete, "/v1/rootfs/"+url.PathEscape(session), nil, nil)
}
