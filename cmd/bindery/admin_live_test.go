package main

import (
	"context"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// An operator is a person with a browser at the admin pages of a hub that runs.
type operator struct {
	t      *testing.T
	hub    string
	client *http.Client
}

func newOperator(t *testing.T, hub string) *operator {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &operator{t, hub, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (o *operator) do(method, path string, form url.Values, header ...string) (*http.Response, string) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), method, o.hub+path, strings.NewReader(form.Encode()))
	if err != nil {
		o.t.Fatal(err)
	}
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := o.client.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp, string(text)
}

// want asks for something and complains about another status.
func (o *operator) want(status int, method, path string, form url.Values, header ...string) string {
	o.t.Helper()
	resp, text := o.do(method, path, form, header...)
	if resp.StatusCode != status {
		o.t.Fatalf("%s %s: %d, want %d\n%s", method, path, resp.StatusCode, status, text)
	}
	return text
}

func (o *operator) signIn(token string) *http.Response {
	o.t.Helper()
	resp, _ := o.do("POST", "/admin/login", url.Values{"token": {token}, "next": {"/admin/rules"}})
	return resp
}

var formRE = regexp.MustCompile(`name="form" value="([0-9a-f]{64})"`)

// post sends a form of a page, with the token that the page carries.
func (o *operator) post(status int, page, to string, form url.Values) string {
	o.t.Helper()
	m := formRE.FindStringSubmatch(o.want(200, "GET", page, nil))
	if m == nil {
		o.t.Fatalf("%s carries no form", page)
	}
	form.Set("form", m[1])
	return o.want(status, "POST", to, form)
}

// TestAdminPages does with the pages what an operator does: everything by forms, and nothing by a link.
func TestAdminPages(t *testing.T) {
	flags, hub := officeHub(t)
	o := newOperator(t, hub)
	expect(t, watch(t, hub, "zed/quick"), `"phase":"ready"`)
	slow := watch(t, hub, "ann/slow")
	expect(t, slow, "Waiting for build to start...")
	waits := watch(t, hub, "bob/waits")
	expect(t, waits, `"position":1`)

	// Signing in, and nobody else.
	if resp, _ := o.do("GET", "/admin/queue?x=1", nil); resp.StatusCode != 303 || resp.Header.Get("Location") != "/admin/login?next=%2Fadmin%2Fqueue%3Fx%3D1" {
		t.Errorf("without a session: %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	for _, token := range []string{"", "wrong", "reader"} {
		if resp := o.signIn(token); resp.StatusCode != 403 || len(resp.Cookies()) != 0 {
			t.Errorf("signed in with %q: %d", token, resp.StatusCode)
		}
	}
	resp := o.signIn("t")
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/admin/rules" || len(resp.Cookies()) != 1 {
		t.Fatalf("signing in: %d %+v", resp.StatusCode, resp.Header)
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/admin" || c.MaxAge <= 0 || c.MaxAge > 3600 || strings.Contains(c.Value, "ops:") {
		t.Errorf("the cookie: %+v", c)
	}

	// Every page, with the headers that keep others out.
	for _, page := range []string{"queue", "builds", "sessions", "workers", "generations", "images", "rules", "audit"} {
		resp, text := o.do("GET", "/admin/"+page, nil)
		csp := resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != 200 || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || resp.Header.Get("Cache-Control") != "no-store" ||
			resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("X-Frame-Options") != "DENY" || !strings.Contains(text, "</html>") || strings.Contains(text, "style=") {
			t.Errorf("%s: %d %+v\n%s", page, resp.StatusCode, resp.Header, text)
		}
	}
	queue := o.want(200, "GET", "/admin/queue", nil)
	ids := regexp.MustCompile(`action="/admin/builds/([^/"]+)/cancel"`).FindAllStringSubmatch(queue, -1)
	if len(ids) != 2 {
		t.Fatalf("the queue shows %v\n%s", ids, queue)
	}
	running, waiting := ids[0][1], ids[1][1]

	// No address has an effect, whatever it is asked by, nor has a form that is not the page's.
	for _, path := range []string{"/admin/builds/" + running + "/cancel", "/admin/logout", "/admin/rules/x/lift", "/admin/sessions/x/stop"} {
		o.want(404, "GET", path, nil)
	}
	o.want(200, "GET", "/admin/rules?kind=ban&pattern=https%3A%2F%2Fexample.org%2Fann%2F*&reason=r&preview=1", nil)
	o.want(403, "POST", "/admin/builds/"+running+"/cancel", url.Values{"reason": {"r"}})
	o.want(403, "POST", "/admin/builds/"+running+"/cancel", url.Values{"reason": {"r"}, "form": {strings.Repeat("0", 64)}})
	form := formRE.FindStringSubmatch(queue)[1]
	for _, header := range [][]string{{"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "cross-site"}, {"Origin", "http://evil.example"}} {
		o.want(403, "POST", "/admin/builds/"+running+"/cancel", url.Values{"form": {form}}, header...)
	}
	if out := must(t, flags, "queue"); !strings.Contains(out, "1 of 1 slots taken, 1 waiting") || strings.Contains(must(t, flags, "ban", "ls"), "ann") {
		t.Errorf("something had an effect:\n%s", out)
	}

	// A rule: looked at, made, in the audit log, lifted.
	text := o.want(200, "GET", "/admin/rules?kind=hold&pattern=%5Ehttps%3A%2F%2Fexample.org%2Fbob%2F", nil)
	if !strings.Contains(text, "<strong>1</strong> waiting") {
		t.Errorf("the preview:\n%s", text)
	}
	o.post(200, "/admin/rules", "/admin/rules", url.Values{"kind": {"hold"}, "pattern": {"^("}, "reason": {"r"}})
	o.post(303, "/admin/rules", "/admin/rules", url.Values{"kind": {"hold"}, "pattern": {"^https://example.org/bob/"}, "reason": {"look <b>at</b> it"}, "message": {"held by page"}, "for": {"2h"}})
	expect(t, waits, "held by page")
	text = o.want(200, "GET", "/admin/rules", nil)
	lift := regexp.MustCompile(`action="(/admin/rules/[^/"]+/lift)"`).FindStringSubmatch(text)
	if lift == nil || !strings.Contains(text, "look &lt;b&gt;at&lt;/b&gt; it") {
		t.Fatalf("rules:\n%s", text)
	}
	o.post(303, "/admin/rules", lift[1], url.Values{"reason": {"seen"}})

	// Builds: cancelled, found, built again, forgiven.
	o.post(303, "/admin/queue", "/admin/builds/"+running+"/cancel", url.Values{"reason": {"stuck"}, "back": {"/admin/queue"}})
	expect(t, slow, "cancelled")
	eventually(t, "the search finds it", func() bool {
		text := o.want(200, "GET", "/admin/builds?q=ann+slow&state=cancelled", nil)
		return strings.Contains(text, running) && !strings.Contains(text, waiting)
	})
	o.post(303, "/admin/builds/"+running, "/admin/builds/"+running+"/retry", url.Values{})
	o.post(409, "/admin/builds/"+waiting, "/admin/builds/"+waiting+"/forgive", url.Values{})

	// Workers, generations and images: looked at, and changed as the API does.
	if text := o.want(200, "GET", "/admin/workers", nil); !strings.Contains(text, `action="/admin/workers/w/drain"`) || strings.Contains(text, "/w/remove") {
		t.Errorf("workers:\n%s", text)
	}
	if text := o.post(403, "/admin/workers", "/admin/workers/w/remove", url.Values{"reason": {"sold"}}); !strings.Contains(text, "own worker") {
		t.Errorf("removed:\n%s", text)
	}
	o.post(303, "/admin/workers", "/admin/workers/w/drain", url.Values{"reason": {"kernel upgrade"}})
	if text := o.want(200, "GET", "/admin/workers", nil); !strings.Contains(text, "kernel upgrade") || !strings.Contains(text, "/admin/workers/w/resume") {
		t.Errorf("drained:\n%s", text)
	}
	o.post(303, "/admin/workers", "/admin/workers/w/resume", url.Values{})
	if text := o.want(200, "GET", "/admin/generations", nil); !strings.Contains(text, "<h2>g</h2>") {
		t.Errorf("generations:\n%s", text)
	}
	o.post(404, "/admin/workers", "/admin/images/none/remove", url.Values{"reason": {"r"}})
	checkImagesForms(t, o)

	// The audit log, searched and exported, says who by the token's name.
	export := o.want(200, "GET", "/admin/audit.jsonl?who=ops&since=1h", nil)
	for _, did := range []string{"set hold", "lift hold", "cancel build", "retry build"} {
		if !strings.Contains(export, `"who":"token:ops","did":"`+did) {
			t.Errorf("no %q in\n%s", did, export)
		}
	}
	if text := o.want(200, "GET", "/admin/audit?what=stuck", nil); !strings.Contains(text, "cancel build") || strings.Contains(text, "lift hold") {
		t.Errorf("the audit page:\n%s", text)
	}

	// Signed out, the old cookie opens nothing.
	o.post(303, "/admin/queue", "/admin/logout", url.Values{})
	thief := newOperator(t, hub)
	if resp, _ := thief.do("GET", "/admin/queue", nil, "Cookie", c.Name+"="+c.Value); resp.StatusCode != 303 {
		t.Errorf("an old cookie: %d", resp.StatusCode)
	}
	for _, value := range []string{"", ".", "e30.", strings.Repeat("a", 5000), c.Value[:len(c.Value)-1] + "0"} {
		if resp, _ := thief.do("GET", "/admin/queue", nil, "Cookie", c.Name+"="+value); resp.StatusCode != 303 {
			t.Errorf("the cookie %.20q: %d", value, resp.StatusCode)
		}
	}
	if resp, _ := thief.do("GET", "/api/v1/audit", nil, "Cookie", c.Name+"="+c.Value); resp.StatusCode != 401 {
		t.Errorf("the API takes the pages' cookie: %d", resp.StatusCode)
	}
}

// TestRolloutForms plans, begins, pauses, resumes and takes back a roll-out by the forms of the pages.
func TestRolloutForms(t *testing.T) {
	dir := t.TempDir()
	hub, stop := officeOf(t, dir, "g")
	for _, repo := range []string{"zed/quick", "zoe/quick"} {
		expect(t, watch(t, hub, repo), `"phase":"ready"`)
	}
	stop()
	hub, _ = officeOf(t, dir, "h")
	o := newOperator(t, hub)
	o.signIn("t")
	const page, plan = "/admin/generations", "/admin/generations/h/plan"
	shows := func(state, act string) {
		t.Helper()
		text := o.want(200, "GET", page, nil)
		_, h, _ := strings.Cut(text, "<h2>h</h2>")
		if h, _, _ = strings.Cut(h, "<h2>"); !strings.Contains(h, state) || !strings.Contains(h, act) {
			t.Errorf("no %s and %s in\n%s", state, act, h)
		}
	}
	shows("new", plan)
	if text := o.want(200, "GET", plan+"?canary=100&pace=1", nil); !strings.Contains(text, `type="hidden" name="pace" value="1"`) {
		t.Errorf("what was planned is not what would begin:\n%s", text)
	}
	o.want(400, "GET", plan+"?since=long", nil)
	o.post(400, plan, page+"/h/start", url.Values{"canary": {"many"}, "reason": {"a new base"}})
	o.post(303, plan, page+"/h/start", url.Values{"canary": {"100"}, "threshold": {"5"}, "pace": {"1"}, "reason": {"a new base"}}) // the second one in an hour
	shows("canary", page+"/h/pause")
	o.post(409, plan, page+"/h/start", url.Values{"canary": {"100"}, "reason": {"again"}})
	o.post(303, page, page+"/h/pause", url.Values{"reason": {"lunch"}})
	shows("paused", page+"/h/resume")
	o.post(303, page, page+"/h/resume", url.Values{"reason": {"after lunch"}})
	shows("canary", page+"/h/pause")
	o.post(303, page, page+"/h/rollback", url.Values{"reason": {"it was no good"}})
	shows("withdrawn", plan)
	if text := o.want(200, "GET", "/admin/audit?what=h", nil); !strings.Contains(text, "lunch") || !strings.Contains(text, "it was no good") {
		t.Errorf("the audit log:\n%s", text)
	}
	o.post(404, page, page+"/h/burn", url.Values{"reason": {"r"}})
}

// checkImagesForms says what replacing and removing images costs before it does it. What is wrong is said beside the form.
func checkImagesForms(t *testing.T, o *operator) {
	t.Helper()
	const page = "/admin/images"
	for query, want := range map[string]string{
		"do=drop&selector=*":                "1 images are dropped at once. They had 1 launches",
		"do=anew&selector=*":                "The generation g has made these images already",
		"do=anew&selector=gh%2F*":           "gh/owner/* or https://host/owner/repository",
		"do=drop&selector=generation%3Ax":   "selects no image",
		"do=prune&superseded=72h":           "0 images and 0 B would go, 1 stay",
		"do=prune&superseded=soon":          "is not how long something lasts",
		"do=prune&top=many":                 "is no number",
		"do=nothing&selector=gh%2Fowner%2F": "Nothing of that name can be done with images",
	} {
		if text := o.want(200, "GET", page+"?"+query, nil); !strings.Contains(html.UnescapeString(text), want) {
			t.Errorf("%s: no %q in\n%s", query, want, text)
		}
	}
	o.want(403, "POST", page, url.Values{"do": {"drop"}, "selector": {"*"}})
	o.post(200, page, page, url.Values{"do": {"drop"}, "selector": {"gh/*"}, "reason": {"r"}})
	o.post(303, page, page, url.Values{"do": {"prune"}, "reason": {"to see"}})
	o.post(303, page, page, url.Values{"do": {"drop"}, "selector": {"*"}, "reason": {"a hole"}})
	if text := o.want(200, "GET", page, nil); !strings.Contains(text, "zed/quick") {
		t.Errorf("what was just launched is not kept:\n%s", text)
	}
}

// TestSigningInIsLimited for those who guess, by where they are.
func TestSigningInIsLimited(t *testing.T) {
	_, hub := officeHub(t)
	o := newOperator(t, hub)
	var got []int
	for range 10 {
		resp, _ := o.do("POST", "/admin/login", url.Values{"token": {"guess"}}, "X-Forwarded-For", "192.0.2.7")
		got = append(got, resp.StatusCode)
	}
	if slices.Index(got, 429) != 8 {
		t.Errorf("%v", got)
	}
	if resp, _ := o.do("POST", "/admin/login", url.Values{"token": {"t"}}, "X-Forwarded-For", "192.0.2.9"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the same network: %d", resp.StatusCode)
	}
	if resp, _ := o.do("POST", "/admin/login", url.Values{"token": {"t"}}, "X-Forwarded-For", "198.51.100.9"); resp.StatusCode != 303 {
		t.Errorf("another network: %d", resp.StatusCode)
	}
	for _, next := range []string{"//evil.example/admin/", "https://evil.example/admin/", "/\\evil.example/admin/", "javascript:/admin/", "/admin/logout"} {
		resp, _ := o.do("POST", "/admin/login", url.Values{"token": {"t"}, "next": {next}}, "X-Forwarded-For", "198.51.100.9")
		if at := resp.Header.Get("Location"); !strings.HasPrefix(at, "/admin/") || strings.HasPrefix(at, "/admin/logout") {
			t.Errorf("%q leads to %q", next, at)
		}
	}
}

// officeHub runs a hub with admin pages.
func officeHub(t *testing.T) (flags []string, url string) {
	t.Helper()
	url, _ = officeOf(t, t.TempDir(), "g")
	return []string{"--hub", url, "--token", "t"}, url
}

// officeOf is such a hub over a directory, of a generation, until it is stopped.
func officeOf(t *testing.T, dir, generation string) (url string, stop func()) {
	t.Helper()
	db, d, _, err := benchParts(t.Context(), dir, generation)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte(strings.Repeat("k", 32))
	cfg := benchWeb(db, d)
	cfg.Generation, cfg.Generations, cfg.Rollouts, cfg.Library, cfg.Workers = generation, d, d, d, staff{d, nil, ""}
	cfg.Admin, cfg.AllowOrigin = adminPages(secret, "", slog.New(slog.DiscardHandler)), "*"
	cfg.Tokens = append(cfg.Tokens, web.Token{Hash: web.HashToken("reader"), Name: "reader", Scope: api.ScopeRead})
	s, err := web.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	ts := httptest.NewServer(s.Public())
	stop = sync.OnceFunc(func() {
		ts.CloseClientConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ts.Close()
		_ = db.Close() // nothing asks it any more
	})
	t.Cleanup(stop)
	if _, err := d.Rules(t.Context()); err != nil { // it waits until the hub has read what is stored
		t.Fatal(err)
	}
	return ts.URL, stop
}
