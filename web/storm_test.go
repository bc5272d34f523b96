package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

// TestStormOfDisconnects cuts 10,000 connections of visitors who all come back, each at a random byte of what they are
// being told, while a build runs, while their sessions start, and after. None may miss a line or see one twice, and
// there is one build, and one session for each visitor.
func TestStormOfDisconnects(t *testing.T) {
	const visitors, cuts = 50, 10_000
	h := newHub()
	var cut atomic.Int64
	release := make(chan struct{})
	h.launch = func(ctx context.Context, _ int) error { // starts when most of the cuts have been made
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m := newMemoryNet()
	srv := &http.Server{Handler: newServer(t, h).Public()}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(m) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })

	id := "b-" + bindery.BuildKey(bindery.Source{Provider: "git", URL: "https://example.org/o/r", Commit: commit}, "g")[:8]
	var wg sync.WaitGroup
	all := make([]*comer, visitors)
	for i := range all {
		all[i] = &comer{
			t: t, m: m, h: h, build: id, rand: rand.New(rand.NewPCG(1, uint64(i))),
			request: fmt.Sprintf("visitor-number-%08d-of-the-storm", i), cut: &cut,
		}
	}
	for _, c := range all { // eight of ten while it builds
		wg.Go(func() { c.comeAndGo(cuts*8/10/visitors, 240, true) })
	}
	wg.Wait()
	h.finish(id)
	for _, c := range all { // one while sessions start, one when they are there
		wg.Go(func() { c.comeAndGo(cuts/10/visitors, 80, false) })
	}
	wg.Wait()
	close(release)
	for _, c := range all {
		wg.Go(func() { c.comeAndGo(cuts/10/visitors, 400, false); c.stay() })
	}
	wg.Wait()

	h.mu.Lock()
	defer h.mu.Unlock()
	var want []string
	for _, e := range h.events[id] {
		if e.Phase == bindery.PhaseBuilding {
			want = append(want, e.Message)
		}
	}
	tokens := map[string]bool{}
	for i, c := range all {
		if got := strings.Join(c.lines, ""); got != strings.Join(want, "") {
			t.Fatalf("visitor %d saw %d lines of %d", i, len(c.lines), len(want))
		}
		tokens[c.token] = true
	}
	if len(h.builds) != 1 || h.launched != visitors || len(tokens) != visitors || cut.Load() < cuts {
		t.Errorf("%d builds, %d sessions, %d tokens for %d visitors, %d cuts", len(h.builds), h.launched, len(tokens), visitors, cut.Load())
	}
}

// A comer is one visitor with a browser that connects again after the last event that it has seen.
type comer struct {
	t       *testing.T
	m       *memoryNet
	h       *hub
	build   string
	request string
	rand    *rand.Rand
	cut     *atomic.Int64

	last  string // id of the last whole event
	lines []string
	token string
}

// comeAndGo connects n times, and is cut after at most span bytes of the stream. While the build runs each time brings
// news if there are none, so that there is always something to be cut.
func (c *comer) comeAndGo(n, span int, building bool) {
	for range n {
		c.connect(c.rand.IntN(span)-span/10, func() { // below zero: in the headers
			if building {
				news := 0
				c.h.until(c.t, "the build", func() bool {
					_, ok := c.h.builds[c.build]
					news = len(c.h.events[c.build]) - len(c.lines)
					return ok
				})
				if news > 3 {
					return
				}
				c.h.say(c.build, fmt.Sprintf("%s %d\n", c.request, c.cut.Load()), strings.Repeat("=", 80)+"\n")
			}
		})
		c.cut.Add(1)
	}
}

// stay connects and hears all to the end.
func (c *comer) stay() { c.connect(1<<30, func() {}) }

// connect reads at least so many bytes of the stream, or until the session is ready. Where a cut takes the middle of an event,
// that event was not seen.
func (c *comer) connect(most int, then func()) {
	var mu sync.Mutex
	var text bytes.Buffer
	body := -1 // where the stream begins
	enough := make(chan struct{})
	once := sync.OnceFunc(func() { close(enough) })
	request := fmt.Sprintf("GET %s?ids=1&request=%s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: %s\r\n\r\n", specPath, c.request, c.last)
	conn := c.m.dial(request, func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		text.Write(b)
		if body < 0 {
			body = bytes.Index(text.Bytes(), []byte("\r\n\r\n"))
		}
		if most < 0 || (body >= 0 && text.Len()-body-4 >= most) || bytes.Contains(b, []byte(`"phase":"ready"`)) {
			once()
		}
	})
	then()
	<-enough
	conn.hangUp()
	mu.Lock()
	defer mu.Unlock()
	if most >= 1<<30 {
		most = text.Len() // all of it
	}
	if most >= 0 {
		heard := text.Bytes()[body+4:]
		if len(heard) > most { // more has come meanwhile: the cut is anywhere in it
			heard = heard[:most+c.rand.IntN(len(heard)-most)]
		}
		c.hear(heard)
	}
}

// hear takes in the whole events of what was heard.
func (c *comer) hear(chunks []byte) {
	text, _ := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(chunks))) // up to where it was cut
	body := string(text)
	for {
		block, rest, whole := strings.Cut(body, "\n\n")
		if !whole {
			return
		}
		body = rest
		id := ""
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				id = v
			}
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				continue
			}
			var e struct{ Phase, Message, Token string }
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				c.t.Errorf("%q: %v", data, err)
				return
			}
			if e.Phase == "building" {
				c.lines = append(c.lines, e.Message)
			}
			if e.Token != "" {
				if c.token != "" && c.token != e.Token {
					c.t.Errorf("%s had the session %s and is given %s", c.request, c.token, e.Token)
				}
				c.token = e.Token
			}
		}
		if id != "" {
			c.last = id
		}
	}
}
