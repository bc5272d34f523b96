package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/proxy"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
	"github.com/bindery-hub/bindery/store"
	"github.com/bindery-hub/bindery/web"
)

// An attack is one request that nobody sends by accident, byte by byte: Go's own client would refuse much of this.
type attack struct {
	kind string
	text string
	to   string // the hub's address, or the sessions'
	from string // an address of this machine; empty: any
	want string // what the answer must match, beside being a refusal
}

// kinds are all that the suite must have, with the fewest attacks of each.
var kinds = map[string]int{
	"spec": 25, "url": 25, "header": 20, "token": 20, "ref": 20, "cookie": 30, "forwarded": 20, "redirect": 20, "rebinding": 20, "IPv4": 20, "IPv6": 20, "session": 25, "ban": 100, "quota": 15,
}

// A stronghold is a whole hub: its pages and streams, its queue over a store, its sources with git behind the guard,
// its proxy to sessions. Builds and sessions alone are not real. Somebody has a session there already.
type stronghold struct {
	hub, hub6, sessions string // addresses
	victim              bindery.Session
	d                   *dispatch.Dispatcher
	secrets             []string
	canary              atomic.Int64 // connections to addresses that nobody may reach
	port                string       // of the canary, at all addresses of this machine but the forge's
	forge               *sourcetest.Server
	asked               sync.Map // hosts of rebinding: how often each was looked up
}

// secret marks what no answer may hold.
const hubSecret, apiToken, forgeToken = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk", "t0p-secret-api-token", "ghp_t0p_secret_forge_token"

// courseToken is one that a program was given, which may launch what anybody may.
const courseToken = "c0urse-token"

func newStronghold(t *testing.T) *stronghold {
	s := &stronghold{forge: sourcetest.Start(t), secrets: []string{hubSecret, apiToken, forgeToken}}
	s.forge.Forge() // answers as the API of a forge, too
	s.setCanary(t)
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bindery.db")})
	if err != nil {
		t.Fatal(err)
	}
	gh := bindery.Provider{ID: "gh", Kind: bindery.ProviderGitHub, URL: s.forge.URL, API: s.forge.URL + "/api/v3"}.WithDefaults()
	providers := []bindery.Provider{gh}
	for _, p := range bindery.DefaultProviders() {
		if p.Kind != bindery.ProviderGitHub {
			providers = append(providers, p)
		}
	}
	cfg := source.Config{
		Dir: filepath.Join(t.TempDir(), "git"), Policy: source.Policy{Nets: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		Lookup: s.lookup, Proxy: func(*url.URL) (*url.URL, error) { return nil, nil }, ResolveTimeout: 10 * time.Second,
	}
	for _, p := range providers {
		sp := source.Provider{Provider: p}
		if p.ID == "gh" {
			sp.TokenFile = filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(sp.TokenFile, []byte(forgeToken), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg.Providers = append(cfg.Providers, sp)
	}
	sources, err := source.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := newBench()
	s.d, err = dispatch.New(dispatch.Config{
		Store: db, Worker: strongWorker{benchWorker{b}, sources}, Launcher: benchLauncher{b}, Generation: "g", PollWorker: 50 * time.Millisecond,
		Probe: func(context.Context, string, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := web.New(web.Config{
		Admin:  adminPages([]byte(hubSecret), "", slog.New(slog.DiscardHandler)),
		Builds: s.d, Sessions: s.d, Queue: s.d, History: db, Secret: []byte(hubSecret), SessionURL: "http://127.0.0.1:1", Providers: providers,
		Tokens: []web.Token{{Hash: web.HashToken(apiToken), Name: "ops"}, {Hash: web.HashToken(courseToken), Name: "course", Scope: "launch"}}, LeaveGrace: time.Millisecond,
		Rules: web.Rules{
			Networks: []web.NetworkBan{{Prefix: netip.MustParsePrefix("127.0.0.66/32"), Label: "it"}, {Prefix: netip.MustParsePrefix("::1/128"), Label: "it"}},
			Specs:    map[string]web.SpecRules{"gh": {Banned: []string{"worst/"}, Config: []web.SpecConfig{{Pattern: "victim/quick/", Quota: new(1)}}}, "zenodo": {Banned: []string{"10.5281/zenodo.1$"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	px, err := proxy.New(proxy.Config{Sessions: s.d, Hub: "http://hub.example"})
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, sources, db, hub, px)
	return s
}

func (s *stronghold) run(t *testing.T, sources *source.Sources, db *store.DB, hub *web.Server, px *proxy.Proxy) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 2)
	go func() { ended <- sources.Run(ctx) }()
	go func() { ended <- s.d.Run(ctx) }()
	four, sessions := httptest.NewServer(hub.Public()), httptest.NewServer(px)
	six := httptest.NewUnstartedServer(hub.Public())
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = six.Listener.Close() // another takes its place
	six.Listener = l
	six.Start()
	t.Cleanup(func() {
		for _, srv := range []*httptest.Server{four, six, sessions} {
			srv.CloseClientConnections()
			srv.Close()
		}
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	s.hub, s.hub6, s.sessions = four.Listener.Addr().String(), l.Addr().String(), sessions.Listener.Addr().String()

	made := s.forge.Repo("victim/quick")
	made.Commit("main", map[string]string{"a": "1"})
	build, err := s.d.Submit(t.Context(), bindery.Ask{Source: bindery.Source{Provider: bindery.ProviderGit, URL: s.forge.URL + "/victim/quick", Ref: "main"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range s.d.Events(t.Context(), build.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if build, err = s.d.Build(t.Context(), build.ID); err == nil {
		s.victim, err = s.d.Launch(t.Context(), build, bindery.Ask{Source: build.Source, Request: "victim"})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.secrets = append(s.secrets, s.victim.Token)
	for _, text := range []string{s.forge.URL + "/bad/repo", s.forge.URL + "/evil/*", "gh/bad/repo", "gl/evil/*", "^https://host.example/worse/"} {
		p, err := bindery.ParsePattern(text)
		if err == nil {
			err = s.d.SetRule(t.Context(), bindery.Rule{Kind: bindery.RuleBan, Scope: p.Scope, Name: p.Names[0], Reason: "it", Who: "ops"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// setCanary listens at all addresses of this machine, of both families.
func (s *stronghold) setCanary(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.canary.Add(1)
			_ = c.Close()
		}
	}()
}

// lookup is the name server of whoever attacks: a name of theirs is at an address that may be asked when it is looked
// up first, and at a closed one ever after. "at-ADDRESS" names are at that address.
func (s *stronghold) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	if name, ok := strings.CutSuffix(host, ".at.example"); ok {
		a, err := netip.ParseAddr(strings.NewReplacer("-", ":", "_", ".").Replace(name))
		return []netip.Addr{a}, err
	}
	if name, ok := strings.CutSuffix(host, ".rebind.example"); ok {
		if _, again := s.asked.LoadOrStore(host, true); !again {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		a, err := netip.ParseAddr(strings.NewReplacer("-", ":", "_", ".").Replace(name))
		return []netip.Addr{a}, err
	}
	return nil, errors.New("no such host")
}

// A strongWorker resolves by the real sources.
type strongWorker struct {
	benchWorker
	sources *source.Sources
}

func (w strongWorker) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	return w.sources.Resolve(ctx, src)
}

// send returns what was answered, up to the end of a stream's story.
func (a attack) send(t *testing.T) (status int, header http.Header, body string) {
	t.Helper()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if a.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a.from)}
	}
	conn, err := dialer.DialContext(t.Context(), "tcp", a.to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, a.text); err != nil {
		return 0, nil, ""
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, "" // hung up without a word
	}
	defer resp.Body.Close()
	var text strings.Builder
	for in := bufio.NewReader(io.LimitReader(resp.Body, 1<<20)); ; {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if err != nil || strings.Contains(line, `"phase":"failed"`) || strings.Contains(line, `"phase":"ready"`) {
			return resp.StatusCode, resp.Header, text.String()
		}
	}
}

var traces = regexp.MustCompile(`goroutine \d|\.go:\d|runtime error|<script>alert|<img onerror`)

// TestStronghold attacks a whole hub: specs, URLs, headers, tokens, refs, cookies, forwarded addresses, redirects, names
// that move, over both families of addresses. Nothing reaches an address that is closed, another's session, a second
// effect, a stack trace or a secret.
func TestStronghold(t *testing.T) {
	s := newStronghold(t)
	all := s.attacks()
	count := map[string]int{}
	before, err := s.d.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		count[a.kind]++
		status, header, body := a.send(t)
		what := fmt.Sprintf("%s: %.200q", a.kind, a.text)
		if status >= 500 && status != http.StatusBadGateway || traces.MatchString(body) || strings.Contains(body, `"phase":"ready"`) || strings.Contains(body, `"phase":"waiting"`) {
			t.Errorf("%s: %d %.300s", what, status, body)
		}
		if a.want != "" && !regexp.MustCompile(a.want).MatchString(fmt.Sprint(status, " ", body)) {
			t.Errorf("%s: %d %.300s; want %s", what, status, body, a.want)
		}
		for _, secret := range s.secrets {
			if strings.Contains(body+fmt.Sprint(header), secret) {
				t.Errorf("%s: it tells a secret: %.300s", what, body)
			}
		}
		if to := header.Get("Location"); to != "" {
			if u, err := url.Parse(to); err != nil || u.Host != "" || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\r\n\\") {
				t.Errorf("%s leads to %q", what, to)
			}
		}
		if header.Get("Set-Cookie") != "" || header.Get("X-Evil") != "" {
			t.Errorf("%s sets headers: %v", what, header)
		}
		if n := s.canary.Swap(0); n != 0 {
			t.Errorf("%s reaches a closed address %d times", what, n)
		}
	}
	after, err := s.d.Queue(t.Context())
	if err != nil || after.Sessions != before.Sessions || len(after.Running)+len(after.Waiting) != len(before.Running)+len(before.Waiting) {
		t.Errorf("it has effects: %+v, %+v, %v", before, after, err)
	}
	if v, err := s.d.Session(t.Context(), s.victim.ID); err != nil || v.State != bindery.SessionReady {
		t.Errorf("somebody's session: %+v, %v", v, err)
	}
	for kind, least := range kinds {
		if count[kind] < least {
			t.Errorf("%d attacks are of the kind %s, of %d", count[kind], kind, least)
		}
	}
	turned := 0
	for _, line := range s.forge.Requests() {
		if strings.Contains(line, forgeToken) {
			t.Errorf("the forge's token is in an address: %s", line)
		}
		if strings.Contains(line, "/turned/") {
			turned++
		}
	}
	if turned < 8 {
		t.Errorf("%d names were at the forge before they moved", turned)
	}
	t.Logf("%d attacks: %v", len(all), count)
	if len(all) < 200 {
		t.Errorf("%d attacks", len(all))
	}
}
