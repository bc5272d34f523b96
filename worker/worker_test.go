package worker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/worker"
)

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	f := newFake()
	w := serve(t, dir, f)
	start(t, w.Client, "b1", "lines 3")
	evs := events(t, w.Client, "b1", 0)
	if len(evs) != 4 || evs[0].Message != "line 1\n" || evs[0].Time.IsZero() || last(t, evs).Result.Image != "bindery/b1" {
		t.Fatalf("got events %+v", evs)
	}
	st, err := w.Attempt(t.Context(), "b1", 1)
	if err != nil || !st.Done || st.LastSeq != 4 || st.Result == nil {
		t.Errorf("Attempt is %+v, %v", st, err)
	}
	if got := events(t, w.Client, "b1", 2); len(got) != 2 {
		t.Errorf("after 2 come %d events, want 2", len(got))
	}
	if got := events(t, w.Client, "b1", 4); len(got) != 0 {
		t.Errorf("after the last event come %d", len(got))
	}
	start(t, w.Client, "b1", "lines 3") // again: harmless
	if f.started != 1 {
		t.Errorf("%d builds ran, want 1", f.started)
	}
	wantKind(t, w.Start(t.Context(), request("b1", "lines 4")), bindery.ErrConflict, bindery.Ours)

	if err := w.Ack(t.Context(), "b1", 1, 3); err != nil || !exists(filepath.Join(dir, "builds/b1/1/events.ndjson")) {
		t.Errorf("an early acknowledgement took the log: %v", err)
	}
	if err := w.Ack(t.Context(), "b1", 1, 4); err != nil || exists(filepath.Join(dir, "builds/b1")) {
		t.Errorf("the log stays after its acknowledgement: %v", err)
	}
	_, err = w.Attempt(t.Context(), "b1", 1)
	wantKind(t, err, bindery.ErrNotFound, bindery.Ours)
	wantKind(t, w.Start(t.Context(), request("b1", "lines 3")), bindery.ErrConflict, bindery.Ours)
}

func TestFailures(t *testing.T) {
	w := serve(t, t.TempDir(), newFake())
	start(t, w.Client, "f", "fail code 3")
	e := last(t, events(t, w.Client, "f", 0)).Err
	want := &bindery.Error{Kind: bindery.ErrStep, Fault: bindery.User, Msg: "postBuild failed with code 3", Remedy: "Correct it."}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	start(t, w.Client, "p", "panic")
	if e := last(t, events(t, w.Client, "p", 0)).Err; e == nil || e.Kind != bindery.ErrInternal || e.Fault != bindery.Ours {
		t.Errorf("a panic became %+v", e)
	}
	start(t, w.Client, "c", "wait")
	firstEvent(t, w.Client, "c")
	if err := w.Cancel(t.Context(), "c", 1); err != nil {
		t.Error(err)
	}
	if e := last(t, events(t, w.Client, "c", 0)).Err; e == nil || e.Kind != bindery.ErrCancelled {
		t.Errorf("a cancelled build ended with %+v", e)
	}
}

func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, newFake())
	for _, id := range []string{"..", "../../etc", "a/b", "-x", ".", strings.Repeat("x", 200), "a\x00b"} {
		if err := w.Start(t.Context(), request(id, "lines 1")); err == nil {
			t.Errorf("build %q was started", id)
		}
	}
	for _, session := range []string{"..", "a/b", "UP", "-x"} {
		if _, err := w.Prepare(t.Context(), session, "bindery/known"); err == nil {
			t.Errorf("session %q was prepared", session)
		}
	}
	if err := w.Start(t.Context(), bindery.BuildRequest{ID: "a", Attempt: 0}); err == nil {
		t.Error("attempt 0 was started")
	}
}

func TestRest(t *testing.T) {
	f := newFake()
	w := serve(t, t.TempDir(), f, func(c *worker.Config) {
		c.Dropper = f
		c.Usage = func(context.Context) (int64, int64, error) { return 5, 7, nil }
		c.Checks = func(context.Context) []bindery.Check { return []bindery.Check{{Name: "x", OK: true}} }
	})
	ctx := t.Context()
	src, err := w.Resolve(ctx, bindery.Source{URL: "https://example.org/r"})
	if err != nil || !bindery.IsCommit(src.Commit) {
		t.Errorf("Resolve: %+v, %v", src, err)
	}
	_, err = w.Resolve(ctx, bindery.Source{Ref: "none"})
	wantKind(t, err, bindery.ErrRefNotFound, bindery.User)
	if raw, err := w.Plan(ctx, bindery.Source{URL: "u"}, "debian:trixie"); err != nil || string(raw) != `{"base":"debian:trixie","url":"u"}` {
		t.Errorf("Plan: %s, %v", raw, err)
	}
	if img, err := w.Image(ctx, "bindery/known"); err != nil || img.Name != "bindery/known" {
		t.Errorf("Image: %+v, %v", img, err)
	}
	_, err = w.Image(ctx, "bindery/un known?")
	wantKind(t, err, bindery.ErrNotFound, bindery.Ours)
	if all, err := w.Images(ctx); err != nil || len(all) != 1 {
		t.Errorf("Images: %+v, %v", all, err)
	}
	if err := w.RemoveImage(ctx, "bindery/known"); err != nil {
		t.Error(err)
	}
	if all, err := w.Dropped(ctx); err != nil || len(all) != 0 {
		t.Errorf("Dropped: %+v, %v", all, err)
	}
	f.dropped = []bindery.Dropped{{Number: 7, Image: "bindery/a", Time: time.Unix(1e9, 0).UTC(), Free: 1}, {Number: 8, Image: "bindery/b"}}
	if all, err := w.Dropped(ctx); err != nil || cmp.Diff(f.dropped, all) != "" {
		t.Errorf("Dropped: %+v, %v", all, err)
	}
	if err := w.ForgetDropped(ctx, 7); err != nil {
		t.Error(err)
	}
	if all, err := w.Dropped(ctx); err != nil || len(all) != 1 || all[0].Number != 8 {
		t.Errorf("Dropped, but for what is known: %+v, %v", all, err)
	}
	if fs, err := w.Prepare(ctx, "s1", "bindery/known"); err != nil || len(fs.Mounts) != 1 {
		t.Errorf("Prepare: %+v, %v", fs, err)
	}
	start(t, w.Client, "b", "wait")
	st, err := w.Status(ctx)
	want := bindery.WorkerStatus{Name: "w", Version: "1", Generation: "g", PID: os.Getpid(), Slots: 4, Prepared: []string{"s1"},
		Checks: []bindery.Check{{Name: "x", OK: true}}, CacheSize: 5, DiskFree: 7}
	if len(st.Builds) != 1 || st.Builds[0].ID != "b" || st.Builds[0].Done {
		t.Errorf("Status has builds %+v", st.Builds)
	}
	st.Builds = nil
	if d := cmp.Diff(want, st); d != "" || err != nil {
		t.Errorf("Status: %v %s", err, d)
	}
	if err := w.Release(ctx, "s1"); err != nil {
		t.Error(err)
	}
}

func TestSlots(t *testing.T) {
	w := serve(t, t.TempDir(), newFake(), func(c *worker.Config) { c.Slots = 1 })
	for i := range 2 + 16 { // its slot, one that is being left, and those beside the slots
		start(t, w.Client, "b"+strconv.Itoa(i), "wait")
	}
	wantKind(t, w.Start(t.Context(), request("c", "wait")), bindery.ErrNotReady, bindery.Transient)
}

func TestShutdownLosesBuilds(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, newFake())
	start(t, w.Client, "b", "wait")
	firstEvent(t, w.Client, "b")
	w.stop()
	w = serve(t, dir, newFake())
	evs := events(t, w.Client, "b", 0)
	if e := last(t, evs).Err; len(evs) != 2 || e == nil || e.Kind != bindery.ErrWorkerLost || e.Fault != bindery.Transient {
		t.Errorf("got events %+v", evs)
	}
}

func TestDrain(t *testing.T) {
	w := serve(t, t.TempDir(), newFake())
	start(t, w.Client, "b", "wait")
	if err := w.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.Start(t.Context(), request("c", "lines 1")), bindery.ErrNotReady, bindery.Transient)
	if err := w.Cancel(t.Context(), "b", 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Gone(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestIdleExit(t *testing.T) {
	w := serve(t, t.TempDir(), newFake(), func(c *worker.Config) { c.IdleExit = 200 * time.Millisecond })
	start(t, w.Client, "b", "lines 1")
	select {
	case err := <-w.done:
		w.done <- err
	case <-time.After(20 * time.Second):
		t.Fatal("an idle worker stays")
	}
	err := w.Alive(t.Context())
	wantKind(t, err, bindery.ErrWorkerLost, bindery.Transient)
}

func TestTwoHundredReaders(t *testing.T) {
	const readers, lines = 200, 500
	w := serve(t, t.TempDir(), newFake())
	var wg sync.WaitGroup
	var mu sync.Mutex
	whole := 0
	start(t, w.Client, "b", fmt.Sprintf("lines %d", lines))
	for range readers {
		wg.Go(func() {
			if evs := events(t, w.Client, "b", 0); len(evs) == lines+1 {
				mu.Lock()
				whole++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if whole != readers {
		t.Errorf("%d of %d readers saw all", whole, readers)
	}
}

func TestLogIsCapped(t *testing.T) {
	w := serve(t, t.TempDir(), newFake(), func(c *worker.Config) { c.MaxLog = 10_000 })
	start(t, w.Client, "b", "lines 1000")
	evs := events(t, w.Client, "b", 0)
	if len(evs) > 200 || last(t, evs).Result == nil || !strings.Contains(evs[len(evs)-2].Message, "cut") {
		t.Errorf("%d events; the last ones are %+v", len(evs), evs[len(evs)-2:])
	}
}

func TestLongMessagesAreSplit(t *testing.T) {
	w := serve(t, t.TempDir(), newFake())
	text := strings.Repeat("é", 30_000) + "\n" + strings.Repeat("line\n", 5000)
	start(t, w.Client, "b", "say "+text)
	var got strings.Builder
	for _, ev := range events(t, w.Client, "b", 0) {
		if len(ev.Message) > 16<<10 {
			t.Errorf("a message of %d bytes", len(ev.Message))
		}
		got.WriteString(ev.Message)
	}
	if got.String() != text {
		t.Error("the pieces are not the whole")
	}
}

func TestSecrets(t *testing.T) {
	w := serve(t, t.TempDir(), newFake(), func(c *worker.Config) { c.Secrets = []string{"hunter22", "x", "hunter2"} })
	start(t, w.Client, "b", "say token=hunter22!\n|a hun|ter|2 b\n|hunt|hunting\n|end hunt")
	var got strings.Builder
	for _, ev := range events(t, w.Client, "b", 0) {
		got.WriteString(ev.Message)
	}
	if want := "token=[secret]!\na [secret] b\nhunthunting\nend hunt"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
	start(t, w.Client, "f", "fail hunter2")
	if e := last(t, events(t, w.Client, "f", 0)).Err; e.Msg != "postBuild failed with [secret]" {
		t.Errorf("the error says %q", e.Msg)
	}
}

func TestLockAndStaleSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-deep-directory/", 8))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "worker.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := serve(t, dir, newFake())
	if err := w.Alive(t.Context()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "worker.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	_, err := worker.Listen(dir)
	wantKind(t, err, bindery.ErrLocked, bindery.User)
}

// On a full disk lines are lost, but no numbers, and the last event arrives.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: no small file system can be mounted")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=800k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	w := serve(t, dir, newFake())
	start(t, w.Client, "b", "lines 20000")
	evs := events(t, w.Client, "b", 0)
	if n := len(evs); n < 100 || n > 19_000 || last(t, evs).Result == nil {
		t.Errorf("%d events came; the last is %+v", n, evs[n-1])
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 800<<10), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	wantKind(t, w.Start(t.Context(), request("c", "lines 1")), bindery.ErrNoSpace, bindery.Ours)
	w.stop()
	w = serve(t, dir, newFake())
	if again := events(t, w.Client, "b", 0); len(again) != len(evs) {
		t.Errorf("after a restart %d events come, want %d", len(again), len(evs))
	}
}
