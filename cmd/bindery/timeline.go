package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A timeline remembers when each step of a build ran, and passes its events on to a display.
type timeline struct {
	display
	steps []bindery.Step // by first appearance
}

// Event takes note of a step.
func (t *timeline) Event(ev bindery.Event) {
	if t.display != nil {
		t.display.Event(ev)
	}
	if ev.Step == nil || ev.Step.Name == "" || ev.Step.Started.IsZero() {
		return
	}
	i := slices.IndexFunc(t.steps, func(s bindery.Step) bool { return s.ID == ev.Step.ID })
	if i < 0 {
		t.steps = append(t.steps, *ev.Step)
		return
	}
	t.steps[i] = *ev.Step
}

// write draws the steps as bars on one axis of time: those that ran side by side are seen to.
func (t *timeline) write(w io.Writer) {
	const width, most = 40, 44
	ran := slices.DeleteFunc(slices.Clone(t.steps), func(s bindery.Step) bool { return s.Ended.Before(s.Started) })
	if len(ran) == 0 {
		return
	}
	slices.SortStableFunc(ran, func(a, b bindery.Step) int { return a.Started.Compare(b.Started) })
	first, last := ran[0].Started, ran[0].Ended
	for _, s := range ran {
		if s.Ended.After(last) {
			last = s.Ended
		}
	}
	whole := max(last.Sub(first), time.Millisecond)
	at := func(d time.Time) int { return int(int64(width) * int64(d.Sub(first)) / int64(whole)) }
	fmt.Fprintf(w, "\n%-*s  %-*s  %7s\n", most, "STEP", width, "0s to "+seconds(whole), "TOOK")
	for _, s := range ran {
		from, to := at(s.Started), max(at(s.Ended), at(s.Started)+1)
		from = min(from, width-1)
		to = min(to, width)
		mark := "█"
		took := fmt.Sprintf("%.1fs", s.Ended.Sub(s.Started).Seconds())
		switch {
		case s.Cached:
			mark, took = "·", "cached"
		case s.Failed:
			mark, took = "▒", "failed"
		}
		bar := strings.Repeat(" ", from) + strings.Repeat(mark, to-from) + strings.Repeat(" ", width-to)
		name := []rune(clean(s.Name))
		if len(name) > most {
			name = append(name[:most-1], '…')
		}
		fmt.Fprintf(w, "%-*s  %s  %7s\n", most, string(name), bar, took)
	}
}
