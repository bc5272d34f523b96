package sched_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

const backlog = 100_000

// submission is the i-th of a crowd of some kind: who asks for what decides which flows there are.
func submission(i int, kind string) sched.Submit {
	in := sched.Submit{
		Build: fmt.Sprint("b", i), Key: fmt.Sprint("k", i), Repo: "git:https://host/one/repo", Owner: "git/host/one", Requester: "10.0.0.0/24",
	}
	if kind == "strangers" || kind == "one requester" {
		in.Owner, in.Repo = fmt.Sprint("git/host/o", i), fmt.Sprint("git:https://host/o", i, "/r")
	}
	if kind == "strangers" || kind == "one repository" {
		in.Requester = fmt.Sprint("10.", i>>16, ".", i>>8&255, ".", i&255)
	}
	if kind == "classes" {
		in.Owner, in.Repo, in.Requester = fmt.Sprint("o", i%300), fmt.Sprint("o", i%300, "/", i%7), fmt.Sprint("q", i*7919%301)
	}
	return in
}

var crowds = []string{"one owner", "one requester", "one repository", "strangers", "classes"}

func crowded(tb testing.TB, kind string) (*sched.Scheduler, time.Time) {
	tb.Helper()
	s := sched.New(sched.Config{})
	for i := range backlog {
		s.Step(start, submission(i, kind))
	}
	return s, start
}

// BenchmarkStep is one build's whole life with 100,000 others waiting: submitted, started, finished. p99-us is the
// slowest in a hundred of its steps, in microseconds.
func BenchmarkStep(b *testing.B) {
	for _, kind := range crowds {
		b.Run(kind, func(b *testing.B) {
			s, now := crowded(b, kind)
			var running []sched.Start
			took := make([]time.Duration, 0, 2*b.N)
			step := func(in sched.Input) {
				began := time.Now()
				out := s.Step(now, in)
				took = append(took, time.Since(began))
				for _, d := range out {
					if d, ok := d.(sched.Start); ok {
						running = append(running, d)
					}
				}
			}
			step(sched.WorkerUp{Worker: "v", Slots: 5})
			step(sched.WorkerUp{Worker: "w", Slots: 5})
			took = took[:0]
			b.ResetTimer()
			for i := range b.N {
				now = now.Add(time.Second)
				step(submission(backlog+i, kind))
				step(sched.Finished{Build: running[0].Build, Attempt: running[0].Attempt, Outcome: sched.Succeeded})
				running = running[1:]
				_ = s.NextWake()
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-us")
			b.ReportMetric(float64(took[len(took)*999/1000].Nanoseconds())/1000, "p99.9-us")
			b.ReportMetric(float64(took[len(took)-1].Nanoseconds())/1000, "max-us")
		})
	}
}

// BenchmarkStanding asks where the last of 100,000 stands, after each step.
func BenchmarkStanding(b *testing.B) {
	for _, kind := range crowds {
		b.Run(kind, func(b *testing.B) {
			s, now := crowded(b, kind)
			s.Step(now, sched.WorkerUp{Worker: "w", Slots: 10})
			for b.Loop() {
				now = now.Add(time.Second)
				s.Step(now, sched.Tick{})
				s.Standing(now, fmt.Sprint("b", backlog-1))
			}
		})
	}
}

// BenchmarkWhole notes down 100,000 waiting builds and what builds of 20,000 repositories cost, which is done while the hub
// waits, then makes a line of it, which is not.
func BenchmarkWhole(b *testing.B) {
	for _, kind := range crowds {
		s, now := crowded(b, kind)
		for i := range 20_000 {
			s.Step(now, sched.Learn{Repo: fmt.Sprint("git:https://host/learned", i, "/r"), Kind: "conda", Cost: time.Minute})
		}
		s.Step(now, sched.WorkerUp{Worker: "w", Slots: 10})
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				s.Whole()
			}
		})
		b.Run(kind+"/line", func(b *testing.B) {
			x := sched.Traced{Whole: s.Whole()}
			for b.Loop() {
				line, err := x.Line()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(line))/1e6, "MB")
			}
		})
	}
}

// TestQueuedBuildIsSmall holds a queued build under 1 KB.
func TestQueuedBuildIsSmall(t *testing.T) {
	for _, kind := range crowds {
		small(t, kind)
	}
}

func small(t *testing.T, kind string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, _ := crowded(t, kind)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / backlog
	runtime.KeepAlive(s)
	t.Logf("%s: %d bytes per queued build", kind, each)
	if each > 1024 {
		t.Errorf("%s: a queued build takes %d bytes, want at most 1024", kind, each)
	}
}
