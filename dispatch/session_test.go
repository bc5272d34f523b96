package dispatch_test

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/sched"
)

func (h *hub) launch(t *testing.T, b bindery.Build) bindery.Session {
	t.Helper()
	s, err := h.Launch(t.Context(), b, bindery.Ask{Source: b.Source})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *hub) session(t *testing.T, id string) bindery.Session {
	t.Helper()
	s, err := h.Session(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		s := h.launch(t, h.make(t, "My_Repo.git"))
		if !regexp.MustCompile(`^s-my-repo-[a-z2-7]{16}$`).MatchString(s.ID) || !regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`).MatchString(s.Token) {
			t.Errorf("id %q, token %q", s.ID, s.Token)
		}
		addr, ok := h.Address(s.ID)
		if s.State != bindery.SessionReady || !ok || addr != s.Address || addr == "" {
			t.Errorf("ready: %+v at %q, %v", s, addr, ok)
		}
		list, err := h.Sessions(t.Context())
		if err != nil || len(list) != 1 || list[0].Token != "" || list[0].ID != s.ID {
			t.Errorf("list: %+v, %v", list, err)
		}
		if err := h.StopSession(t.Context(), s.ID, "Its owner stopped it"); err != nil {
			t.Fatal(err)
		}
		got := h.session(t, s.ID)
		if _, ok := h.Address(s.ID); ok || got.State != bindery.SessionEnded || got.Reason != "Its owner stopped it" || h.l.count() != 0 {
			t.Errorf("stopped: %+v", got)
		}
		if err := h.StopSession(t.Context(), s.ID, "again"); err != nil {
			t.Errorf("stopped again: %v", err)
		}
		if err := h.StopSession(t.Context(), "s-nobody", "x"); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("nobody stopped: %v", err)
		}
	})
}

// TestOustSession: what an operator stops is in the audit log, once, whether or not he says why; what its visitor stops,
// or the hub, is not.
func TestOustSession(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.make(t, "r")
		for _, reason := range []string{"it mines", "", "by its visitor"} {
			s, err := h.Launch(t.Context(), b, ask("r"))
			if err != nil {
				t.Fatal(err)
			}
			want := cmp.Or(reason, "Stopped by token:ann")
			for range 2 {
				if reason == "by its visitor" {
					err = h.StopSession(t.Context(), s.ID, reason)
				} else {
					err = h.OustSession(t.Context(), s.ID, "token:ann", reason)
				}
				if got := h.session(t, s.ID); err != nil || got.State != bindery.SessionEnded || got.Reason != want {
					t.Errorf("stopped: %+v, %v; want %q", got, err, want)
				}
			}
		}
		log, err := h.Audit(t.Context(), bindery.AuditQuery{})
		if err != nil || len(log) != 2 {
			t.Fatalf("audit: %+v, %v", log, err)
		}
		for i, reason := range []string{"", "it mines"} {
			if a := log[i]; a.Who != "token:ann" || a.Did != "stop session" || !strings.HasSuffix(a.What, " of "+b.Source.Identity()) || a.Reason != reason {
				t.Errorf("audit: %+v", a)
			}
		}
	})
}

func TestSessionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		exit bindery.Exit
		want string
	}{
		"code":   {bindery.Exit{Code: 3}, "exit code 3"},
		"signal": {bindery.Exit{Code: 137}, "signal 9"},
		"memory": {bindery.Exit{Code: 137, OutOfMemory: true}, "It ran out of memory: it may use 1024 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, h *hub) {
				s := h.launch(t, h.make(t, "r"))
				h.l.end(s.ID, c.exit)
				synctest.Wait()
				got := h.session(t, s.ID)
				if got.State != bindery.SessionEnded || !strings.Contains(got.Reason, c.want) || got.Exit == nil || *got.Exit != c.exit || h.l.count() != 0 {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestSessionDiesAtStart(t *testing.T) {
	never := func(c *dispatch.Config) {
		c.Probe = func(context.Context, string, string) error { return errors.New("connection refused") }
	}
	for name, c := range map[string]struct {
		exit bindery.Exit
		kind bindery.Kind
	}{
		"died":   {bindery.Exit{Code: 1}, bindery.ErrSessionDied},
		"memory": {bindery.Exit{Code: 137, OutOfMemory: true}, bindery.ErrOutOfMemory},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, never, func(t *testing.T, h *hub) {
				b := h.make(t, "r")
				h.l.dies, h.l.log = &c.exit, "first\nTraceback\x1b[31m\nImportError: no module named nope\n"
				_, err := h.Launch(t.Context(), b, bindery.Ask{})
				e, ok := errors.AsType[*bindery.Error](err)
				if !ok || e.Kind != c.kind || e.Fault != bindery.User || !strings.Contains(e.Remedy, "ImportError: no module named nope") || strings.Contains(e.Remedy, "\x1b") {
					t.Errorf("got %#v", err)
				}
				if list, _ := h.Sessions(t.Context()); len(list) != 0 || h.l.count() != 0 {
					t.Errorf("left: %+v", list)
				}
			})
		})
	}
	t.Run("silent", func(t *testing.T) {
		bubble(t, never, func(t *testing.T, h *hub) {
			_, err := h.Launch(t.Context(), h.make(t, "r"), bindery.Ask{})
			if !errors.Is(err, bindery.ErrTimeout) || h.l.count() != 0 {
				t.Errorf("got %v, %d containers", err, h.l.count())
			}
		})
	})
}

// TestVisitorLeaves goes away while a session is starting, early or late: nothing stays.
func TestVisitorLeaves(t *testing.T) {
	for name, hang := range map[string]bool{"in start": true, "in probe": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(c *dispatch.Config) {
				c.Probe = func(context.Context, string, string) error { return errors.New("connection refused") }
			}, func(t *testing.T, h *hub) {
				b := h.make(t, "r")
				h.l.hang = hang
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := h.Launch(ctx, b, bindery.Ask{})
				synctest.Wait()
				if list, _ := h.Sessions(t.Context()); !errors.Is(err, context.DeadlineExceeded) || len(list) != 0 || h.l.count() != 0 {
					t.Errorf("got %v, left %+v", err, list)
				}
			})
		})
	}
}

func TestSameRequest(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.make(t, "r")
		var wg sync.WaitGroup
		got := make([]bindery.Session, 3)
		for i := range got {
			wg.Go(func() {
				var err error
				if got[i], err = h.Launch(t.Context(), b, bindery.Ask{Request: "tab-1"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got[0].ID != got[1].ID || got[1].ID != got[2].ID || got[2].Token == "" || h.l.starts != 1 {
			t.Errorf("%d starts: %+v", h.l.starts, got)
		}
		if s := h.launch(t, b); s.ID == got[0].ID {
			t.Error("a launch without a request found a session")
		}
	})
}

// TestPlaces lets visitors wait for a place, in the order of coming, and tells them where they stand. One leaves, one
// comes twice.
func TestPlaces(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { oneSlot(c); c.Wait = true }, func(t *testing.T, h *hub) {
		b := h.make(t, "r")
		first, second := h.launch(t, b), h.launch(t, b)
		var order []string
		got := map[string]bindery.Session{}
		var told []bindery.Standing
		var mu sync.Mutex // of those three
		var wg sync.WaitGroup
		come := func(ctx context.Context, request string) {
			wg.Go(func() {
				s, err := h.Launch(ctx, b, bindery.Ask{Request: request})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					order, got[request] = append(order, request), s
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", request, err)
				}
			})
			time.Sleep(time.Second)
		}
		leaves, leave := context.WithCancel(t.Context())
		come(leaves, "leaves")
		come(t.Context(), "a")
		come(t.Context(), "b")
		come(t.Context(), "a")
		wg.Go(func() {
			for st := range h.Standings(t.Context(), "b") {
				mu.Lock()
				told = append(told, st)
				mu.Unlock()
			}
		})
		synctest.Wait()
		q, err := h.Queue(t.Context())
		if err != nil || len(q.Lobby) != 3 || q.Sessions != 2 || q.Lobby[2].Standing.Position != 3 || !strings.Contains(q.Lobby[0].Standing.Reason, "all places for sessions are taken (2)") {
			t.Errorf("the queue: %+v, %v", q.Lobby, err)
		}
		leave()
		time.Sleep(time.Minute)
		for _, s := range []bindery.Session{first, second} {
			if err := h.StopSession(t.Context(), s.ID, "enough"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		wg.Wait()
		if len(order) != 3 || order[2] != "b" || got["a"].ID == got["b"].ID || got["leaves"].ID != "" || h.l.starts != 4 {
			t.Errorf("%d starts, in order %v: %+v", h.l.starts, order, got)
		}
		if n := len(told); n < 3 || told[0].Position != 3 || told[n-1].Position != 1 {
			t.Errorf("told: %+v", told)
		}
		if list, err := h.Sessions(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("sessions: %+v, %v", list, err)
		}
	})
}

// TestNoPlaces refuses at once where nobody may wait, and whom a ban is about.
func TestNoPlaces(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Policy.Sessions, c.Policy.Places, c.Wait = 1, 1, true }, func(t *testing.T, h *hub) {
		b := h.make(t, "r")
		h.launch(t, b)
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { _, err = h.Launch(t.Context(), b, bindery.Ask{}) })
		synctest.Wait()
		if _, err := h.Launch(t.Context(), b, bindery.Ask{}); !errors.Is(err, bindery.ErrHubQuota) {
			t.Errorf("nobody more may wait: %v", err)
		}
		if err := h.SetRule(t.Context(), ban("r")); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if !errors.Is(err, bindery.ErrNotReady) || !strings.Contains(err.Error(), "ops@example.org") {
			t.Errorf("banned while it waited: %v", err)
		}
	})
}

// TestRepoQuota lets visitors with a quota of their repository wait for a place on a full hub; over the quota they are
// refused at once, as BinderHub does. Both hold after a transaction that fails.
func TestRepoQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		st := &flaky{Store: db, mode: failBefore}
		h := run(t, st, w, newLauncher(w), func(c *dispatch.Config) {
			c.Policy.Sessions, c.Wait = 2, true
			c.Limits.Idle, c.Limits.Age = 24*time.Hour, 24*time.Hour
		})
		course := bindery.Rule{Kind: "quota", Scope: "repository", Name: ask("r").Source.Identity(), Value: 2, Reason: "a course", Who: "ann"}
		b, a := h.make(t, "r"), ask("r")
		a.Source, a.RepoQuota = b.Source, 1
		other, first := h.launch(t, h.make(t, "q")), h.launch(t, b)
		if _, err := h.Launch(t.Context(), b, a); !errors.Is(err, bindery.ErrRepoQuota) {
			t.Errorf("over its quota on a full hub: %v", err)
		}
		if err := h.SetRule(t.Context(), course); err != nil {
			t.Fatal(err)
		}
		var second bindery.Session
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if second, err = h.Launch(t.Context(), b, a); err != nil {
				t.Errorf("within its quota on a full hub: %v", err)
			}
		})
		synctest.Wait()
		st.mu.Lock()
		st.at = st.n + 1
		st.mu.Unlock()
		if err := h.LiftRule(t.Context(), course, "ann", "over"); err == nil {
			t.Error("no transaction failed")
		}
		if err := h.LiftRule(t.Context(), course, "ann", "over"); err != nil {
			t.Fatal(err)
		}
		for _, s := range []bindery.Session{other, first} { // who came within a quota that is no more still waits for his own
			if second.ID != "" {
				t.Errorf("a second session when %s ends", s.ID)
			}
			if err := h.StopSession(t.Context(), s.ID, "enough"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		wg.Wait()
		h.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCull(t *testing.T) {
	bubble(t, func(c *dispatch.Config) { c.Limits = bindery.Limits{Idle: 10 * time.Minute, Age: 2 * time.Hour} }, func(t *testing.T, h *hub) {
		b := h.make(t, "r")
		idle, busy := h.launch(t, b), h.launch(t, b)
		for range 14 {
			time.Sleep(9 * time.Minute)
			h.Active(busy.ID)
			h.Active("s-nobody")
		}
		got := h.session(t, idle.ID)
		if got.State != bindery.SessionEnded || got.Reason != "It was stopped because nobody used it for 10m" || got.Ended.Sub(got.Created) > 11*time.Minute {
			t.Errorf("idle: %+v", got)
		}
		got = h.session(t, busy.ID)
		if got.State != bindery.SessionEnded || got.Reason != "It was stopped because it reached its age limit of 2h" || got.Active.Sub(got.Created) < 100*time.Minute {
			t.Errorf("busy: %+v", got)
		}
	})
}

// TestImageIsGone launches a build whose image the worker has lost: it is built again, once.
func TestImageIsGone(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.make(t, "r")
		h.w.set(func() {
			clear(h.w.images)
			h.w.run = func(_ bindery.BuildRequest, emit func(bindery.Event)) { emit(built("bindery/r")) }
		})
		s := h.launch(t, b)
		if s.State != bindery.SessionReady || s.Build == b.ID {
			t.Errorf("got %+v", s)
		}
		if again := h.submit(t, ask("r")); again.ID != s.Build {
			t.Errorf("the new build does not answer: %+v", again)
		}
	})
}

func TestCommand(t *testing.T) {
	s := bindery.Session{ID: "s-x", Token: "secret"}
	args, env := dispatch.Command(s, 8888, nil)
	all := strings.Join(args, " ")
	if strings.Contains(all, "secret") || !strings.Contains(strings.Join(env, " "), "JUPYTER_TOKEN=secret") {
		t.Errorf("the token is in the arguments, or nowhere: %q %q", args, env)
	}
	if !strings.Contains(all, "--ServerApp.base_url=/user/s-x/") || !strings.Contains(all, "--port=8888") {
		t.Errorf("args: %q", args)
	}
	if _, env := dispatch.Command(s, 8888, []string{"BINDER_REQUEST=v2/x"}); !slices.Contains(env, "BINDER_REQUEST=v2/x") || slices.Contains(env, "BINDER_REPO_URL=") {
		t.Errorf("a session is told %q", env)
	}
	if id := dispatch.RunID(bindery.Source{Provider: bindery.ProviderLocal, URL: "/"}); !regexp.MustCompile(`^r-[a-z0-9-]{1,37}$`).MatchString(id) {
		t.Errorf("id %q", id)
	}
}

// TestQuotaIsNotOvershot has a crowd come at one moment for the few sessions that a repository, or the hub, may have.
func TestQuotaIsNotOvershot(t *testing.T) {
	for name, c := range map[string]struct {
		policy sched.Config
		quota  int
		want   bindery.Kind
	}{"the repository's": {sched.Config{Sessions: 100}, 5, bindery.ErrRepoQuota}, "the hub's": {sched.Config{Sessions: 5}, 0, bindery.ErrHubQuota}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(cfg *dispatch.Config) { cfg.Policy = c.policy }, func(t *testing.T, h *hub) {
				b := h.make(t, "r")
				errs := make([]error, 60)
				var wg sync.WaitGroup
				for i := range errs {
					wg.Go(func() { _, errs[i] = h.Launch(t.Context(), b, bindery.Ask{Source: b.Source, RepoQuota: c.quota}) })
				}
				wg.Wait()
				started := 0
				for _, err := range errs {
					if err == nil {
						started++
					} else if !errors.Is(err, c.want) {
						t.Error(err)
					}
				}
				live, err := h.Sessions(t.Context())
				if err != nil || started != 5 || len(live) != 5 {
					t.Errorf("%d of %d were started, %d live, %v", started, len(errs), len(live), err)
				}
			})
		})
	}
}

// TestQuotaBeforeBuild refuses to build what could not be launched, and builds it for those who want no session.
func TestQuotaBeforeBuild(t *testing.T) {
	for name, c := range map[string]struct {
		config func(*dispatch.Config)
		quota  int
		want   bindery.Kind
	}{
		"the repository's": {nil, 1, bindery.ErrRepoQuota},
		"the hub's":        {func(c *dispatch.Config) { c.Policy = sched.Config{Sessions: 1} }, 0, bindery.ErrHubQuota},
		"a place to wait":  {func(c *dispatch.Config) { c.Policy, c.Wait = sched.Config{Sessions: 1}, true }, 0, ""},
		"within a quota":   {func(c *dispatch.Config) { c.Policy, c.Wait = sched.Config{Sessions: 1}, true }, 2, ""},
		"over a quota":     {func(c *dispatch.Config) { c.Wait = true }, 1, bindery.ErrRepoQuota},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.config, func(t *testing.T, h *hub) {
				s := h.launch(t, h.make(t, "r"))
				next := ask("r")
				next.Source.Commit, next.RepoQuota, next.Launches = strings.Repeat("e", 40), c.quota, true
				b, err := h.Submit(t.Context(), next)
				if c.want == "" {
					if err != nil || b.State.Ended() {
						t.Errorf("with a place to wait: %+v, %v", b, err)
					}
					return
				}
				if q, qerr := h.Queue(t.Context()); !errors.Is(err, c.want) || qerr != nil || len(q.Running)+len(q.Waiting) != 0 {
					t.Fatalf("%+v, %v; the queue %+v, %v", b, err, q, qerr)
				}
				alone := next
				alone.Launches = false
				if b := h.submit(t, alone); b.State.Ended() {
					t.Errorf("without a session: %+v", b)
				}
				if _, err := h.Submit(t.Context(), next); !errors.Is(err, c.want) {
					t.Errorf("while it is built: %v", err)
				}
				if err := h.StopSession(t.Context(), s.ID, "enough"); err != nil {
					t.Fatal(err)
				}
				h.submit(t, next)
			})
		})
	}
}
