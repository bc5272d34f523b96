// Package conformance holds what every Binder must do, table by table, as tests against a server that runs.
//
// The tables were written from BinderHub's behaviour, not from this program's. Where we differ on purpose, because
// BinderHub's behaviour is a fault that no client depends on, the table says so.
package conformance

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Proxy is where requests come from that say by X-Forwarded-For who asks.
const Proxy = "127.0.0.2"

// A Hub is a server under test. Specs are "PROVIDER/REST", as in links; an empty one leaves its tests out.
type Hub struct {
	URL string // without a slash at its end; everything of the hub is below it

	New     string // of a repository that has not been built
	Failing string // whose build fails
	Silent  string // whose build says nothing for longer than Keepalive
	Banned  string // that the configuration refuses
	Full    string // of a repository that may have one session, and has none
	FullNew string // of another state of Full's repository, which has not been built
	NoRef   string // of a ref that does not exist
	NoRepo  string // of a repository that does not exist

	// ImagePrefix is what names of images begin with, Slug what New's is made of.
	ImagePrefix, Slug string

	RefURL  string // binder_ref_url of New
	RepoURL string // repo_url of New

	// Limit is how many requests without a token one address has. Addresses are told by X-Forwarded-For
	// from Proxy, which the hub trusts; requests without that header come from 127.0.0.1, which is not counted.
	Limit  int
	Window time.Duration
	// Keepalive is how often a silent stream says that it lives. BinderHub's is 25 seconds.
	Keepalive time.Duration
	// BannedFrom is an address that is banned, with the label of its ban.
	BannedFrom, BannedLabel string

	APIOnly bool
	Metrics bool          // it has some
	Within  time.Duration // one launch, its build included
}

// Run tests a hub against all tables.
func Run(t *testing.T, h Hub) {
	t.Run("routes", h.routes)
	t.Run("not allowed", h.notAllowed)
	if h.APIOnly {
		t.Run("API only", h.apiOnly)
		return
	}
	t.Run("pages", h.pages)
	t.Run("page config", h.pageConfig)
	t.Run("old links", h.oldLinks)
	t.Run("admission", h.admission)
	t.Run("tokens", h.tokens)
	t.Run("new, then cached", h.newThenCached)
	t.Run("failing", h.failing)
	t.Run("silent", h.silent)
	t.Run("over quota", h.overQuota)
	t.Run("rate limit", h.rateLimit)
	t.Run("banned network", h.bannedNetwork)
	t.Run("metrics", h.metrics) // when there is something to count
}

// An answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

func (h Hub) ask(t testing.TB, method, path string, header ...string) answer {
	t.Helper()
	resp := h.open(t, method, path, header...)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (h Hub) open(t testing.TB, method, path string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	from := http.DefaultTransport
	if req.Header.Get("X-Forwarded-For") != "" {
		proxy := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(Proxy)}}).DialContext}
		t.Cleanup(proxy.CloseIdleConnections)
		from = proxy
	}
	resp, err := from.RoundTrip(req) // no redirect is followed
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// An event is one of the stream, as JSON has it.
type event map[string]any

func (e event) text(field string) string {
	s, _ := e[field].(string)
	return s
}

// A story is a stream that was read until its server closed it, or until its first failed or ready event.
type story struct {
	header http.Header
	status int
	events []event
	open   bool // the server had not closed it when its last event came
}

// phases lists the phases, each once where several follow each other.
func (s story) phases() string {
	var all []string
	for _, e := range s.events {
		p := e.text("phase")
		if p == "" || p == "fetching" || p == "unknown" {
			p = "building" // clients make no difference
		}
		if len(all) == 0 || all[len(all)-1] != p {
			all = append(all, p)
		}
	}
	return strings.Join(all, " ")
}

func (s story) last() event {
	if len(s.events) == 0 {
		return event{}
	}
	return s.events[len(s.events)-1]
}

// stream reads the event stream of a spec as a client must: comments and other fields left out, to its terminal event.
func (h Hub) stream(t testing.TB, spec string, header ...string) story {
	t.Helper()
	resp := h.open(t, "GET", "/build/"+spec, append([]string{"Accept", "text/event-stream"}, header...)...)
	defer resp.Body.Close()
	late := time.AfterFunc(max(h.Within, time.Minute), func() { _ = resp.Body.Close() }) // ends the reading below
	defer late.Stop()
	s := story{header: resp.Header, status: resp.StatusCode}
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return s
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, ":") {
				t.Errorf("%s: a line that old clients may not know: %q", spec, line)
			}
			continue
		}
		var e event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("%s: %q: %v", spec, data, err)
		}
		if blank, err := in.ReadString('\n'); err != nil || blank != "\n" {
			t.Errorf("%s: an event is followed by %q", spec, blank)
		}
		if _, ok := e["message"].(string); !ok {
			t.Errorf("%s: an event without a message: %v", spec, e)
		}
		s.events = append(s.events, e)
		if p := e.text("phase"); p == "ready" || p == "failed" {
			s.open = true
			return s
		}
	}
}
