package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/bindery-hub/bindery/oauth/oauthtest"
)

// reconfigured gives the hub that most tests use more settings until this test ends.
func reconfigured(t *testing.T, h *hub, more string) {
	t.Helper()
	old, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	with := func(text []byte) {
		if err := h.serve.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-h.ended
		if err := os.WriteFile(h.config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		h.start(t)
	}
	t.Cleanup(func() { with(old) })
	with(append(old, more...))
}

// TestLogin has a hub whose visitors sign in, with what else its operator may say of its answers: a link leads to where one
// signs in, and back, and on to a session; without that there is none.
func TestLogin(t *testing.T) {
	h, who, static := theHub(t), oauthtest.Start(t), t.TempDir()
	who.Allow("http://" + h.listen + "/oauth_callback")
	if err := os.WriteFile(filepath.Join(static, "a.css"), []byte("a{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	reconfigured(t, h, fmt.Sprintf(`
login:
  {authorize_url: '%[1]s/authorize', token_url: '%[1]s/token', user_url: '%[1]s/user', user_field: username, client_id: %[2]s, scope: %[3]s, client_secret_file: '%[4]s'}
headers: {Strict-Transport-Security: max-age=600}
extra_static_path: %[5]s
default_opengraph_title: A hub of ours
`, who.URL, oauthtest.ClientID, oauthtest.Scope, who.SecretFile, static))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	visitor := http.Client{Jar: jar}
	get := func(path string) (*http.Response, string) {
		t.Helper()
		resp, err := visitor.Get("http://" + h.listen + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}
	repo := made(t, requirements(nil))
	if s, err := h.watch(t.Context(), repo, "main", "", nil); err != nil || s.last().Message != "Forbidden\n" {
		t.Errorf("a stranger: %v, %v", s, err)
	}
	if resp, body := get("/extra_static/a.css"); body != "a{}" || resp.Header.Get("Strict-Transport-Security") != "max-age=600" {
		t.Errorf("a file of the operator's: %v %q", resp.Header, body)
	}
	if _, page := get("/"); !strings.Contains(page, `<meta property="og:title" content="A hub of ours">`) || !strings.Contains(page, "<span>jane</span>") {
		t.Errorf("the start page: %s", page)
	}
	_, page := get("/v2/git/" + url.QueryEscape(repo) + "/main")
	m := regexp.MustCompile(`"stream":"([^"]+)"`).FindStringSubmatch(strings.ReplaceAll(page, `\u0026`, "&"))
	if m == nil {
		t.Fatalf("no stream in %s", page)
	}
	s, err := follow(t.Context(), "http://"+h.listen+m[1], nil)
	if err != nil || s.last().Phase != "ready" {
		t.Fatalf("the launch: %v, %v\n%s", s.last(), err, h.tail())
	}
	if _, err := answers(s.last(), "api/status"); err != nil {
		t.Error(err)
	}
	h.stop(t, s.last().session())
	h.must(t, "ban", "add", "user:jane", "--reason", "a test", "--message", "Not you, Jane.")
	defer h.must(t, "ban", "rm", "user:jane")
	if s, err := follow(t.Context(), "http://"+h.listen+m[1], nil); err != nil || s.last().Phase != "failed" || !strings.Contains(s.last().Message, "Not you, Jane.") {
		t.Errorf("a rule about her: %v, %v", s.last(), err)
	}
}
