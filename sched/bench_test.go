package sched_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

const backlog = 100_000

func crowded(tb testing.TB) (*sched.Scheduler, time.Time) {
	tb.Helper()
	s := sched.New(sched.Config{})
	for i := range backlog {
		s.Step(start, sched.Submit{Build: fmt.Sprint("b", i), Key: fmt.Sprint("k", i)})
	}
	return s, start
}

// BenchmarkStep is one build's whole life with 100,000 others waiting: submitted, started, finished.
func BenchmarkStep(b *testing.B) {
	s, now := crowded(b)
	s.Step(now, sched.WorkerUp{Worker: "w", Slots: 10})
	oldest := 0
	b.ResetTimer()
	for i := range b.N {
		now = now.Add(time.Millisecond)
		id := fmt.Sprint("b", backlog+i)
		s.Step(now, sched.Submit{Build: id, Key: id})
		s.Step(now, sched.Finished{Build: fmt.Sprint("b", oldest), Attempt: 1, Outcome: sched.Succeeded})
		oldest++
		_ = s.NextWake()
	}
}

// BenchmarkStanding asks where the last of 100,000 stands.
func BenchmarkStanding(b *testing.B) {
	s, now := crowded(b)
	for b.Loop() {
		s.Standing(now, fmt.Sprint("b", backlog-1))
	}
}

// TestQueuedBuildIsSmall holds a queued build under 1 KB.
func TestQueuedBuildIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, _ := crowded(t)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / backlog
	runtime.KeepAlive(s)
	t.Logf("%d bytes per queued build", each)
	if each > 1024 {
		t.Errorf("a queued build takes %d bytes, want at most 1024", each)
	}
}
