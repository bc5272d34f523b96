package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A script is what a hub says on each connection, in order; it closes after each.
func script(t *testing.T, connections ...string) (api.Binder, *[]*http.Request) {
	t.Helper()
	var n atomic.Int32
	var asked []*http.Request
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := int(n.Add(1)) - 1
		asked = append(asked, r)
		if i >= len(connections) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, connections[i])
	}))
	t.Cleanup(ts.Close)
	return api.Binder{URL: ts.URL + "/"}, &asked
}

func said(t *testing.T, b api.Binder) (lines []string, last api.LaunchEvent, err error) {
	t.Helper()
	for e, err := range b.Launch(t.Context(), "gh/o/r/HEAD") {
		if err != nil {
			return lines, last, err
		}
		lines, last = append(lines, string(e.Phase)+": "+e.Message), e
	}
	return lines, last, nil
}

const readyLine = `data: {"phase": "ready", "message": "here\n", "url": "http://h/user/x/", "token": "t"}` + "\n\n"

func TestBinderLaunch(t *testing.T) {
	for name, c := range map[string]struct {
		connections []string
		want        []string
		asked       int
		kind        error
	}{
		"BinderHub": {[]string{`data: {"phase": "waiting", "message": "w"}` + "\n\n:keepalive\n\ndata: {\"message\": \"no phase\"}\n\n\n" + `data: {"phase": "Built", "message": "b"}` + "\n\n" + readyLine},
			[]string{"waiting: w", ": no phase", "built: b", "ready: here\n"}, 1, nil},
		"a failure in pieces": {[]string{`data: {"phase": "failed"}` + "\n\n" + `data: {"phase": "failed"}` + "\n\n" + `data: {"phase": "failed", "message": "why"}` + "\n\n"},
			[]string{"failed: why"}, 1, nil},
		"broken while it builds": {[]string{`data: {"phase": "building", "message": "1"}` + "\n\n", `data: {"phase": "building", "message": "2"}` + "\n\n" + readyLine},
			[]string{"building: 1", "building: 2", "ready: here\n"}, 2, nil},
		"broken while it launches": {[]string{`data: {"phase": "launching", "message": "1"}` + "\n\n", readyLine},
			[]string{"launching: 1"}, 1, bindery.ErrUnreachable},
		"a Bindery, broken while it launches": {[]string{"id: b.7\n" + `data: {"phase": "building", "message": "1"}` + "\n\n" + `data: {"phase": "launching", "message": "l"}` + "\n\n", readyLine},
			[]string{"building: 1", "launching: l", "ready: here\n"}, 2, nil},
		"not a Binder":  {nil, nil, 1, bindery.ErrInvalid},
		"not an answer": {[]string{"data: <html>\n\n"}, nil, 1, bindery.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			b, asked := script(t, c.connections...)
			got, _, err := said(t, b)
			if d := cmp.Diff(c.want, got); d != "" || len(*asked) != c.asked || !errors.Is(err, c.kind) || (c.kind == nil && err != nil) {
				t.Errorf("%d connections, %v; %s", len(*asked), err, d)
			}
			for i, r := range *asked {
				if r.Header.Get("Accept") != "text/event-stream" || r.URL.EscapedPath() != "/build/gh/o/r/HEAD" || (*asked)[0].URL.Query().Get("request") != r.URL.Query().Get("request") {
					t.Errorf("connection %d: %s %v", i, r.URL, r.Header)
				}
				if want := strings.HasPrefix(name, "a Bindery") && i > 0; (r.Header.Get("Last-Event-Id") == "b.7") != want {
					t.Errorf("connection %d goes on after %q", i, r.Header.Get("Last-Event-Id"))
				}
			}
		})
	}
}

func TestParseLaunchLink(t *testing.T) {
	for text, want := range map[string]api.LaunchLink{
		"gh/o/r/HEAD":                            {Spec: "gh/o/r/HEAD"},
		"v2/gh/o/r/HEAD":                         {Spec: "gh/o/r/HEAD"},
		"git/https%3A%2F%2Fexample.org%2Fr/main": {Spec: "git/https%3A%2F%2Fexample.org%2Fr/main"},
		"https://mybinder.org/v2/gh/o/r/HEAD":    {Hub: "https://mybinder.org", Spec: "gh/o/r/HEAD"},
		"https://h.org/services/binder/v2/gh/o/r/a/b?urlpath=lab/tree/x":   {Hub: "https://h.org/services/binder", Spec: "gh/o/r/a/b", Path: "lab/tree/x"},
		"https://h.org/v2/gh/o/r/m?labpath=a b/c.ipynb&urlpath=no":         {Hub: "https://h.org", Spec: "gh/o/r/m", Path: "doc/tree/a%20b/c.ipynb"},
		"https://h.org/v2/git/https%3A%2F%2Fe.org%2Fr/m?filepath=/x.ipynb": {Hub: "https://h.org", Spec: "git/https%3A%2F%2Fe.org%2Fr/m", Path: "tree/x.ipynb"},
		"https://github.com/o/r":     {Spec: "gh/o/r/HEAD"},
		"https://github.com/o/r.git": {Spec: "gh/o/r/HEAD"},
		"https://gitlab.com/a/b/c":   {Spec: "gl/a%2Fb%2Fc/HEAD"},
		"https://example.org/o/r":    {Spec: "git/https%3A%2F%2Fexample.org%2Fo%2Fr/HEAD"},
		"file:///srv/r":              {Spec: "git/file%3A%2F%2F%2Fsrv%2Fr/HEAD"},
	} {
		got, err := api.ParseLaunchLink(text, "", bindery.DefaultProviders())
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", text, err, d)
		}
	}
	for _, text := range []string{"", "o", "gh/", "javascript:alert(1)", "file://host/etc", "file:etc", "/srv/r", "//srv/r", "--hub", "https://u:p@example.org/r", "https:///x", "http://%zz/",
		"../../x", "gh/o/r/../../../api", "https://example.org/v2/gh/%2E%2e/r/main"} {
		if got, err := api.ParseLaunchLink(text, "", bindery.DefaultProviders()); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	if got, err := api.ParseLaunchLink("https://github.com/o/r", "a/b", bindery.DefaultProviders()); err != nil || got.Spec != "gh/o/r/a/b" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSessionLink(t *testing.T) {
	e := api.LaunchEvent{URL: "https://h/user/x/", Token: "a&b"}
	for path, want := range map[string]string{
		"": "https://h/user/x/?token=a%26b", "lab": "https://h/user/x/lab?token=a%26b", "git-pull?repo=r": "https://h/user/x/git-pull?repo=r&token=a%26b",
	} {
		if got, err := api.SessionLink(e, path); err != nil || got != want {
			t.Errorf("%q: %s, %v", path, got, err)
		}
	}
	for _, path := range []string{"../y/", "/user/y/", "//evil/", "https://evil/user/x/", "a/../../y"} {
		if got, err := api.SessionLink(e, path); err == nil {
			t.Errorf("%q leads to %s", path, got)
		}
	}
	if got, err := api.SessionLink(api.LaunchEvent{URL: "javascript:alert(1)"}, ""); err == nil {
		t.Errorf("a session at %s", got)
	}
}

// A hub that never said anything is asked once more, and then it is said who does not answer.
func TestBinderThatIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		b := api.Binder{URL: "http://hub.example.org", HTTP: transport(func(*http.Request) (*http.Response, error) {
			asked++
			return nil, errors.New("connection refused")
		})}
		for _, err := range b.Launch(t.Context(), "gh/o/r/main") {
			if e := bindery.AsError(err); !errors.Is(err, bindery.ErrUnreachable) || e.Fault != bindery.Transient || e.Remedy == "" {
				t.Errorf("%v", err)
			}
			if want := "The hub at http://hub.example.org does not answer: connection refused"; err.Error() != want {
				t.Errorf("it says %q, want %q", err, want)
			}
		}
		if asked != 2 {
			t.Errorf("it is asked %d times", asked)
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
