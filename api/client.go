package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
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
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// ClientConfig says where a hub is: by its unix socket, or by URL with a token.
type ClientConfig struct {
	Socket string            // path of the hub's socket
	URL    string            // http or https; used when Socket is empty
	Token  string            // sent as a bearer token
	As     string            // by Socket: the person at the keyboard, for the audit log
	HTTP   http.RoundTripper // for URL; default: http.DefaultTransport
}

// A Client speaks the native API.
type Client struct {
	base   *url.URL
	socket string
	token  string
	as     string
	http   *http.Client
}

// NewClient checks cfg. It connects to nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{socket: cfg.Socket, token: cfg.Token, as: cfg.As}
	if cfg.Socket != "" {
		c.base = &url.URL{Scheme: "http", Host: "hub"}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", cfg.Socket)
		}
		c.http = &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute}}
		return c, nil
	}
	base, err := url.Parse(strings.TrimSuffix(cfg.URL, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give a URL like https://hub.example.org.",
			"%q is not the URL of a hub", bindery.Printable(cfg.URL))
	}
	c.base = base
	// A redirect would carry the token to wherever it leads.
	c.http = &http.Client{Transport: cmp.Or(cfg.HTTP, http.DefaultTransport), CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return c, nil
}

// Status returns the state of the hub and of its worker.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	return out, c.call(ctx, "GET", "/api/v1/status", nil, &out)
}

// Submit asks for a build.
func (c *Client) Submit(ctx context.Context, in NewBuild) (bindery.Build, error) {
	var out bindery.Build
	return out, c.call(ctx, "POST", "/api/v1/builds", in, &out)
}

// Build returns one build.
func (c *Client) Build(ctx context.Context, id string) (bindery.Build, error) {
	var out bindery.Build
	return out, c.call(ctx, "GET", "/api/v1/builds/"+url.PathEscape(id), nil, &out)
}

// Builds lists the newest builds: those that wait or run, then those that have ended; at most limit, 100 when it is 0.
func (c *Client) Builds(ctx context.Context, limit int) ([]bindery.Build, error) {
	var out []bindery.Build
	path := "/api/v1/builds"
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	return out, c.call(ctx, "GET", path, nil, &out)
}

// CancelBuild stops a build that nobody should wait for any more. Cancelling one that has ended is no error.
func (c *Client) CancelBuild(ctx context.Context, id, reason string) error {
	return c.call(ctx, "DELETE", "/api/v1/builds/"+url.PathEscape(id), CancelBuild{Reason: reason}, nil)
}

// ForgiveBuild forgets that a build failed: the next one who asks has it built again.
func (c *Client) ForgiveBuild(ctx context.Context, id, reason string) error {
	return c.call(ctx, "POST", "/api/v1/builds/"+url.PathEscape(id)+"/forgive", ForgiveBuild{Reason: reason}, nil)
}

// RetryBuild builds again what has failed or was cancelled, though its failure is remembered. It returns the build
// that answers now.
func (c *Client) RetryBuild(ctx context.Context, id, reason string) (bindery.Build, error) {
	var out bindery.Build
	return out, c.call(ctx, "POST", "/api/v1/builds/"+url.PathEscape(id)+"/retry", RetryBuild{Reason: reason}, &out)
}

// BuildPlan returns what the repository of a build asks for, as `bindery plan --json` prints it.
func (c *Client) BuildPlan(ctx context.Context, id string) (json.RawMessage, error) {
	var out json.RawMessage
	return out, c.call(ctx, "GET", "/api/v1/builds/"+url.PathEscape(id)+"/plan", nil, &out)
}

// BuildProvenance returns how the image of a build was made: an in-toto statement with an SLSA predicate.
func (c *Client) BuildProvenance(ctx context.Context, id string) (json.RawMessage, error) {
	var out json.RawMessage
	return out, c.call(ctx, "GET", "/api/v1/builds/"+url.PathEscape(id)+"/provenance", nil, &out)
}

// BuildLog returns the log of a build as text, from its first line to where it is now.
func (c *Client) BuildLog(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, "GET", "/api/v1/builds/"+url.PathEscape(id)+"/log", nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Queue returns what waits and runs. Who asks is told to tokens only.
func (c *Client) Queue(ctx context.Context) (bindery.Queue, error) {
	var out bindery.Queue
	return out, c.call(ctx, "GET", "/api/v1/queue", nil, &out)
}

// Rules lists the rules that stand.
func (c *Client) Rules(ctx context.Context) ([]Rule, error) {
	var out []Rule
	return out, c.call(ctx, "GET", "/api/v1/rules", nil, &out)
}

// AddRule makes a rule. When it returns, the rule is in force.
func (c *Client) AddRule(ctx context.Context, in NewRule) (Rule, error) {
	var out Rule
	return out, c.call(ctx, "POST", "/api/v1/rules", in, &out)
}

// LiftRule ends a rule. Lifting one that is gone is an error.
func (c *Client) LiftRule(ctx context.Context, id, reason string) error {
	return c.call(ctx, "DELETE", "/api/v1/rules/"+url.PathEscape(id), LiftRule{Reason: reason}, nil)
}

// Workers lists the workers of a hub.
func (c *Client) Workers(ctx context.Context) ([]bindery.WorkerView, error) {
	var out []bindery.WorkerView
	return out, c.call(ctx, "GET", "/api/v1/workers", nil, &out)
}

func workerPath(name string) string { return "/api/v1/workers/" + url.PathEscape(name) }

// Worker returns one worker.
func (c *Client) Worker(ctx context.Context, name string) (bindery.WorkerView, error) {
	var out bindery.WorkerView
	return out, c.call(ctx, "GET", workerPath(name), nil, &out)
}

// AddWorker has a worker of the hub's own machine join. Only the hub's socket takes it.
func (c *Client) AddWorker(ctx context.Context, in NewWorker) (bindery.WorkerView, error) {
	var out bindery.WorkerView
	return out, c.call(ctx, "POST", "/api/v1/workers", in, &out)
}

// DrainWorker lets a worker have no more builds until it is resumed.
func (c *Client) DrainWorker(ctx context.Context, name, reason string) (bindery.WorkerView, error) {
	var out bindery.WorkerView
	return out, c.call(ctx, "POST", workerPath(name)+"/drain", ChangeWorker{Reason: reason}, &out)
}

// ResumeWorker undoes DrainWorker.
func (c *Client) ResumeWorker(ctx context.Context, name, reason string) (bindery.WorkerView, error) {
	var out bindery.WorkerView
	return out, c.call(ctx, "POST", workerPath(name)+"/resume", ChangeWorker{Reason: reason}, &out)
}

// RemoveWorker has the hub forget a worker that has joined.
func (c *Client) RemoveWorker(ctx context.Context, name string, in RemoveWorker) error {
	return c.call(ctx, "DELETE", workerPath(name), in, nil)
}

// AddJoinToken makes a token by which workers join.
func (c *Client) AddJoinToken(ctx context.Context, in NewJoinToken) (JoinToken, error) {
	var out JoinToken
	return out, c.call(ctx, "POST", "/api/v1/join-tokens", in, &out)
}

// PreviewRule says what a pattern means, and what a rule of it would be about now.
func (c *Client) PreviewRule(ctx context.Context, pattern string) (RulePreview, error) {
	var out RulePreview
	return out, c.call(ctx, "GET", "/api/v1/rules/preview?pattern="+url.QueryEscape(pattern), nil, &out)
}

// Audit returns lines of the audit log, the newest first; at most 100 when q has no limit, at most 1000 in any case.
func (c *Client) Audit(ctx context.Context, q bindery.AuditQuery) ([]AuditLine, error) {
	var out []AuditLine
	v := url.Values{}
	for name, text := range map[string]string{"who": q.Who, "what": q.What, "since": stamp(q.Since), "until": stamp(q.Until), "before": digits(q.Before), "limit": digits(int64(q.Limit))} {
		if text != "" {
			v.Set(name, text)
		}
	}
	path := "/api/v1/audit"
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	return out, c.call(ctx, "GET", path, nil, &out)
}

// AllAudit yields all lines that q chooses, the newest first, page by page; q.Limit bounds them all, 0 is no limit.
func (c *Client) AllAudit(ctx context.Context, q bindery.AuditQuery) iter.Seq2[AuditLine, error] {
	return func(yield func(AuditLine, error) bool) {
		const page = 1000
		left := q.Limit
		for {
			q.Limit = page
			if left > 0 {
				q.Limit = min(left, page)
			}
			lines, err := c.Audit(ctx, q)
			if err != nil {
				yield(AuditLine{}, err)
				return
			}
			for _, l := range lines {
				if !yield(l, nil) {
					return
				}
			}
			if left > 0 {
				if left -= len(lines); left <= 0 {
					return
				}
			}
			if len(lines) < q.Limit {
				return
			}
			q.Before = lines[len(lines)-1].ID
		}
	}
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func digits(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Export returns what happened from since until before until, as lines of JSON in order of time; zero times take the
// hub's defaults. kind is launches, requests, builds, sessions, generations, canaries, pools, audit or all. An answer that was cut off ends with an
// error other than io.EOF.
func (c *Client) Export(ctx context.Context, kind string, since, until time.Time) (io.ReadCloser, error) {
	q := url.Values{"kind": {kind}}
	for name, at := range map[string]time.Time{"since": since, "until": until} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	resp, err := c.do(ctx, "GET", "/api/v1/events?"+q.Encode(), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Launch starts a session. It returns when the session's server answers.
func (c *Client) Launch(ctx context.Context, in NewSession) (Session, error) {
	var out Session
	return out, c.call(ctx, "POST", "/api/v1/sessions", in, &out)
}

// Sessions lists the sessions that have not ended.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	var out []Session
	return out, c.call(ctx, "GET", "/api/v1/sessions", nil, &out)
}

// Session returns one session, with its token if the caller may use it.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	var out Session
	return out, c.call(ctx, "GET", "/api/v1/sessions/"+url.PathEscape(id), nil, &out)
}

// StopSession stops a session. Stopping one that has ended is no error.
func (c *Client) StopSession(ctx context.Context, id, reason string) error {
	return c.call(ctx, "DELETE", "/api/v1/sessions/"+url.PathEscape(id), StopSession{Reason: reason}, nil)
}

// SessionLog returns the log of a session from its start; with follow it goes on until the session ends.
func (c *Client) SessionLog(ctx context.Context, id string, follow bool) (io.ReadCloser, error) {
	path := "/api/v1/sessions/" + url.PathEscape(id) + "/log"
	if follow {
		path += "?follow=1"
	}
	resp, err := c.do(ctx, "GET", path, nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// call sends a request and reads its answer. A POST whose connection broke is sent once more, under the same
// Idempotency-Key, so that it is carried out once.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	header := http.Header{}
	if method == http.MethodPost {
		header.Set(IdempotencyKey, rand.Text())
	}
	resp, err := c.do(ctx, method, path, in, header)
	if errors.Is(err, bindery.ErrUnreachable) && header.Get(IdempotencyKey) != "" {
		resp, err = c.do(ctx, method, path, in, header)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// do sends one request and returns its answer when that is a success; the caller closes its body.
func (c *Client) do(ctx context.Context, method, path string, in any, header http.Header) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.socket != "" && c.as != "" {
		req.Header.Set(AsHeader, c.as)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, problemFrom(resp)
	}
	return resp, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if c.socket != "" {
		return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient,
			"Start it with `bindery serve`, or name its state directory with --state-dir.",
			"No hub answers at %s", c.socket).Because(err)
	}
	return bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Check the URL and that the hub runs.",
		"No hub answers at %s", c.base.Redacted()).Because(err)
}
