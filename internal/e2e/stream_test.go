package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A said event is one event of BinderHub's stream, with what Bindery adds.
type said struct {
	Phase     bindery.Phase  `json:"phase"`
	Message   string         `json:"message"`
	ImageName string         `json:"imageName"`
	URL       string         `json:"url"`
	Token     string         `json:"token"`
	Step      *bindery.Step  `json:"step"`
	Error     *bindery.Error `json:"error"`
}

// A story is a stream that was read to its end.
type story []said

func (s story) last() said {
	if len(s) == 0 {
		return said{}
	}
	return s[len(s)-1]
}

// text is all that the stream said to a person.
func (s story) text() string {
	var all strings.Builder
	for _, e := range s {
		all.WriteString(e.Message)
	}
	return all.String()
}

// session is the id of the session that a ready event leads to.
func (e said) session() string {
	_, id, _ := strings.Cut(strings.TrimSuffix(e.URL, "/"), "/user/")
	return id
}

func (h *hub) buildURL(repo, ref string) string {
	if ref == "" {
		ref = "HEAD"
	}
	return "http://" + h.listen + "/build/git/" + url.QueryEscape(repo) + "/" + url.PathEscape(ref)
}

// watch reads the stream of a repository to its end. each, when given, sees every event and ends the reading by false.
func (h *hub) watch(ctx context.Context, repo, ref, query string, each func(said) bool) (story, error) {
	return follow(ctx, h.buildURL(repo, ref)+"?"+query, each)
}

// follow reads the stream at an address to its end.
func follow(ctx context.Context, at string, each func(said) bool) (story, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	hc := http.Client{Transport: &http.Transport{}}
	defer hc.CloseIdleConnections()
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all story
	for m, err := range api.ReadStream(resp.Body) {
		if err != nil {
			return all, err
		}
		var e said
		if err := json.Unmarshal([]byte(m.Data), &e); err != nil {
			return all, fmt.Errorf("%q: %w", m.Data, err)
		}
		all = append(all, e)
		if (each != nil && !each(e)) || e.Phase == bindery.PhaseReady || e.Phase == bindery.PhaseFailed {
			return all, nil
		}
	}
	return all, io.ErrUnexpectedEOF
}

// launch follows a repository's stream until its session is ready, and stops the session when the test ends.
func (h *hub) launch(t testing.TB, repo, ref string) (said, story) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	all, err := h.watch(ctx, repo, ref, "", nil)
	if err != nil {
		t.Fatalf("watch %s at %s: %v\n%s\n%s", repo, ref, err, all.text(), h.tail())
	}
	e := all.last()
	if e.Phase != bindery.PhaseReady {
		t.Fatalf("%s at %s ended %s: %s\n%s\n%s", repo, ref, e.Phase, e.Message, all.text(), h.tail())
	}
	t.Cleanup(func() { h.stop(t, e.session()) })
	return e, all
}

// fail follows a repository's stream that must end in a failure, and returns that.
func (h *hub) fail(t testing.TB, repo, ref string) (*bindery.Error, story) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	all, err := h.watch(ctx, repo, ref, "", nil)
	if err != nil {
		t.Fatalf("watch %s at %s: %v\n%s", repo, ref, err, all.text())
	}
	e := all.last()
	if e.Phase != bindery.PhaseFailed || e.Error == nil {
		t.Fatalf("%s at %s ended %+v, want a failure\n%s", repo, ref, e, all.text())
	}
	return e.Error, all
}

// stop stops a session and waits until it is gone.
func (h *hub) stop(t testing.TB, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	c := h.client(t)
	if err := c.StopSession(ctx, id, "the test is over"); err != nil && bindery.AsError(err).Kind != bindery.ErrNotFound {
		t.Errorf("stop %s: %v", id, err)
		return
	}
	eventually(t, 30*time.Second, "session "+id+" has ended", func() bool {
		s, err := c.Session(ctx, id)
		return err != nil || s.State == bindery.SessionEnded
	})
}

// answers asks a session's Jupyter server, through the proxy, as its visitor would.
func answers(e said, path string) (string, error) {
	req, err := http.NewRequest("GET", e.URL+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "token "+e.Token)
	hc := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := hc.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s%s: %s: %s", e.URL, path, resp.Status, bytes.TrimSpace(text))
	}
	return string(text), err
}
