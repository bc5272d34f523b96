package web_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// now is the time at which the queue of these tests is looked at.
var now = time.Date(2026, 3, 24, 12, 0, 0, 0, time.UTC)

const commit = "0123456789abcdef0123456789abcdef01234567"

// A hub works like a dispatcher, in memory. Builds go on when the test says so.
type hub struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and made anew at each change
	builds   map[string]bindery.Build
	events   map[string][]bindery.Event
	sessions map[string]bindery.Session
	asks     []bindery.Ask
	launched int
	watching map[string]int
	told     []string // to the last session, of its link
	standing bindery.Standing
	rules    []bindery.Rule
	audit    []bindery.Audit
	quota    bool // Launch minds Ask.RepoQuota

	resolve func(bindery.Source) error             // nil: everything exists
	leads   map[string]string                      // from an address to the one that is known once it is resolved
	launch  func(ctx context.Context, n int) error // nil: at once
}

func newHub() *hub {
	return &hub{changed: make(chan struct{}), builds: map[string]bindery.Build{}, events: map[string][]bindery.Event{}, sessions: map[string]bindery.Session{}, watching: map[string]int{}}
}

func (h *hub) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.changed)
	h.changed = make(chan struct{})
}

// until waits for a condition that is looked at with the lock held.
func (h *hub) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		done, next := ok(), h.changed
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-next:
		case <-late:
			t.Fatalf("%s: waited too long", what)
		}
	}
}

func (h *hub) Resolve(_ context.Context, src bindery.Source) (bindery.Source, error) {
	if h.resolve != nil {
		if err := h.resolve(src); err != nil {
			return src, err
		}
	}
	src.Commit = commit
	if to, ok := h.leads[src.URL]; ok {
		src.URL = to
		if src.IsArchive() {
			src.Commit = path.Base(to)
		}
	}
	if src.Ref == "another" {
		src.Commit = strings.Repeat("e", 40)
	}
	return src, nil
}

func (h *hub) Submit(_ context.Context, ask bindery.Ask) (b bindery.Build, err error) {
	h.change(func() {
		h.asks = append(h.asks, ask)
		key := bindery.BuildKey(ask.Source, "g")
		id := "b-" + key[:8]
		old, ok := h.builds[id]
		if ask.Launches && old.State != bindery.BuildSucceeded {
			if err = h.full(ask.Source, ask.RepoQuota); err != nil {
				return
			}
		}
		switch {
		case !ok:
			h.add(id, bindery.Event{Phase: bindery.PhaseWaiting, Message: "Waiting for build to start...\n"})
			old = bindery.Build{ID: id, Key: key, Source: ask.Source, Class: ask.Class, Requester: ask.Requester, State: bindery.BuildQueued}
		case ask.Retry && old.State == bindery.BuildFailed:
			old.State, old.Err = bindery.BuildQueued, nil
		}
		h.builds[id] = old
		b = old
	})
	return b, err
}

// full is the quota, with the lock held.
func (h *hub) full(src bindery.Source, quota int) error {
	same := 0
	for _, s := range h.sessions {
		if s.Source.Identity() == src.Identity() {
			same++
		}
	}
	if h.quota && quota > 0 && same >= quota {
		return bindery.Errorf(bindery.ErrRepoQuota, bindery.Transient, "Try again.", "Too many users running %s", src.URL)
	}
	return nil
}

func (h *hub) Build(_ context.Context, id string) (bindery.Build, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.builds[id]
	if !ok {
		return b, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id.", "There is no build %s", id)
	}
	return b, nil
}

func (h *hub) Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error] {
	return func(yield func(bindery.Event, error) bool) {
		for {
			h.mu.Lock()
			news, next, ended := h.events[id], h.changed, h.builds[id].State.Ended()
			h.mu.Unlock()
			for _, e := range news[min(int(after), len(news)):] {
				if after = e.Seq; !yield(e, nil) {
					return
				}
			}
			if ended {
				return
			}
			select {
			case <-next:
			case <-ctx.Done():
				yield(bindery.Event{}, ctx.Err())
				return
			}
		}
	}
}

func (h *hub) Watch(id string) (leave func()) {
	h.change(func() { h.watching[id]++ })
	return func() { h.change(func() { h.watching[id]-- }) }
}

func (h *hub) Standings(ctx context.Context, id string) iter.Seq2[bindery.Standing, error] {
	return func(yield func(bindery.Standing, error) bool) {
		for last := (bindery.Standing{}); ; {
			h.mu.Lock()
			at, state, next := h.standing, h.builds[id].State, h.changed
			h.mu.Unlock()
			switch state {
			case bindery.BuildQueued:
				at.Run = bindery.Run{}
			case bindery.BuildRunning:
				at = bindery.Standing{Run: at.Run}
			default:
				return
			}
			if at != last {
				if last = at; !yield(at, nil) {
					return
				}
			}
			select {
			case <-next:
			case <-ctx.Done():
				yield(bindery.Standing{}, ctx.Err())
				return
			}
		}
	}
}

func (h *hub) Launch(ctx context.Context, b bindery.Build, ask bindery.Ask) (bindery.Session, error) {
	var n int
	var full error
	h.change(func() {
		h.told = ask.Env
		h.launched++
		n = h.launched
		full = h.full(b.Source, ask.RepoQuota)
	})
	if full != nil {
		return bindery.Session{}, full
	}
	if h.launch != nil {
		if err := h.launch(ctx, n); err != nil {
			return bindery.Session{}, err
		}
	}
	s := bindery.Session{ID: fmt.Sprintf("s%d", n), Build: b.ID, Image: b.Result.Image, Source: b.Source, State: bindery.SessionReady, Token: fmt.Sprintf("secret-%d", n)}
	h.change(func() { h.sessions[s.ID] = s })
	return s, nil
}

func (h *hub) Session(_ context.Context, id string) (bindery.Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.sessions[id]
	if !ok {
		return s, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Check its id.", "There is no session %s", id)
	}
	return s, nil
}

func (h *hub) Sessions(context.Context) ([]bindery.Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []bindery.Session
	for _, s := range h.sessions {
		if s.State != bindery.SessionEnded {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b bindery.Session) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

func (h *hub) StopSession(_ context.Context, id, reason string) error {
	h.change(func() {
		s := h.sessions[id]
		s.State, s.Reason = bindery.SessionEnded, reason
		h.sessions[id] = s
	})
	return nil
}

func (h *hub) OustSession(ctx context.Context, id, who, reason string) error {
	h.change(func() {
		h.audit = append(h.audit, bindery.Audit{Time: now, Who: who, Did: "stop session", What: id, Reason: reason})
	})
	return h.StopSession(ctx, id, reason)
}

func (h *hub) Queue(context.Context) (bindery.Queue, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := bindery.Queue{At: now, Slots: 2, Sessions: len(h.sessions), Rules: h.rules}
	for _, b := range h.builds {
		x := bindery.QueuedBuild{Build: b, Asker: "192.0.2.0/24", Watchers: 1, Age: time.Minute, Expected: 2 * time.Minute}
		switch b.State {
		case bindery.BuildRunning:
			q.Taken++
			q.Running = append(q.Running, x)
		case bindery.BuildQueued:
			x.Standing = h.standing
			q.Waiting = append(q.Waiting, x)
		case bindery.BuildFailed:
			q.Failures = append(q.Failures, bindery.RecentFailure{Build: b.ID, Source: b.Source, Row: 1, Until: now.Add(time.Minute), Err: b.Err})
		}
	}
	q.Shares = []bindery.Share{{Scope: bindery.OnOwner, Name: "git/example.org/o", Class: bindery.Attended, Weight: 1}, {Scope: bindery.OnRequester, Name: "192.0.2.0/24", Class: bindery.Attended, Weight: 1}}
	return q, nil
}

func (h *hub) CancelBuild(_ context.Context, id, who, reason string) error {
	h.change(func() {
		b := h.builds[id]
		b.State, b.Err = bindery.BuildCancelled, bindery.Errorf(bindery.ErrCancelled, bindery.User, "Start it again.", "The build was cancelled")
		h.builds[id] = b
		h.add(id, bindery.Event{Phase: bindery.PhaseFailed, Message: b.Err.Msg + "\n", Err: b.Err})
		h.audit = append(h.audit, bindery.Audit{Time: now, Who: who, Did: "cancel build", What: id, Reason: reason})
	})
	return nil
}

func (h *hub) RetryBuild(ctx context.Context, id, who, reason string) (bindery.Build, error) {
	h.change(func() {
		h.audit = append(h.audit, bindery.Audit{Time: now, Who: who, Did: "retry build", What: id, Reason: reason})
	})
	b, err := h.Build(ctx, id)
	if err != nil {
		return b, err
	}
	return h.Submit(ctx, bindery.Ask{Source: b.Source, Retry: true})
}

func (h *hub) ForgiveBuild(_ context.Context, id, who, reason string) error {
	h.change(func() {
		h.audit = append(h.audit, bindery.Audit{Time: now, Who: who, Did: "forgive build", What: id, Reason: reason})
	})
	return nil
}

func (h *hub) Rules(context.Context) ([]bindery.Rule, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.rules), nil
}

func (h *hub) SetRule(ctx context.Context, r bindery.Rule) error {
	h.change(func() {
		same := func(o bindery.Rule) bool { return o.Kind == r.Kind && o.Scope == r.Scope && o.Name == r.Name }
		h.rules = append(slices.DeleteFunc(h.rules, same), r)
		h.audit = append(h.audit, bindery.Audit{Time: now, Who: r.Who, Did: "set " + r.Kind, What: r.Name, Reason: r.Reason})
	})
	return nil
}

func (h *hub) LiftRule(_ context.Context, r bindery.Rule, who, reason string) error {
	h.change(func() {
		same := func(o bindery.Rule) bool { return o.Kind == r.Kind && o.Scope == r.Scope && o.Name == r.Name }
		h.rules = slices.DeleteFunc(h.rules, same)
		h.audit = append(h.audit, bindery.Audit{Time: now, Who: who, Did: "lift " + r.Kind, What: r.Name, Reason: reason})
	})
	return nil
}

func (h *hub) Audit(_ context.Context, q bindery.AuditQuery) ([]bindery.Audit, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := slices.Clone(h.audit)
	slices.Reverse(out)
	return out[:min(len(out), q.Limit)], nil
}

func (h *hub) Past(_ context.Context, limit int) ([]bindery.Build, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []bindery.Build
	for _, b := range h.builds {
		if b.State.Ended() {
			out = append(out, b)
		}
	}
	return out[:min(len(out), limit)], nil
}

// say adds lines to a build that runs.
func (h *hub) say(id string, lines ...string) {
	h.change(func() {
		b := h.builds[id]
		b.State = bindery.BuildRunning
		h.builds[id] = b
		for _, l := range lines {
			h.add(id, bindery.Event{Phase: bindery.PhaseBuilding, Message: l})
		}
	})
}

func (h *hub) add(id string, e bindery.Event) {
	e.Seq = int64(len(h.events[id]) + 1)
	h.events[id] = append(h.events[id], e)
}

func (h *hub) finish(id string) {
	h.change(func() {
		b := h.builds[id]
		b.State, b.Result = bindery.BuildSucceeded, &bindery.BuildResult{Image: "bindery/abc"}
		h.builds[id] = b
		h.add(id, bindery.Event{Phase: bindery.PhaseBuilt, Message: "done\n", Result: b.Result})
	})
}

func (h *hub) fail(id string, err *bindery.Error) {
	h.change(func() {
		b := h.builds[id]
		b.State, b.Err = bindery.BuildFailed, err
		h.builds[id] = b
		h.add(id, bindery.Event{Phase: bindery.PhaseFailed, Message: err.Msg + "\n", Err: err})
	})
}

// theBuild waits until something is being built and returns its id.
func (h *hub) theBuild(t testing.TB) (id string) {
	t.Helper()
	h.until(t, "a build", func() bool {
		for k := range h.builds {
			id = k
		}
		return id != ""
	})
	return id
}

func newServer(t testing.TB, h *hub, change ...func(*web.Config)) *web.Server {
	t.Helper()
	cfg := web.Config{
		Builds: h, Sessions: h, Secret: []byte(strings.Repeat("k", 32)), Version: "1.2.3", Generation: "gen",
		SessionURL: "http://127.0.0.1:8586", Linger: time.Millisecond,
		SessionLog: func(context.Context, string, bool) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader("log of the session\n")), nil
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := web.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serve(t testing.TB, h *hub, change ...func(*web.Config)) *httptest.Server {
	t.Helper()
	ts := httptest.NewServer(newServer(t, h, change...).Public())
	t.Cleanup(ts.Close)
	return ts
}

// A past is what the store remembers of a hub.
type past struct{ *hub }

func (m past) Events(_ context.Context, build string, after int64, limit int) ([]bindery.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.events[build]
	all = all[min(int(after), len(all)):]
	return slices.Clone(all[:min(len(all), limit)]), nil
}

// operated is for servers whose queue can be worked with.
func operated(h *hub) func(*web.Config) {
	return func(c *web.Config) {
		c.Queue, c.History, c.Workers = h, past{h}, newCrew()
		c.Export = func(context.Context, string, time.Time, time.Time) (iter.Seq2[[]byte, error], error) {
			return func(func([]byte, error) bool) {}, nil
		}
	}
}
