package bindery_test

import (
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

func TestPlannable(t *testing.T) {
	now := time.Date(2026, 3, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		from, to time.Duration
		want     bool
	}{
		{59 * time.Second, 2 * time.Minute, false},
		{time.Minute, 4 * time.Minute, true},
		{time.Minute, 4*time.Minute + time.Second, false},
		{5 * time.Minute, 20 * time.Minute, true},
		{-time.Minute, time.Minute, false},
		{2 * time.Hour, 9 * time.Hour, false},
	} {
		if got := (bindery.Standing{From: now.Add(c.from), To: now.Add(c.to)}).Plannable(now); got != c.want {
			t.Errorf("from %v to %v: %v", c.from, c.to, got)
		}
	}
	if (bindery.Standing{}).Plannable(now) {
		t.Error("nothing is known, and somebody plans by it")
	}
}
