package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

func TestReadStream(t *testing.T) {
	in := ":keepalive\n\ndata: {\"a\":1}\n\n\nid: 7\r\ndata: x\r\ndata: y\r\n\r\nevent: end\ndata:{}\n\ndata: cut"
	var got []api.Message
	for m, err := range api.ReadStream(strings.NewReader(in)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	want := []api.Message{{Data: `{"a":1}`}, {ID: "7", Data: "x\ny"}, {Event: "end", Data: "{}"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStatusOf(t *testing.T) {
	for kind, want := range map[bindery.Kind]int{
		bindery.ErrInvalid: 400, bindery.ErrNotAllowed: 403, bindery.ErrRepoNotFound: 404, bindery.ErrRefNotFound: 404, bindery.ErrNotFound: 404,
		bindery.ErrConflict: 409, bindery.ErrCancelled: 409, bindery.ErrPlan: 422, bindery.ErrStep: 422, bindery.ErrLocked: 423,
		bindery.ErrInternal: 500, bindery.ErrUnreachable: 502, bindery.ErrSessionDied: 502, bindery.ErrOutOfMemory: 502,
		bindery.ErrNotReady: 503, bindery.ErrWorkerLost: 503, bindery.ErrRepoQuota: 503, bindery.ErrHubQuota: 503, bindery.ErrRateLimit: 429, bindery.ErrTimeout: 504, bindery.ErrNoSpace: 507, "new": 500,
	} {
		if got := api.StatusOf(kind); got != want {
			t.Errorf("%s: %d, want %d", kind, got, want)
		}
	}
}

func TestProblemKeepsTheCauseInside(t *testing.T) {
	e := bindery.Errorf(bindery.ErrNoSpace, bindery.Ours, "Wait.", "The disk is full").Because(errors.New("/secret/path"))
	b, err := json.Marshal(api.ProblemOf(fmt.Errorf("solve: %w", e), "r1"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"title":"Insufficient Storage","status":507,"kind":"no-space","fault":"ours","message":"The disk is full","remedy":"Wait.","request_id":"r1"}`
	if string(b) != want {
		t.Errorf("got %s", b)
	}
}

// TestEventsGoOnAfterACut serves a stream that is cut twice, once in the middle of an event.
func TestEventsGoOnAfterACut(t *testing.T) {
	var asked []string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		switch len(asked) {
		case 1:
			fmt.Fprint(w, "id: 1\ndata: {\"seq\":1,\"message\":\"a\"}\n\n")
		case 2:
			fmt.Fprint(w, "id: 1\ndata: {\"seq\":1,\"message\":\"a\"}\n\nid: 2\ndata: {\"seq\":2,\"message\":\"b\"}\n\nid: 3\ndata: {\"se")
		default:
			fmt.Fprint(w, "id: 3\ndata: {\"seq\":3,\"message\":\"c\"}\n\nevent: end\ndata: {}\n\n")
		}
	}))
	defer ts.Close()
	c, err := api.NewClient(api.ClientConfig{URL: ts.URL})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range c.Events(t.Context(), "b", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Message)
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"0", "1", "2"}, asked); d != "" {
		t.Error(d)
	}
}

func TestEventsOfNothing(t *testing.T) {
	ts := httptest.NewServer(http.NotFoundHandler())
	defer ts.Close()
	c, err := api.NewClient(api.ClientConfig{URL: ts.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range c.Events(t.Context(), "b", 0) {
		if !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTokenDoesNotFollowRedirects(t *testing.T) {
	leaked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked = true }))
	defer other.Close()
	ts := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer ts.Close()
	c, err := api.NewClient(api.ClientConfig{URL: ts.URL, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || leaked {
		t.Errorf("err %v, leaked %v", err, leaked)
	}
}

func TestBadURLs(t *testing.T) {
	for _, u := range []string{"", "hub.example.org", "ftp://x", "http://", "http://a b"} {
		if _, err := api.NewClient(api.ClientConfig{URL: u}); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%q: %v", u, err)
		}
	}
}
