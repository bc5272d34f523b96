package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

const specPath = "/build/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main"

// A stream is one open request for events.
type stream struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Reader
}

func open(t testing.TB, url string, header ...string) *stream {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &stream{t: t, resp: resp, in: bufio.NewReader(resp.Body)}
}

// block reads up to the next empty line; false at the end.
func (s *stream) block() (string, bool) {
	s.t.Helper()
	var b strings.Builder
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			if err != io.EOF && !errors.Is(err, context.Canceled) && !errors.Is(err, io.ErrUnexpectedEOF) {
				s.t.Logf("stream ended: %v", err)
			}
			return b.String(), false
		}
		if line == "\n" {
			return b.String(), true
		}
		b.WriteString(line)
	}
}

// event reads the next event, without comments.
func (s *stream) event() (map[string]any, bool) {
	s.t.Helper()
	for {
		b, ok := s.block()
		if !ok {
			return nil, false
		}
		i := strings.Index(b, "data: ")
		if i < 0 {
			continue
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(b[i+6:]), &v); err != nil {
			s.t.Fatalf("%q: %v", b, err)
		}
		return v, true
	}
}

// rest reads all events that are left, as "phase: message".
func (s *stream) rest() (lines []string, last map[string]any) {
	s.t.Helper()
	for {
		e, ok := s.event()
		if !ok {
			return lines, last
		}
		lines, last = append(lines, fmt.Sprintf("%v: %v", e["phase"], e["message"])), e
	}
}

func TestStreamOfABuild(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	s := open(t, ts.URL+specPath)
	id := h.theBuild(t)
	h.say(id, "Fetching\n", "Step 1\n", "progress\r")
	h.finish(id)
	got, ready := s.rest()
	want := []string{
		"waiting: Waiting for build to start...\n",
		"building: Fetching\n", "building: Step 1\n", "building: progress\r",
		"built: Built image, launching...\n",
		"launching: Launching server...\n", "launching: Server ready at /user/s1/\n",
		"ready: server running at http://127.0.0.1:8586/user/s1/\n",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	wantReady := map[string]any{
		"phase": "ready", "message": "server running at http://127.0.0.1:8586/user/s1/\n", "image": "https-3a-2f-2fexample-2eorg-2fo-2fr-b55480:" + commit,
		"repo_url": "https://example.org/o/r", "token": "secret-1", "binder_ref_url": "https://example.org/o/r",
		"binder_launch_host": ts.URL + "/", "binder_request": "v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main",
		"binder_persistent_request": "v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/" + commit,
		"binder_client_ip":          "127.0.0.1", "url": "http://127.0.0.1:8586/user/s1/",
	}
	if d := cmp.Diff(wantReady, ready); d != "" {
		t.Error(d)
	}
	link := []string{
		"BINDER_REPO_URL=https://example.org/o/r", "BINDER_REF_URL=https://example.org/o/r", "BINDER_LAUNCH_HOST=" + ts.URL + "/",
		"BINDER_REQUEST=v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", "BINDER_PERSISTENT_REQUEST=v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/" + commit, "BINDER_CLIENT_IP=127.0.0.1",
	}
	if d := cmp.Diff(link, h.told); d != "" {
		t.Error("the session is told:", d)
	}
	for k, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Access-Control-Allow-Headers": "cache-control"} {
		if got := s.resp.Header.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}

	again, _ := open(t, ts.URL+specPath).rest()
	wantAgain := []string{
		"built: Found built image, launching...\n", "launching: Launching server...\n", "launching: Server ready at /user/s2/\n",
		"ready: server running at http://127.0.0.1:8586/user/s2/\n",
	}
	if d := cmp.Diff(wantAgain, again); d != "" {
		t.Error(d)
	}
}

func TestWireFormatForOldClients(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	s := open(t, ts.URL+specPath)
	id := h.theBuild(t)
	h.change(func() {
		h.add(id, bindery.Event{Phase: bindery.PhaseBuilding, Step: &bindery.Step{ID: "1", Name: "RUN x"}})
	})
	h.say(id, "one\ntwo\n")
	h.finish(id)
	line := regexp.MustCompile(`^data: \{"phase":"[a-z]+".*\}\n$`)
	for {
		b, ok := s.block()
		if !ok {
			break
		}
		if !line.MatchString(b) {
			t.Errorf("not one data line with a phase: %q", b)
		}
	}
}

func TestHeadersComeBeforeAnythingIsKnown(t *testing.T) {
	h := newHub()
	release := make(chan struct{})
	h.resolve = func(bindery.Source) error { <-release; return nil }
	s := open(t, serve(t, h, func(c *web.Config) { c.Keepalive = 20 * time.Millisecond }).URL+specPath) // returns with the headers
	if b, _ := s.block(); b != ":keepalive\n" {
		t.Errorf("got %q, want a comment", b)
	}
	close(release)
	h.theBuild(t)
}

// TestKeepaliveByDefault is BinderHub's interval, of a hub whose configuration says nothing of it, as bindery serve's does.
func TestKeepaliveByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m := newHub(), newMemoryNet()
		srv := &http.Server{Handler: newServer(t, h).Public()}
		go func() { _ = srv.Serve(m) }()
		var last time.Time
		var gaps []time.Duration
		c := m.dial("GET "+specPath+" HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", func(b []byte) {
			if strings.Contains(string(b), ":keepalive\n\n") {
				gaps = append(gaps, time.Since(last))
			}
			last = time.Now()
		})
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if want := []time.Duration{25 * time.Second, 25 * time.Second, 25 * time.Second}; !slices.Equal(gaps, want) {
			t.Errorf("comments come %v after what was sent before, want %v", gaps, want)
		}
		c.hangUp()
		_ = srv.Close()
	})
}

func TestStandingIsTold(t *testing.T) {
	h := newHub()
	now := time.Date(2026, 3, 24, 12, 0, 0, 0, time.UTC)
	h.standing = bindery.Standing{Position: 3, Reason: "Every slot is taken (2); 2 builds are ahead",
		From: now.Add(2*time.Minute + time.Second), Likely: now.Add(4 * time.Minute), To: now.Add(5*time.Minute + time.Second)}
	s := open(t, serve(t, h, func(c *web.Config) { c.Now = func() time.Time { return now } }).URL+specPath)
	if e, _ := s.event(); e["message"] != "Waiting for build to start...\n" {
		t.Errorf("the first line is %v", e)
	}
	e, _ := s.event()
	want := map[string]any{"phase": "waiting", "position": 3.0, "reason": "Every slot is taken (2); 2 builds are ahead",
		"from": "2026-03-24T12:02:01Z", "likely": "2026-03-24T12:04:00Z", "to": "2026-03-24T12:05:01Z",
		"message": "Waiting for build to start: number 3 in the queue. Every slot is taken (2); 2 builds are ahead. It starts in 2 to 6 minutes.\n"}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	h.change(func() { h.standing.Position, h.standing.To = 1, now.Add(9*time.Minute) }) // nobody plans by "2 to 9"
	if e, _ = s.event(); e["position"] != 1.0 || !strings.HasSuffix(fmt.Sprint(e["message"]), ". It starts within 9 minutes.\n") {
		t.Errorf("got %v", e)
	}
	id := h.theBuild(t)
	h.say(id, "go\n")
	h.finish(id)
	lines, _ := s.rest()
	if len(lines) != 5 {
		t.Errorf("the rest is %q", lines)
	}
}

// TestRunIsTold has a client of BinderHub's and our page follow one build. Both are told in words what such builds take, and
// that this one takes longer, once each; our page is sent new times as they come. Who joins later is told what holds then.
func TestRunIsTold(t *testing.T) {
	h := newHub()
	at := time.Date(2026, 3, 24, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return at }
	ts := serve(t, h, func(c *web.Config) { c.Now = clock })
	plain, page := open(t, ts.URL+specPath), open(t, ts.URL+specPath+"?ids=1")
	id := h.theBuild(t)
	h.until(t, "two watchers", func() bool { return h.watching[id] == 1 })
	tell := func(ran time.Duration, r bindery.Run) {
		h.change(func() {
			h.standing.Run, at = r, now.Add(ran)
			b := h.builds[id]
			b.State = bindery.BuildRunning
			h.builds[id] = b
		})
	}
	until := func(s *stream, is func(map[string]any) bool) map[string]any {
		e, ok := s.event()
		for ok && !is(e) {
			e, ok = s.event()
		}
		return e
	}
	first := bindery.Run{Since: now, Least: 2*time.Minute + time.Second, Most: 5*time.Minute - time.Second, From: now.Add(2 * time.Minute), Likely: now.Add(3 * time.Minute), To: now.Add(5 * time.Minute)}
	further, late, other, nothing := first, first, first, bindery.Run{Since: now}
	further.To = now.Add(6 * time.Minute)
	late.To = now.Add(10 * time.Minute)
	other.From, other.Likely, other.Least, other.Most = time.Time{}, time.Time{}, 0, 61*time.Second
	const takes = "Builds of this repository take 2 to 5 minutes.\n"
	for i, c := range []struct {
		ran   time.Duration
		run   bindery.Run
		phase string // that of the build's last event; empty: nothing is sent
		words string // empty: none
	}{
		{0, nothing, "", ""},
		{time.Second, first, "waiting", takes},
		{4 * time.Minute, further, "waiting", ""},
		{6 * time.Minute, late, "fetching", "This takes longer than usual. " + takes},
		{50 * time.Second, other, "fetching", "Builds take up to 70 seconds here.\n"},
	} {
		if c.phase == "fetching" && h.events[id][len(h.events[id])-1].Phase != bindery.PhaseFetching {
			h.change(func() { h.add(id, bindery.Event{Phase: bindery.PhaseFetching, Message: "fetching\n"}) })
			for _, s := range []*stream{page, plain} {
				until(s, func(e map[string]any) bool { return e["phase"] == "fetching" })
			}
		}
		if tell(c.ran, c.run); c.phase == "" {
			continue
		}
		want := map[string]any{"phase": c.phase}
		if c.words != "" {
			want["message"] = c.words
		}
		for _, s := range []*stream{page, plain} {
			if s == plain && c.words == "" {
				continue // it would print the same again
			}
			e := until(s, func(e map[string]any) bool { return e["run"] != nil })
			run, _ := e["run"].(map[string]any)
			if delete(e, "run"); cmp.Diff(want, e) != "" || run["to"] != c.run.To.Format(time.RFC3339) || run["since"] != "2026-03-24T12:00:00Z" {
				t.Errorf("%d: %v, %v, want %v", i, e, run, c)
			}
		}
	}
	joined := open(t, ts.URL+specPath)
	if e := until(joined, func(e map[string]any) bool { return e["run"] != nil }); e["message"] != "Builds take up to 70 seconds here.\n" {
		t.Errorf("who joins is told %v", e)
	}
	h.say(id, "go\n")
	h.finish(id)
	for _, s := range []*stream{plain, page, joined} {
		if lines, _ := s.rest(); len(lines) != 5 || lines[0] != "building: go\n" {
			t.Errorf("the rest is %q", lines)
		}
	}
}

func TestFailures(t *testing.T) {
	step := bindery.Errorf(bindery.ErrStep, bindery.User, "Look at its last lines.", "postBuild ended with exit code 7")
	built := bindery.BuildKey(bindery.Source{Provider: "git", URL: "https://example.org/o/r", Ref: "main", Commit: commit}, "g")
	for _, c := range []struct {
		name   string
		path   string
		header []string
		set    func(*hub)
		want   map[string]any // of the last event; message and status_code
	}{
		{"accept", specPath, []string{"Accept", "text/html"}, nil, map[string]any{"message": "Missing Accept header: text/event-stream\n", "status_code": 400.0}},
		{"no accept", specPath, []string{"Accept", "*/*"}, nil, map[string]any{"message": "Missing Accept header: text/event-stream\n", "status_code": 400.0}},
		{"token", specPath + "?build_token=x", nil, nil, map[string]any{"message": "Invalid build token\n", "status_code": 403.0}},
		{"provider", "/build/nosuch/o/r/main", nil, nil, map[string]any{"message": "No provider found for prefix nosuch\n"}},
		{"local provider", "/build/local/%2Fetc/main", nil, nil, map[string]any{"message": "No provider found for prefix local\n"}},
		{"build only", specPath + "?build_only=True", nil, nil, map[string]any{"message": "Building but not launching is not permitted when the API only mode is not enabled\n", "status_code": 400.0}},
		{"build only, of a build that was seen", specPath + "?build_only=true&after=b-" + built[:8] + ".1", nil, func(h *hub) {
			b, _ := h.Submit(context.Background(), bindery.Ask{Source: bindery.Source{Provider: "git", URL: "https://example.org/o/r", Ref: "main", Commit: commit}})
			h.finish(b.ID)
		}, map[string]any{"message": "Building but not launching is not permitted when the API only mode is not enabled\n", "status_code": 400.0}},
		{"ref", specPath, nil, func(h *hub) {
			h.resolve = func(bindery.Source) error { return bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "", "no") }
		}, map[string]any{"message": "Could not resolve ref for git:https%3A%2F%2Fexample.org%2Fo%2Fr/main. Double check your URL and that your repo is public.\n"}},
		{"repository", specPath, nil, func(h *hub) {
			h.resolve = func(bindery.Source) error {
				return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check it.", "There is no repository")
			}
		}, map[string]any{"message": "Error resolving ref for git:https%3A%2F%2Fexample.org%2Fo%2Fr/main: There is no repository. Check it.\n"}},
		{"bug", specPath, nil, func(h *hub) { h.resolve = func(bindery.Source) error { return errors.New("secret detail") } },
			map[string]any{"message": "Error resolving ref for git:https%3A%2F%2Fexample.org%2Fo%2Fr/main: Something went wrong on our side. Try again; if it happens again, tell the operator when it happened.\n", "status_code": 500.0}},
		{"build", specPath, nil, func(h *hub) {
			b, _ := h.Submit(context.Background(), bindery.Ask{Source: bindery.Source{Provider: "git", URL: "https://example.org/o/r", Ref: "main", Commit: commit}})
			h.say(b.ID, "trying\n")
			h.fail(b.ID, step)
		}, map[string]any{"message": "postBuild ended with exit code 7. Look at its last lines.\n"}},
		{"launch", specPath, nil, func(h *hub) {
			b, _ := h.Submit(context.Background(), bindery.Ask{Source: bindery.Source{Provider: "git", URL: "https://example.org/o/r", Ref: "main", Commit: commit}})
			h.finish(b.ID)
			h.launch = func(context.Context, int) error {
				return bindery.Errorf(bindery.ErrOutOfMemory, bindery.User, "Use less.", "The session ran out of memory")
			}
		}, map[string]any{"message": "The session ran out of memory. Use less.\n", "status_code": 500.0}},
		{"full hub", specPath, nil, func(h *hub) {
			b, _ := h.Submit(context.Background(), bindery.Ask{Source: bindery.Source{Provider: "git", URL: "https://example.org/o/r", Ref: "main", Commit: commit}})
			h.finish(b.ID)
			h.launch = func(context.Context, int) error {
				return bindery.Errorf(bindery.ErrHubQuota, bindery.Transient, "Later.", "Too many users on this BinderHub")
			}
		}, map[string]any{"message": "Too many users on this BinderHub! Try again soon.\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub()
			if c.set != nil {
				c.set(h)
			}
			s := open(t, serve(t, h).URL+c.path, c.header...)
			if s.resp.StatusCode != 200 || s.resp.Header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%s %s", s.resp.Status, s.resp.Header.Get("Content-Type"))
			}
			lines, last := s.rest()
			for _, l := range lines[:len(lines)-1] {
				if strings.HasPrefix(l, "failed") {
					t.Errorf("a failed event that is not the last: %q", lines)
				}
			}
			e, _ := last["error"].(map[string]any)
			if e == nil || e["kind"] == "" || e["fault"] == "" {
				t.Errorf("no kind and fault: %v", last)
			}
			delete(last, "error")
			c.want["phase"] = "failed"
			if d := cmp.Diff(c.want, last); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestRenamedBranches has old links of GitHub say master where there is none any more, and of others, for whom it means
// what it says.
func TestRenamedBranches(t *testing.T) {
	for at, renamed := range map[string]bool{"gh/o/r/master": true, "gh/o/r/main": true, "gh/o/r/trunk": false, "gl/o%2Fr/master": false, "git/https%3A%2F%2Fexample.org%2Fo%2Fr/master": false} {
		h := newHub()
		h.resolve = func(src bindery.Source) error {
			if src.Ref != "" {
				return bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "", "no such branch")
			}
			return nil
		}
		s := open(t, serve(t, h).URL+"/build/"+at)
		if !renamed {
			if lines, last := s.rest(); len(lines) != 1 || last["phase"] != "failed" || !strings.HasPrefix(last["message"].(string), "Could not resolve ref for ") {
				t.Errorf("%s: %q", at, lines)
			}
			continue
		}
		h.finish(h.theBuild(t))
		lines, last := s.rest()
		if branch := at[strings.LastIndex(at, "/")+1:]; lines[0] != "waiting: There is no branch "+branch+"; the default branch is taken in its place.\n" || last["phase"] != "ready" || last["binder_request"] != "v2/"+at {
			t.Errorf("%s: %q, %v", at, lines, last)
		}
	}
}

// TestWhoClosesTheStream: after a build the client does, since those that reconnect by themselves would launch once more;
// what was cached is over at once, and so is a failure.
func TestWhoClosesTheStream(t *testing.T) {
	h := newHub()
	ts := serve(t, h, func(c *web.Config) { c.Linger, c.Keepalive = time.Hour, 20*time.Millisecond })
	s := open(t, ts.URL+specPath)
	h.finish(h.theBuild(t))
	for last := ""; last != "ready"; {
		e, ok := s.event()
		if !ok {
			t.Fatal("the stream ends before it is ready")
		}
		last, _ = e["phase"].(string)
	}
	if b, open := s.block(); !open || b != ":keepalive\n" {
		t.Errorf("after the build's ready: %q, open: %v", b, open)
	}
	s.resp.Body.Close()
	if _, last := open(t, ts.URL+specPath).rest(); last["phase"] != "ready" { // rest reads to the end
		t.Errorf("cached: %v", last)
	}
	if _, last := open(t, ts.URL+"/build/nosuch/x").rest(); last["phase"] != "failed" {
		t.Errorf("failed: %v", last)
	}
}

func TestAcceptHeaders(t *testing.T) {
	ts := serve(t, newHub())
	for accept, ok := range map[string]bool{
		"text/event-stream": true, "text/event-stream, */*": true, "*/*, Text/Event-Stream;q=0.9": true, "text/html;q=1,text/event-stream;charset=utf-8": true,
		"": false, "*/*": false, "text/event-streams": false, "application/json": false, ";;,": false,
	} {
		e, _ := open(t, ts.URL+"/build/nope/x", "Accept", accept).event()
		if got := e["message"] == "No provider found for prefix nope\n"; got != ok {
			t.Errorf("Accept %q: %v", accept, e)
		}
	}
}

func TestHostileSpecs(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	for _, path := range []string{
		"git/", "git/x", "git//", "git/https:/", "git/https://example.org/o/r/main", "git/%00/main", "git/--upload-pack=x/main",
		"git/ext%3A%3Ash%20-c%20id/main", "git/https%3A%2F%2Fexample.org%2Fo%2Fr/--option", "git/https%3A%2F%2Fexample.org%2Fo%2Fr/a..b",
		"git/https%3A%2F%2Fexample.org%2Fo%2Fr/a%0Ab", "git/https%3A%2F%2Fu%3Ap%40example.org%2Fo%2Fr/main", "git/%2Fetc%2Fpasswd/main",
		"git/https%3A%2F%2Fexample.org%2Fo%2Fr/../main", "git/https%3A%2F%2F-x%2Fo%2Fr/main", "git/javascript%3Aalert(1)/main",
		"git/https%253A%252F%252Fexample.org%252Fo/main", "../git/x/main", "git/%zz/main",
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", ts.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "/build/" + path
		req.Header.Set("Accept", "text/event-stream")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 && resp.StatusCode != 400 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
		if resp.StatusCode == 200 && !strings.Contains(string(body), `"phase":"failed"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
	if len(h.asks) > 0 {
		t.Errorf("something was built: %v", h.asks)
	}
	// Decoded once: %2520 is "%20" in the name, and not a space.
	h.resolve = func(src bindery.Source) error {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "", "%s@%s", src.URL, src.Ref)
	}
	e, _ := open(t, ts.URL+"/build/git/https%3A%2F%2Fexample.org%2Fa%252520b/feature/x%2Fy").event()
	if got := e["message"].(string); !strings.HasSuffix(got, ": https://example.org/a%2520b@feature/x/y\n") {
		t.Errorf("the source is %s", got)
	}
}

func TestHEADBuildsNothing(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	for method, status := range map[string]int{"HEAD": 405, "POST": 405, "OPTIONS": 200} {
		req, _ := http.NewRequestWithContext(t.Context(), method, ts.URL+specPath, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", method, resp.StatusCode, status)
		}
	}
	if len(h.asks) != 0 {
		t.Errorf("something was built: %v", h.asks)
	}
}
