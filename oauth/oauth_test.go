package oauth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/oauth"
)

const secret = "t0p-secret"

// at makes a Server of one that answers with these.
func at(t *testing.T, token, user http.HandlerFunc) (*oauth.Server, string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", token)
	mux.HandleFunc("GET /user", user)
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := oauth.New(oauth.Config{
		AuthorizeURL: ts.URL + "/authorize", TokenURL: ts.URL + "/token", UserURL: ts.URL + "/user", UserField: "name", ClientID: "hub", SecretFile: file,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, file
}

func say(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = w.Write([]byte(text)) }
}

func TestUser(t *testing.T) {
	const good = `{"access_token":"abc","token_type":"bearer"}`
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a secret goes elsewhere") }))
	defer elsewhere.Close()
	moved := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}
	for name, c := range map[string]struct {
		token, user http.HandlerFunc
		want        string
		kind        bindery.Kind
	}{
		"a name":               {say(200, good), say(200, `{"name":"jane"}`), "jane", ""},
		"a number":             {say(200, good), say(200, `{"name":12345678901234567890}`), "12345678901234567890", ""},
		"a code that is none":  {say(400, `{"error":"invalid_grant"}`), nil, "", bindery.ErrNotAllowed},
		"the same with 200":    {say(200, `{"error":"bad_verification_code"}`), nil, "", bindery.ErrNotAllowed},
		"token URL is down":    {say(502, "x"), nil, "", bindery.ErrUnreachable},
		"token URL is moved":   {moved, nil, "", bindery.ErrInternal},
		"token URL is garbage": {say(200, "<html>"), nil, "", bindery.ErrInternal},
		"user URL refuses":     {say(200, good), say(403, "no"), "", bindery.ErrNotAllowed},
		"user URL is moved":    {say(200, good), moved, "", bindery.ErrInternal},
		"user URL is garbage":  {say(200, good), say(200, "[]"), "", bindery.ErrInternal},
		"no name":              {say(200, good), say(200, `{"login":"jane"}`), "", bindery.ErrInternal},
		"a name that is none":  {say(200, good), say(200, `{"name":{"a":1}}`), "", bindery.ErrInternal},
		"endless":              {say(200, good), say(200, `{"name":"`+strings.Repeat("x", 2<<20)), "", bindery.ErrInternal},
	} {
		t.Run(name, func(t *testing.T) {
			user := c.user
			if user == nil {
				user = func(http.ResponseWriter, *http.Request) { t.Error("the user is asked for without a token") }
			}
			s, _ := at(t, c.token, user)
			got, err := s.User(t.Context(), "https://hub.example/oauth_callback", "code", "verifier")
			if got != c.want || (err == nil) != (c.kind == "") || err != nil && !errors.Is(err, c.kind) {
				t.Errorf("%.40q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
	s, file := at(t, say(200, good), say(200, `{"name":"jane"}`))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := s.User(t.Context(), "x", "code", "v"); !errors.Is(err, bindery.ErrInternal) {
		t.Errorf("without the file of the secret: %v", err)
	}
}

func TestConfig(t *testing.T) {
	good := oauth.Config{AuthorizeURL: "https://a.example/", TokenURL: "https://a.example/", UserURL: "https://a.example/", UserField: "name", ClientID: "x", SecretFile: "/x"}
	for name, spoil := range map[string]func(*oauth.Config){
		"a URL that is none": func(c *oauth.Config) { c.TokenURL = "a.example" }, "another scheme": func(c *oauth.Config) { c.UserURL = "file:///etc" },
		"no client": func(c *oauth.Config) { c.ClientID = "" }, "no field": func(c *oauth.Config) { c.UserField = "" }, "no secret": func(c *oauth.Config) { c.SecretFile = "" },
	} {
		c := good
		if spoil(&c); func() bool { _, err := oauth.New(c); return err == nil }() {
			t.Error(name)
		}
	}
	if _, err := oauth.New(good); err != nil {
		t.Error(err)
	}
}
