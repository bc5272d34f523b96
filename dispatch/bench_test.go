package dispatch_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
	"github.com/bindery-hub/bindery/sched"
)

// real runs a hub in real time.
func real(tb testing.TB, change func(*dispatch.Config)) *hub {
	tb.Helper()
	db := openStore(tb, tb.TempDir())
	w := newWorker()
	h := run(tb, db, w, newLauncher(w), change)
	tb.Cleanup(func() {
		h.stop()
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// idle is a worker whose attempts do nothing.
type idle struct{ *worker }

func (idle) Start(context.Context, bindery.BuildRequest) error { return nil }

func (idle) Events(ctx context.Context, _ string, _ int, _ int64) iter.Seq2[bindery.Event, error] {
	return func(func(bindery.Event, error) bool) { <-ctx.Done() }
}

// BenchmarkSubmitToStart submits builds from many visitors at once and counts those that are stored as started: two
// rows each, the record and an event, on the disk before they are acknowledged. What the scheduler does is traced, as a hub
// has it. The attempts themselves do nothing.
func BenchmarkSubmitToStart(b *testing.B) {
	h := real(b, func(c *dispatch.Config) {
		c.Worker.(*worker).slots = b.N + 1 // before anybody asks
		c.Worker = idle{c.Worker.(*worker)}
		c.Trace = traceTo(b)
	})
	waitUp(b, h)
	const visitors = 2000
	asks := make([]bindery.Ask, b.N)
	for i := range asks {
		asks[i] = ask(ids(i))
		asks[i].Source.Commit = commit1
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	runtime.GC()
	begin, used := time.Now(), cpu(b)
	b.ResetTimer()
	for range visitors {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if got, err := h.Submit(context.Background(), asks[i-1]); err != nil || got.State != bindery.BuildRunning {
					b.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "builds/s")
	b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-µs/build")
}

// traceTo writes a trace to a file.
func traceTo(b *testing.B) func(sched.Traced) bool {
	f, err := os.Create(filepath.Join(b.TempDir(), "trace.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() }) // a benchmark's file is nobody's
	return func(t sched.Traced) bool {
		line, err := t.Line()
		if err == nil {
			_, err = f.Write(line)
		}
		if err != nil {
			b.Error(err)
		}
		return false
	}
}

// cpu is the processor time that this process has had: on a machine with other work it says more than the clock does.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func waitUp(tb testing.TB, h *hub) {
	tb.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; runtime.Gosched() {
		if ws, err := h.Workers(context.Background()); err == nil && len(ws) == 1 && ws[0].Up {
			return
		}
	}
	tb.Fatal("the worker is not up")
}

// BenchmarkWatchers has many watchers of one build read every line from the first; it reports what a waiting watcher
// costs, its goroutine's stack included, and how many events are delivered in a second.
func BenchmarkWatchers(b *testing.B) {
	for _, n := range []int{200, 20_000} {
		b.Run(fmt.Sprint("watchers=", n), func(b *testing.B) {
			for b.Loop() {
				watchers(b, n)
			}
		})
	}
}

func watchers(b *testing.B, n int) {
	const lines = 200
	h := real(b, nil)
	build := h.submit(b, ask("r"))
	started := make(chan struct{}, n)
	var wg sync.WaitGroup
	runtime.GC()
	before := inUse()
	for range n {
		wg.Go(func() {
			seen := 0
			for e, err := range h.Events(context.Background(), build.ID, 0) {
				if err != nil || e.Seq != int64(seen+1) {
					b.Errorf("event %d has number %d, %v", seen+1, e.Seq, err)
					return
				}
				if seen++; seen == 1 {
					started <- struct{}{}
				}
			}
			if seen != lines+2 {
				b.Errorf("saw %d events, want %d", seen, lines+2)
			}
		})
	}
	for range n {
		<-started
	}
	runtime.GC()
	each := (inUse() - before) / float64(n)
	begin := time.Now()
	for i := range lines {
		h.w.emit(build.ID, 1, line(fmt.Sprint("line ", i)))
		if i%20 == 0 {
			runtime.Gosched()
		}
	}
	h.w.emit(build.ID, 1, built("bindery/r"))
	wg.Wait()
	b.ReportMetric(each, "B/watcher")
	b.ReportMetric(float64(n*(lines+2))/time.Since(begin).Seconds(), "events/s")
}

func inUse() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
