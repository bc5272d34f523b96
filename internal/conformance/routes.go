package conformance

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// routes is the table of what is there in every mode.
func (h Hub) routes(t *testing.T) {
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		mime         string
		want         map[string]string // headers
	}{
		{"GET", "/versions", nil, 200, "application/json", map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "cache-control"}},
		{"GET", "/health", nil, 200, "application/json", map[string]string{"Access-Control-Allow-Headers": "cache-control"}},
		{"HEAD", "/health", nil, 200, "application/json", nil},
		{"GET", "/api/repoproviders", nil, 200, "application/json", nil},
		{"GET", "/_config", nil, 200, "application/json", nil},
		{"OPTIONS", "/versions", nil, 200, "", nil},
		{"OPTIONS", "/health", nil, 200, "", nil},
		{"OPTIONS", "/api/repoproviders", nil, 200, "", nil},
		{"GET", "/static/logo.svg", nil, 200, "image/svg+xml", nil},
		{"GET", "/static/favicon.ico", nil, 200, "image/", nil},
		{"OPTIONS", "/build/git/x/y", []string{"Origin", "https://elsewhere.example"}, 200, "", nil},
		{"GET", "/build/git/x/y", []string{"Accept", "text/event-stream"}, 200, "text/event-stream",
			map[string]string{"Cache-Control": "no-cache", "Access-Control-Allow-Headers": "cache-control"}},
		{"GET", "/build/git/x/y", nil, 200, "text/event-stream", map[string]string{"Cache-Control": "no-cache"}},
		// BinderHub answers these with 200 and a failed event: nothing is started, which is what counts.
		{"HEAD", "/build/" + h.New, []string{"Accept", "text/event-stream"}, 405, "", nil},
		{"POST", "/build/" + h.New, []string{"Accept", "text/event-stream"}, 405, "", nil},
	} {
		a := h.ask(t, c.method, c.path, c.header...)
		if a.status != c.status || (c.mime != "" && !strings.HasPrefix(a.header.Get("Content-Type"), c.mime)) {
			t.Errorf("%s %s: %d %s; want %d %s", c.method, c.path, a.status, a.header.Get("Content-Type"), c.status, c.mime)
		}
		for k, want := range c.want {
			if got := a.header.Get(k); got != want {
				t.Errorf("%s %s: %s is %q, want %q", c.method, c.path, k, got, want)
			}
		}
		if c.method == "OPTIONS" && a.body != "" {
			t.Errorf("%s %s has a body: %q", c.method, c.path, a.body)
		}
	}
	for _, path := range []string{"/versions", "/api/repoproviders", "/_config"} {
		tag := h.ask(t, "GET", path).header.Get("Etag")
		if a := h.ask(t, "GET", path, "If-None-Match", tag); tag == "" || a.status != http.StatusNotModified || a.body != "" {
			t.Errorf("GET %s with its ETag %s: %d", path, tag, a.status)
		}
	}
	h.versions(t)
	h.health(t)
	h.providers(t)
}

func (h Hub) versions(t *testing.T) {
	var v struct {
		Info    map[string]string `json:"builder_info"`
		Hub     string            `json:"binderhub"`
		Builder string            `json:"builder"`
	}
	first := h.ask(t, "GET", "/versions").body
	if err := json.Unmarshal([]byte(first), &v); err != nil || v.Hub == "" || v.Info["build_image"] == "" || v.Builder != v.Info["build_image"] {
		t.Errorf("/versions: %s: %v", first, err)
	}
	if again := h.ask(t, "GET", "/versions").body; again != first {
		t.Errorf("/versions is not the same twice: a federation would take the hub out of its rotation")
	}
}

// metrics wants the series that BinderHub's dashboards ask for.
func (h Hub) metrics(t *testing.T) {
	if !h.Metrics {
		t.Skip("it has none")
	}
	a := h.ask(t, "GET", "/metrics")
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("/metrics: %d %s", a.status, a.header.Get("Content-Type"))
	}
	for _, name := range []string{"build_time_seconds", "launch_time_seconds", "build_count_total", "launch_count_total", "inprogress_builds", "inprogress_launches", "github_rate_limit_remaining"} {
		if !strings.Contains(a.body, "# TYPE binderhub_"+name+" ") {
			t.Errorf("/metrics has no binderhub_%s", name)
		}
	}
}

// health wants what routers and probes read: boolean ok, a service in each check, and the check "Pod quota".
func (h Hub) health(t *testing.T) {
	var v struct {
		OK     *bool
		Checks []struct {
			Service string
			OK      *bool
			Ignore  bool `json:"_ignore_failure"`
			Total   *int `json:"total_pods"`
			Builds  *int `json:"build_pods"`
			Users   *int `json:"user_pods"`
		}
	}
	text := h.ask(t, "GET", "/health").body
	if err := json.Unmarshal([]byte(text), &v); err != nil || v.OK == nil {
		t.Fatalf("/health: %s: %v", text, err)
	}
	found, all := map[string]bool{}, true
	for _, c := range v.Checks {
		found[c.Service] = true
		if c.OK == nil || c.Service == "" {
			t.Fatalf("/health: a check without name or result: %s", text)
		}
		all = all && (*c.OK || c.Ignore)
		if c.Service == "Pod quota" && (c.Total == nil || c.Builds == nil || c.Users == nil || *c.Total != *c.Builds+*c.Users || !strings.Contains(text, `"quota":`)) {
			t.Errorf("/health: the quota does not add up: %s", text)
		}
	}
	if *v.OK != all || !found["Pod quota"] || !found["JupyterHub API"] {
		t.Errorf("/health: %s", text)
	}
}

func (h Hub) providers(t *testing.T) {
	var list []struct {
		Name string `json:"displayName"`
		ID   string `json:"id"`
		Spec struct {
			Regex string `json:"validateRegex"`
		}
		Repo *struct {
			Label     *string
			URLEncode *bool `json:"urlEncode"`
		}
		Ref *struct {
			Enabled *bool
			Default string
		}
	}
	text := h.ask(t, "GET", "/api/repoproviders").body
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		t.Fatalf("/api/repoproviders: %s: %v", text, err)
	}
	for _, p := range list {
		if p.Name == "" || p.ID == "" || p.Spec.Regex == "" || p.Repo == nil || p.Repo.Label == nil || p.Repo.URLEncode == nil || p.Ref == nil || p.Ref.Enabled == nil ||
			(*p.Ref.Enabled && p.Ref.Default != "HEAD") {
			t.Errorf("/api/repoproviders: %q is not whole: %s", p.ID, text)
		}
	}
	var old map[string]map[string]any
	if err := json.Unmarshal([]byte(h.ask(t, "GET", "/_config").body), &old); err != nil || len(old) != len(list) {
		t.Errorf("/_config: %v: %v", old, err)
	}
	for id, p := range old {
		for _, key := range []string{"text", "tag_text", "ref_prop_disabled", "label_prop_disabled"} {
			if _, ok := p[key]; !ok {
				t.Errorf("/_config: %s has no %s", id, key)
			}
		}
	}
}

// notAllowed is the table of methods.
func (h Hub) notAllowed(t *testing.T) {
	for _, path := range []string{"/versions", "/health", "/api/repoproviders"} {
		for _, method := range []string{"POST", "PUT", "DELETE"} {
			if a := h.ask(t, method, path); a.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

// pages are what an API-only hub has not. A page that is not there is a 404 here; BinderHub answers with its one page.
func (h Hub) pages(t *testing.T) {
	for _, c := range []struct {
		path   string
		status int
		mime   string
	}{
		{"/", 200, "text/html"}, {"/about", 200, "text/html"}, {"/v2/" + h.New, 200, "text/html"},
		{"/v2/" + h.New + "?urlpath=lab", 200, "text/html"}, {"/v2/" + h.New + "?filepath=a.ipynb", 200, "text/html"}, {"/v2/" + h.New + "?labpath=a.ipynb", 200, "text/html"},
		{"/badge.svg", 200, "image/svg+xml"}, {"/badge_logo.svg", 200, "image/svg+xml"}, {"/assets/images/badge.svg", 200, "image/svg+xml"},
		{"/logo_social.png", 200, "image/png"}, {"/static/images/badge.svg", 200, "image/svg+xml"}, {"/static/images/logo_social.png", 200, "image/png"},
		{"/static/images/logo_square.png", 200, "image/png"},
		// BinderHub has these routes and lost the files.
		{"/favicon_building.ico", 200, "image/x-icon"}, {"/favicon_success.ico", 200, "image/x-icon"}, {"/favicon_fail.ico", 200, "image/x-icon"},
		{"/favicon.ico", 200, "image/"}, {"/no/such/page", 404, "text/html"}, {"/v2/nosuchprovider/x/y/z", 404, "text/html"},
	} {
		a := h.ask(t, "GET", c.path, "Accept", "text/html")
		if a.status != c.status || !strings.HasPrefix(a.header.Get("Content-Type"), c.mime) {
			t.Errorf("GET %s: %d %s; want %d %s", c.path, a.status, a.header.Get("Content-Type"), c.status, c.mime)
		}
		if a := h.ask(t, "OPTIONS", c.path); c.status == 200 && (a.status != 200 || a.body != "") {
			t.Errorf("OPTIONS %s: %d %q", c.path, a.status, a.body)
		}
		if strings.HasPrefix(c.mime, "image/svg") {
			tag := a.header.Get("Etag")
			if b := h.ask(t, "GET", c.path, "If-None-Match", tag); tag == "" || b.status != http.StatusNotModified {
				t.Errorf("GET %s with its ETag %s: %d", c.path, tag, b.status)
			}
			if b := h.ask(t, "GET", c.path, "Range", "bytes=0-9"); b.status != http.StatusPartialContent || len(b.body) != 10 {
				t.Errorf("GET %s, ten bytes: %d, %d bytes", c.path, b.status, len(b.body))
			}
			if b := h.ask(t, "HEAD", c.path); b.status != 200 || b.body != "" {
				t.Errorf("HEAD %s: %d", c.path, b.status)
			}
		}
	}
}

var configRE = regexp.MustCompile(`(?s)<head>.*?<script[^>]*>\s*window\.pageConfig = (\{.*?\});?\s*</script>`)

// pageConfig is the first script in the head of every page, which programs read: a launch page's has a build token.
func (h Hub) pageConfig(t *testing.T) {
	for path, launches := range map[string]bool{"/": false, "/about": false, "/v2/" + h.New: true} {
		page := h.ask(t, "GET", path, "Accept", "text/html").body
		m := configRE.FindStringSubmatch(page)
		for _, social := range []string{`<meta property="og:title" content="`, `<meta property="og:image" content="` + h.URL + `/`, `<meta name="twitter:card" content="summary_large_image">`} {
			if !strings.Contains(page, social) {
				t.Errorf("GET %s has no %s", path, social)
			}
		}
		if m == nil || strings.Index(page, "<script") != strings.Index(page, "<script>window.pageConfig") || !strings.Contains(page, `<div id="root"></div>`) {
			t.Errorf("GET %s has no pageConfig in its first script, or no root", path)
			continue
		}
		var c struct {
			BaseURL, BadgeBaseURL, LogoURL, LogoWidth, BinderVersion, BuildToken string
			AboutMessage, BannerHTML                                             *string
			RepoProviders                                                        []map[string]any
		}
		if err := json.Unmarshal([]byte(m[1]), &c); err != nil || c.BaseURL != h.base()+"/" || c.BadgeBaseURL != h.URL+"/" || c.LogoURL == "" || c.LogoWidth == "" ||
			c.BinderVersion == "" || c.AboutMessage == nil || c.BannerHTML == nil || len(c.RepoProviders) == 0 || (strings.Count(c.BuildToken, ".") == 2) != launches {
			t.Errorf("GET %s: %s: %v", path, m[1], err)
		}
	}
}

func (h Hub) oldLinks(t *testing.T) {
	base := h.base()
	for path, want := range map[string]string{
		"/repo/binderhub-ci-repos/requirements":                       base + "/v2/gh/binderhub-ci-repos/requirements/master",
		"/repo/binderhub-ci-repos/requirements/":                      base + "/v2/gh/binderhub-ci-repos/requirements/master",
		"/repo/binderhub-ci-repos/requirements/notebooks/index.ipynb": base + "/v2/gh/binderhub-ci-repos/requirements/master?urlpath=%2Fnotebooks%2Findex.ipynb",
	} {
		a := h.ask(t, "GET", path)
		got := strings.TrimPrefix(a.header.Get("Location"), strings.TrimSuffix(h.URL, base))
		if a.status != http.StatusFound || got != want {
			t.Errorf("GET %s: %d to %s; want %s", path, a.status, got, want)
		}
	}
}

// base is the path that the hub is below.
func (h Hub) base() string {
	_, rest, _ := strings.Cut(h.URL, "://")
	_, path, ok := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return "/" + path
}

func (h Hub) apiOnly(t *testing.T) {
	for _, path := range []string{"/", "/about", "/v2/" + h.New, "/repo/a/b", "/badge.svg", "/assets/images/badge.svg"} {
		if a := h.ask(t, "GET", path); a.status != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, a.status)
		}
	}
	s := h.stream(t, h.New+"?build_only=true")
	if s.phases() != "waiting building ready" {
		t.Errorf("build only, new: %s", s.phases())
	}
	for _, again := range []string{"?build_only=true", "?build_only=True"} {
		s = h.stream(t, h.New+again)
		if e := s.last(); s.phases() != "ready" || e.text("imageName") == "" || e["url"] != nil || e["token"] != nil {
			t.Errorf("build only, cached: %v", s.events)
		}
	}
	if s = h.stream(t, h.New); s.phases() != "built launching ready" {
		t.Errorf("with a launch: %s", s.phases())
	}
}
