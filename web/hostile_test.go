package web_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// A sent request is written byte by byte: Go's own client would refuse much of this.
func sendRaw(t *testing.T, addr, text string) (status int, header http.Header, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return 0, nil, ""
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, "" // hung up without a word
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Header, string(b)
}

// leaks are what no answer may hold: traces, paths and names of ours, the key of the tokens, what was sent as markup.
var leaks = regexp.MustCompile(`goroutine \d|\.go:\d|runtime error|kkkkkkkk|<script>alert|<img onerror`)

// TestHostileRequests sends what nobody sends by accident. None starts anything, breaks anything, tells anything, or
// leads anywhere else.
func TestHostileRequests(t *testing.T) {
	h := newHub()
	ts := serve(t, h, func(c *web.Config) { c.Tokens = nil })
	addr := strings.TrimPrefix(ts.URL, "http://")
	const accept = "Accept: text/event-stream\r\n"
	get := func(path, more string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n" + more + "\r\n"
	}
	var cases []string
	add := func(all ...string) { cases = append(cases, all...) }

	// Specs: of every provider, what is none.
	for _, provider := range []string{"gh", "gist", "git", "gl", "zenodo", "figshare", "hydroshare", "dataverse", "ckan", "swh", "local", "file", "", "..", "%2e%2e", "GH"} {
		for _, rest := range []string{
			"", "/", "//", "x", "--upload-pack=touch/x/HEAD", "o/r/--option", "o/r/a..b", "o/%2e%2e/HEAD", "../../etc/passwd",
			"%00/%00/%00", "o/r/%0d%0aSet-Cookie:%20x", "<script>alert(1)</script>/r/HEAD", "%3Cimg%20onerror=x%3E/r/HEAD", "ext%3A%3Ash%20-c%20id/HEAD",
			"file%3A%2F%2F%2Fetc%2Fpasswd/HEAD", "https%3A%2F%2Fu%3Ap%40example.org%2Fr/HEAD", "javascript%3Aalert(1)/HEAD",
		} {
			add(get("/build/"+provider+"/"+rest, accept), get("/v2/"+provider+"/"+rest, "Accept: text/html\r\n"))
		}
	}
	// Tokens and cookies.
	spec := specPath
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, token := range []string{
		"x", "..", "a.b.c", strings.Repeat("A", 30_000), "%00", b64(`{"alg":"none"}`) + "." + b64(`{"aud":"git/x","exp":9999999999}`) + ".",
		b64(`{"alg":"HS256","kid":"../../hub.secret"}`) + "." + b64(`{"exp":1e400}`) + ".AAAA", b64(`{"alg":"RS256","jku":"http://evil/"}`) + "." + b64(`[]`) + ".AAAA",
		b64(`{"alg":"HS512"}`) + "." + b64(`{"aud":["a","b"],"exp":"soon"}`) + ".", b64("null") + "." + b64("null") + ".", "%0d%0aX: y",
	} {
		add(get(spec+"?build_token="+token, accept), get("/api/v1/sessions", "Authorization: Bearer "+token+"\r\n"),
			get("/api/v1/builds", "Authorization: token "+token+"\r\n"), get("/api/v1/sessions", "Cookie: token="+token+"; _xsrf="+token+"; session=admin\r\n"))
	}
	// Headers.
	for _, more := range []string{
		"Accept: " + strings.Repeat("text/event-stream,", 3000) + "\r\n", "Last-Event-ID: ../../x.1\r\nAccept: */*\r\n", "Last-Event-ID: x.99999999999999999999\r\nAccept: a\r\n",
		"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Expect: 100-continue\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "X-Forwarded-Host: evil.example\r\n",
		"X-Forwarded-Prefix: //evil.example\r\n", "X-Original-URL: /api/v1/sessions\r\n", "X-Http-Method-Override: DELETE\r\n", "Range: bytes=0-1,0-2,0-3\r\n", "Origin: null\r\n",
		"User-Agent: <script>alert(1)</script>\r\n", "Accept-Language: ../../../etc/passwd\r\n", "If-None-Match: *\r\n", "Content-Type: multipart/form-data; boundary=" + strings.Repeat("x", 5000) + "\r\n",
		"Forwarded: for=127.0.0.1\r\n", "X-Real-Ip: 127.0.0.1\r\n", "Cookie: " + strings.Repeat("a=b; ", 2000) + "\r\n",
	} {
		for _, path := range []string{"/", "/about", "/health", "/versions", "/go?repository=x", "/api/v1/status", "/v2/git/x/y"} {
			add(get(path, more))
		}
	}
	// Redirects, and names of hosts.
	for _, to := range []string{"//evil.example", "https://evil.example/x", "\\evil.example", "javascript:alert(1)", "%0d%0aLocation:%20//evil.example", "/%09/evil.example", "..%2f..%2fevil"} {
		add(get("/go?repository="+url.QueryEscape(to), ""), get("/go?repository="+to+"&ref="+to+"&path="+to, ""), get("/repo/"+to, ""), get("/repo/a/b/"+to, ""), get("/repo//"+to, ""),
			"GET / HTTP/1.1\r\nHost: "+to+"\r\nConnection: close\r\n\r\n", "GET "+to+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
			"GET http://evil.example/ HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n\r\n", "CONNECT "+to+":443 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	}
	// Methods, and lines that are none.
	for _, line := range []string{"TRACE /", "DEBUG /", "DELETE /api/v1/sessions/x", "PUT /api/v1/rules", "POST /api/v1/builds", "PATCH /", "OPTIONS *", "GET /static/../adapter.go", "GET /static/..%2f..%2fgo.mod", "GET /static/%2e%2e/x", "PRI *"} {
		add(line + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	}
	// What can be read as a spec is asked for, and is not there. Nothing of it may be more than a name. Whether an address may be
	// reached, and a directory read, is for whoever fetches to say.
	h.resolve = func(src bindery.Source) error {
		if strings.ContainsAny(src.URL+src.Ref, "\x00\r\n") || strings.HasPrefix(src.Ref, "-") || strings.HasPrefix(src.URL, "-") || strings.Contains(src.Ref, "..") ||
			strings.HasPrefix(src.URL, "ext:") || src.Provider == bindery.ProviderLocal || src.Trusted {
			t.Errorf("%+v is asked for", src)
		}
		return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check it.", "There is no such repository")
	}
	for _, text := range cases {
		status, header, body := sendRaw(t, addr, text)
		what := fmt.Sprintf("%.160q", text)
		if status >= 500 || leaks.MatchString(body) {
			t.Errorf("%s: %d %.300s", what, status, body)
		}
		if to := header.Get("Location"); to != "" {
			u, err := url.Parse(to)
			if err != nil || u.Host != "" || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\r\n\\") {
				t.Errorf("%s leads to %q", what, to)
			}
		}
		if header.Get("Set-Cookie") != "" || header.Get("X") != "" {
			t.Errorf("%s sets headers: %v", what, header)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.launched != 0 {
		t.Errorf("%d sessions were started", h.launched)
	}
	for _, a := range h.asks {
		t.Errorf("%s was built", a.Source.URL)
	}
	t.Logf("%d requests", len(cases))
}

// spellings are links to one repository at a host, none of them the usual one. All of them are read by Git servers.
func spellings(host, repo string) (specs []string) {
	owner, name, _ := strings.Cut(repo, "/")
	for _, at := range []string{
		"https://" + host + ":443/" + repo, "https://" + host + ":/" + repo, "https://" + host + ":00443/" + repo, "https://" + host + "./" + repo, "https://" + host + ".:443/" + repo,
		"https://" + strings.ToUpper(host) + "/" + repo, "HTTPS://" + host + "/" + repo, "http://" + host + "/" + repo, "http://" + host + ":80/" + repo, "http://" + host + ":443/" + repo,
		"https://" + host + "//" + repo, "https://" + host + "/" + owner + "///" + name, "https://" + host + "/" + repo + "//", "https://" + host + "/" + repo + ".git", "https://" + host + "/" + repo + ".git//", "https://" + host + "/" + repo + "/.git",
		"https://" + host + "/%" + fmt.Sprintf("%x", owner[0]) + owner[1:] + "/" + name, "https://" + host + "/" + owner + "%2F" + name, "https://" + host + "/" + owner + "%2f" + name + "%2Egit", "https://" + host + "/" + repo + "#",
		"git@" + host + ":" + repo, "git@" + host + ".:" + repo + ".git", "x@" + host + ":" + repo, "ssh://" + host + "/" + repo, "ssh://git@" + host + ":22/" + repo, "ssh://git@" + host + ":2222//" + repo, "git://" + host + "/" + repo, "git://" + host + ":9418/" + repo,
	} {
		specs = append(specs, "git/"+url.QueryEscape(at)+"/main")
	}
	return append(specs, "git/"+strings.ReplaceAll("https://"+host+"/"+repo, "/", "%2f")+"/main", "git/"+strings.ReplaceAll(url.QueryEscape("https://"+host+"/"+repo), "t", "%74")+"/main")
}

// TestHostileSpellings names what is banned, or has all that it may have, in ways that nobody uses by accident. No forge is asked,
// nothing is built, and who has launched as often as he may has no other name.
func TestHostileSpellings(t *testing.T) {
	one := 1
	h := newHub()
	h.quota = true
	h.sessions["s"] = bindery.Session{ID: "s", State: bindery.SessionReady, Source: bindery.Source{Provider: bindery.ProviderGit, URL: "https://github.com/few/r"}}
	for _, pattern := range []string{"gh/bad/repo", "gh/evil/*", "gl/bad/repo", "gl/evil/*", "https://host.example/bad/repo", "https://host.example/evil/*", "^gh/worse/", "^gl/worse/", "^https://host.example/worse/"} {
		p, err := bindery.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		h.rules = append(h.rules, bindery.Rule{Kind: bindery.RuleBan, Scope: p.Scope, Name: p.Names[0]})
	}
	h.resolve = func(src bindery.Source) error {
		if src.Identity() == h.sessions["s"].Source.Identity() {
			return nil
		}
		return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check it.", "It is asked for")
	}
	ts := serve(t, h, operated(h), func(c *web.Config) {
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Rules = web.Rules{Requests: 1, Specs: map[string]web.SpecRules{
			"gh":  {Banned: []string{"worst/.*"}, Config: []web.SpecConfig{{Pattern: "few/r/", Quota: &one}}},
			"gl":  {Banned: []string{"worst%2F"}},
			"git": {Banned: []string{"https%3A%2F%2Fhost.example%2Fworst%2F"}},
		}}
	})
	n := 0
	attack := func(spec, want string, more ...string) {
		t.Helper()
		if n++; len(more) == 0 { // everybody comes for the first time
			more = []string{fmt.Sprintf("X-Forwarded-For: 198.18.%d.%d", n/250, n%250)}
		}
		status, _, body := sendRaw(t, strings.TrimPrefix(ts.URL, "http://"), "GET /build/"+spec+" HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\nAccept: text/event-stream\r\n"+strings.Join(more, "\r\n")+"\r\n\r\n")
		if !strings.Contains(body, want) || strings.Contains(body, "waiting") {
			t.Errorf("%s %v: %d %.200q, want %q", spec, more, status, body, want)
		}
	}
	const live, configured, full, limited = "is not served at the moment", "is not allowed to launch", "Too many users running", "Rate limit exceeded"
	for host, forge := range map[string]string{"github.com": "gh", "www.github.com": "", "gitlab.com": "gl", "host.example": ""} {
		for repo, want := range map[string]string{"bad/repo": live, "evil/any": live, "worse/any": live, "worst/any": configured} {
			for _, spec := range spellings(host, repo) {
				attack(spec, want)
			}
			if owner, name, _ := strings.Cut(repo, "/"); forge == "gh" {
				for _, spec := range []string{owner + "/" + name + ".git/main", strings.ToUpper(repo) + "/main", repo + ".GIT/HEAD", repo + "/%6dain", repo + "/main//"} {
					attack("gh/"+spec, want)
				}
			} else if forge == "gl" {
				for _, spec := range []string{owner + "%2f" + name + "/main", "%2F" + owner + "%2F" + name + "%2F/main", owner + "%2F" + name + ".git/main", strings.ToUpper(owner) + "%2F" + name + "/HEAD", "%" + fmt.Sprintf("%x", owner[0]) + owner[1:] + "%2F" + name + "/main"} {
					attack("gl/"+spec, want)
				}
			}
		}
	}
	for _, spec := range append(spellings("github.com", "few/r"), "gh/few/r.git/main", "gh/FEW/r/main", "gh/few/r/%6dain") {
		attack(spec, full)
	}
	for _, at := range []string{"https://github.com/x/../bad/repo", "https://github.com/./bad/repo", "https://github.com/x%2F..%2Fbad/repo", "https://github.com/bad/repo?x=1", "https://github.com/bad/repo#x", "https://\uff47ithub.com/bad/repo", "https://github.com\\@host.example/bad/repo", "https://host.example@github.com/bad/repo"} {
		attack("git/"+url.QueryEscape(at)+"/main", `"kind":"invalid"`)
	}
	// Whoever is elsewhere may launch once.
	attack("gh/o/r/main", "It is asked for", "X-Forwarded-For: 2001:db8::1")
	for i, more := range []string{
		"X-Forwarded-For: 2001:db8::2", "X-Forwarded-For: 2001:0DB8:0:0:ffff::1", "X-Forwarded-For: 192.0.2.1, 2001:db8::3", "X-Forwarded-For: 2001:db8::1, 127.0.0.1", "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 2001:db8::4",
		"X-Forwarded-For: 2001:db8::1\r\nX-Real-Ip: 192.0.2.8", "X-Forwarded-For: 2001:db8::1\r\nForwarded: for=192.0.2.8", "X-Forwarded-For: 2001:db8::1\r\nAuthorization: Bearer nobody", "X-Forwarded-For: 2001:db8::1\r\nUser-Agent: bindery-launch/1.0",
		"X-Forwarded-For: 2001:db8::1\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors", "X-Forwarded-For: 2001:db8::1\r\nLast-Event-ID: b-1.1", "X-Forwarded-For: 2001:db8::1%25lo",
	} {
		attack(fmt.Sprintf("gh/o/r/main?request=%s%02d", strings.Repeat("r", 22), i), limited, more)
	}
	if h.mu.Lock(); h.launched != 0 || len(h.builds) != 0 {
		t.Errorf("%d sessions, %d builds", h.launched, len(h.builds))
	}
	h.mu.Unlock()
	t.Logf("%d attacks", n)
}

// TestBannedWhereItLeads asks for what is banned by a name that only leads there: a concept's DOI to one of its versions, a
// gist's address without its owner to the one with it. Rules are looked at again once that is known, and nothing is built.
func TestBannedWhereItLeads(t *testing.T) {
	const doi, gist = "https://doi.org/10.5281/zenodo.", "https://gist.github.com/"
	leads := map[string]string{}
	for _, version := range []string{"2", "4", "6"} {
		leads[doi+string(version[0]-1)] = "https://zenodo.org/records/" + version
	}
	for id, owner := range map[string]string{"a1": "evil", "b2": "worst", "c3": "ann"} {
		leads[gist+id+".git"] = gist + owner + "/" + id + ".git"
	}
	for spec, want := range map[string]string{
		"zenodo/10.5281/zenodo.1": "is not served at the moment", "zenodo/10.5281/zenodo.3": "is not allowed to launch", "zenodo/10.5281/zenodo.5": "",
		"git/https%3A%2F%2Fgist.github.com%2Fa1.git/main": "is not served at the moment", "git/https%3A%2F%2Fgist.github.com%2Fb2.git/main": "is not allowed to launch",
		"git/https%3A%2F%2Fgist.github.com%2Fc3.git/main": "",
	} {
		h := newHub()
		h.leads = leads
		for _, pattern := range []string{"zenodo:https://zenodo.org/records/2", "gist/evil/*"} {
			p, err := bindery.ParsePattern(pattern)
			if err != nil {
				t.Fatal(err)
			}
			h.rules = append(h.rules, bindery.Rule{Kind: bindery.RuleBan, Scope: p.Scope, Name: p.Names[0]})
		}
		rules := func(c *web.Config) {
			c.Rules.Specs = map[string]web.SpecRules{"zenodo": {Banned: []string{`10\.5281/zenodo\.4$`}}, "gist": {Banned: []string{"worst/"}}}
		}
		s := open(t, serve(t, h, operated(h), rules).URL+"/build/"+spec)
		e, _ := s.event()
		if got := fmt.Sprint(e["phase"], e["message"]); want == "" != strings.HasPrefix(got, "waiting") || !strings.Contains(got, want) {
			t.Errorf("%s: %v, want %q", spec, got, want)
		}
		_, remote := dial(t, h, "launch", operated(h), rules)
		p := bindery.Provider{ID: strings.Split(spec, "/")[0]}.WithDefaults()
		src, err := p.ParseSpec(strings.TrimPrefix(spec, p.ID+"/"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Submit(t.Context(), api.NewBuild{Source: src}); errors.Is(err, bindery.ErrNotAllowed) != (want != "") {
			t.Errorf("a program asks for %s: %v", spec, err)
		}
		if h.mu.Lock(); (len(h.builds) == 0) != (want != "") {
			t.Errorf("%s: %d builds", spec, len(h.builds))
		}
		h.mu.Unlock()
	}
}
