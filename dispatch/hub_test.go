package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/store"
)

// A hub is a dispatcher that runs, with a real store and working fakes of the rest.
type hub struct {
	*dispatch.Dispatcher
	w    *worker
	l    *launcher
	st   dispatch.Store
	stop func()
}

func openStore(t testing.TB, dir string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), store.Config{Path: filepath.Join(dir, "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// run starts a hub on what is there.
func run(t testing.TB, st dispatch.Store, w *worker, l *launcher, change func(*dispatch.Config)) *hub {
	t.Helper()
	cfg := dispatch.Config{
		Store: st, Worker: w, Launcher: l, Generation: "g1", Limits: bindery.Limits{Memory: 1 << 30},
		Probe: func(context.Context, string, string) error { return nil },
		Log:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	d, err := dispatch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stopped := false
	return &hub{Dispatcher: d, w: w, l: l, st: st, stop: func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	}}
}

// bubble runs a test in fake time with a hub of its own.
func bubble(t *testing.T, change func(*dispatch.Config), test func(t *testing.T, h *hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, t.TempDir())
		w := newWorker()
		h := run(t, db, w, newLauncher(w), change)
		test(t, h)
		h.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func ask(repo string) bindery.Ask {
	return bindery.Ask{Source: bindery.Source{Provider: bindery.ProviderGit, URL: "https://example.org/o/" + repo, Ref: "main"}, Requester: "192.0.2.0/24"}
}

func (h *hub) submit(t testing.TB, a bindery.Ask) bindery.Build {
	t.Helper()
	b, err := h.Submit(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (h *hub) build(t testing.TB, id string) bindery.Build {
	t.Helper()
	b, err := h.Build(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// story reads all events of a build and checks that they are numbered from 1 with the end at the end.
func (h *hub) story(t testing.TB, id string) []bindery.Event {
	t.Helper()
	var out []bindery.Event
	for e, err := range h.Events(t.Context(), id, 0) {
		if err != nil {
			t.Fatalf("events of %s: %v", id, err)
		}
		out = append(out, e)
		if e.Seq != int64(len(out)) {
			t.Fatalf("event %d of %s has number %d", len(out), id, e.Seq)
		}
	}
	if len(out) == 0 || !out[len(out)-1].Last() {
		t.Fatalf("the events of %s have no end", id)
	}
	return out
}

func texts(events []bindery.Event) (out []string) {
	for _, e := range events {
		out = append(out, e.Message)
	}
	return out
}

// make builds a repository and returns its build.
func (h *hub) make(t testing.TB, repo string) bindery.Build {
	t.Helper()
	b := h.submit(t, ask(repo))
	synctest.Wait()
	h.w.emit(b.ID, 1, line("hello"), built("bindery/"+repo))
	h.story(t, b.ID)
	return h.build(t, b.ID)
}

func oneSlot(c *dispatch.Config) { c.Policy = sched.Config{Sessions: 2} }

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute: %s", what)
		}
		time.Sleep(10 * time.Millisecond) // in a bubble
	}
}

func ids(n int) string { return fmt.Sprint("repo", n) }
