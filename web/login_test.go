package web_test

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/oauth"
	"github.com/bindery-hub/bindery/oauth/oauthtest"
	"github.com/bindery-hub/bindery/web"
)

// guardedBy has visitors of a hub sign in at p.
func guardedBy(t *testing.T, p *oauthtest.Server) func(*web.Config) {
	login, err := oauth.New(oauth.Config{
		AuthorizeURL: p.URL + "/authorize", TokenURL: p.URL + "/token", UserURL: p.URL + "/user", UserField: "username",
		ClientID: oauthtest.ClientID, SecretFile: p.SecretFile, Scope: oauthtest.Scope,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *web.Config) { c.Login = login }
}

// A browser keeps cookies and follows redirects.
type browser struct {
	t *testing.T
	*http.Client
}

func newBrowser(t *testing.T) browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{t, &http.Client{Jar: jar}}
}

func (b browser) get(url string) (*http.Response, string) {
	b.t.Helper()
	return b.do("GET", url)
}

// cookie is what b sends of that name.
func (b browser) cookie(at, name string) string {
	b.t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == name {
			return c.String()
		}
	}
	b.t.Fatalf("there is no cookie %s", name)
	return ""
}

func (b browser) do(method, url string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, url, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	resp, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(text)
}

var streamRE = regexp.MustCompile(`"stream":"([^"]+)"`)

// TestLogin goes the whole way: a link leads to where one signs in, back to the launch, and the launch is that person's.
func TestLogin(t *testing.T) {
	for _, base := range []string{"", "/services/binder"} {
		h, p := newHub(), oauthtest.Start(t)
		ts := serve(t, h, operated(h), guardedBy(t, p), func(c *web.Config) { c.Base = base })
		hub := ts.URL + base
		p.Allow(hub + "/oauth_callback")
		b := newBrowser(t)
		link := hub + "/v2" + strings.TrimPrefix(specPath, "/build") + "?urlpath=%2Flab%3Fa"
		resp, page := b.get(link)
		if resp.StatusCode != 200 || resp.Request.URL.String() != link || !strings.Contains(page, "<span>jane</span>") {
			t.Fatalf("the link leads to %s: %d\n%s", resp.Request.URL, resp.StatusCode, page)
		}
		m := streamRE.FindStringSubmatch(strings.ReplaceAll(page, `\u0026`, "&"))
		if m == nil {
			t.Fatalf("no stream in %s", page)
		}
		s := open(t, ts.URL+m[1]) // without the cookie: the token says who it is
		h.finish(h.theBuild(t))
		if _, last := s.rest(); last["phase"] != "ready" {
			t.Errorf("the launch: %v", last)
		}
		if got := h.asks[0].Requester; got != "user:jane" {
			t.Errorf("the requester is %s", got)
		}
		for _, path := range []string{"/", "/about", "/status", "/builds/" + h.theBuild(t), "/api/v1/queue", "/api/v1/builds/" + h.theBuild(t), "/api/v1/builds/" + h.theBuild(t) + "/log"} {
			if resp, text := b.get(hub + path); resp.StatusCode != 200 || resp.Request.URL.Path != base+path {
				t.Errorf("%s: %d %s", path, resp.StatusCode, text)
			}
		}
		if resp, text := b.do("POST", hub+"/logout"); resp.StatusCode != 200 || !strings.Contains(text, "You are signed out") || strings.Contains(text, "jane") {
			t.Errorf("signing out: %d %s", resp.StatusCode, text)
		}
		b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if resp, _ := b.get(link); resp.StatusCode != 302 {
			t.Errorf("after signing out: %d", resp.StatusCode)
		}
	}
}

// TestStrangersStayOut is the table of what a hub with a login shows to whoever has not signed in.
func TestStrangersStayOut(t *testing.T) {
	h, p := newHub(), oauthtest.Start(t)
	ts := serve(t, h, operated(h), guardedBy(t, p), func(c *web.Config) {
		c.Tokens = []web.Token{{Hash: web.HashToken("launcher"), Name: "course", Scope: "launch"}, {Hash: web.HashToken("reader"), Name: "eye", Scope: "read"}}
		c.Rules.Requests = 1
	})
	p.Allow(ts.URL + "/oauth_callback")
	link := "/v2" + strings.TrimPrefix(specPath, "/build")
	for path, status := range map[string]int{
		"/": 302, "/about": 302, "/status": 302, "/go?repository=x": 302, link: 302, "/repo/a/b": 302, "/builds/x": 302,
		"/nothing": 404, "/versions": 200, "/health": 200, "/api/repoproviders": 200, "/badge.svg": 200, "/favicon.ico": 200, "/api/v1/openapi.json": 200,
		"/api/v1/queue": 401, "/api/v1/builds/x": 401, "/api/v1/builds/x/events": 401, "/api/v1/builds/x/log": 401, "/api/v1/builds/x/plan": 401, "/api/v1/builds/x/provenance": 401,
		"/api/v1/sessions/x": 404, "/oauth_callback": 403, "/oauth_callback?code=x&state=y": 403,
	} {
		resp, body := ask(t, "GET", ts.URL+path, "", "Accept", "text/html, */*")
		if resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, status)
		}
		to, err := url.Parse(resp.Header.Get("Location"))
		if status == 302 && (err != nil || !strings.HasPrefix(to.String(), p.URL+"/authorize?") || to.Query().Get("redirect_uri") != ts.URL+"/oauth_callback" || strings.Contains(body, "build_token")) {
			t.Errorf("%s leads to %s", path, to)
		}
		for _, c := range resp.Cookies() {
			if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Name != "bindery_login" {
				t.Errorf("%s sets the cookie %s", path, c)
			}
		}
	}
	forbidden := func(what, at string, header ...string) {
		t.Helper()
		if e, _ := open(t, at, header...).event(); e["message"] != "Forbidden\n" || e["status_code"] != 403.0 {
			t.Errorf("%s: %v", what, e)
		}
	}
	forbidden("nobody", ts.URL+specPath)
	forbidden("a token that may only read", ts.URL+specPath, "Authorization", "Bearer reader")
	forbidden("a token that nobody knows", ts.URL+specPath, "Authorization", "token x")
	// Whoever has signed in has a cookie. It starts nothing: a session's page could make a browser send it.
	b := newBrowser(t)
	b.get(ts.URL + link)
	at, _ := url.Parse(ts.URL)
	cookies := ""
	for _, c := range b.Jar.Cookies(at) {
		cookies += c.String() + "; "
	}
	if !strings.Contains(cookies, "bindery_user=") {
		t.Fatalf("cookies: %s", cookies)
	}
	forbidden("a cookie", ts.URL+specPath, "Cookie", cookies)
	if resp, _ := ask(t, "POST", ts.URL+"/api/v1/builds", `{"source":{"url":"https://example.org/o/r"}}`, "Cookie", cookies); resp.StatusCode != 401 {
		t.Errorf("the API takes the cookie: %d", resp.StatusCode)
	}
	if resp, _ := ask(t, "POST", ts.URL+"/logout", "", "Cookie", cookies, "Sec-Fetch-Site", "same-site"); resp.StatusCode != 403 || len(resp.Cookies()) > 0 {
		t.Errorf("another site signs people out: %d", resp.StatusCode)
	}
	// Of a page that was made without a login.
	old := serve(t, h)
	forbidden("a build token of nobody", ts.URL+strings.TrimPrefix(streamOfPage(t, old.URL), old.URL), "Origin", old.URL)
	if len(h.asks) != 0 {
		t.Fatalf("something was built: %v", h.asks)
	}
	for range 2 { // more than the limit, which is for strangers
		s := open(t, ts.URL+specPath, "Authorization", "token launcher", "X-Forwarded-For", "203.0.113.1")
		if e, _ := s.event(); e["phase"] != "waiting" {
			t.Errorf("a program with a token: %v", e)
		}
	}
}

// TestSignInIsNotForged has others' codes, states and cookies tried.
func TestSignInIsNotForged(t *testing.T) {
	h, p := newHub(), oauthtest.Start(t)
	var mu sync.Mutex
	now := time.Now()
	late := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	ts := serve(t, h, guardedBy(t, p), func(c *web.Config) {
		c.Users = []string{"jane", "joe"}
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	p.Allow(ts.URL + "/oauth_callback")
	stop := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	// begin stops before the browser comes back, and returns where it would.
	begin := func(b browser) string {
		t.Helper()
		b.CheckRedirect = stop
		resp, _ := b.get(ts.URL + "/")
		resp, _ = b.get(resp.Header.Get("Location"))
		return resp.Header.Get("Location")
	}
	in := func(b browser, at string) bool {
		t.Helper()
		b.CheckRedirect = stop
		resp, body := b.get(at)
		if resp.StatusCode >= 500 || strings.Contains(body, oauthtest.Secret) {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		back, _ := b.get(ts.URL + "/about")
		return back.StatusCode == 200
	}
	mine, other := newBrowser(t), newBrowser(t)
	at := begin(mine)
	begin(other)
	if in(other, at) {
		t.Error("somebody else's state is good")
	}
	at = begin(mine)
	second := begin(mine)
	if !in(mine, at) || !in(mine, second) {
		t.Error("two tabs of one browser get in each other's way")
	}
	if fresh := newBrowser(t); in(fresh, begin(fresh)+"x") {
		t.Error("a code that is none is good")
	}
	// A code that was asked for with another state, so with another verifier.
	mixed := newBrowser(t)
	one, _ := url.Parse(begin(mixed))
	two, _ := url.Parse(begin(mixed))
	if q := (url.Values{"code": one.Query()["code"], "state": two.Query()["state"]}); in(mixed, ts.URL+"/oauth_callback?"+q.Encode()) {
		t.Error("a code of another state is good")
	}
	// A session's page on the same host has the victim's browser come back with the attacker's state and code, and with
	// his cookie beside the victim's, or before it: what has the longer path is sent first.
	attacker, victim := newBrowser(t), newBrowser(t)
	at = begin(attacker)
	begin(victim)
	his, hers := attacker.cookie(ts.URL, "bindery_login"), victim.cookie(ts.URL, "bindery_login")
	for _, cookies := range []string{his + "; " + hers, hers + "; " + his, hers} {
		if resp, _ := ask(t, "GET", at, "", "Cookie", cookies); resp.StatusCode != 403 || len(resp.Cookies()) != 0 {
			t.Errorf("somebody else's sign-in is good with %s: %d", cookies, resp.StatusCode)
		}
	}
	if !in(attacker, at) {
		t.Error("the attacker cannot sign in himself, so this shows nothing")
	}
	p.Be("joe")
	if !in(victim, begin(victim)) {
		t.Error("the victim cannot sign in")
	}
	p.Be("jane")
	his, hers = attacker.cookie(ts.URL, "bindery_user"), victim.cookie(ts.URL, "bindery_user")
	for cookies, status := range map[string]int{his: 200, hers: 200, "bindery_user=x; " + hers: 200, hers + "; " + hers: 200, his + "; " + hers: 302, hers + "; " + his: 302} {
		if resp, _ := ask(t, "GET", ts.URL+"/about", "", "Cookie", cookies); resp.StatusCode != status {
			t.Errorf("the cookies %s: %d, want %d", cookies, resp.StatusCode, status)
		}
	}
	used := newBrowser(t)
	at = begin(used)
	in(used, at)
	used.get(ts.URL + "/")
	if again := newBrowser(t); in(again, at) {
		t.Error("what was used is good elsewhere")
	}
	slow := newBrowser(t)
	at = begin(slow)
	late(11 * time.Minute)
	if in(slow, at) {
		t.Error("a sign-in that took too long is good")
	}
	late(13 * time.Hour)
	if resp, _ := mine.get(ts.URL + "/about"); resp.StatusCode != 302 {
		t.Errorf("a day later: %d", resp.StatusCode)
	}
	for person, ok := range map[string]bool{"joe": true, "mallory": false, "": false, // who gives up
		"jane\x1b[2J": false, "jane ": false, strings.Repeat("j", 300): false} {
		p.Be(person)
		if b := newBrowser(t); in(b, begin(b)) != ok {
			t.Errorf("%.20q comes in: %v", person, !ok)
		}
	}
	for _, c := range []string{"x", "a.b.c", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"jane","aud":["user"],"exp":9999999999}`)) + "."} {
		if resp, _ := ask(t, "GET", ts.URL+"/about", "", "Cookie", "bindery_user="+c); resp.StatusCode != 302 {
			t.Errorf("the cookie %s: %d", c, resp.StatusCode)
		}
	}
}

// TestCookiesOfHTTPS signs in by https, below a path: what others can set of another name, path or domain opens nothing.
func TestCookiesOfHTTPS(t *testing.T) {
	p := oauthtest.Start(t)
	const public, base = "https://hub.example.org", "/services/binder"
	ts := serve(t, newHub(), guardedBy(t, p), func(c *web.Config) { c.URL, c.Base = public, base })
	p.Allow(public + base + "/oauth_callback")
	set := func(resp *http.Response, name string) string {
		t.Helper()
		for _, c := range resp.Cookies() {
			if c.Name == "__Host-Http-"+name {
				if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" {
					t.Errorf("a browser does not take %s", c)
				}
				return c.Value
			}
		}
		t.Fatalf("%s is not set: %v", name, resp.Header)
		return ""
	}
	resp, _ := ask(t, "GET", ts.URL+base+"/", "")
	browser := set(resp, "bindery_login")
	resp, _ = ask(t, "GET", resp.Header.Get("Location"), "")
	at := ts.URL + strings.TrimPrefix(resp.Header.Get("Location"), public)
	if resp, _ := ask(t, "GET", at, "", "Cookie", "bindery_login="+browser); resp.StatusCode != 403 {
		t.Errorf("a cookie of the old name: %d", resp.StatusCode)
	}
	resp, _ = ask(t, "GET", at, "", "Cookie", "bindery_login=x; __Host-Http-bindery_login="+browser)
	user := set(resp, "bindery_user")
	for cookie, status := range map[string]int{"__Host-Http-bindery_user=" + user: 200, "bindery_user=" + user: 302} {
		if resp, _ := ask(t, "GET", ts.URL+base+"/about", "", "Cookie", cookie); resp.StatusCode != status {
			t.Errorf("%.30s: %d, want %d", cookie, resp.StatusCode, status)
		}
	}
}

// TestLoginInABrowser follows a link in Chromium: past the sign-in, to the session.
func TestLoginInABrowser(t *testing.T) {
	sessions := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer sessions.Close()
	h, p := newHub(), oauthtest.Start(t)
	ts := serve(t, h, guardedBy(t, p), func(c *web.Config) {
		c.SessionURL, c.Tokens = sessions.URL, []web.Token{{Hash: web.HashToken("launcher"), Scope: "launch"}}
	})
	p.Allow(ts.URL + "/oauth_callback")
	open(t, ts.URL+specPath, "Authorization", "Bearer launcher")
	h.finish(h.theBuild(t))
	dom := browse(t, ts.URL+"/v2"+strings.TrimPrefix(specPath, "/build")+"?urlpath=lab")
	if !strings.Contains(dom, "<span>jane</span>") || !regexp.MustCompile(`id="session-link" href="`+regexp.QuoteMeta(sessions.URL)+`/user/s[0-9]+/lab\?token=secret-`).MatchString(dom) {
		t.Errorf("the browser is at %s", dom)
	}
}
