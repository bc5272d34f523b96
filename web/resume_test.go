package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// streamOfPage loads the launch page and returns the address of its stream, which carries the page's token.
func streamOfPage(t testing.TB, base string) string {
	t.Helper()
	resp, err := http.Get(base + "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	m := regexp.MustCompile(`(?s)<script type="application/json" id="page-data">(.*?)</script>`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("the page has no data: %s", body)
	}
	var data struct{ Stream string }
	if err := json.Unmarshal(m[1], &data); err != nil {
		t.Fatalf("%s: %v", m[1], err)
	}
	return base + data.Stream
}

func TestResume(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	at := streamOfPage(t, ts.URL)
	if len(h.asks) != 0 {
		t.Fatal("loading the page started a build")
	}
	first := open(t, at)
	id := h.theBuild(t)
	h.say(id, "one\n", "two\n")
	var last string
	for last == "" || !strings.HasSuffix(last, ".3") {
		b, ok := first.block()
		if !ok {
			t.Fatal("the stream ended")
		}
		if m := regexp.MustCompile(`(?m)^id: (.*)$`).FindStringSubmatch(b); m != nil {
			last = m[1]
		}
	}
	first.resp.Body.Close()
	h.resolve = func(bindery.Source) error { return errors.New("the branch is not asked for again") }
	second := open(t, at, "Last-Event-ID", last)
	h.say(id, "three\n")
	h.finish(id)
	lines, ready := second.rest()
	if lines[0] != "building: three\n" || ready["phase"] != "ready" {
		t.Errorf("resumed with %q", lines)
	}
	third, readyAgain := open(t, at+"&after="+url.QueryEscape(last)).rest()
	if third[0] != "building: three\n" || readyAgain["token"] != ready["token"] || h.launched != 1 {
		t.Errorf("a stream that came back got another session: %v, then %v", ready, readyAgain)
	}
	if len(h.asks) != 1 {
		t.Errorf("%d builds were asked for", len(h.asks))
	}
	// A session that is gone is not given again.
	h.change(func() {
		s := h.sessions["s1"]
		s.State = bindery.SessionEnded
		h.sessions["s1"] = s
	})
	if _, e := open(t, at+"&after="+url.QueryEscape(last)).rest(); e["token"] == ready["token"] {
		t.Error("an ended session was given again")
	}
}

// TestSeenByAnotherLink: what somebody has seen counts for the link that led there. Any other is looked up, and goes on
// only when it leads to the same build.
func TestSeenByAnotherLink(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	repo := ts.URL + strings.TrimSuffix(specPath, "main")
	first := open(t, repo+"main")
	id := h.theBuild(t)
	h.say(id, "one\n", "two\n")
	h.finish(id)
	first.rest()
	goesOn := []string{"building: two\n", "built: Found built image, launching...\n"}
	for ref, want := range map[string]struct {
		commit string
		lines  []string
	}{
		"main": {commit, goesOn}, commit: {commit, goesOn}, "a-tag-of-it": {commit, goesOn},
		"another": {strings.Repeat("e", 40), []string{"waiting: Waiting for build to start...\n"}},
	} {
		s := open(t, repo+ref+"?after="+id+".2")
		if ref == "another" {
			h.until(t, "its build", func() bool { return len(h.builds) == 2 })
			for other := range h.builds {
				if other != id {
					h.finish(other)
				}
			}
		}
		lines, e := s.rest()
		if persistent, _ := e["binder_persistent_request"].(string); !strings.HasSuffix(persistent, "/"+want.commit) || !slices.Equal(lines[:len(want.lines)], want.lines) {
			t.Errorf("%s: %q, %v; want %q of %s", ref, lines, e, want.lines, want.commit)
		}
	}
}

func TestLaunchGoesOnForWhoComesBack(t *testing.T) {
	h := newHub()
	started, release := make(chan struct{}), make(chan struct{})
	h.launch = func(ctx context.Context, _ int) error {
		close(started)
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ts := serve(t, h)
	at := ts.URL + specPath + "?request=" + strings.Repeat("a", 22)
	first := open(t, at)
	h.finish(h.theBuild(t))
	<-started
	first.resp.Body.Close()
	second := open(t, at)
	if e, _ := second.event(); e["phase"] != "built" {
		t.Fatalf("got %v", e)
	}
	close(release)
	if _, e := second.rest(); e["token"] != "secret-1" {
		t.Errorf("got %v", e)
	}
}

func TestLaunchThatNobodyWaitsForIsGivenUp(t *testing.T) {
	h := newHub()
	started, gone := make(chan struct{}), make(chan struct{})
	h.launch = func(ctx context.Context, _ int) error {
		close(started)
		<-ctx.Done()
		close(gone)
		return ctx.Err()
	}
	ts := serve(t, h, func(c *web.Config) { c.LeaveGrace = time.Millisecond })
	s := open(t, streamOfPage(t, ts.URL))
	h.finish(h.theBuild(t))
	<-started
	s.resp.Body.Close()
	<-gone
}

func TestRetryOfAStoredFailure(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	at := streamOfPage(t, ts.URL)
	first := open(t, at)
	id := h.theBuild(t)
	h.say(id, "first try\n")
	h.fail(id, bindery.Errorf(bindery.ErrStep, bindery.User, "Fix it.", "It failed"))
	if _, e := first.rest(); e["phase"] != "failed" {
		t.Fatalf("got %v", e)
	}
	if lines, e := open(t, at).rest(); e["phase"] != "failed" || lines[1] != "building: first try\n" {
		t.Errorf("the stored failure is shown as %q", lines)
	}
	retry := open(t, at+"&retry=true")
	h.until(t, "a retry", func() bool { return h.builds[id].State == bindery.BuildQueued })
	h.say(id, "second try\n")
	h.finish(id)
	if lines, e := retry.rest(); e["phase"] != "ready" {
		t.Errorf("got %q", lines)
	}
}

// TestReplicasTakeEachOthersTokens: they share a secret. A hub with another one does not.
func TestReplicasTakeEachOthersTokens(t *testing.T) {
	one := serve(t, newHub())
	for secret, good := range map[string]bool{strings.Repeat("k", 32): true, strings.Repeat("K", 32): false} {
		h := newHub()
		two := serve(t, h, func(c *web.Config) { c.Secret = []byte(secret) })
		e, _ := open(t, two.URL+strings.TrimPrefix(streamOfPage(t, one.URL), one.URL), "Origin", one.URL).event()
		if (e["phase"] == "waiting") != good || (e["message"] == "Invalid build token\n") == good {
			t.Errorf("the same secret: %v: %v", good, e)
		}
	}
}

func TestBuildTokens(t *testing.T) {
	h := newHub()
	now := time.Now()
	var mu sync.Mutex
	ts := serve(t, h, func(c *web.Config) {
		c.TokenLife = time.Hour
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	at := streamOfPage(t, ts.URL)
	token := func(u string) string { p, _ := url.Parse(u); return p.Query().Get("build_token") }(at)
	refused := func(what, url string, header ...string) {
		t.Helper()
		if e, _ := open(t, url, header...).event(); e["message"] != "Invalid build token\n" {
			t.Errorf("%s: %v", what, e)
		}
	}
	refused("for another ref", ts.URL+strings.TrimSuffix(specPath, "main")+"other?build_token="+token)
	refused("from another origin", at, "Origin", "https://evil.example")
	anywhere := serve(t, h, func(c *web.Config) { c.AnyTokenOrigin = true })
	if e, _ := open(t, anywhere.URL+strings.TrimPrefix(at, ts.URL), "Origin", "https://evil.example").event(); e["phase"] != "waiting" {
		t.Errorf("from another origin, which may: %v", e)
	}
	refused("changed", strings.Replace(at, "build_token=", "build_token=x", 1))
	parts := strings.Split(token, ".")
	refused("without signature", ts.URL+specPath+"?build_token=eyJhbGciOiJub25lIn0."+parts[1]+".")
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	refused("too old", at)
}
