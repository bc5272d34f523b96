package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/bindery-hub/bindery/proxy"
)

// routes is a working table of sessions.
type routes struct {
	mu     sync.Mutex
	addrs  map[string]string
	active map[string]int
}

func (r *routes) Address(id string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.addrs[id]
	return a, ok
}

func (r *routes) Active(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active[id]++
}

func (r *routes) times(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active[id]
}

// start serves a proxy in front of one session "s1", which is answered by session.
func start(t *testing.T, cfg proxy.Config, session http.Handler) (*httptest.Server, *routes) {
	t.Helper()
	back := httptest.NewServer(session)
	t.Cleanup(back.Close)
	rt := &routes{addrs: map[string]string{"s1": back.Listener.Addr().String()}, active: map[string]int{}}
	cfg.Sessions = rt
	p, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	return front, rt
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
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

func TestRequestArrivesAsItWasSent(t *testing.T) {
	var got *http.Request
	front, rt := start(t, proxy.Config{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	resp, _ := get(t, front.URL+"/user/s1/files/a%2Fb%20c/../d//e?x=1;y=%zz&token=t", "Authorization", "token abc", "Cookie", "bindery_user=e.f.g; _xsrf=1;bindery_admin=a.b; x=\"y\"",
		"Connection", "X-Secret-Hop", "X-Secret-Hop", "1", "Keep-Alive", "1",
		"X-Forwarded-For", "8.8.8.8", "X-Forwarded-Proto", "https", "X-Real-Ip", "8.8.8.8", "X-Scheme", "https", "Forwarded", "for=8.8.8.8")
	if resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if want := "/user/s1/files/a%2Fb%20c/../d//e?x=1;y=%zz&token=t"; got.RequestURI != want {
		t.Errorf("the session got %s, want %s", got.RequestURI, want)
	}
	if want := strings.TrimPrefix(front.URL, "http://"); got.Host != want {
		t.Errorf("host %s, want %s", got.Host, want)
	}
	want := map[string]string{
		"Authorization": "token abc", "Cookie": "_xsrf=1; x=\"y\"", "X-Secret-Hop": "", "Keep-Alive": "",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Real-Ip": "", "X-Scheme": "", "Forwarded": "",
	}
	have := map[string]string{}
	for k := range want {
		have[k] = got.Header.Get(k)
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Error(d)
	}
	if rt.times("s1") == 0 {
		t.Error("the request did not count as activity")
	}
}

func TestCookiesOfTheHubStayThere(t *testing.T) {
	var got http.Header
	front, _ := start(t, proxy.Config{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	get(t, front.URL+"/user/s1/", "Cookie", "bindery_user=e.f.g; __Host-Http-bindery_user=e.f.g")
	if _, ok := got["Cookie"]; ok {
		t.Errorf("the session is shown %q", got["Cookie"])
	}
}

func TestSessionsSetNoCookiesOfTheHub(t *testing.T) {
	front, _ := start(t, proxy.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range []string{"bindery_login=x; Path=/oauth_callback", "_xsrf=1", " __Host-Http-bindery_login=x; Secure; Path=/", "bindery_user=x", "a=bindery_"} {
			w.Header().Add("Set-Cookie", c)
		}
	}))
	resp, _ := get(t, front.URL+"/user/s1/")
	if d := cmp.Diff([]string{"_xsrf=1", "a=bindery_"}, resp.Header["Set-Cookie"]); d != "" {
		t.Error(d)
	}
}

func TestBehindATrustedProxy(t *testing.T) {
	var got http.Header
	front, _ := start(t, proxy.Config{URL: "https://sessions.example.org", Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	get(t, front.URL+"/user/s1/", "X-Forwarded-For", "203.0.113.9")
	if d := cmp.Diff([]string{"203.0.113.9, 127.0.0.1", "https"}, []string{got.Get("X-Forwarded-For"), got.Get("X-Forwarded-Proto")}); d != "" {
		t.Error(d)
	}
}

func TestOnlySessionsAreServed(t *testing.T) {
	front, _ := start(t, proxy.Config{Hub: "https://hub.example.org"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "session:"+r.URL.Path)
	}))
	for _, c := range []struct {
		path   string
		status int
		body   string // a part of it
	}{
		{"/", 404, "nothing at this address"},
		{"/user/", 404, "nothing at this address"},
		{"/user/s1/", 200, "session:/user/s1/"},
		{"/user/s1/api/kernels", 200, "session:/user/s1/api/kernels"},
		{"/user/s1", 302, ""},
		{"/user/gone/lab", 404, "session has ended"},
		{"/user/S1/", 404, "nothing at this address"},
		{"/user/%73%31/", 404, "nothing at this address"},
		{"/user/s1%2F", 404, "nothing at this address"},
		{"/user//s1/", 404, "nothing at this address"},
		{"/../user/s1/", 404, "nothing at this address"},
		{"/x/user/s1/", 404, "nothing at this address"},
		{"/user/127.0.0.1:22/", 404, "nothing at this address"},
		{"/user/" + strings.Repeat("a", 64) + "/", 404, "nothing at this address"},
	} {
		resp, body := get(t, front.URL+c.path, "Accept", "text/html")
		if resp.StatusCode != c.status || !strings.Contains(body, c.body) {
			t.Errorf("GET %s: %d %.80q, want %d %q", c.path, resp.StatusCode, body, c.status, c.body)
		}
		if c.status == 404 && !strings.Contains(body, `href="https://hub.example.org"`) {
			t.Errorf("GET %s: no way back to the hub", c.path)
		}
	}
	resp, _ := get(t, front.URL+"/user/s1?token=x")
	if got := resp.Header.Get("Location"); got != "/user/s1/?token=x" {
		t.Errorf("Location %s", got)
	}
}

func TestNoticesForPrograms(t *testing.T) {
	front, _ := start(t, proxy.Config{}, http.NotFoundHandler())
	resp, body := get(t, front.URL+"/user/gone/api/status", "Accept", "application/json")
	if resp.StatusCode != 404 || resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"kind":"not-found"`) {
		t.Errorf("%d %s %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
	}
}

func TestSessionThatDoesNotAnswer(t *testing.T) {
	front, rt := start(t, proxy.Config{}, http.NotFoundHandler())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rt.addrs["s2"] = l.Addr().String()
	l.Close()
	resp, body := get(t, front.URL+"/user/s2/lab", "Accept", "text/html")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)[1]
	sum := sha256.Sum256([]byte(style))
	if want := "sha256-" + base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(resp.Header.Get("Content-Security-Policy"), want) {
		t.Error("the policy does not allow the page's own style")
	}
}

func TestAnswersThatReachOtherSessions(t *testing.T) {
	front, _ := start(t, proxy.Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Service-Worker-Allowed", r.URL.Query().Get("scope"))
		w.Header().Set("Clear-Site-Data", `"*"`)
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		w.Header().Set("X-Kept", "1")
	}))
	for scope, want := range map[string]string{"/": "", "/user/": "", "/user/s2/": "", "/user/s1/": "/user/s1/", "/user/s1/lab": "/user/s1/lab"} {
		resp, _ := get(t, front.URL+"/user/s1/?scope="+scope)
		got := []string{resp.Header.Get("Service-Worker-Allowed"), resp.Header.Get("Clear-Site-Data"), resp.Header.Get("Strict-Transport-Security"), resp.Header.Get("X-Kept")}
		if d := cmp.Diff([]string{want, "", "", "1"}, got); d != "" {
			t.Errorf("scope %s: %s", scope, d)
		}
	}
}

func TestStreamsAreNotHeldBack(t *testing.T) {
	more := make(chan struct{})
	front, _ := start(t, proxy.Config{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-more
		fmt.Fprintln(w, "second")
	}))
	resp, err := http.Get(front.URL + "/user/s1/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "first" {
		t.Fatalf("got %q", lines.Text())
	}
	close(more)
	if !lines.Scan() || lines.Text() != "second" {
		t.Fatalf("got %q", lines.Text())
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}})
	if err != nil {
		return
	}
	c.SetReadLimit(-1)
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	front, rt := start(t, proxy.Config{ActiveGap: time.Nanosecond}, http.HandlerFunc(echo))
	header := http.Header{"Origin": {front.URL}}
	c, _, err := websocket.Dial(t.Context(), front.URL+"/user/s1/api/kernels/k/channels?token=x",
		&websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"v1.kernel.websocket.jupyter.org"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	if c.Subprotocol() != "v1.kernel.websocket.jupyter.org" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	before := rt.times("s1")
	for _, size := range []int{0, 1, 100, 1 << 20} {
		sent := strings.Repeat("x", size)
		if err := c.Write(t.Context(), websocket.MessageBinary, []byte(sent)); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(t.Context())
		if err != nil || string(got) != sent {
			t.Fatalf("message of %d bytes: got %d bytes, %v", size, len(got), err)
		}
	}
	if rt.times("s1") <= before {
		t.Error("messages did not count as activity")
	}
}

func TestActivityIsBounded(t *testing.T) {
	front, rt := start(t, proxy.Config{ActiveGap: time.Hour}, http.HandlerFunc(echo))
	for range 5 {
		get(t, front.URL+"/user/s1/")
	}
	if got := rt.times("s1"); got != 1 {
		t.Errorf("Active was called %d times within its gap", got)
	}
}

func TestRunEndsWithWebSocketsOpen(t *testing.T) {
	back := httptest.NewServer(http.HandlerFunc(echo))
	defer back.Close()
	rt := &routes{addrs: map[string]string{"s1": back.Listener.Addr().String()}, active: map[string]int{}}
	p, err := proxy.New(proxy.Config{Sessions: rt})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	c, _, err := websocket.Dial(t.Context(), "http://"+l.Addr().String()+"/user/s1/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("the WebSocket is still open")
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	rt := &routes{addrs: map[string]string{}, active: map[string]int{}}
	p, err := proxy.New(proxy.Config{Sessions: rt})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	resp, _ := get(t, "http://"+l.Addr().String()+"/user/s1/", "Cookie", strings.Repeat("x", 128<<10))
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
	stop()
	<-ended
}
