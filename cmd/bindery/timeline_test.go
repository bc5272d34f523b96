package main

import (
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

func TestTimeline(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(100, int64(s*1e9)) }
	line := &timeline{}
	for _, s := range []bindery.Step{
		{ID: "a", Name: "Install git", Started: at(0)},
		{ID: "b", Name: "Install the Jupyter servers", Started: at(0), Ended: at(5)},
		{ID: "a", Name: "Install git", Started: at(0), Ended: at(10)},
		{ID: "c", Name: "Copy the repository", Started: at(10), Ended: at(10), Cached: true},
		{ID: "d", Name: "Run \x1b[31mpostBuild", Started: at(9), Ended: at(10), Failed: true},
		{ID: "e", Name: "never ended", Started: at(1)},
	} {
		line.Event(bindery.Event{Step: &s})
	}
	var b strings.Builder
	line.write(&b)
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(got) != 5 {
		t.Fatalf("%d lines:\n%s", len(got), b.String())
	}
	for i, want := range map[int]string{1: strings.Repeat("█", 40), 2: strings.Repeat("█", 20) + "  ", 3: "▒", 4: "cached"} {
		if !strings.Contains(got[i], want) {
			t.Errorf("line %d is %q, want %q in it", i, got[i], want)
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a step's name reaches the terminal as it is")
	}
}
