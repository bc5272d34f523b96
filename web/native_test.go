package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// dial serves a hub on TCP and on a socket, and returns a client by the socket and one by URL with the given token.
func dial(t *testing.T, h *hub, token string, change ...func(*web.Config)) (local, remote *api.Client) {
	t.Helper()
	srv := newServer(t, h, append(change, func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("other")}, {Hash: web.HashToken("good")}, {Hash: web.HashToken("launch"), Scope: api.ScopeLaunch}}
	})...)
	sock := filepath.Join(t.TempDir(), "hub.sock")
	lt, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lu, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx, lt, lu) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if local, err = api.NewClient(api.ClientConfig{Socket: sock}); err != nil {
		t.Fatal(err)
	}
	if remote, err = api.NewClient(api.ClientConfig{URL: "http://" + lt.Addr().String(), Token: token}); err != nil {
		t.Fatal(err)
	}
	return local, remote
}

var repo = bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/o/r", Ref: "main"}

func TestNativeAPI(t *testing.T) {
	h := newHub()
	h.standing.Run = bindery.Run{Since: now, Most: time.Minute, To: now.Add(time.Minute)} // told beside the events
	local, remote := dial(t, h, "good")
	for name, c := range map[string]*api.Client{"socket": local, "token": remote} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if st, err := c.Status(ctx); err != nil || !st.OK || st.Version != "1.2.3" || st.Generation != "gen" {
				t.Errorf("status %v, %v", st, err)
			}
			src := repo
			src.Ref = name
			src.Subdir = name
			b, err := c.Submit(ctx, api.NewBuild{Source: src})
			if err != nil {
				t.Fatal(err)
			}
			h.say(b.ID, "one\n", "two\n")
			go h.finish(b.ID)
			var got []string
			for e, err := range c.Events(ctx, b.ID, 2) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.Message)
			}
			if d := cmp.Diff([]string{"two\n", "done\n"}, got); d != "" {
				t.Error(d)
			}
			for range c.Events(ctx, b.ID, 4) {
				t.Error("an event after the last")
			}
			if b, err = c.Build(ctx, b.ID); err != nil || b.State != bindery.BuildSucceeded {
				t.Errorf("%v, %v", b, err)
			}
			s, err := c.Launch(ctx, api.NewSession{Build: b.ID, Request: "r"})
			if err != nil || s.Token == "" || s.URL != "http://127.0.0.1:8586"+s.BasePath() {
				t.Fatalf("%v, %v", s, err)
			}
			if again, err := c.Launch(ctx, api.NewSession{Source: src, Request: "r"}); err != nil || again.ID != s.ID {
				t.Errorf("the same request got %v, %v", again.ID, err)
			}
			all, err := c.Sessions(ctx)
			if err != nil || len(all) != 1 || all[0].Token != "" {
				t.Errorf("sessions %v, %v", all, err)
			}
			one, err := c.Session(ctx, s.ID)
			if want := map[string]string{"socket": s.Token}[name]; err != nil || one.Token != want {
				t.Errorf("session %v, %v", one, err)
			}
			log, err := c.SessionLog(ctx, s.ID, true)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(log)
			log.Close()
			if string(text) != "log of the session\n" || err != nil {
				t.Errorf("log %q, %v", text, err)
			}
			if err := c.StopSession(ctx, s.ID, "enough"); err != nil {
				t.Error(err)
			}
			if one, err := c.Session(ctx, s.ID); err != nil || one.State != bindery.SessionEnded || one.Reason != "enough" {
				t.Errorf("%v, %v", one, err)
			}
			if a := h.audit; len(a) == 0 || a[len(a)-1].Did != "stop session" || a[len(a)-1].What != s.ID || a[len(a)-1].Who == "" || a[len(a)-1].Reason != "enough" {
				t.Errorf("audit: %+v", a)
			}
		})
	}
}

func TestStrangersSeeNothing(t *testing.T) {
	h := newHub()
	local, stranger := dial(t, h, "bad")
	ctx := t.Context()
	b, err := local.Submit(ctx, api.NewBuild{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	h.finish(b.ID)
	s, err := local.Launch(ctx, api.NewSession{Build: b.ID})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, err error, want bindery.Kind) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	_, err = stranger.Status(ctx)
	check("status", err, bindery.ErrNotAllowed)
	_, err = stranger.Submit(ctx, api.NewBuild{Source: repo})
	check("submit", err, bindery.ErrNotAllowed)
	_, err = stranger.Sessions(ctx)
	check("sessions", err, bindery.ErrNotAllowed)
	_, err = stranger.Launch(ctx, api.NewSession{Build: b.ID})
	check("launch", err, bindery.ErrNotAllowed)
	_, err = stranger.Session(ctx, s.ID)
	check("session", err, bindery.ErrNotFound)
	_, err = stranger.SessionLog(ctx, s.ID, false)
	check("log", err, bindery.ErrNotFound)
	check("stop", stranger.StopSession(ctx, s.ID, ""), bindery.ErrNotFound)
	if _, err := stranger.Build(ctx, b.ID); err != nil {
		t.Errorf("a build of a public repository: %v", err)
	}
}

func TestSessionsOwnTokenOpensIt(t *testing.T) {
	h := newHub()
	local, owner := dial(t, h, "secret-1")
	ctx := t.Context()
	b, err := local.Submit(ctx, api.NewBuild{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	h.finish(b.ID)
	for range 2 {
		if _, err := local.Launch(ctx, api.NewSession{Build: b.ID}); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := owner.Session(ctx, "s1"); err != nil || s.Token != "secret-1" {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := owner.Session(ctx, "s2"); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("another's session: %v", err)
	}
	if err := owner.StopSession(ctx, "s1", ""); err != nil || len(h.audit) != 0 {
		t.Errorf("%v; visitors are not in the audit log: %+v", err, h.audit)
	}
}

func TestDirectoriesAreForTheSocket(t *testing.T) {
	h := newHub()
	local, remote := dial(t, h, "good")
	dir := bindery.Source{Provider: bindery.ProviderLocal, URL: "/srv/course"}
	if _, err := remote.Submit(t.Context(), api.NewBuild{Source: dir}); !errors.Is(err, bindery.ErrNotAllowed) {
		t.Errorf("over the network: %v", err)
	}
	b, err := local.Submit(t.Context(), api.NewBuild{Source: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, anyone := dial(t, h, "")
	if _, err := anyone.Build(t.Context(), b.ID); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("a stranger sees the build of a directory: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	ts := serve(t, newHub(), func(c *web.Config) { c.Tokens = []web.Token{{Hash: web.HashToken("good")}} })
	for _, c := range []struct{ path, body string }{
		{"builds", ``}, {"builds", `{`}, {"builds", `[]`}, {"builds", `{"nope":1}`}, {"builds", `{} {}`},
		{"builds", `{"source":{"provider":"git","url":"-x"}}`}, {"builds", `{"source":{"provider":"zip","url":"x"}}`},
		{"builds", `{"source":{"provider":"git","url":"https://example.org/o/r","subdir":"../x"}}`},
		{"builds", `{"source":{"provider":"git","url":"https://example.org/o/r"},"class":"vip"}`},
		{"sessions", `{"source":` + strings.Repeat(" ", 2<<20) + `{}}`}, {"sessions", `{}`},
	} {
		resp, body := ask(t, "POST", ts.URL+"/api/v1/"+c.path, c.body, "Authorization", "Bearer good")
		if resp.StatusCode != 400 || resp.Header.Get("Content-Type") != api.ProblemType || !strings.Contains(body, `"kind":"invalid"`) {
			t.Errorf("POST %s %.80s: %d %s", c.path, c.body, resp.StatusCode, body)
		}
	}
}

// TestRulesHoldForPrograms has a program ask for what links may not: only an operator stands above the configuration.
func TestRulesHoldForPrograms(t *testing.T) {
	one := 1
	rules := func(c *web.Config) {
		c.Rules = web.Rules{RepoQuota: 7, Specs: map[string]web.SpecRules{
			"gh": {Banned: []string{"bad/.*"}, Config: []web.SpecConfig{{Pattern: "few/", Quota: &one}}}, "gl": {Allowed: []string{"ours%2F"}}, "git": {Banned: []string{"https%3A%2F%2Fevil.org%2F"}}, "zenodo": {Banned: []string{"10.5281/zenodo.1$"}},
		}}
		c.Tokens = []web.Token{{Hash: web.HashToken("a"), Name: "ops"}, {Hash: web.HashToken("l"), Name: "course", Scope: api.ScopeLaunch}}
	}
	h := newHub()
	ts := serve(t, h, operated(h), rules)
	post := func(token, path, body string) (int, string) {
		t.Helper()
		resp, text := ask(t, "POST", ts.URL+"/api/v1/"+path, body, "Authorization", "Bearer "+token)
		return resp.StatusCode, text
	}
	for source, want := range map[string]int{ // the quota; -1: it is not launched
		`{"url":"https://github.com/bad/r"}`: -1, `{"url":"https://GITHUB.com:443//Bad/r.git"}`: -1, `{"url":"git@github.com:bad/r","provider":"git"}`: -1, `{"url":"https://gitlab.com/theirs/r"}`: -1,
		`{"url":"https://evil.org/r"}`: -1, `{"url":"http://evil.org:80/r.git"}`: -1, `{"url":"https://doi.org/10.5281/zenodo.1","ref":"10.5281/zenodo.1","provider":"zenodo"}`: -1,
		`{"url":"https://github.com/few/r"}`: 1, `{"url":"https://gitlab.com/ours/r"}`: 7, `{"url":"https://example.org/o/r"}`: 7,
	} {
		for path, body := range map[string]string{"builds": `{"source":` + source + `}`, "sessions": `{"source":` + source + `}`} {
			before := len(h.asks)
			if want < 0 {
				if status, text := post("l", path, body); status != 403 || !strings.Contains(text, "does not launch") || len(h.asks) != before {
					t.Errorf("%s of %s: %d %s", path, source, status, text)
				}
			}
			if path == "builds" {
				if status, text := post("a", path, body); status != 200 || len(h.asks) != before+1 || h.asks[before].RepoQuota != 0 {
					t.Errorf("%s of %s by an operator: %d %s", path, source, status, text)
				}
				if want > 0 {
					if status, text := post("l", path, body); status != 200 || h.asks[before+1].RepoQuota != want {
						t.Errorf("%s of %s: %d %s %+v", path, source, status, text, h.asks[len(h.asks)-1])
					}
				}
			}
		}
	}
	// What an operator has had built is no way round them.
	h.quota = true
	for url, want := range map[string][]int{"https://github.com/bad/r": {403}, "https://github.com/few/r": {200, 503}} {
		local := bindery.Source{Provider: bindery.ProviderGit, URL: url}
		b, err := h.Submit(t.Context(), bindery.Ask{Source: local})
		if err != nil {
			t.Fatal(err)
		}
		h.finish(b.ID)
		h.change(func() { clear(h.sessions) })
		for _, status := range want {
			if got, text := post("l", "sessions", `{"build":"`+b.ID+`"}`); got != status {
				t.Errorf("a session of %s: %d %s, want %d", url, got, text, status)
			}
		}
		h.fail(b.ID, bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "It failed"))
		if got, text := post("l", "builds/"+b.ID+"/retry", ""); (got == 403) != (want[0] == 403) {
			t.Errorf("%s built again: %d %s", url, got, text)
		}
	}
}

// TestAClassIsSaidBySomebody keeps who said that a person waits: for a program there is no other evidence.
func TestAClassIsSaidBySomebody(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("l"), Name: "course", Scope: api.ScopeLaunch}}
	})
	for class, want := range map[string]bindery.Ask{
		`"attended"`:   {Class: bindery.Attended, Evidence: "said by token:course"},
		`"background"`: {Class: bindery.Background, Evidence: "said by token:course"},
		`""`:           {Class: bindery.Unattended, Evidence: "nothing said by token:course"},
	} {
		if resp, text := ask(t, "POST", ts.URL+"/api/v1/builds", `{"source":{"url":"https://example.org/o/r"},"class":`+class+`}`, "Authorization", "Bearer l"); resp.StatusCode != 200 {
			t.Fatal(text)
		}
		if got := h.asks[len(h.asks)-1]; got.Class != want.Class || got.Evidence != want.Evidence {
			t.Errorf("%s: %s, %q", class, got.Class, got.Evidence)
		}
	}
	// Strangers, who may see the build, do not learn who asks.
	h.change(func() {
		for id, b := range h.builds {
			b.Evidence = "said by token:course"
			h.builds[id] = b
		}
	})
	for token, want := range map[string]string{"-": `"evidence":"said by a program's token"`, "l": `"evidence":"said by token:course"`} {
		for _, path := range []string{"builds/" + h.theBuild(t), "queue"} {
			if _, text := ask(t, "GET", ts.URL+"/api/v1/"+path, "", "Authorization", "Bearer "+token); !strings.Contains(text, want) {
				t.Errorf("%s with %s: %s", path, token, text)
			}
		}
	}
}

func TestFailedBuildHasNoSession(t *testing.T) {
	h := newHub()
	local, _ := dial(t, h, "")
	b, err := local.Submit(t.Context(), api.NewBuild{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	h.fail(b.ID, bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "It failed"))
	_, err = local.Launch(t.Context(), api.NewSession{Build: b.ID})
	want := &bindery.Error{Kind: bindery.ErrStep, Fault: bindery.User, Msg: "It failed", Remedy: "Look."}
	if d := cmp.Diff(want, bindery.AsError(err)); d != "" {
		t.Error(d)
	}
}

func TestNoHub(t *testing.T) {
	c, err := api.NewClient(api.ClientConfig{Socket: filepath.Join(t.TempDir(), "hub.sock")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Status(t.Context())
	if e := bindery.AsError(err); e.Kind != bindery.ErrUnreachable || e.Remedy == "" {
		t.Errorf("got %v", err)
	}
}

// TestStandingBesideEvents reads a build's own stream as it is sent: where the build stands has a type of its own and no
// number, so that clients who know only events read the same as ever. All who read are told the same; nothing is told of what
// is over.
func TestStandingBesideEvents(t *testing.T) {
	h := newHub()
	h.standing = bindery.Standing{Position: 2, Reason: "1 build is ahead"}
	_, remote := dial(t, h, "good")
	ts := serve(t, h)
	b, err := remote.Submit(t.Context(), api.NewBuild{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	read := func() func() api.Message {
		resp, err := http.Get(ts.URL + "/api/v1/builds/" + b.ID + "/events") //nolint:noctx // the server's end is the test's
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		next, stop := iter.Pull2(api.ReadStream(resp.Body))
		t.Cleanup(stop)
		return func() api.Message { m, _, _ := next(); return m }
	}
	told := func(m api.Message) (st bindery.Standing) {
		t.Helper()
		if err := json.Unmarshal([]byte(m.Data), &st); err != nil || m.Event != api.StandingEvent || m.ID != "" {
			t.Fatalf("got %+v, %v", m, err)
		}
		return st
	}
	one, run := read(), bindery.Run{Since: now, Least: time.Minute, Most: 3 * time.Minute, From: now.Add(time.Minute), Likely: now.Add(2 * time.Minute), To: now.Add(3 * time.Minute)}
	got := map[string]api.Message{}
	for range 2 { // in either order
		m := one()
		got[m.Event] = m
	}
	if st := told(got[api.StandingEvent]); st != h.standing || got[""].ID != "1" {
		t.Errorf("at first: %+v", got)
	}
	h.change(func() {
		x := h.builds[b.ID]
		x.State, h.standing.Run = bindery.BuildRunning, run
		h.builds[b.ID] = x
	})
	if st := told(one()); st != (bindery.Standing{Run: run}) {
		t.Errorf("when it runs: %+v", st)
	}
	two := read()
	m := two()
	for m.Event == "" {
		m = two()
	}
	if st := told(m); st.Run != run {
		t.Errorf("who comes later: %+v", st)
	}
	h.say(b.ID, "line\n")
	if m := one(); m.Event != "" || m.ID != "2" {
		t.Errorf("then: %+v", m)
	}
	h.finish(b.ID)
	for m := one(); m.Event != api.EndOfStream; m = one() {
		if m.Event != "" {
			t.Errorf("at the end: %+v", m)
		}
	}
	events := 0
	for e, err := range remote.Events(t.Context(), b.ID, 0) {
		if events++; err != nil || e.Seq != int64(events) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if after := read(); events != 3 || after().ID != "1" || after().ID != "2" {
		t.Errorf("%d events", events)
	}
}
