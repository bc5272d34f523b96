package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

func TestRulesByTheAPI(t *testing.T) {
	h := newHub()
	_, c := dial(t, h, "good", operated(h))
	ctx := t.Context()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	made, err := c.AddRule(ctx, api.NewRule{Kind: "ban", Pattern: "https://github.com/jupyterlab/jupyterlab-demo", Reason: "floods the\nqueue", Message: "Back at noon.", Until: until})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddRule(ctx, api.NewRule{Kind: "weight", Pattern: "gh/o/*", Value: 2, Reason: "a course"}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Rules(ctx)
	if err != nil {
		t.Fatal(err)
	}
	who := "token:" + web.HashToken("good")[:8]
	want := []api.Rule{
		{ID: made.ID, Kind: "ban", Pattern: "gh/jupyterlab/jupyterlab-demo", Scope: "repository", Reason: "floods the queue", Message: "Back at noon.", By: who, Until: until},
		{Kind: "weight", Pattern: "gh/o/*", Scope: "owner", Value: 2, Reason: "a course", By: who},
	}
	for i := range got {
		got[i].Created = time.Time{}
		if i == 1 {
			got[i].ID = ""
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(h.rules) != 2 {
		t.Errorf("%d rules are set: %+v", len(h.rules), h.rules)
	}
	// A pattern may be looked at before a rule is made of it.
	if b, err := h.Submit(ctx, bindery.Ask{Source: repo}); err != nil || b.State.Ended() {
		t.Fatal(b, err)
	}
	for pattern, n := range map[string]int{"^https://example.org/": 1, "https://example.org/o/*": 1, "192.0.0.0/16": 1, "10.0.0.0/8": 0, "gh/o/r": 0} {
		p, err := c.PreviewRule(ctx, pattern)
		if err != nil || p.Running+p.Waiting != n || len(p.Examples) != n {
			t.Errorf("%s: %+v, %v", pattern, p, err)
		}
	}
	if p, err := c.PreviewRule(ctx, "https://github.com/jupyterlab/jupyterlab-demo"); err != nil || len(p.Rules) != 1 || p.Rules[0].ID != made.ID {
		t.Errorf("the rules that stand: %+v, %v", p, err)
	}
	for _, pattern := range []string{"^(", "^jupyterlab/jupyterlab-demo.*"} { // the words are those of a refused rule
		_, refused := c.AddRule(ctx, api.NewRule{Kind: "ban", Pattern: pattern, Reason: "r"})
		if _, err := c.PreviewRule(ctx, pattern); !errors.Is(err, bindery.ErrInvalid) || refused == nil || bindery.AsError(err).Msg != bindery.AsError(refused).Msg {
			t.Errorf("a preview of %s: %v, of the rule: %v", pattern, err, refused)
		}
	}
	if err := c.LiftRule(ctx, made.ID, "it is noon"); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Rules(ctx); len(got) != 1 || len(h.rules) != 1 {
		t.Errorf("rules that are left: %+v", got)
	}
	if err := c.LiftRule(ctx, made.ID, ""); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("lifted twice: %v", err)
	}
	log, err := c.Audit(ctx, bindery.AuditQuery{})
	if err != nil || len(log) != 3 || log[0].Did != "lift ban" || log[0].Who != who || log[0].Reason != "it is noon" {
		t.Errorf("%+v, %v", log, err)
	}
	for name, in := range map[string]api.NewRule{
		"kind": {Kind: "delete", Pattern: "gh/o/r", Reason: "r"}, "pattern": {Kind: "ban", Pattern: "*", Reason: "r"},
		"reason": {Kind: "ban", Pattern: "gh/o/r", Reason: " "}, "past": {Kind: "ban", Pattern: "gh/o/r", Reason: "r", Until: time.Unix(1, 0)},
		"weight": {Kind: "weight", Pattern: "gh/o/*", Reason: "r"}, "weight of a repository": {Kind: "weight", Pattern: "gh/o/r", Value: 2, Reason: "r"},
		"quota": {Kind: "quota", Pattern: "gh/o/r", Value: 1.5, Reason: "r"}, "a network's weight": {Kind: "weight", Pattern: "10.0.0.0/8", Value: 2, Reason: "r"},
		"expression": {Kind: "ban", Pattern: "^gh/(", Reason: "r"}, "built by whom": {Kind: "hold-until-built", Pattern: "10.0.0.0/8", Reason: "r"},
		"backwards": {Kind: "ban", Pattern: "gh/o/r", Reason: "r", From: time.Now().Add(2 * time.Hour), Until: time.Now().Add(time.Hour)},
		"prebuild":  {Kind: "quota", Pattern: "gh/o/*", Value: 3, Reason: "r", Prebuild: []string{"nobody/o/r/main"}},
	} {
		if _, err := c.AddRule(ctx, in); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScopes(t *testing.T) {
	h := newHub()
	ts := serve(t, h, shelved(h, newShelf()), func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("r"), Scope: api.ScopeRead}, {Hash: web.HashToken("l"), Scope: api.ScopeLaunch, Name: "course"}, {Hash: web.HashToken("a")}}
	})
	body := `{"source":{"provider":"git","url":"https://example.org/o/r"}}`
	for _, c := range []struct{ method, path, body, may string }{
		{"GET", "status", "", "rla"}, {"GET", "queue", "", "-rla"}, {"GET", "builds", "", "rla"}, {"GET", "sessions", "", "rla"}, {"GET", "rules", "", "rla"},
		{"GET", "openapi.json", "", "-rla"}, {"GET", "audit", "", "a"}, {"POST", "builds", body, "la"},
		{"GET", "workers", "", "rla"}, {"GET", "workers/b", "", "rla"}, {"POST", "workers/b/drain", "", "a"}, {"POST", "workers/b/resume", "{}", "a"},
		{"DELETE", "workers/b", `{"reason":"r"}`, "a"}, {"POST", "join-tokens", "", "a"},
		{"POST", "rules", `{"kind":"ban","pattern":"gh/o/r","reason":"r"}`, "a"},
		{"GET", "generations", "", "rla"}, {"GET", "generations/next", "", "rla"}, {"GET", "generations/g2/plan", "", "rla"}, {"GET", "images", "", "rla"},
		{"POST", "generations/g2/start", `{}`, "a"}, {"POST", "generations/g2/pause", "", "a"}, {"POST", "generations/g2/resume", "", "a"},
		{"POST", "generations/g2/rollback", "", "a"}, {"POST", "images/prune", `{"dry_run":true}`, "a"}, {"POST", "images/invalidate", `{"selector":"*"}`, "a"},
		{"DELETE", "images/0f3c", "", "a"},
	} {
		for _, token := range []string{"-", "r", "l", "a"} {
			header := []string{}
			if token != "-" {
				header = []string{"Authorization", "Bearer " + token}
			}
			resp, text := ask(t, c.method, ts.URL+"/api/v1/"+c.path, c.body, header...)
			if may := strings.Contains(c.may, token); may != (resp.StatusCode == 200) || !may && resp.StatusCode != map[bool]int{true: 401, false: 403}[token == "-"] {
				t.Errorf("%s %s with %q: %d %s", c.method, c.path, token, resp.StatusCode, text)
			}
		}
	}
	if h.asks[0].Requester != "token:course" {
		t.Errorf("the build was asked for by %q", h.asks[0].Requester)
	}
}

func TestOnlyOnesOwnBuildIsCancelled(t *testing.T) {
	h := newHub()
	change := func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("one"), Scope: api.ScopeLaunch, Name: "one"}, {Hash: web.HashToken("two"), Scope: api.ScopeLaunch, Name: "two"}}
	}
	ts := serve(t, h, operated(h), change)
	b, err := h.Submit(t.Context(), bindery.Ask{Source: repo, Requester: "token:one"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token string
		want  int
	}{{"two", 403}, {"one", 200}, {"one", 200}} {
		resp, text := ask(t, "DELETE", ts.URL+"/api/v1/builds/"+b.ID, `{"reason":"a typo"}`, "Authorization", "Bearer "+c.token)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d %s", c.token, resp.StatusCode, text)
		}
	}
	if len(h.audit) != 1 || h.audit[0].Reason != "a typo" {
		t.Errorf("%+v", h.audit)
	}
}

func TestQueueTellsStrangersNotWhoAsks(t *testing.T) {
	h := newHub()
	h.standing = bindery.Standing{Position: 1, Reason: "Every slot is taken (2); this build is next"}
	h.rules = []bindery.Rule{{Kind: "hold", Scope: "owner", Name: "git/example.org/o", Reason: "secret"}}
	local, stranger := dial(t, h, "", operated(h))
	if _, err := local.Submit(t.Context(), api.NewBuild{Source: repo}); err != nil {
		t.Fatal(err)
	}
	q, err := stranger.Queue(t.Context())
	if err != nil || len(q.Waiting) != 1 || q.Waiting[0].Source.URL != repo.URL || q.Waiting[0].Standing != h.standing {
		t.Fatalf("%+v, %v", q, err)
	}
	if q.Waiting[0].Asker != "" || len(q.Shares) != 1 || len(q.Rules) != 0 {
		t.Errorf("it tells strangers %+v", q)
	}
	if q, err = local.Queue(t.Context()); err != nil || q.Waiting[0].Asker == "" || len(q.Shares) != 2 || len(q.Rules) != 1 {
		t.Errorf("it tells the operator %+v, %v", q, err)
	}
}

func TestStrangersLookAtMostOnceASecond(t *testing.T) {
	h := newHub()
	at := now
	ts := serve(t, h, operated(h), func(c *web.Config) { c.Now = func() time.Time { return at } })
	look := func() (q bindery.Queue) {
		_, text := ask(t, "GET", ts.URL+"/api/v1/queue?limit=1", "")
		if err := json.Unmarshal([]byte(text), &q); err != nil {
			t.Fatal(err)
		}
		return q
	}
	look()
	for _, ref := range []string{"a", "b", "c"} {
		src := repo
		src.URL += ref
		if _, err := h.Submit(t.Context(), bindery.Ask{Source: src, Class: bindery.Attended}); err != nil {
			t.Fatal(err)
		}
	}
	if q := look(); len(q.Waiting) != 0 {
		t.Errorf("looked again at once: %+v", q)
	}
	at = at.Add(time.Second)
	if q := look(); len(q.Waiting) != 1 || q.More != 2 {
		t.Errorf("%d wait, and %d more", len(q.Waiting), q.More)
	}
}

func TestABanIsSaidBeforeAnythingIsAsked(t *testing.T) {
	h := newHub()
	h.resolve = func(bindery.Source) error { return errors.New("the forge is not asked") }
	h.rules = []bindery.Rule{
		{Kind: "hold", Scope: bindery.OnRepository, Name: "git:https://example.org/o/r", Message: "another rule"},
		{Kind: "ban", Scope: bindery.OnOwner, Name: "git/example.org/o", Reason: "secret", Message: "Back at noon."},
	}
	ts := serve(t, h, operated(h))
	lines, last := open(t, ts.URL+specPath).rest()
	if len(lines) != 1 || last["message"] != "This owner is not served at the moment: Back at noon. Ask the operator of this hub.\n" || strings.Contains(lines[0], "secret") {
		t.Errorf("got %q, %v", lines, last)
	}
	local, _ := dial(t, h, "", operated(h))
	if _, err := local.Submit(t.Context(), api.NewBuild{Source: repo}); !errors.Is(err, bindery.ErrNotAllowed) {
		t.Errorf("by the API: %v", err)
	}
}

// TestPatternsOfOnesOwnForge has prefixes of links lead elsewhere than those of patterns do: a rule that can mean nothing, or
// another forge, is not made, and of a forge the letters' case means nothing.
func TestPatternsOfOnesOwnForge(t *testing.T) {
	h := newHub()
	_, c := dial(t, h, "good", operated(h), func(c *web.Config) {
		for _, p := range []bindery.Provider{{ID: "gh", URL: "https://GHE.corp:443/"}, {ID: "gl"}, {ID: "lab", Kind: "gl", URL: "https://lab.corp/git"}, {ID: "git"}, {ID: "zenodo"}} {
			c.Providers = append(c.Providers, p.WithDefaults())
		}
	})
	for pattern, remedy := range map[string]string{
		"gh/Bad/*": "Write it as https://ghe.corp/Bad/*", "gh/bad/r": "Write it as https://ghe.corp/bad/r", "^gh/bad/": `Write it as ^https://ghe\.corp/bad/`,
		"lab/bad/r": "Write it as https://lab.corp/git/bad/r", "^lab/bad/.*": `Write it as ^https://lab\.corp/git/bad/.*`,
		"gl/bad/*": "", "^gl/bad/": "", "git/https://example.org/o/r": "", "https://github.com/o/r": "", "^https://github.com/": "",
	} {
		_, err := c.PreviewRule(t.Context(), pattern)
		_, added := c.AddRule(t.Context(), api.NewRule{Kind: "ban", Pattern: pattern, Reason: "r"})
		for _, err := range []error{err, added} {
			e, failed := errors.AsType[*bindery.Error](err)
			if failed != (remedy != "") || failed && (e.Kind != bindery.ErrInvalid || !strings.HasPrefix(e.Remedy, remedy)) {
				t.Errorf("%s: %+v", pattern, e)
			}
		}
	}
	h.rules = nil
	ts := serve(t, h, operated(h), func(c *web.Config) {
		c.Providers = []bindery.Provider{bindery.Provider{ID: "gh", URL: "https://ghe.corp"}.WithDefaults(), bindery.Provider{ID: "git"}.WithDefaults()}
	})
	for _, pattern := range []string{"https://ghe.corp/Bad/*", "https://ghe.corp/worse/R", "^https://ghe.corp/Worst/"} {
		if _, err := c.AddRule(t.Context(), api.NewRule{Kind: "ban", Pattern: pattern, Reason: "r"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, spec := range strings.Fields("gh/bad/r/HEAD gh/BAD/r/HEAD git/https%3A%2F%2Fghe.corp%2FBaD%2Fr/HEAD git/git%40ghe.corp%3Abad%2Fr/HEAD gh/Worse/r/HEAD gh/worse/r.git/HEAD gh/worst/r/HEAD") {
		if last, _ := open(t, ts.URL+"/build/"+spec).event(); last["phase"] != "failed" || !strings.Contains(last["message"].(string), "not served") {
			t.Errorf("%s: %v", spec, last)
		}
	}
	for _, spec := range strings.Fields("gh/O/R/HEAD gh/o/r/HEAD git/https%3A%2F%2Fghe.corp%2Fo%2FR.git/HEAD") {
		_, _ = open(t, ts.URL+"/build/"+spec).event()
	}
	// What is held until it is built is read by the protocol that was named; its name says none.
	for pattern, url := range map[string]string{"http://example.org:8080/o/R": "http://example.org:8080/o/R", "git/http://ghe.corp/o/R": "http://ghe.corp/o/r", "git@example.org:o/r": "ssh://git@example.org/o/r", "git/https://example.org/o/x": "https://example.org/o/x"} {
		if _, err := c.AddRule(t.Context(), api.NewRule{Kind: "hold-until-built", Pattern: pattern, Reason: "r"}); err != nil || h.rules[len(h.rules)-1].Prebuild[0].URL != url {
			t.Errorf("%s: %+v, %v", pattern, h.rules, err)
		}
	}
	h.rules = nil
	if h.theBuild(t); len(h.builds) != 1 {
		t.Errorf("one repository has %d builds", len(h.builds))
	}
}

func TestQueueHidesRepositories(t *testing.T) {
	h := newHub()
	local, stranger := dial(t, h, "", operated(h), func(c *web.Config) { c.HideSources = true })
	if _, err := local.Submit(t.Context(), api.NewBuild{Source: repo}); err != nil {
		t.Fatal(err)
	}
	q, err := stranger.Queue(t.Context())
	if err != nil || len(q.Waiting) != 1 || q.Waiting[0].ID != "" || q.Waiting[0].Key != "" || q.Waiting[0].Source.URL != "" || len(q.Shares) != 0 {
		t.Errorf("%+v, %v", q, err)
	}
	if q, err := local.Queue(t.Context()); err != nil || q.Waiting[0].Source.URL != repo.URL {
		t.Errorf("%+v, %v", q, err)
	}
}

// TestInstancesOfOneKind has two archives of a kind side by side: a build's page leads back to the one that it is of, and the
// API takes an address for the one that it begins with.
func TestInstancesOfOneKind(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("launcher"), Scope: api.ScopeLaunch}}
		c.Providers = append(bindery.DefaultProviders(),
			bindery.Provider{ID: "zen2", Kind: bindery.ProviderZenodo, URL: "https://zen.example/two"}.WithDefaults(),
			bindery.Provider{ID: "zen3", Kind: bindery.ProviderZenodo, URL: "https://zen3.example", DOI: "https://doi.example"}.WithDefaults(),
			bindery.Provider{ID: "hydro2", Kind: bindery.ProviderHydroshare, URL: "https://hydro.example"}.WithDefaults())
	})
	const id = "8f7c2f0341ef4180b0dbe97f59130756"
	for _, c := range []struct{ kind, url, ref, commit, link, asked string }{
		{"zenodo", "https://zenodo.org/records/77", "10.5281/zenodo.5", "77", "/v2/zenodo/10.5281/zenodo.77", "https://doi.org/10.5281/zenodo.5"},
		{"zenodo", "https://zen.example/two/records/77", "10.5281/zenodo.6", "77", "/v2/zen2/10.5281/zenodo.77", "https://doi.org/10.5281/zenodo.6"},
		{"zenodo", "https://zen3.example/records/77", "10.5281/zenodo.7", "77", "/v2/zen3/10.5281/zenodo.77", "https://doi.example/10.5281/zenodo.7"},
		{"zenodo", "https://doi.example/10.5281/zenodo.8", "10.5281/zenodo.8", "", "/v2/zen3/10.5281/zenodo.8", "https://doi.example/10.5281/zenodo.8"},
		{"zenodo", "https://zen.example/records/77", "10.5281/zenodo.9", "77", "", "https://doi.org/10.5281/zenodo.9"},
		{"hydroshare", "https://other.example/resource/" + id, "", "v1", "", ""},
		{"hydroshare", "https://hydro.example/resource/" + id, "", "v1", "/v2/hydro2/", "https://hydro.example/resource/" + id},
		{"hydroshare", "https://www.hydroshare.org/resource/" + id, "", "v1", "/v2/hydroshare/", "https://www.hydroshare.org/resource/" + id},
		{"dataverse", "https://dataverse.example/dataset.xhtml?persistentId=x", "10.7910/DVN/TJCLKP", "1.v1.0", "/v2/dataverse/10.7910/DVN/TJCLKP", "https://doi.org/10.7910/DVN/TJCLKP"},
	} {
		src := bindery.Source{Provider: c.kind, URL: c.url, Ref: c.ref, Commit: c.commit}
		b, err := h.Submit(t.Context(), bindery.Ask{Source: src})
		if err != nil {
			t.Fatal(err)
		}
		_, page := ask(t, "GET", ts.URL+"/builds/"+b.ID, "")
		if m := regexp.MustCompile(`href="(/v2/[^"]*)"`).FindStringSubmatch(page); (m == nil) != (c.link == "") || m != nil && !strings.HasPrefix(m[1], c.link) {
			t.Errorf("the page of %s leads to %q, want %s", c.url, m, c.link)
		}
		text, err := json.Marshal(api.NewBuild{Source: src})
		if err != nil {
			t.Fatal(err)
		}
		resp, body := ask(t, "POST", ts.URL+"/api/v1/builds", string(text), "Authorization", "Bearer launcher")
		var got bindery.Build
		if err := json.Unmarshal([]byte(body), &got); err != nil || (resp.StatusCode == 200) != (c.asked != "") || got.Source.URL != c.asked {
			t.Errorf("%s is asked for as %s, want %s: %d %s", c.url, got.Source.URL, c.asked, resp.StatusCode, body)
		}
	}
}

// TestBuildsHideRepositories reads all that there is of a build, of which somebody knows the id.
func TestBuildsHideRepositories(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) {
		c.HideSources, c.Tokens = true, []web.Token{{Hash: web.HashToken("reader"), Scope: api.ScopeRead}}
	})
	// One build has failed, one has made an image.
	var ids []string
	for _, end := range []func(id string){func(id string) {
		h.fail(id, bindery.Errorf(bindery.ErrStep, bindery.User, "Look at https://example.org/o/r.", "example.org/o/r.git is broken"))
	}, h.finish} {
		src := repo
		src.Ref = strconv.Itoa(len(ids))
		src.Commit = strings.Repeat(src.Ref, 40)
		b, err := h.Submit(t.Context(), bindery.Ask{Source: src})
		if err != nil {
			t.Fatal(err)
		}
		h.change(func() {
			h.add(b.ID, bindery.Event{
				Phase: bindery.PhaseFetching, Message: "Fetching https://example.org/o/r at 0123\n", Step: &bindery.Step{ID: "1", Name: "Fetch https://example.org/o/r.git"},
				Plan: json.RawMessage(`{"why":[{"text":"https://example.org/o/r says so"}]}`),
			})
		})
		end(b.ID)
		ids = append(ids, b.ID)
	}
	for _, id := range ids {
		for _, path := range []string{"/builds/ID", "/api/v1/builds/ID", "/api/v1/builds/ID/events", "/api/v1/builds/ID/log", "/api/v1/builds/ID/log?follow=1", "/api/v1/builds/ID/plan", "/api/v1/builds/ID/provenance"} {
			for _, c := range []struct {
				header []string
				shown  bool
			}{{nil, false}, {[]string{"Authorization", "Bearer reader"}, true}} {
				resp, body := ask(t, "GET", ts.URL+strings.ReplaceAll(path, "ID", id), "", c.header...)
				if id == ids[0] && strings.HasSuffix(path, "/provenance") {
					continue // of what has failed there is none
				}
				if resp.StatusCode != 200 || strings.Contains(body, "example.org/o/r") != c.shown {
					t.Errorf("%s with %v: %d %s", path, c.header, resp.StatusCode, body)
				}
			}
		}
	}
}

func TestBuildLog(t *testing.T) {
	h := newHub()
	local, _ := dial(t, h, "", operated(h))
	b, err := local.Submit(t.Context(), api.NewBuild{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	h.say(b.ID, strings.Repeat("a line\n", 1), "and one more\n")
	log, err := local.BuildLog(t.Context(), b.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	text, err := io.ReadAll(log)
	if want := "Waiting for build to start...\na line\nand one more\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v", text, err)
	}
	all, err := local.Builds(t.Context(), 0)
	if err != nil || len(all) != 1 || all[0].State != bindery.BuildRunning {
		t.Errorf("%+v, %v", all, err)
	}
	h.fail(b.ID, bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "It failed"))
	again, err := local.RetryBuild(t.Context(), b.ID, "it is\nmended")
	if err != nil || again.State != bindery.BuildQueued {
		t.Errorf("%+v, %v", again, err)
	}
	if a := h.audit; len(a) != 1 || a[0].Did != "retry build" || a[0].Reason != "it is mended" {
		t.Errorf("audit: %+v", a)
	}
}

// TestSentTwiceDoneOnce sends one request again and again, at the same time and later.
func TestSentTwiceDoneOnce(t *testing.T) {
	h := newHub()
	ts := serve(t, h, operated(h), func(c *web.Config) { c.Tokens = []web.Token{{Hash: web.HashToken("a")}} })
	b, err := h.Submit(t.Context(), bindery.Ask{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	h.finish(b.ID)
	post := func(path, key, body string) (int, string, http.Header) {
		resp, text := ask(t, "POST", ts.URL+path, body, "Authorization", "Bearer a", api.IdempotencyKey, key)
		return resp.StatusCode, text, resp.Header
	}
	body := `{"build":"` + b.ID + `"}`
	answers := make(chan string, 8)
	for range cap(answers) {
		go func() {
			_, text, _ := post("/api/v1/sessions", "k1", body)
			answers <- text
		}()
	}
	first := <-answers
	for range cap(answers) - 1 {
		if next := <-answers; next != first {
			t.Errorf("one got %s, another %s", first, next)
		}
	}
	if status, text, header := post("/api/v1/sessions", "k1", body); status != 200 || text != first || header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("sent again later: %d %s %v", status, text, header)
	}
	if h.launched != 1 {
		t.Errorf("%d sessions were launched", h.launched)
	}
	if status, text, _ := post("/api/v1/sessions", "k1", `{"build":"other"}`); status != 409 {
		t.Errorf("the key with another request: %d %s", status, text)
	}
	if status, _, _ := post("/api/v1/sessions", "k2", body); status != 200 || h.launched != 2 {
		t.Errorf("another key: %d, %d launched", status, h.launched)
	}
	if status, _, _ := post("/api/v1/builds", strings.Repeat("k", 300), `{}`); status != 400 {
		t.Errorf("a long key: %d", status)
	}
	// A failure is not kept: the next try may go well.
	if status, _, _ := post("/api/v1/builds", "k3", `{"source":{"provider":"git","url":"-x"}}`); status != 400 {
		t.Errorf("got %d", status)
	}
	if status, text, _ := post("/api/v1/builds", "k3", `{"source":{"provider":"git","url":"https://example.org/o/r"}}`); status != 200 {
		t.Errorf("after a failure: %d %s", status, text)
	}
}

// TestDocumentDescribesEveryRoute asks each route of the document, and compares what JSON it answers with its schema's
// required names.
func TestDocumentDescribesEveryRoute(t *testing.T) {
	h := newHub()
	ts := serve(t, h, shelved(h, newShelf()), func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("a")}}
		c.Export = func(context.Context, string, time.Time, time.Time) (iter.Seq2[[]byte, error], error) {
			return func(func([]byte, error) bool) {}, nil
		}
	})
	b, err := h.Submit(t.Context(), bindery.Ask{Source: repo})
	if err != nil {
		t.Fatal(err)
	}
	h.change(func() {
		h.add(b.ID, bindery.Event{Phase: bindery.PhaseBuilding, Message: "planned\n", Plan: json.RawMessage(`{"pack":"python"}`)})
	})
	h.finish(b.ID)
	if _, err := h.Launch(t.Context(), func() bindery.Build { b, _ := h.Build(t.Context(), b.ID); return b }(), bindery.Ask{}); err != nil {
		t.Fatal(err)
	}
	_, text := ask(t, "GET", ts.URL+"/api/v1/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Responses   map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{
		"submitBuild": `{"source":{"url":"https://example.org/o/r"}}`, "launchSession": `{"build":"` + b.ID + `"}`,
		"addRule": `{"kind":"ban","pattern":"gh/o/r","reason":"r"}`, "addWorker": `{"name":"c","socket":"/s"}`,
		"invalidateImages": `{"selector":"*","dry_run":true}`,
	}
	ids := map[string]bool{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if ids[op.OperationID] || op.OperationID == "" {
				t.Errorf("%s %s has no name of its own: %q", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			at := strings.NewReplacer("builds/{id}", "builds/"+b.ID, "sessions/{id}", "sessions/s1", "rules/{id}", "rules/none", "rules/preview", "rules/preview?pattern=gh/o/r", "workers/{id}", "workers/b", "generations/{id}", "generations/g2", "images/{id}", "images/0f3c").Replace(path)
			resp, answer := ask(t, strings.ToUpper(method), ts.URL+at, bodies[op.OperationID], "Authorization", "Bearer a", "Content-Type", "application/json")
			if path == "/api/v1/rules/{id}" {
				if resp.StatusCode != 404 {
					t.Errorf("%s %s: %d", method, path, resp.StatusCode)
				}
				continue
			}
			if op.OperationID == "addWorker" { // by the hub's socket only
				if resp.StatusCode != 403 {
					t.Errorf("%s %s: %d", method, path, resp.StatusCode)
				}
				continue
			}
			media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
			if _, told := op.Responses["200"].Content[media]; resp.StatusCode != 200 || !told {
				t.Errorf("%s %s: %d %s, document %v\n%s", method, path, resp.StatusCode, media, op.Responses["200"], answer)
			}
		}
	}
	if len(ids) != 42 {
		t.Errorf("the document has %d operations", len(ids))
	}
}
