package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

func TestManyWatchersSeeEveryLine(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	const watchers, lines = 200, 300
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprintf("line %d\n", i))
	}
	wrong := make(chan string, watchers)
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range watchers {
		wg.Go(func() { wrong <- watchAll(t, client, ts.URL+specPath, want) })
	}
	id := h.theBuild(t)
	for i, l := range want {
		h.say(id, l)
		if i == lines/2 {
			h.until(t, "all watchers", func() bool { return len(h.asks) == watchers })
		}
	}
	h.finish(id)
	wg.Wait()
	close(wrong)
	for w := range wrong {
		if w != "" {
			t.Fatal(w)
		}
	}
	if len(h.builds) != 1 || h.launched != watchers {
		t.Errorf("%d builds, %d sessions", len(h.builds), h.launched)
	}
}

// watchAll reads a stream and says how its log differs from want.
func watchAll(t testing.TB, client *http.Client, url string, want []string) string {
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	s := &stream{t: t, resp: resp, in: bufio.NewReader(resp.Body)}
	var got []string
	for {
		e, ok := s.event()
		switch {
		case !ok:
			return "the stream ended early"
		case e["phase"] == "building":
			got = append(got, e["message"].(string))
		case e["phase"] == "ready":
			return cmp.Diff(want, got)
		case e["phase"] == "failed":
			return fmt.Sprint(e)
		}
	}
}

func TestSlowReaderIsCutOff(t *testing.T) {
	h := newHub()
	const limit = 500 * time.Millisecond // a busy machine may keep the fast reader waiting for a while, too
	ts := serve(t, h, func(c *web.Config) { c.WriteTimeout = limit })
	conn, err := net.Dial("tcp", ts.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", specPath)
	id := h.theBuild(t)
	fast := open(t, ts.URL+specPath)
	big := strings.Repeat("x", 64<<10) + "\n"
	const least = 400 // far more lines than the kernel takes for the slow one
	seen := make(chan int)
	go func() {
		n := 0
		for e, ok := fast.event(); ok; e, ok = fast.event() {
			if e["phase"] == "building" {
				n++
				seen <- n
			}
		}
		close(seen)
	}()
	for i, began := 0, time.Now(); i < least || time.Since(began) < 3*limit; i++ {
		h.say(id, big)
		if got := <-seen; got != i+1 {
			t.Fatalf("the fast reader saw %d of %d lines", got, i+1)
		}
	}
	h.finish(id)
	<-seen
	h.mu.Lock()
	sessions := h.launched
	h.mu.Unlock()
	// What the kernel had taken is still read; then the connection is at its end, without a ready event.
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(conn)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Error("the slow reader was not cut off")
	}
	if strings.Contains(string(b), `"phase":"ready"`) || sessions != 1 {
		t.Errorf("the slow reader got a session; %d were launched", sessions)
	}
}

// A looked hub counts who reads of it what may go on for ever.
type looked struct {
	*hub
	readers atomic.Int64
}

func (l *looked) Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error] {
	l.readers.Add(1)
	return l.hub.Events(ctx, id, after)
}

// TestHEADIsNobody: whoever asks for the headers gets them, and does not watch.
func TestHEADIsNobody(t *testing.T) {
	l := &looked{hub: newHub()}
	public := newServer(t, l.hub, func(c *web.Config) {
		c.Builds, c.Dev, c.Tokens = l, true, []web.Token{{Hash: web.HashToken("good")}}
		c.SessionLog = func(ctx context.Context, _ string, _ bool) (io.ReadCloser, error) {
			l.readers.Add(1)
			r, w := io.Pipe()
			context.AfterFunc(ctx, func() { _ = w.Close() })
			return r, nil
		}
		c.Export = func(context.Context, string, time.Time, time.Time) (iter.Seq2[[]byte, error], error) {
			return func(func([]byte, error) bool) { l.readers.Add(1) }, nil
		}
	}).Public()
	b, err := l.Submit(t.Context(), bindery.Ask{Source: bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/o/r", Commit: commit}})
	if err != nil {
		t.Fatal(err)
	}
	l.say(b.ID, "it lives\n")
	l.sessions["s1"] = bindery.Session{ID: "s1", State: bindery.SessionReady}
	for path, mime := range map[string]string{
		"/api/v1/builds/" + b.ID + "/events": "text/event-stream", "/api/v1/builds/" + b.ID + "/log": "text/plain; charset=utf-8", "/api/v1/builds/" + b.ID + "/log?follow=1": "text/plain; charset=utf-8",
		"/api/v1/sessions/s1/log?follow=1": "text/plain; charset=utf-8", "/api/v1/events": "application/x-ndjson", "/storybook/stream/waiting": "text/event-stream",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		r := httptest.NewRequestWithContext(ctx, "HEAD", path, nil)
		r.Header.Set("Authorization", "Bearer good")
		w := httptest.NewRecorder()
		public.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != mime || w.Body.Len() > 0 || ctx.Err() != nil || l.readers.Swap(0) > 0 {
			t.Errorf("HEAD %s: %d %s, %q; it was cut off: %v", path, w.Code, w.Header().Get("Content-Type"), w.Body, ctx.Err())
		}
		cancel()
	}
}

func TestStreamsEndAtShutdown(t *testing.T) {
	h := newHub()
	srv := newServer(t, h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, l, nil) }()
	s := open(t, "http://"+l.Addr().String()+specPath)
	h.theBuild(t)
	start := time.Now()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the stream held the shutdown for %v", took)
	}
	if lines, _ := s.rest(); strings.Contains(strings.Join(lines, ""), "failed") {
		t.Errorf("a stream that only broke said %q", lines)
	}
}
