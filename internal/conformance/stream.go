package conformance

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// admission is the table of requests that are refused, in the order of BinderHub's checks.
func (h Hub) admission(t *testing.T) {
	const noAccept, badToken = "Missing Accept header: text/event-stream\n", "Invalid build token\n"
	for _, c := range []struct {
		name, spec string
		header     []string
		message    string // a pattern when it begins with ^
		status     float64
	}{
		{"no Accept", h.New, []string{"Accept", ""}, noAccept, 400},
		{"another Accept", h.New, []string{"Accept", "application/json"}, noAccept, 400},
		{"Accept before the token", h.New + "?build_token=x", []string{"Accept", "*/*"}, noAccept, 400},
		{"a token that is none", h.New + "?build_token=x", nil, badToken, 403},
		{"the token before the provider", "nosuch/x/y?build_token=x", nil, badToken, 403},
		{"an unknown provider", "nosuch/x/y", nil, "No provider found for prefix nosuch\n", 0},
		{"a spec that is none", "git/x", nil, "^.+\n$", 0},
		{"a banned spec", h.Banned, nil, "^Sorry, .* is not allowed to launch\\. Please contact admins for more info!$", 0},
		{"an unknown ref", h.NoRef, nil, "^Could not resolve ref for " + regexp.QuoteMeta(colon(h.NoRef)) + "\\. Double check your URL and that your repo is public\\..*\n$", 0},
		{"an unknown repository", h.NoRepo, nil, "^(Error resolving|Could not resolve) ref for " + regexp.QuoteMeta(colon(h.NoRepo)), 0},
		{"build only", h.New + "?build_only=true", nil, "^Building but not launching is not permitted when", 400},
		{"build only, in capitals", h.New + "?build_only=TRUE", nil, "^Building but not launching is not permitted when", 400},
	} {
		if c.spec == "" {
			continue
		}
		s := h.stream(t, c.spec, c.header...)
		e := s.last()
		right := e.text("message") == c.message
		if strings.HasPrefix(c.message, "^") {
			right = regexp.MustCompile("(?s)" + c.message).MatchString(e.text("message"))
		}
		code, _ := e["status_code"].(float64)
		if s.status != 200 || s.header.Get("Content-Type") != "text/event-stream" || len(s.events) != 1 || e.text("phase") != "failed" || !right || code != c.status {
			t.Errorf("%s: status %d, %v; want %q, %v", c.name, s.status, s.events, c.message, c.status)
		}
	}
}

func colon(spec string) string { return strings.Replace(spec, "/", ":", 1) }

var tokenRE = regexp.MustCompile(`build_token=([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)`)

// tokenOf loads the launch page and takes the token out of it, as its script would.
func (h Hub) tokenOf(t testing.TB, spec string, header ...string) string {
	t.Helper()
	page := h.ask(t, "GET", "/v2/"+spec, header...)
	m := tokenRE.FindStringSubmatch(strings.ReplaceAll(page.body, `\u003d`, "="))
	if m == nil {
		t.Fatalf("the launch page has no build token: %d %s", page.status, page.body)
	}
	return m[1]
}

func (h Hub) tokens(t *testing.T) {
	host := strings.TrimSuffix(strings.SplitN(h.URL, "://", 2)[1], h.base())
	for _, c := range []struct {
		header []string
		origin string
	}{{nil, host}, {[]string{"Origin", "https://public.example:8443"}, "public.example:8443"}} {
		token := h.tokenOf(t, h.New, c.header...)
		raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(raw, &claims); err != nil {
			t.Fatal(err)
		}
		exp, _ := claims["exp"].(float64)
		if left := time.Until(time.Unix(int64(exp), 0)); left <= 0 || left > 24*time.Hour {
			t.Errorf("the token is good for %v", left)
		}
		if claims["aud"] != h.New || claims["origin"] != c.origin {
			t.Errorf("claims %v; want the audience %q, the origin %q", claims, h.New, c.origin)
		}
		refused := func(what, spec string, header ...string) {
			t.Helper()
			if e := h.stream(t, spec, header...).last(); e.text("message") != "Invalid build token\n" {
				t.Errorf("%s: %v", what, e)
			}
		}
		refused("another spec", h.Failing+"x?build_token="+token, c.header...)
		refused("a slash more", h.New+"/?build_token="+token, c.header...)
		refused("another origin", h.New+"?build_token="+token, "Origin", "https://evil.example")
		parts := strings.Split(token, ".")
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
		refused("no signature", h.New+"?build_token="+none+"."+parts[1]+".", c.header...)
		refused("another signature", h.New+"?build_token="+parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2])), c.header...)
	}
}

// readyFields are all that a ready event has.
var readyFields = []string{
	"binder_client_ip", "binder_launch_host", "binder_persistent_request", "binder_ref_url", "binder_request", "image", "message", "phase", "repo_url", "token", "url",
}

func (h Hub) newThenCached(t *testing.T) {
	s := h.stream(t, h.New+"?build_token="+h.tokenOf(t, h.New))
	if s.phases() != "waiting building built launching ready" || !s.open {
		t.Errorf("new: %s; open: %v; %v", s.phases(), s.open, s.last())
	}
	h.isReady(t, s)
	cached := h.stream(t, h.New)
	if cached.phases() != "built launching ready" {
		t.Errorf("cached: %s", cached.phases())
	}
	h.isReady(t, cached)
	if s.last().text("url") == cached.last().text("url") || s.last().text("token") == cached.last().text("token") {
		t.Error("two launches have one session")
	}
	for i, text := range []string{"Built image, launching...\n", "Found built image, launching...\n"} {
		got := event{}
		for _, e := range []story{s, cached}[i].events {
			if e.text("phase") == "built" {
				got = e
			}
		}
		want := h.imageName(s.last().text("binder_persistent_request"))
		if got.text("message") != text || got.text("imageName") != want || s.last().text("image") != want {
			t.Errorf("built: %v; want the image %s", got, want)
		}
	}
	// How the server starts is told in words beside BinderHub's own.
	other := slices.ContainsFunc(cached.events, func(e event) bool {
		m := e.text("message")
		return e.text("phase") == "launching" && !strings.HasPrefix(m, "Launching server...") && !strings.HasPrefix(m, "Launch attempt ")
	})
	if !other {
		t.Errorf("nothing is told of how the server starts: %v", cached.events)
	}
}

// imageName is the name of New's image, given the persistent request, which ends with the commit.
func (h Hub) imageName(persistent string) string {
	var safe strings.Builder
	for _, b := range []byte(h.Slug) {
		if ('0' <= b && b <= '9') || ('a' <= b && b <= 'z') || ('A' <= b && b <= 'Z') {
			safe.WriteByte(b)
		} else {
			fmt.Fprintf(&safe, "-%02x", b)
		}
	}
	name := safe.String()
	name = name[:min(len(name), 255-len(h.ImagePrefix)-7)] + "-" + fmt.Sprintf("%x", sha256.Sum256([]byte(h.Slug)))[:6]
	return strings.ToLower(strings.ReplaceAll(h.ImagePrefix+name+":"+persistent[strings.LastIndex(persistent, "/")+1:], "_", "-"))
}

func (h Hub) isReady(t *testing.T, s story) {
	t.Helper()
	e := s.last()
	var have []string
	for k := range e {
		have = append(have, k)
	}
	slices.Sort(have)
	if !slices.Equal(have, readyFields) {
		t.Errorf("a ready event has %v", have)
	}
	at, err := url.Parse(e.text("url"))
	if err != nil || !strings.HasPrefix(at.Scheme, "http") || at.Host == "" || !strings.HasSuffix(at.Path, "/") {
		t.Errorf("url %q", e.text("url"))
	}
	persistent := regexp.MustCompile(`^v2/.*[0-9a-f]{40}$`)
	for field, ok := range map[string]bool{
		"message": e.text("message") == "server running at "+e.text("url")+"\n", "token": len(e.text("token")) >= 8,
		"repo_url": e.text("repo_url") == h.RepoURL, "binder_ref_url": e.text("binder_ref_url") == h.RefURL,
		"binder_launch_host": e.text("binder_launch_host") == h.URL+"/", "binder_request": e.text("binder_request") == "v2/"+h.New,
		"binder_persistent_request": persistent.MatchString(e.text("binder_persistent_request")), "image": e.text("image") != "", "binder_client_ip": e.text("binder_client_ip") != "",
	} {
		if !ok {
			t.Errorf("%s is %q", field, e.text(field))
		}
	}
}

// failing wants one failed event, with a message, at the end. BinderHub sends several, the first without one, and leaves
// the stream open for ever.
func (h Hub) failing(t *testing.T) {
	s := h.stream(t, h.Failing)
	if s.phases() != "waiting building failed" || s.last().text("message") == "" {
		t.Errorf("%s: %v", s.phases(), s.last())
	}
	if again := h.stream(t, h.Failing); again.last().text("phase") != "failed" || again.last().text("message") == "" {
		t.Errorf("again: %s: %v", again.phases(), again.last())
	}
}

// silent wants comments while there is nothing to say, in their time: proxies cut streams that are dead for a minute.
func (h Hub) silent(t *testing.T) {
	if h.Silent == "" {
		t.Skip("no build is silent")
	}
	resp := h.open(t, "GET", "/build/"+h.Silent, "Accept", "text/event-stream")
	defer resp.Body.Close()
	late := time.AfterFunc(20*h.Keepalive+time.Minute, func() { _ = resp.Body.Close() })
	defer late.Stop()
	var last time.Time
	for in, n := bufio.NewReader(resp.Body), 0; n < 3; {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d comments: %v", n, err)
		}
		switch now := time.Now(); {
		case line == ":keepalive\n":
			if gap := now.Sub(last); n > 0 && gap < h.Keepalive*4/5 {
				t.Errorf("a comment comes %v after the last line", gap)
			}
			n, last = n+1, now
			if blank, err := in.ReadString('\n'); err != nil || blank != "\n" {
				t.Errorf("a comment is followed by %q", blank)
			}
		case strings.HasPrefix(line, ":"):
			t.Errorf("a comment that is not BinderHub's: %q", line)
		}
	}
}

func (h Hub) overQuota(t *testing.T) {
	if h.Full == "" {
		t.Skip("no spec with a quota was given")
	}
	if s := h.stream(t, h.Full); s.last().text("phase") != "ready" {
		t.Fatalf("the first: %v", s.last())
	}
	s := h.stream(t, h.Full)
	e := s.last()
	if _, coded := e["status_code"]; s.phases() != "built failed" || coded || !regexp.MustCompile(`^Too many users running .*! Try again soon\.\n$`).MatchString(e.text("message")) {
		t.Errorf("the second: %s: %v", s.phases(), e)
	}
	if h.FullNew == "" {
		return
	}
	s = h.stream(t, h.FullNew) // for which nothing is built now
	if e := s.last(); s.phases() != "failed" || e["status_code"] != nil || !strings.HasPrefix(e.text("message"), "Too many users running ") {
		t.Errorf("another commit, not built: %s: %v", s.phases(), e)
	}
}

func (h Hub) rateLimit(t *testing.T) {
	if h.Limit == 0 {
		t.Skip("the hub has no limit")
	}
	const from = "203.0.113.77"
	for i := range h.Limit {
		s := h.stream(t, "nosuch/x/y", "X-Forwarded-For", from) // every request counts that gets so far
		if got := s.header.Get("X-Ratelimit-Remaining"); got != strconv.Itoa(h.Limit-1-i) || s.header.Get("X-Ratelimit-Limit") != strconv.Itoa(h.Limit) {
			t.Fatalf("request %d: %s left of %s", i+1, got, s.header.Get("X-Ratelimit-Limit"))
		}
		reset, err := strconv.ParseInt(s.header.Get("X-Ratelimit-Reset"), 10, 64)
		if left := time.Until(time.Unix(reset, 0)); err != nil || left <= 0 || left > h.Window+time.Second {
			t.Errorf("the window is over in %v", left)
		}
	}
	s := h.stream(t, "nosuch/x/y", "X-Forwarded-For", from)
	wait, err := strconv.Atoi(s.header.Get("Retry-After"))
	want := fmt.Sprintf("Rate limit exceeded. Try again in %d seconds.\n", wait)
	if e := s.last(); err != nil || wait < 1 || time.Duration(wait)*time.Second > h.Window || s.status != http.StatusOK || e.text("message") != want || e["status_code"] != 429.0 {
		t.Errorf("one too many: Retry-After %q, %v", s.header.Get("Retry-After"), e)
	}
	if s := h.stream(t, "nosuch/x/y", "X-Forwarded-For", "203.0.113.78"); s.header.Get("X-Ratelimit-Remaining") != strconv.Itoa(h.Limit-1) {
		t.Error("another address pays for the first")
	}
	spec := "git/" + url.QueryEscape("https://nosuch.invalid/r") + "/main"
	if e := h.stream(t, spec+"?build_token="+h.tokenOf(t, spec, "X-Forwarded-For", from), "X-Forwarded-For", from).last(); e["status_code"] == 429.0 {
		t.Errorf("with a token: %v", e)
	}
}

func (h Hub) bannedNetwork(t *testing.T) {
	if h.BannedFrom == "" {
		t.Skip("no network is banned")
	}
	s := h.stream(t, h.New, "X-Forwarded-For", h.BannedFrom, "Accept", "text/html") // before the Accept header
	want := "Requests from " + h.BannedLabel + " are not allowed\n"
	if e := s.last(); s.status != http.StatusOK || e.text("message") != want || e["status_code"] != 403.0 {
		t.Errorf("%d %v", s.status, e)
	}
	answers := map[string]int{"/": 403, "/v2/" + h.New: 403, "/repo/a/b": 403, "/api/repoproviders": 403, "/versions": 200, "/health": 200, "/badge.svg": 200, "/static/logo.svg": 200}
	if h.Metrics {
		answers["/metrics"] = 403
	}
	for path, status := range answers {
		if a := h.ask(t, "GET", path, "X-Forwarded-For", h.BannedFrom); a.status != status {
			t.Errorf("%s: %d, want %d", path, a.status, status)
		}
	}
}
