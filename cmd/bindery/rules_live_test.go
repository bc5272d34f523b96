package main

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/store"
	"github.com/bindery-hub/bindery/web"
)

// A bench is a machine of one slot that builds and runs nothing: builds of repositories whose name begins with "quick"
// are done at once, all others when they are cancelled, and sessions when they are stopped.
type bench struct {
	mu      sync.Mutex
	builds  map[string]bindery.Source
	stopped map[string]chan struct{} // by build or session
}

func newBench() *bench {
	return &bench{builds: map[string]bindery.Source{}, stopped: map[string]chan struct{}{}}
}

func (b *bench) stop(id string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped[id] == nil {
		b.stopped[id] = make(chan struct{})
	}
	return b.stopped[id]
}

func (b *bench) end(id string) {
	c := b.stop(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

type benchWorker struct{ *bench }

func (w benchWorker) Start(_ context.Context, req bindery.BuildRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.builds[req.ID] = req.Source
	return nil
}
func (w benchWorker) Ack(context.Context, string, int, int64) error { return nil }
func (w benchWorker) Cancel(_ context.Context, id string, _ int) error {
	w.end(id)
	return nil
}
func (w benchWorker) Resolve(_ context.Context, src bindery.Source) (bindery.Source, error) {
	src.Commit = bindery.Key("commit", src.URL, src.Ref)[:40]
	return src, nil
}
func (w benchWorker) Status(context.Context) (bindery.WorkerStatus, error) {
	return bindery.WorkerStatus{Name: "w", Generation: "g", Slots: 1, DiskFree: 1 << 40}, nil
}
func (w benchWorker) Events(ctx context.Context, id string, _ int, after int64) iter.Seq2[bindery.Event, error] {
	w.mu.Lock()
	quick := strings.Contains(w.builds[id].URL, "/quick")
	w.mu.Unlock()
	return func(yield func(bindery.Event, error) bool) {
		last := bindery.Event{Seq: 1, Phase: bindery.PhaseBuilt, Result: &bindery.BuildResult{Image: "image"}}
		if !quick {
			select {
			case <-w.stop(id):
				last = bindery.Event{Seq: 1, Phase: bindery.PhaseFailed, Err: bindery.Errorf(bindery.ErrCancelled, bindery.User, "", "cancelled")}
			case <-ctx.Done():
				yield(bindery.Event{}, ctx.Err())
				return
			}
		}
		if after < 1 {
			yield(last, nil)
		}
	}
}

type benchLauncher struct{ *bench }

func (l benchLauncher) Start(_ context.Context, in bindery.Launch) (bindery.Running, error) {
	return bindery.Running{ID: in.ID, PID: 1, Address: "127.0.0.1:1", Started: time.Now()}, nil
}
func (l benchLauncher) Wait(ctx context.Context, id string) (bindery.Exit, error) {
	select {
	case <-l.stop(id):
		return bindery.Exit{Time: time.Now()}, nil
	case <-ctx.Done():
		return bindery.Exit{}, ctx.Err()
	}
}
func (l benchLauncher) Stop(_ context.Context, id string) error {
	l.end(id)
	return nil
}
func (l benchLauncher) List(context.Context) ([]bindery.Running, error) { return nil, nil }

// benchParts makes a hub over a directory, of a generation.
func benchParts(ctx context.Context, dir, generation string) (*store.DB, *dispatch.Dispatcher, *web.Server, error) {
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "bindery.db")})
	if err != nil {
		return nil, nil, nil, err
	}
	b := newBench()
	d, err := dispatch.New(dispatch.Config{
		Store: db, Worker: benchWorker{b}, Launcher: benchLauncher{b}, Generation: generation, PollWorker: 50 * time.Millisecond, Wait: true,
		Probe: func(context.Context, string, string) error { return nil },
	})
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := web.New(benchWeb(db, d))
	return db, d, s, err
}

// benchWeb is how such a hub is served.
func benchWeb(db *store.DB, d *dispatch.Dispatcher) web.Config {
	return web.Config{
		Builds: d, Sessions: d, Queue: d, Library: d, History: db, Secret: []byte(strings.Repeat("k", 32)), SessionURL: "http://127.0.0.1:1",
		Tokens: []web.Token{{Hash: web.HashToken("t"), Name: "ops"}}, LeaveGrace: time.Millisecond,
		Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
}

// runHub runs a hub over a directory until the function that it returns is called.
func runHub(t *testing.T, dir string) (flags []string, url string, stop func()) {
	t.Helper()
	db, d, s, err := benchParts(t.Context(), dir, "g")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	ts := httptest.NewServer(s.Public())
	var once sync.Once
	stop = func() {
		once.Do(func() {
			ts.CloseClientConnections()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			ts.Close()
			_ = db.Close()
		})
	}
	t.Cleanup(stop)
	return []string{"--hub", ts.URL, "--token", "t"}, ts.URL, stop
}

// watch opens the event stream of a repository, as BinderHub's clients do, and sends its lines.
func watch(t *testing.T, hub, repo string) <-chan string { return watchFrom(t, hub, repo, "") }

// watchFrom does so from an address.
func watchFrom(t *testing.T, hub, repo, addr string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", hub+"/build/git/https%3A%2F%2Fexample.org%2F"+strings.ReplaceAll(repo, "/", "%2F")+"/main", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if addr != "" {
		req.Header.Set("X-Forwarded-For", addr)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer resp.Body.Close()
		defer close(lines)
		for m, err := range api.ReadStream(resp.Body) {
			if err != nil {
				return
			}
			lines <- m.Data
		}
	}()
	return lines
}

// expect waits for a line with some text and returns how long that took.
func expect(t *testing.T, lines <-chan string, text string) time.Duration {
	t.Helper()
	began := time.Now()
	late := time.After(20 * time.Second)
	for last := ""; ; {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the stream ended without %q; its last line was %s", text, last)
			}
			if last = line; strings.Contains(line, text) {
				return time.Since(began)
			}
		case <-late:
			t.Fatalf("no %q; the last line was %s", text, last)
		}
	}
}

func must(t *testing.T, flags []string, args ...string) string {
	t.Helper()
	status, out, complaints := try(t, append(args, flags...)...)
	if status != exitOK {
		t.Fatalf("%q: %d %s%s", args, status, out, complaints)
	}
	return out
}

// soon is how fast a rule is to act, under load too.
const soon = time.Second

// TestRulesAct makes rules by the command line while people wait, and reads what their streams say.
func TestRulesAct(t *testing.T) {
	dir := t.TempDir()
	flags, hub, stop := runHub(t, dir)

	// A long build takes the one slot; another one waits and is told why.
	slow := watch(t, hub, "ann/slow")
	expect(t, slow, "Waiting for build to start...")
	waits := watch(t, hub, "bob/waits")
	expect(t, waits, `; this build is next","from":"`)

	// Hold: its reason changes while it waits.
	must(t, flags, "hold", "add", "https://example.org/bob/*", "--reason", "secret", "--message", "until the course begins")
	if took := expect(t, waits, "until the course begins"); took > soon {
		t.Errorf("a hold took %s", took)
	}

	// Ban: what runs is stopped, its visitors are told the message and never the reason.
	must(t, flags, "ban", "add", "https://example.org/ann/slow", "--reason", "secret", "--message", "Back at noon.")
	if took := expect(t, slow, "Back at noon."); took > soon {
		t.Errorf("a ban took %s", took)
	}
	expect(t, watch(t, hub, "ann/slow"), "Back at noon.")

	// The slot is free, but the other one is held; lifted, it runs.
	out := must(t, flags, "queue")
	if !strings.Contains(out, "0 of 1 slots taken, 1 waiting") || !strings.Contains(out, "https://example.org/bob/*") {
		t.Errorf("queue:\n%s", out)
	}
	must(t, flags, "hold", "rm", "https://example.org/bob/*", "--reason", "it began")
	eventually(t, "the held build runs", func() bool { return strings.Contains(must(t, flags, "queue"), "1 of 1 slots taken, 0 waiting") })

	// Rules outlive the hub, and are in the audit log with who, what and why.
	stop()
	flags, hub, _ = runHub(t, dir)
	expect(t, watch(t, hub, "ann/slow"), "Back at noon.")
	log := must(t, flags, "audit")
	for _, part := range []string{"token:ops", "set ban", "lift hold", "it began", "secret"} {
		if !strings.Contains(log, part) {
			t.Errorf("the audit log has no %q:\n%s", part, log)
		}
	}

	// A rule ends by itself, on time.
	must(t, flags, "ban", "add", "https://example.org/ann/slow", "--reason", "again", "--for", "1s")
	began := time.Now()
	eventually(t, "the ban ends", func() bool { return !strings.Contains(must(t, flags, "ban", "ls"), "slow") })
	if took := time.Since(began); took > time.Second+soon {
		t.Errorf("a ban for a second ended after %s", took)
	}
	expect(t, watch(t, hub, "ann/slow"), `"phase":"waiting"`)
}

// TestRulesOfWhatIsBuilt is about repositories whose image is there: nothing is built, so only a launch can be refused.
func TestRulesOfWhatIsBuilt(t *testing.T) {
	flags, hub, _ := runHub(t, t.TempDir())
	expect(t, watch(t, hub, "ann/quick"), `"phase":"ready"`)
	must(t, flags, "quota", "add", "https://example.org/ann/quick", "1", "--reason", "r")
	must(t, flags, "ban", "add", "https://example.org/eve/*", "--reason", "r", "--message", "Not today.")
	expect(t, watch(t, hub, "eve/quick"), "Not today.")
	waits := watch(t, hub, "ann/quick")
	expect(t, waits, "all places of this repository are taken (1)")
	must(t, flags, "quota", "rm", "https://example.org/ann/quick")
	if took := expect(t, waits, `"phase":"ready"`); took > soon {
		t.Errorf("to lift a quota took %s", took)
	}

	// Launches are held, and go on when the hold is lifted.
	must(t, flags, "hold", "add", "--launches", "https://example.org/ann/*", "--reason", "r", "--message", "the course begins at noon")
	waits = watch(t, hub, "ann/quick")
	expect(t, waits, "the operator holds launches of this owner back: the course begins at noon")
	if out := must(t, flags, "hold", "ls"); !strings.Contains(out, "hold-launches") {
		t.Errorf("hold ls:\n%s", out)
	}
	must(t, flags, "hold", "rm", "--launches", "https://example.org/ann/*")
	expect(t, waits, `"phase":"ready"`)
	must(t, flags, "ban", "add", "https://example.org/ann/quick", "--reason", "r", "--message", "Later.")
	expect(t, watch(t, hub, "ann/quick"), "Later.")
	eventually(t, "its sessions are stopped", func() bool { return !strings.Contains(must(t, flags, "sessions", "ls"), "ready") })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New(what))
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: waited too long", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
