package web_test

import (
	"context"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/conformance"
	"github.com/bindery-hub/bindery/web"
)

// A playing hub builds what it is asked for by itself: what fails is named by its ref.
func playing(t *testing.T) *hub {
	h := newHub()
	h.resolve = func(src bindery.Source) error {
		switch {
		case src.Ref == "noref":
			return bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "", "no such ref")
		case strings.HasSuffix(src.URL, "/norepo"):
			return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check it.", "no such repository")
		}
		return nil
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			h.mu.Lock()
			next := h.changed
			var todo []bindery.Build
			for _, b := range h.builds {
				if !b.State.Ended() {
					todo = append(todo, b)
				}
			}
			h.mu.Unlock()
			for _, b := range todo {
				if strings.HasSuffix(b.Source.URL, "/silent") {
					continue
				}
				h.say(b.ID, "Step 1\n")
				if strings.HasSuffix(b.Source.URL, "/failing") {
					h.fail(b.ID, bindery.Errorf(bindery.ErrStep, bindery.User, "Look.", "It failed"))
				} else {
					h.finish(b.ID)
				}
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	return h
}

const limitWindow = 30 * time.Minute

// conform is the configuration that the tables speak of.
func conform(c *web.Config) {
	c.Proxies = []netip.Prefix{netip.MustParsePrefix(conformance.Proxy + "/32")}
	one := 1
	c.Keepalive = 200 * time.Millisecond
	c.ImagePrefix = "r.io/p/bh-"
	c.Rules = web.Rules{
		Requests: 3, Window: limitWindow, Networks: []web.NetworkBan{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Label: "a bad place"}},
		Specs: map[string]web.SpecRules{"git": {
			Banned: []string{"https%3A%2F%2FEXAMPLE.org%2Fo%2Fbanned"},
			Config: []web.SpecConfig{{Pattern: ".*", Quota: nil}, {Pattern: `https%3A%2F%2Fexample\.org%2Fo%2Ffull`, Quota: &one}},
		}},
	}
}

func conforming(url string) conformance.Hub {
	const at = "git/https%3A%2F%2Fexample.org%2Fo%2F"
	return conformance.Hub{
		URL: url, New: at + "new/main", Failing: at + "failing/main", Banned: at + "Banned/main", Silent: at + "silent/main", Keepalive: 200 * time.Millisecond, Full: at + "full/main", FullNew: at + "full/another",
		ImagePrefix: "r.io/p/bh-", Slug: "https://example.org/o/new",
		NoRef: at + "new/noref", NoRepo: at + "norepo/main", RepoURL: "https://example.org/o/new", RefURL: "https://example.org/o/new",
		Limit: 3, Window: limitWindow, BannedFrom: "198.51.100.9", BannedLabel: "a bad place",
	}
}

// full refuses the second session of an ask that has a quota of one, as the queue does.
func (h *hub) withQuota() *hub {
	h.quota = true
	return h
}

func TestConformance(t *testing.T) {
	t.Run("at the root", func(t *testing.T) {
		conformance.Run(t, conforming(serve(t, playing(t).withQuota(), conform).URL))
	})
	t.Run("below a path", func(t *testing.T) {
		ts := serve(t, playing(t).withQuota(), conform, func(c *web.Config) { c.Base, c.Static = "/services/binder/", fstest.MapFS{} })
		conformance.Run(t, conforming(ts.URL+"/services/binder"))
		for path, status := range map[string]int{"/": 404, "/versions": 404, "/services": 404, "/services/binderx/versions": 404, "/services/binder": 200, "/robots.txt": 200, "/favicon.ico": 200} {
			if resp, _ := ask(t, "GET", ts.URL+path, ""); resp.StatusCode != status {
				t.Errorf("%s: %d, want %d", path, resp.StatusCode, status)
			}
		}
		for path, want := range map[string]string{"/v2/git": "/v2/git/", "/v2/git?urlpath=a%2Fb": "/v2/git/?urlpath=a%2Fb", "/build/git": "/build/git/", "/extra_static": "/extra_static/", "/repo/a/b": "/v2/gh/a/b/master"} {
			if resp, _ := ask(t, "GET", ts.URL+"/services/binder"+path, ""); resp.Header.Get("Location") != "/services/binder"+want {
				t.Errorf("%s leads to %d %q, want /services/binder%s", path, resp.StatusCode, resp.Header.Get("Location"), want)
			}
		}
	})
	t.Run("API only", func(t *testing.T) {
		ts := serve(t, playing(t).withQuota(), conform, func(c *web.Config) { c.APIOnly = true })
		hub := conforming(ts.URL)
		hub.APIOnly = true
		conformance.Run(t, hub)
	})
}

// TestSpecRules is the table of what BinderHub's patterns do: from the start of the spec, in any case; a ban wins; where
// anything is allowed the rest is not; of the quotas the last one counts. BinderHub looks at the spec as it was sent: it
// lets through what is spelled otherwise, and gives it another quota.
func TestSpecRules(t *testing.T) {
	quota := func(n int) *int { return &n }
	const id = "8f7c2f0341ef4180b0dbe97f59130756"
	rules := web.Rules{RepoQuota: 10, RepoQuotaHigher: 20, Specs: map[string]web.SpecRules{
		"gh": {
			Banned: []string{"bad/.*", "^worse/", "o/r/evil-branch", "o/r/a/b"}, HighQuota: []string{"jupyterlab/jupyterlab-demo"},
			Config: []web.SpecConfig{{Pattern: "workshop/", Quota: quota(30)}, {Pattern: "workshop/big/", Quota: quota(40)}, {Pattern: "workshop/.*", Quota: nil}, {Pattern: "free/", Quota: quota(0)}, {Pattern: "few/r/", Quota: quota(1)}},
		},
		"gl":         {Allowed: []string{"ours%2F.*"}, Banned: []string{"ours%2Fnot"}},
		"git":        {Banned: []string{"https%3A%2F%2Fevil.org%2Fx/", "https%3A%2F%2Fevil.org%2Fy.git/", "https%3A%2F%2Fgithub.com%2Fo%2Fhidden"}, Config: []web.SpecConfig{{Pattern: ".*few", Quota: quota(5)}, {Pattern: ".*workshop", Quota: quota(3)}}},
		"zenodo":     {Banned: []string{"10.5281/zenodo.1$"}},
		"hydroshare": {Allowed: []string{"good", "https%3A%2F%2Fwww.hydroshare.org%2Fresource%2F8"}},
		"swh":        {Allowed: []string{"swh:1:rev:.*;origin=https:%2F%2Fgood"}},
		"gist":       {Banned: []string{"ann/8a65/HEAD"}},
	}}
	for spec, want := range map[string]int{ // -1: it is not launched
		"gh/o/r/HEAD": 10, "gh/BAD/r/HEAD": -1, "gh/o/bad/HEAD": 10, "gh/worse/r/HEAD": -1, "gh/notworse/r/HEAD": 10,
		"gh/JupyterLab/jupyterlab-demo/HEAD": 20, "gh/jupyterlab/jupyterlab-demo-2/HEAD": 20, "gh/x/jupyterlab/HEAD": 10,
		"gh/workshop/a/HEAD": 30, "gh/workshop/big/HEAD": 40, "gh/free/r/HEAD": 0,
		"gl/ours%2Fr/main": 10, "gl/ours%2Fnot/main": -1, "gl/theirs%2Fr/main": -1, "gl/x%2Fours%2Fr/main": -1, "git/https%3A%2F%2Fexample.org%2Fbad%2Fr/main": 10,
		// Another provider's link, the same repository.
		"git/https%3A%2F%2Fgithub.com%2Fbad%2Fr/main": -1, "git/http%3A%2F%2Fwww.github.com%2FBad%2Fr.git/main": -1, "git/git%40github.com%3Abad%2Fr/main": -1, "git/https%3A%2F%2Fgitlab.com%2Ftheirs%2Fr/main": -1,
		"git/https%3A%2F%2Fgithub.com%2Fo%2Fr/main": 10, "git/https%3A%2F%2Fgitlab.com%2Fours%2Fr/main": 10, "git/https%3A%2F%2Fgithub.com.example%2Fbad%2Fr/main": 10,
		"git/https%3A%2F%2Fgithub.com%3A443%2Fbad%2F%2Fr/main": -1, "git/https%3A%2F%2Fgithub.com.%2F%2562ad%2Fr/main": -1, "gh/o/hidden/main": -1,
		// Another spelling.
		"gh/worse/r.git/HEAD": -1, "gh/o/r/evil%2dbranch": -1, "gh/o/r.git/evil-branch": -1, "gh/o/r/a%2fb": -1, "gl/o%75rs%2Fnot/main": -1, "gl/ours%2Fnot.git/main": -1, "gl/%2Fours%2Fnot/main": -1, "gl/%2Fours%2Fr/main": 10,
		"git/https:%2F%2Fevil.org%2Fx/main": -1, "git/https%3A%2F%2Fevil.org%2Fx.git/main": -1, "git/http%3A%2F%2Fevil.org%2Fx/main": -1, "git/git%40evil.org%3Ax/main": -1, "git/https%3A%2F%2Fevil.org%2Fy/main": -1, "git/https%3A%2F%2Fevil.org%2Fz/main": 10,
		"zenodo/doi:10.5281/zenodo.1": -1, "zenodo/10.5281%2Fzenodo.1": -1, "zenodo/https%3A%2F%2Fdoi.org%2F10.5281%2Fzenodo.1": -1, "zenodo/10.5281/zenodo.12": 10,
		"gist/ann/8a65": -1, "gist/ann/8a65/master": -1, "gist/ann/8a65.git": -1, "git/https%3A%2F%2Fgist.github.com%2Fann%2F8a65/HEAD": -1, "gist/ann/8a66": 10,
		// What a link adds of its own allows nothing.
		"hydroshare/" + id: 10, "hydroshare/good-a" + id[1:]: -1, "swh/swh:1:rev:" + commit + ";origin=https:%2F%2Fgood": -1,
		// One repository has one quota; a link of another provider can only lower it.
		"gh/few/r.git/main": 1, "gh/few/r/main": 1, "git/https%3A%2F%2Fgithub.com%2Ffew%2Fr/main": 1, "git/https%3A%2F%2Fgithub.com%2Fworkshop%2Fr/main": 3, "git/https%3A%2F%2Fgithub.com%2Ffree%2Fr/main": 10,
		"git/https%3A%2F%2Fexample.org%2Ffew/main": 5, "git/https:%2F%2Fexample.org%2F%66ew/main": 5,
	} {
		h := newHub()
		e, _ := open(t, serve(t, h, func(c *web.Config) { c.Rules = rules }).URL+"/build/"+spec).event()
		if want < 0 {
			_, name, _ := strings.Cut(spec, "/")
			if text := "Sorry, " + name + " is not allowed to launch. Please contact admins for more info!"; e["phase"] != "failed" || e["message"] != text || len(h.asks) != 0 {
				t.Errorf("%s: %v, want %q", spec, e, text)
			}
			continue
		}
		h.theBuild(t)
		h.mu.Lock()
		if got := h.asks[0].RepoQuota; got != want {
			t.Errorf("%s has the quota %d, want %d", spec, got, want)
		}
		h.mu.Unlock()
	}
}

// TestNothingStartsAtALook has everything come by that looks at links without wanting them.
func TestNothingStartsAtALook(t *testing.T) {
	h := newHub()
	ts := serve(t, h)
	page, stream := "/v2"+strings.TrimPrefix(specPath, "/build"), specPath
	for _, c := range [][]string{
		{"GET", page}, {"HEAD", page}, {"GET", page, "Sec-Purpose", "prefetch;prerender"}, {"GET", page, "Purpose", "prefetch"},
		{"GET", page, "User-Agent", "LinkCheck/1.0"}, {"GET", "/go?repository=https://example.org/o/r"}, {"HEAD", "/badge_logo.svg"},
		{"HEAD", stream, "Accept", "text/event-stream"}, {"OPTIONS", stream}, {"GET", stream}, {"GET", stream, "Accept", "text/html"},
		{"GET", stream, "Accept", "*/*", "User-Agent", "curl/8"}, {"POST", stream, "Accept", "text/event-stream"},
		{"GET", stream, "Accept", "text/event-stream", "Sec-Purpose", "prefetch"},
	} {
		ask(t, c[0], ts.URL+c[1], "", c[2:]...)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.asks) != 0 || h.launched != 0 {
		t.Errorf("%d builds were asked for, %d sessions", len(h.asks), h.launched)
	}
}

// TestClassIsJudgedByEvidence looks at what a build is asked for as.
func TestClassIsJudgedByEvidence(t *testing.T) {
	for name, c := range map[string]struct {
		header []string
		token  bool
		want   bindery.Class
	}{
		"nothing":                {nil, false, bindery.Unattended},
		"curl":                   {[]string{"User-Agent", "curl/8.5"}, false, bindery.Unattended},
		"a browser elsewhere":    {[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "User-Agent", "Mozilla/5.0"}, false, bindery.Attended},
		"our page":               {[]string{"User-Agent", "Mozilla/5.0"}, true, bindery.Attended},
		"a bot in a browser":     {[]string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "cors", "User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1)"}, false, bindery.Unattended},
		"a bot with our token":   {[]string{"User-Agent", "FancyCrawler"}, true, bindery.Unattended},
		"a CUBOT phone":          {[]string{"User-Agent", "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36"}, true, bindery.Attended},
		"another, built":         {[]string{"User-Agent", "Mozilla/5.0 (Linux; Android 9; CUBOT_X19 Build/PPR1) Mobile", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, false, bindery.Attended},
		"a bot on a CUBOT phone": {[]string{"User-Agent", "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) (compatible; Googlebot/2.1)"}, true, bindery.Unattended},
		"a bot of that ending":   {[]string{"User-Agent", "Acubot/1.0"}, true, bindery.Unattended},
		"a bot, then a space":    {[]string{"User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)"}, true, bindery.Unattended},
		"bindery launch":         {[]string{"User-Agent", "bindery-launch/1.0"}, false, bindery.Attended},
		"headers of half a kind": {[]string{"Sec-Fetch-Site", "none"}, false, bindery.Unattended},
	} {
		h := newHub()
		ts := serve(t, h)
		at := ts.URL + specPath
		if c.token {
			at = streamOfPage(t, ts.URL)
		}
		open(t, at, c.header...)
		h.theBuild(t)
		h.mu.Lock()
		got := h.asks[0]
		h.mu.Unlock()
		if got.Class != c.want || got.Evidence == "" {
			t.Errorf("%s: %s for %q, want %s", name, got.Class, got.Evidence, c.want)
		}
	}
	// Another list takes the place of the one built in.
	h := newHub()
	ts := serve(t, h, func(c *web.Config) { c.Agents = "# ours\nbot curl\nwhatever this is\nclient mytool\n" })
	open(t, ts.URL+specPath, "User-Agent", "MyTool/2")
	h.theBuild(t)
	if h.asks[0].Class != bindery.Attended {
		t.Errorf("a client of our own list: %v", h.asks[0])
	}
}

// TestForwardedAddresses has strangers and proxies say who asks.
func TestForwardedAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		trusted string
		header  []string
		want    string
	}{
		"a stranger":              {"192.0.2.0/24", []string{"X-Forwarded-For", "203.0.113.1"}, "127.0.0.1"},
		"a stranger, other names": {"192.0.2.0/24", []string{"X-Real-Ip", "203.0.113.1", "Forwarded", "for=203.0.113.1", "X-Client-Ip", "203.0.113.1"}, "127.0.0.1"},
		"a proxy":                 {"127.0.0.0/8", []string{"X-Forwarded-For", "203.0.113.1"}, "203.0.113.1"},
		"a proxy, a lie before":   {"127.0.0.0/8", []string{"X-Forwarded-For", "1.1.1.1, 203.0.113.1"}, "203.0.113.1"},
		"two proxies":             {"127.0.0.0/8", []string{"X-Forwarded-For", "203.0.113.1, 127.0.0.9"}, "203.0.113.1"},
		"a proxy, rubbish":        {"127.0.0.0/8", []string{"X-Forwarded-For", "<script>"}, "127.0.0.1"},
		"a proxy, a port":         {"127.0.0.0/8", []string{"X-Forwarded-For", "203.0.113.1:54321"}, "203.0.113.1"},
		"a proxy, IPv6 and port":  {"127.0.0.0/8", []string{"X-Forwarded-For", "[2001:db8::1]:443"}, "2001:db8::1"},
		"a proxy, IPv6 in []":     {"127.0.0.0/8", []string{"X-Forwarded-For", "[2001:db8::1]"}, "2001:db8::1"},
		"a proxy, a zone":         {"127.0.0.0/8", []string{"X-Forwarded-For", "fe80::1%eth7"}, "fe80::1"},
		"a proxy after a port":    {"127.0.0.0/8", []string{"X-Forwarded-For", "203.0.113.1, 127.0.0.9:80"}, "203.0.113.1"},
		"a proxy, IPv6":           {"127.0.0.0/8", []string{"X-Forwarded-For", "2001:db8::1"}, "2001:db8::1"},
		"a proxy, mapped":         {"127.0.0.0/8", []string{"X-Forwarded-For", "::ffff:203.0.113.1"}, "203.0.113.1"},
		"a proxy, only lies":      {"127.0.0.0/8", []string{"X-Real-Ip", "203.0.113.1"}, "127.0.0.1"},
	} {
		h := playing(t)
		ts := serve(t, h, func(c2 *web.Config) { c2.Proxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)} })
		if _, ready := open(t, ts.URL+specPath, c.header...).rest(); ready["binder_client_ip"] != c.want {
			t.Errorf("%s: %v, want %s", name, ready["binder_client_ip"], c.want)
		}
	}
}

// TestWhoIsCounted has a program ask once more than the limit allows. Every request is refused, by the limit or, being
// for something banned, by what is asked after it.
func TestWhoIsCounted(t *testing.T) {
	for name, c := range map[string]struct {
		trusted string
		header  []string
		counted bool
	}{
		"this machine":                  {"192.0.2.0/24", nil, false},
		"a proxy of this machine":       {"127.0.0.0/8", nil, true},
		"who comes by it":               {"127.0.0.0/8", []string{"X-Forwarded-For", "203.0.113.1"}, true},
		"who comes by it, with a port":  {"127.0.0.0/8", []string{"X-Forwarded-For", "203.0.113.1:54321"}, true},
		"who comes by it, nobody knows": {"127.0.0.0/8", []string{"X-Forwarded-For", "unknown"}, true},
		"who comes by it, by his word":  {"127.0.0.0/8", []string{"X-Forwarded-For", "127.0.0.1"}, true},
		"a token that may read":         {"127.0.0.0/8", []string{"Authorization", "Bearer reader"}, true},
		"a token that may launch":       {"127.0.0.0/8", []string{"Authorization", "Bearer launcher"}, false},
		"a token that may do all":       {"127.0.0.0/8", []string{"Authorization", "Bearer boss"}, false},
	} {
		ts := serve(t, newHub(), conform, trust(c.trusted), func(c2 *web.Config) {
			for _, tk := range []web.Token{{Name: "reader", Scope: "read"}, {Name: "launcher", Scope: "launch"}, {Name: "boss", Scope: "admin"}} {
				tk.Hash = web.HashToken(tk.Name)
				c2.Tokens = append(c2.Tokens, tk)
			}
		})
		var last map[string]any
		for range 4 {
			last, _ = open(t, ts.URL+"/build/"+bannedSpec, c.header...).event()
		}
		if (last["status_code"] == 429.0) != c.counted {
			t.Errorf("%s: %v", name, last)
		}
	}
}

const bannedSpec = "git/https%3A%2F%2Fexample.org%2Fo%2Fbanned/main"

// TestPagesAreCounted has programs load a page before each launch, and people use pages in the ways that they do.
func TestPagesAreCounted(t *testing.T) {
	var late atomic.Int64
	ts := serve(t, newHub(), conform, trust("127.0.0.0/8"), func(c *web.Config) {
		c.Now = func() time.Time { return now.Add(time.Duration(late.Load())) }
	})
	from := func(ip string) []string {
		return []string{"X-Forwarded-For", ip, "Origin", "https://evil.example", "User-Agent", "python-requests"}
	}
	page := func(ip string) string {
		_, text := ask(t, "GET", ts.URL+"/v2/"+bannedSpec, "", from(ip)...)
		m := regexp.MustCompile(`"buildToken":"([^"]+)"`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no token in %s", text)
		}
		return m[1]
	}
	passed := func(token, ip, more string) bool {
		e, _ := open(t, ts.URL+"/build/"+bannedSpec+"?build_token="+token+more, from(ip)...).event()
		if e["status_code"] != nil && e["status_code"] != 429.0 {
			t.Fatalf("refused: %v", e)
		}
		return e["status_code"] == nil
	}
	count := func(what string, most, want int, launch func(i int) bool) {
		t.Helper()
		n := 0
		for i := range most {
			if launch(i) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d of %d pass, want %d", what, n, most, want)
		}
	}
	one := page("203.0.113.1")
	count("one launch that comes back", 200, 200, func(int) bool { return passed(one, "203.0.113.1", "") })
	count("pages carried elsewhere", 10, 3, func(int) bool { return passed(page("203.0.113.1"), "198.18.0.1", "") })
	count("a phone that has another address now", 10, 10, func(int) bool { return passed(one, "198.18.1.1", "") })
	count("a class, from the addresses of its school", 60, 60, func(i int) bool {
		ip := "198.18.2." + strconv.Itoa(i)
		return passed(page(ip), ip, "")
	})
	count("a program that loads pages", 150, 90+3, func(int) bool { return passed(page("198.18.3.1"), "198.18.3.1", "") })
	hoard := make([]string, 10)
	for i := range hoard {
		hoard[i] = page("198.18.4.1")
	}
	late.Store(int64(11 * time.Minute))
	count("pages that were kept", len(hoard), 3, func(i int) bool { return passed(hoard[i], "198.18.4.1", "") })
	count("who comes back late", len(hoard), 10, func(i int) bool { return passed(hoard[i], "198.18.4.1", "&after=b-1.7") })
}

// TestComingBackIsNotCharged has one launch break and come back more often than the limit allows.
func TestComingBackIsNotCharged(t *testing.T) {
	h := newHub()
	ts := serve(t, h, conform, trust("127.0.0.0/8"))
	at := ts.URL + specPath + "?request=" + strings.Repeat("r", 22)
	from := []string{"X-Forwarded-For", "203.0.113.5"}
	for i := range 10 {
		s := open(t, at, from...)
		if e, _ := s.event(); e["phase"] != "waiting" || s.resp.Header.Get("X-Ratelimit-Remaining") != "2" {
			t.Fatalf("connection %d: %v, %s left", i+1, e, s.resp.Header.Get("X-Ratelimit-Remaining"))
		}
		s.resp.Body.Close()
	}
	for i := range 3 { // another id is another launch
		s := open(t, ts.URL+specPath+"?request="+strings.Repeat("s", 22+i), from...)
		if e, _ := s.event(); (e["phase"] == "failed") != (i == 2) {
			t.Errorf("launch %d: %v", i+2, e)
		}
	}
}
