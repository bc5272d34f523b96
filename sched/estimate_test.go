package sched_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// TestFirstEstimates lets a hub learn from its first builds. What it expected before it had any is soon forgotten, and
// those that are not alike do not make it expect builds of hours.
func TestFirstEstimates(t *testing.T) {
	for _, tt := range []struct {
		costs         []time.Duration // in seconds
		median, least time.Duration   // of a repository that was never built, at most, and a length that is not ruled out
		most          time.Duration   // in 95 cases of 100
	}{
		{nil, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute},
		{[]time.Duration{1}, time.Minute, time.Minute, 5 * time.Minute},
		{[]time.Duration{1, 1, 2, 1, 1}, 10 * time.Second, 10 * time.Second, time.Minute},
		{[]time.Duration{1, 1, 2, 1, 1, 60, 90}, 15 * time.Second, time.Minute, 3 * time.Minute},
		{[]time.Duration{300, 320, 290}, 6 * time.Minute, 8 * time.Minute, 16 * time.Minute},
		{[]time.Duration{3600, 4000, 3000}, time.Hour, time.Hour, 4 * time.Hour},
	} {
		s := sched.New(sched.Config{})
		for i, cost := range tt.costs {
			s.Step(start, sched.Learn{Repo: fmt.Sprint("r", i), Cost: cost * time.Second})
		}
		e := s.Estimate("another", "")
		median, most := e.Quantile(0.5), e.Quantile(0.95)
		if median > tt.median || most < tt.least || most > tt.most || e.Expected() > most {
			t.Errorf("after builds of %d seconds: median %v, 95 of 100 take %v, the mean is %v; want at most %v, and %v to %v", tt.costs, median, most, e.Expected(), tt.median, tt.least, tt.most)
		}
	}
}

// TestOutrun lets a build of which nothing is known run for longer than any was thought to: whoever waits for its slot is not
// told that it ends at once.
func TestOutrun(t *testing.T) {
	for _, ran := range []time.Duration{14*time.Minute + 50*time.Second, 20 * time.Minute, 3 * time.Hour} {
		s := sched.New(sched.Config{MaxAge: -1, Stall: -1})
		s.Step(start, sched.WorkerUp{Worker: "w", Slots: 1})
		for _, id := range []string{"a", "b"} {
			s.Step(start, sched.Submit{Build: id, Key: id, Repo: id, Owner: id, Requester: id})
		}
		now := start.Add(ran)
		s.Step(now, sched.Tick{})
		st, _ := s.Standing(now, "b")
		if left := st.To.Sub(now); left < ran/3 || left > 3*ran {
			t.Errorf("after %v the next one is told to start within %v, want %v to %v", ran, left, ran/3, 3*ran)
		}
	}
}
