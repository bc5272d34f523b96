package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

func TestBuild(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.submit(t, ask("r"))
		if b.State != bindery.BuildQueued && b.State != bindery.BuildRunning || b.Source.Commit != commit1 || b.Class != bindery.Attended {
			t.Errorf("submitted: %+v", b)
		}
		synctest.Wait()
		if got := h.build(t, b.ID); got.State != bindery.BuildRunning || got.Attempt != 1 || got.Worker != "w" {
			t.Errorf("running: %+v", got)
		}
		h.w.emit(b.ID, 1, line("one"), line("two"))
		synctest.Wait()
		h.w.emit(b.ID, 1, built("bindery/r"))
		want := []string{"Waiting for build to start...\n", "one\n", "two\n", "Built\n"}
		if diff := cmp.Diff(want, texts(h.story(t, b.ID))); diff != "" {
			t.Error(diff)
		}
		got := h.build(t, b.ID)
		if got.State != bindery.BuildSucceeded || got.Result == nil || got.Result.Image != "bindery/r" || got.Ended.IsZero() {
			t.Errorf("succeeded: %+v", got)
		}
		// The image is known now: no second build.
		if again := h.submit(t, ask("r")); again.ID != b.ID || again.State != bindery.BuildSucceeded {
			t.Errorf("asked again: %+v", again)
		}
		eventually(t, "the worker may forget", func() bool { h.w.mu.Lock(); defer h.w.mu.Unlock(); return len(h.w.attempts) == 0 })
	})
}

// TestWatchers has 200 watchers that come at different times: one build, and each sees every line from the first.
func TestWatchers(t *testing.T) {
	const watchers, lines = 200, 3000
	bubble(t, nil, func(t *testing.T, h *hub) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		builds := map[string]int{}
		for i := range watchers {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				b, err := h.Submit(t.Context(), ask("r"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				builds[b.ID]++
				mu.Unlock()
				n := 0
				for e, err := range h.Events(t.Context(), b.ID, 0) {
					if n++; err != nil || e.Seq != int64(n) {
						t.Errorf("watcher %d: event %d has number %d, %v", i, n, e.Seq, err)
						return
					}
				}
				if n != lines+2 {
					t.Errorf("watcher %d saw %d events, want %d", i, n, lines+2)
				}
			})
		}
		var id string
		eventually(t, "the first submits", func() bool {
			mu.Lock()
			defer mu.Unlock()
			for x := range builds {
				id = x
			}
			return id != ""
		})
		synctest.Wait()
		for i := range lines {
			h.w.emit(id, 1, line(fmt.Sprint(i)))
			if i%10 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		h.w.emit(id, 1, built("bindery/r"))
		wg.Wait()
		if len(builds) != 1 || builds[id] != watchers {
			t.Errorf("builds: %v", builds)
		}
		if h.w.resolves > 2 {
			t.Errorf("the ref was resolved %d times", h.w.resolves)
		}
	})
}

func TestWatcherFromTheMiddleAndLeaving(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.submit(t, ask("r"))
		synctest.Wait()
		h.w.emit(b.ID, 1, line("one"), line("two"), line("three"))
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		var ended error
		var wg sync.WaitGroup
		wg.Go(func() {
			for e, err := range h.Events(ctx, b.ID, 2) {
				if ended = err; err == nil {
					got = append(got, e.Message)
				}
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		if !slices.Equal(got, []string{"two\n", "three\n"}) || !errors.Is(ended, context.Canceled) {
			t.Errorf("got %q, %v", got, ended)
		}
		for _, err := range h.Events(t.Context(), "b-nobody", 0) {
			if !errors.Is(err, bindery.ErrNotFound) {
				t.Errorf("no such build: %v", err)
			}
		}
	})
}

func TestFailureIsRemembered(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.submit(t, ask("r"))
		synctest.Wait()
		h.w.emit(b.ID, 1, line("one"), failed(bindery.User))
		h.story(t, b.ID)
		got := h.build(t, b.ID)
		if got.State != bindery.BuildFailed || got.Err == nil || got.Err.Kind != bindery.ErrStep || got.Row != 1 || got.Charged != 1 {
			t.Errorf("failed: %+v", got)
		}
		if again := h.submit(t, ask("r")); again.ID != b.ID {
			t.Errorf("asked again at once: %+v", again)
		}
		retry := ask("r")
		retry.Retry = true
		second := h.submit(t, retry)
		if second.ID == b.ID {
			t.Error("a retry was answered with the old failure")
		}
		synctest.Wait()
		h.w.emit(second.ID, 1, failed(bindery.User))
		h.story(t, second.ID)
		time.Sleep(31 * time.Second)
		if again := h.submit(t, ask("r")); again.ID != second.ID {
			t.Error("the second failure in a row was forgotten as soon as the first")
		}
		time.Sleep(31 * time.Second)
		if again := h.submit(t, ask("r")); again.ID == second.ID {
			t.Error("the failure is remembered too long")
		}
	})
}

func TestMayPass(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.submit(t, ask("r"))
		for n := 1; n <= 3; n++ {
			eventually(t, "the attempt starts", func() bool { return h.build(t, b.ID).Attempt == n })
			synctest.Wait()
			h.w.emit(b.ID, n, line(fmt.Sprint("attempt ", n)), failed(bindery.Transient))
			if n == 1 {
				synctest.Wait()
				st, err := h.Standing(t.Context(), b.ID)
				if err != nil || st.Position != 1 || !strings.Contains(st.Reason, "5s") {
					t.Errorf("stands at %+v, %v", st, err)
				}
			}
		}
		h.story(t, b.ID)
		if got := h.build(t, b.ID); got.State != bindery.BuildFailed || got.Charged != 3 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestWorkerDiesAndComesBack(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.submit(t, ask("r"))
		synctest.Wait()
		h.w.emit(b.ID, 1, line("one"))
		synctest.Wait()
		h.w.set(func() { h.w.down = true })
		time.Sleep(10 * time.Second)
		h.w.restart()
		h.w.set(func() { h.w.down = false })
		eventually(t, "the second attempt starts", func() bool { return h.build(t, b.ID).Attempt == 2 })
		synctest.Wait()
		h.w.emit(b.ID, 2, line("two"), built("bindery/r"))
		got := strings.Join(texts(h.story(t, b.ID)), "")
		for _, want := range []string{"one\n", "does not answer", "The worker was lost; the build starts again.\n", "two\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in the story:\n%s", want, got)
			}
		}
		if b := h.build(t, b.ID); b.State != bindery.BuildSucceeded || b.Charged != 0 {
			t.Errorf("got %+v", b)
		}
	})
}

// TestConnectionBreaks loses the worker's answers for a while, not the build.
func TestConnectionBreaks(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		b := h.submit(t, ask("r"))
		synctest.Wait()
		for i := range 5 {
			h.w.emit(b.ID, 1, line(fmt.Sprint(i)))
			synctest.Wait()
			h.w.set(func() { h.w.down = true })
			time.Sleep(10 * time.Millisecond)
			h.w.set(func() { h.w.down = false })
			time.Sleep(5 * time.Second)
		}
		h.w.emit(b.ID, 1, built("bindery/r"))
		h.story(t, b.ID)
		if h.w.starts[name(b.ID, 1)] != 1 || h.build(t, b.ID).Attempt != 1 {
			t.Errorf("starts: %v", h.w.starts)
		}
	})
}

func TestQueueAndCancel(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		synctest.Wait()
		var bs []bindery.Build
		for i := range 5 {
			bs = append(bs, h.submit(t, ask(ids(i))))
		}
		st, err := h.Standing(t.Context(), bs[4].ID)
		if st.Likely.Before(st.From) || st.To.Before(st.Likely) || st.To.IsZero() {
			t.Errorf("starts between %s and %s, likely %s", st.From, st.To, st.Likely)
		}
		st.From, st.Likely, st.To = time.Time{}, time.Time{}, time.Time{}
		if want := (bindery.Standing{Position: 3, Reason: "Every slot is taken (2); 2 builds are ahead"}); err != nil || st != want {
			t.Errorf("stands at %+v, %v", st, err)
		}
		for _, i := range []int{2, 0} {
			if err := h.Cancel(t.Context(), bs[i].ID); err != nil {
				t.Fatal(err)
			}
			h.story(t, bs[i].ID)
			if got := h.build(t, bs[i].ID); got.State != bindery.BuildCancelled {
				t.Errorf("cancelled: %+v", got)
			}
		}
		synctest.Wait()
		if got := h.build(t, bs[3].ID); got.State != bindery.BuildRunning {
			t.Errorf("the slot is not given on: %+v", got)
		}
		if err := h.Cancel(t.Context(), "b-nobody"); !errors.Is(err, bindery.ErrNotFound) {
			t.Errorf("cancel nobody: %v", err)
		}
		ws, err := h.Workers(t.Context())
		if err != nil || len(ws) != 1 || !ws[0].Up || ws[0].Slots != 2 {
			t.Errorf("workers: %+v, %v", ws, err)
		}
	})
}

// TestForeignAttempts leaves builds of others on the worker alone and stops those of ours that nobody knows.
func TestForeignAttempts(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		for _, id := range []string{"r-somebodys", "b-unknown"} {
			if err := h.w.Start(t.Context(), bindery.BuildRequest{ID: id, Attempt: 1}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		if len(h.w.attempts) != 1 || h.w.attempts["r-somebodys/1"] == nil {
			t.Errorf("attempts: %v", h.w.attempts)
		}
	})
}

func TestResolve(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i == 0 {
					cancel() // whoever asks first may leave
				}
				src, err := h.Resolve(ctx, ask("r").Source)
				if i > 0 && (err != nil || src.Commit != commit1) {
					t.Errorf("%+v, %v", src, err)
				}
			})
		}
		wg.Wait()
		if h.w.resolves > 2 {
			t.Errorf("resolved %d times", h.w.resolves)
		}
		h.w.set(func() { h.w.commit = commit2 })
		if src, _ := h.Resolve(t.Context(), ask("r").Source); src.Commit != commit1 {
			t.Error("not kept")
		}
		time.Sleep(61 * time.Second)
		sub := ask("r").Source
		sub.Subdir = "docs"
		if src, _ := h.Resolve(t.Context(), sub); src.Commit != commit2 || src.Subdir != "docs" {
			t.Errorf("kept too long, or the directory is lost: %+v", src)
		}
	})
}

// Nobody can be asked: what is known serves for a day. What is not there is believed for a moment.
func TestResolveWithoutWorker(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		if _, err := h.Resolve(t.Context(), ask("r").Source); err != nil {
			t.Fatal(err)
		}
		h.w.set(func() { h.w.down = true })
		for range 23 {
			time.Sleep(time.Hour)
			if src, err := h.Resolve(t.Context(), ask("r").Source); err != nil || src.Commit != commit1 {
				t.Fatalf("%+v, %v", src, err)
			}
		}
		if _, err := h.Resolve(t.Context(), ask("other").Source); !errors.Is(err, bindery.ErrUnreachable) {
			t.Errorf("a repository that nobody knows: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := h.Resolve(t.Context(), ask("r").Source); !errors.Is(err, bindery.ErrUnreachable) {
			t.Errorf("after a day: %v", err)
		}
		h.w.set(func() {
			h.w.down, h.w.resolves = false, 0
			h.w.refuse = bindery.Errorf(bindery.ErrRefNotFound, bindery.User, "Check it.", "no such ref")
		})
		for range 20 {
			if _, err := h.Resolve(t.Context(), ask("gone").Source); !errors.Is(err, bindery.ErrRefNotFound) {
				t.Error(err)
			}
		}
		if h.w.resolves != 1 {
			t.Errorf("a ref that is not there was asked for %d times", h.w.resolves)
		}
		time.Sleep(31 * time.Second)
		h.w.set(func() { h.w.refuse = nil })
		if _, err := h.Resolve(t.Context(), ask("gone").Source); err != nil {
			t.Errorf("pushed since: %v", err)
		}
	})
}

// 10,000 launches in an hour over 100 refs: the worker is asked once a minute for each ref at most, and it keeps the
// questions to a forge's API below 5 % of the forge's limit, whatever it is asked.
func TestResolveAnHourOfLaunches(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		for i := range 10_000 {
			src := ask("r").Source
			src.Ref = fmt.Sprint("b", i*7919%100)
			if _, err := h.Resolve(t.Context(), src); err != nil {
				t.Fatal(err)
			}
			time.Sleep(360 * time.Millisecond)
		}
		if h.w.resolves > 60*100 {
			t.Errorf("the worker was asked %d times", h.w.resolves)
		}
	})
}

func TestConfig(t *testing.T) {
	if _, err := dispatch.New(dispatch.Config{}); err == nil {
		t.Error("a dispatcher of nothing")
	}
}
