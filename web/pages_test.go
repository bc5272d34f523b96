package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/web"
)

// ask sends one request without following redirects.
func ask(t testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestRoutes(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	const html, problem = "text/html; charset=utf-8", api.ProblemType
	for _, c := range []struct {
		method, path string
		status       int
		mime         string
	}{
		{"GET", "/", 200, html},
		{"GET", "/?repository=x", 200, html},
		{"GET", "/about", 200, html},
		{"GET", "/about/", 404, html},
		{"GET", "/nothing", 404, html},
		{"GET", "//evil.example/", 404, html},
		{"GET", "/v2/../about", 404, html},
		{"GET", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", 200, html},
		{"GET", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/feature/x?urlpath=lab", 200, html},
		{"HEAD", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", 200, html},
		{"GET", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr", 400, html},
		{"GET", "/v2/git/%00/main", 400, html},
		{"GET", "/v2/nosuch/o/r/main", 404, html},
		{"GET", "/v2/git", 307, html},
		{"GET", "/go?repository=https://example.org/o/r", 303, html},
		{"GET", "/go?repository=nope", 400, html},
		{"POST", "/", 405, html},
		{"GET", "/static/style.css", 404, html},
		{"GET", "/static/../web.go", 404, html},
		{"GET", "/static/%2e%2e%2fweb.go", 404, html},
		{"GET", "/badge.svg", 200, "image/svg+xml"},
		{"GET", "/badge_logo.svg", 200, "image/svg+xml"},
		{"GET", "/assets/images/badge.svg", 200, "image/svg+xml"},
		{"GET", "/favicon.svg", 200, "image/svg+xml"},
		{"GET", "/favicon.ico", 200, "image/x-icon"},
		{"GET", "/robots.txt", 200, "text/plain; charset=utf-8"},
		{"GET", "/storybook", 404, html},
		{"GET", "/health", 200, "application/json"},
		{"HEAD", "/health", 200, "application/json"},
		{"OPTIONS", "/health", 200, ""},
		{"GET", "/versions", 200, "application/json"},
		{"GET", "/api/repoproviders", 200, "application/json"},
		{"GET", "/api/nothing", 404, problem},
		{"GET", "/api/v1/status", 401, problem},
		{"GET", "/api/v1/sessions", 401, problem},
		{"POST", "/api/v1/sessions", 401, problem},
		{"DELETE", "/api/v1/sessions", 405, problem},
		{"GET", "/api/v1/sessions/x", 404, problem},
		{"DELETE", "/api/v1/sessions/x", 404, problem},
		{"GET", "/api/v1/sessions/x/log", 404, problem},
		{"GET", "/api/v1/builds", 401, problem},
		{"PUT", "/api/v1/builds", 405, problem},
		{"DELETE", "/api/v1/builds/x", 401, problem},
		{"GET", "/api/v1/openapi.json", 200, "application/json"},
		{"POST", "/api/v1/rules", 401, problem},
		{"GET", "/api/v1/queue", 503, problem},
		{"GET", "/api/v1/builds/x", 404, problem},
		{"GET", "/api/v1/builds/x/events", 404, problem},
	} {
		resp, body := ask(t, c.method, ts.URL+c.path, "", "Accept", "text/html, */*")
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.mime {
			t.Errorf("%s %s: %d %s, want %d %s\n%.300s", c.method, c.path, resp.StatusCode, resp.Header.Get("Content-Type"), c.status, c.mime, body)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: headers %v", c.method, c.path, resp.Header)
		}
	}
	if len(h.asks) != 0 || h.launched != 0 {
		t.Error("something was built or launched")
	}
}

func TestOldRoutesSayWhatClientsExpect(t *testing.T) {
	ok := true
	ts := serve(t, newHub(), func(c *web.Config) {
		c.Checks = func(context.Context) []bindery.Check {
			return []bindery.Check{{Name: "disk", OK: ok, Level: "required", Found: "secret path"}, {Name: "nice", OK: false, Level: "advised"}}
		}
	})
	_, body := ask(t, "GET", ts.URL+"/health", "")
	if want := `{"ok":true,"checks":[{"service":"JupyterHub API","ok":true},{"service":"Pod quota","ok":true,"_ignore_failure":true,"total_pods":0,"build_pods":0,"user_pods":0,"quota":null},{"service":"disk","ok":true},{"service":"nice","ok":false,"_ignore_failure":true}]}` + "\n"; body != want {
		t.Errorf("got %s", body)
	}
	if _, page := ask(t, "GET", ts.URL+"/status", "", "Accept", "text/html"); !strings.Contains(page, "Places for sessions: works") || strings.Contains(page, "JupyterHub") {
		t.Errorf("the status page has BinderHub's names:\n%s", page)
	}
	resp, body := ask(t, "GET", ts.URL+"/versions", "")
	if want := `{"binderhub":"1.2.3","builder":"bindery:gen","builder_info":{"build_image":"bindery:gen"}}` + "\n"; body != want || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("got %s", body)
	}
	_, body = ask(t, "GET", ts.URL+"/api/repoproviders", "")
	order := ""
	for _, m := range regexp.MustCompile(`"id":"([a-z]+)"`).FindAllStringSubmatch(body, -1) {
		order += m[1] + " "
	}
	if order != "gh gist git gl zenodo figshare hydroshare dataverse ckan swh " {
		t.Errorf("the order is %s", order)
	}
	for _, want := range []string{
		`"id":"gh","spec":{"validateRegex":"[^/]+/[^/]+/.+"},"detect":{"regex":"^(https?://github.com/)?(?`,
		`{"displayName":"Git repository","id":"git","spec":{"validateRegex":"[^/]+/.+"},"repo":{"label":"Arbitrary git repository URL","placeholder":"example: http://git.example.com/repo","urlEncode":true},"ref":{"enabled":true,"default":"HEAD"}}`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s", body)
		}
	}
}

// TestPodQuota has as many sessions as there may be, and one more: routers in front of several hubs look at that.
func TestPodQuota(t *testing.T) {
	var hours atomic.Int64
	ts := serve(t, playing(t), func(c *web.Config) {
		c.SessionsAtOnce = 1
		c.Now = func() time.Time { return time.Now().Add(time.Duration(hours.Add(1)) * time.Hour) } // nothing is answered from before
	})
	for _, want := range []string{
		`"ok":true,"_ignore_failure":true,"total_pods":0,"build_pods":0,"user_pods":0,"quota":1}`, `"ok":true,"_ignore_failure":true,"total_pods":1,"build_pods":0,"user_pods":1,"quota":1}`,
		`"ok":false,"_ignore_failure":true,"total_pods":2,"build_pods":0,"user_pods":2,"quota":1}`,
	} {
		if resp, body := ask(t, "GET", ts.URL+"/health", ""); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%d %s, want %s", resp.StatusCode, body, want)
		}
		open(t, ts.URL+specPath).rest()
	}
}

func TestUnhealthy(t *testing.T) {
	ts := serve(t, newHub(), func(c *web.Config) {
		c.Checks = func(context.Context) []bindery.Check {
			return []bindery.Check{{Name: "disk", Level: "required"}}
		}
	})
	if resp, body := ask(t, "GET", ts.URL+"/health", ""); resp.StatusCode != 503 || !strings.Contains(body, `"ok":false`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestPagesKeepTheirPolicy reads every page for what the policy would stop: it would fail only in a browser.
func TestPagesKeepTheirPolicy(t *testing.T) {
	ts := serve(t, newHub(), func(c *web.Config) { c.Dev = true })
	paths := []string{"/", "/about", "/nothing", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main", "/storybook"}
	_, list := ask(t, "GET", ts.URL+"/storybook", "")
	for _, m := range regexp.MustCompile(`href="(/storybook/[a-z-]+)"`).FindAllStringSubmatch(list, -1) {
		paths = append(paths, m[1])
	}
	if len(paths) < 9 {
		t.Fatalf("the storybook has %q", paths)
	}
	inline := regexp.MustCompile(`(?i)<script(?:\s+[a-z-]+="[^"]*")*\s*>|<style|\sstyle=|\son[a-z]+=|javascript:|(?:src|href)="https?://[^"]*"`)
	local := regexp.MustCompile(`(?:src|href)="(/[^"]*)"`)
	for _, path := range paths {
		resp, body := ask(t, "GET", ts.URL+path, "", "Accept", "text/html")
		policy := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: policy %s", path, policy)
			}
		}
		own := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(body, -1)
		sum := sha256.Sum256([]byte(own[0][1]))
		if len(own) != 1 || !strings.Contains(policy, "script-src 'self' 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"';") {
			t.Errorf("%s: the policy %s does not know the page's own scripts %q", path, policy, own)
		}
		for _, m := range inline.FindAllString(body, -1) {
			if m == "<script>" {
				continue // the one that the policy knows
			}
			if strings.Contains(m, `application/json`) || strings.Contains(m, ` src="/`) || strings.HasPrefix(m, `href="http`) {
				continue // data, an own file, a link that is only followed
			}
			t.Errorf("%s: the policy stops %s", path, m)
		}
		for _, m := range local.FindAllStringSubmatch(body, -1) {
			if strings.Contains(m[1], "/builds/b-") {
				continue // a sample's, which is not there
			}
			if resp, _ := ask(t, "GET", ts.URL+m[1], ""); resp.StatusCode != 200 {
				t.Errorf("%s links to %s, which answers %d", path, m[1], resp.StatusCode)
			}
		}
	}
}

func trust(prefix string) func(*web.Config) {
	return func(c *web.Config) {
		if prefix != "" {
			c.Proxies = []netip.Prefix{netip.MustParsePrefix(prefix)}
		}
	}
}

func TestPagesEscapeWhatVisitorsSay(t *testing.T) {
	ts := serve(t, newHub())
	evil := `https://example.org/"><script>alert(1)</script>/r`
	for _, path := range []string{
		"/v2/git/" + url.QueryEscape(evil) + "/main",
		"/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/" + url.QueryEscape(`"><script>alert(1)</script>`),
		"/go?repository=" + url.QueryEscape(evil+" "), "/?repository=" + url.QueryEscape(evil) + "&ref=%3C/script%3E&path=%22%3E",
		"/v2/%3Cscript%3Ealert(1)%3C%2Fscript%3E/x",
	} {
		_, body := ask(t, "GET", ts.URL+path, "", "Accept", "text/html")
		if strings.Contains(body, "<script>alert") {
			t.Errorf("%s is not escaped: %s", path, body)
		}
	}
}

func TestAssetsAreKeptForGood(t *testing.T) {
	ts := serve(t, newHub())
	_, body := ask(t, "GET", ts.URL+"/", "")
	m := regexp.MustCompile(`href="(/static/style\.[0-9a-f]{12}\.css)"`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no style in %s", body)
	}
	resp, _ := ask(t, "GET", ts.URL+m[1], "")
	if got := resp.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
		t.Errorf("Cache-Control: %s", got)
	}
	if resp, _ := ask(t, "GET", ts.URL+m[1], "", "If-None-Match", resp.Header.Get("Etag")); resp.StatusCode != 304 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestFormWithoutScript(t *testing.T) {
	ts := serve(t, newHub())
	for query, want := range map[string]string{
		"repository=https://example.org/o/r":                              "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/HEAD",
		"repository=+https://example.org/o/r+&ref=feature/x&path=/a+b.md": "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/feature/x?urlpath=%2Fdoc%2Ftree%2Fa+b.md",
		"repository=git@example.org:o/r.git&ref=v1":                       "/v2/git/git%40example.org%3Ao%2Fr.git/v1",
		"provider=gh&repository=https://github.com/o/r/&ref=":             "/v2/gh/o/r/HEAD",
		"provider=gh&repository=o/r&path=x.ipynb&kind=lab":                "/v2/gh/o/r/HEAD?labpath=x.ipynb",
		"provider=zenodo&repository=10.5281/zenodo.3242074":               "/v2/zenodo/10.5281/zenodo.3242074/",
		"provider=gl&repository=a/b/c&ref=main&path=lab&kind=url":         "/v2/gl/a%2Fb%2Fc/main?urlpath=lab",
		"provider=gh&repository=https://github.com/o/r/tree/main":         "/v2/gh/o/r/main",
		"provider=gh&repository=https://github.com/o/r/tree/f%252Fx/":     "/v2/gh/o/r/f/x",
		"provider=gh&repository=o/r/tree/main&ref=v1":                     "/v2/gh/o/r/v1",
		"provider=gh&repository=o/tree":                                   "/v2/gh/o/tree/HEAD",
		"provider=gl&repository=https://gitlab.com/a/tree/c/-/tree/f/x":   "/v2/gl/a%2Ftree%2Fc/f/x",
		"provider=gh&repository=https://github.com/o/r%3Ftab%3Dx%23use":   "/v2/gh/o/r/HEAD",
		"provider=git&repository=https://example.org/o/r%23readme":        "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/HEAD",
		"repository=https://example.org/o/r/tree/main":                    "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr%2Ftree%2Fmain/HEAD",
	} {
		resp, _ := ask(t, "GET", ts.URL+"/go?"+query, "")
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%s leads to %s, want %s", query, got, want)
		}
		if resp, _ := ask(t, "GET", ts.URL+want, ""); resp.StatusCode != 200 {
			t.Errorf("%s answers %d", want, resp.StatusCode)
		}
	}
}

func TestCrossOriginWritesAreRefused(t *testing.T) {
	h := newHub()
	ts := serve(t, h, func(c *web.Config) { c.Tokens = []web.Token{{Hash: web.HashToken("secret")}} })
	for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		resp, body := ask(t, "POST", ts.URL+"/api/v1/builds", `{}`, append(header, "Authorization", "Bearer secret")...)
		if resp.StatusCode != 403 || !strings.Contains(body, "Another site") {
			t.Errorf("%v: %d %s", header, resp.StatusCode, body)
		}
	}
}

func TestErrorsForProgramsAreData(t *testing.T) {
	ts := serve(t, newHub())
	resp, body := ask(t, "GET", ts.URL+"/nothing", "", "Accept", "application/json")
	var p api.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatal(err)
	}
	want := api.Problem{Title: "Not Found", Status: 404, Kind: bindery.ErrNotFound, Fault: bindery.User, Message: "There is nothing at this address",
		Remedy: "Check the address, or begin at the start page.", RequestID: resp.Header.Get("X-Request-Id")}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
}

func TestWhoAsks(t *testing.T) {
	for _, c := range []struct{ proxies, forwarded, want, ip string }{
		{"", "203.0.113.9", "127.0.0.0/24", "127.0.0.1"},
		{"127.0.0.0/8", "203.0.113.9", "203.0.113.0/24", "203.0.113.9"},
		{"127.0.0.0/8", "6.6.6.6, 203.0.113.9", "203.0.113.0/24", "203.0.113.9"},
		{"127.0.0.0/8", "203.0.113.9, 127.0.0.5", "203.0.113.0/24", "203.0.113.9"},
		{"127.0.0.0/8", "2001:db8:1:2::3", "2001:db8:1::/48", "2001:db8:1:2::3"},
		{"127.0.0.0/8", "nonsense", "127.0.0.0/24", "127.0.0.1"},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			h := newHub()
			ts := serve(t, h, trust(c.proxies))
			s := open(t, ts.URL+specPath, "X-Forwarded-For", c.forwarded, "X-Real-Ip", "9.9.9.9")
			h.finish(h.theBuild(t))
			_, ready := s.rest()
			if got := h.asks[0].Requester; got != c.want || ready["binder_client_ip"] != c.ip {
				t.Errorf("requester %s, IP %v", got, ready["binder_client_ip"])
			}
		})
	}
}

func TestOrigins(t *testing.T) {
	h := newHub()
	ts := serve(t, h, func(c *web.Config) {
		c.SessionURL, c.URL, c.AllowOrigin = "http://:8586", "https://hub.example.org/", "*"
	})
	s := open(t, ts.URL+specPath, "Origin", "https://course.example")
	h.finish(h.theBuild(t))
	_, ready := s.rest()
	if ready["url"] != "http://127.0.0.1:8586/user/s1/" || ready["binder_launch_host"] != "https://hub.example.org/" {
		t.Errorf("got %v", ready)
	}
	if got := s.resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("Access-Control-Allow-Origin: %q", got)
	}
	for allow, versions := range map[string]string{"": "*", "https://course.example": "https://course.example"} {
		ts := serve(t, newHub(), func(c *web.Config) { c.AllowOrigin = allow })
		for path, want := range map[string]string{"/versions": versions, "/": "", "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main": "", "/nothing": "", "/api/repoproviders": allow, "/build/nosuch/x": allow} {
			resp, _ := ask(t, "GET", ts.URL+path, "", "Origin", "https://course.example")
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s, allowed %q: Access-Control-Allow-Origin is %q, want %q", path, allow, got, want)
			}
		}
	}
}

// TestBadgesOfAnotherHost: links in badges, and what sessions are told of where they came from, begin with badge_base_url.
func TestBadgesOfAnotherHost(t *testing.T) {
	ts := serve(t, playing(t), func(c *web.Config) { c.BadgeURL, c.Base = "https://binder.example/x/", "/y" })
	_, page := ask(t, "GET", ts.URL+"/y/", "")
	if !strings.Contains(page, `"badgeBaseUrl":"https://binder.example/x/"`) || !strings.Contains(page, `"hub":"https://binder.example/x"`) {
		t.Errorf("the start page has no links of the other host: %s", page)
	}
	if _, ready := open(t, ts.URL+"/y"+specPath).rest(); ready["binder_launch_host"] != "https://binder.example/x/" {
		t.Errorf("the session is told %v", ready["binder_launch_host"])
	}
}

// TestBaseOfLinks has the hub below a path: its own links are, and those of the operator lead where he wrote.
func TestBaseOfLinks(t *testing.T) {
	const banner = `<a href="/elsewhere">x</a><img src="/logo.png"><a href="//cdn.example/y">y</a><form action="/f"></form>`
	ts := serve(t, newHub(), func(c *web.Config) {
		c.Base, c.Banner, c.About = "/services/binder", banner, template.HTML("<p>ours</p>"+banner)
	})
	for path, n := range map[string]int{"/about": 2, "/": 1, "/v2/git/https%3A%2F%2Fexample.org%2Fo%2Fr/main": 1, "/nothing": 1} {
		_, text := ask(t, "GET", ts.URL+"/services/binder"+path, "", "Accept", "text/html")
		if got := strings.Count(text, banner); got != n {
			t.Errorf("%s has the operator's words %d times, want %d:\n%s", path, got, n, text)
		}
		if strings.Contains(text, "<p>ours</p>") != (n == 2) {
			t.Errorf("%s: %s", path, text)
		}
		for _, m := range regexp.MustCompile(`(?:href|src|action)="(/[^"]*)"`).FindAllStringSubmatch(strings.ReplaceAll(text, banner, ""), -1) {
			if !strings.HasPrefix(m[1], "/services/binder/") || strings.Contains(m[1], "//") {
				t.Errorf("%s leads to %s", path, m[1])
			}
		}
	}
}

// TestSchemeOfAProxy has the hub behind one that speaks https. Nobody else says so.
func TestSchemeOfAProxy(t *testing.T) {
	for trusted, want := range map[string]string{"127.0.0.0/8": "https", "192.0.2.0/24": "http"} {
		ts := serve(t, playing(t), trust(trusted))
		_, ready := open(t, ts.URL+specPath, "X-Forwarded-Proto", "https", "Host", "hub.example").rest()
		if got := ready["binder_launch_host"]; got != want+strings.TrimPrefix(ts.URL, "http")+"/" {
			t.Errorf("the proxies are %s: %v", trusted, got)
		}
	}
}
