package web_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/bindery-hub/bindery/oauth/oauthtest"
	"github.com/bindery-hub/bindery/web"
)

// A journal is a log in memory.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// TestLogTellsNoSecrets sends what may not be written down in all the places that requests have, and looks whether it was,
// though every request was.
func TestLogTellsNoSecrets(t *testing.T) {
	h, j, who := playing(t), &journal{}, oauthtest.Start(t)
	ts := serve(t, h, operated(h), guardedBy(t, who), func(c *web.Config) {
		c.Log = slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Tokens = []web.Token{{Hash: web.HashToken("s3cret-token"), Name: "ops"}}
	})
	who.Allow(ts.URL + "/oauth_callback")
	b := newBrowser(t)
	b.get(ts.URL + "/?token=s3cret-query") // signs in: a state, a code and a cookie
	_, page := b.get(ts.URL + "/v2" + strings.TrimPrefix(specPath, "/build"))
	stream := strings.ReplaceAll(streamRE.FindStringSubmatch(page)[1], `\u0026`, "&")
	_, ready := open(t, ts.URL+stream).rest()
	if ready["phase"] != "ready" {
		t.Fatal(ready)
	}
	const secret = "s3cret-token"
	for _, path := range []string{"/api/v1/sessions", "/api/v1/sessions?token=" + secret, "/nothing?access_token=" + secret, "/oauth_callback?code=" + secret + "&state=" + secret, specPath + "?build_token=" + secret} {
		for _, header := range [][]string{{"Authorization", "Bearer " + secret}, {"Authorization", "token " + secret}, {"Cookie", "bindery_user=" + secret}, {"Authorization", "Basic " + secret}} {
			ask(t, "GET", ts.URL+path, "", append(header, "Accept", "text/event-stream")...)
		}
	}
	text := j.String()
	if n := strings.Count(text, "msg=request "); n < 22 {
		t.Errorf("%d requests are in the log:\n%s", n, text)
	}
	_, token, _ := strings.Cut(stream, "build_token=")
	token, _, _ = strings.Cut(token, "&")
	session, _ := ready["token"].(string)
	for _, s := range []string{"s3cret", token, session, oauthtest.Secret, "code=", "state="} {
		if s == "" || strings.Contains(text, s) {
			t.Errorf("%q is in the log:\n%s", s, text)
		}
	}
}
