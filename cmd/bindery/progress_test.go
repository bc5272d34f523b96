package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// story is a build with all that a display has to cope with.
func story(start time.Time) []bindery.Event {
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	step := func(t float64, s bindery.Step) bindery.Event {
		return bindery.Event{Time: at(t), Phase: bindery.PhaseBuilding, Step: &s, Message: s.Name + "\n"}
	}
	text := func(t float64, phase bindery.Phase, s string) bindery.Event {
		return bindery.Event{Time: at(t), Phase: phase, Message: s}
	}
	return []bindery.Event{
		text(0, bindery.PhaseFetching, "Fetching https://example.org/ann/repo\n"),
		text(0.2, bindery.PhaseFetching, "Receiving objects:  50%\rReceiving objects: 100%\r\n"),
		step(0.5, bindery.Step{ID: "base", Name: "Prepare the base", Cached: true, Started: at(0.5), Ended: at(0.5)}),
		step(0.6, bindery.Step{ID: "apt", Name: "Install 109 Debian packages", Started: at(0.6)}),
		step(0.7, bindery.Step{ID: "pip", Name: "Install requirements.txt", Started: at(0.7)}),
		text(1, bindery.PhaseBuilding, "Setting up \x1b[31mlibc\x1b[0m \x1b]0;owned\x07(2."),
		text(1.1, bindery.PhaseBuilding, "36)\n"),
		step(2, bindery.Step{ID: "pip", Name: "Install requirements.txt", Started: at(0.7), Current: 30 << 20, Total: 60 << 20}),
		step(3, bindery.Step{ID: "layer", Name: "Pull", Started: at(2.5), Current: 3 << 20}),
		text(3.5, bindery.PhaseBuilding, "日本語のとても長い行、端末の幅よりもずっと長いので切らなければならない、それでも壊れない\n"),
		step(70, bindery.Step{ID: "apt", Name: "Install 109 Debian packages", Started: at(0.6), Ended: at(70)}),
		step(71, bindery.Step{ID: "pip", Name: "Install requirements.txt", Started: at(0.7), Ended: at(71), Failed: true}),
		text(71, bindery.PhaseBuilding, "the end has no newline"),
	}
}

func TestPlainDisplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newPlain(&out, time.Now)
		start := time.Now()
		for _, ev := range story(start) {
			time.Sleep(time.Until(ev.Time))
			p.Event(ev)
		}
		p.Note("The whole log is in %s", "/var/log/x")
		p.Close()
		golden(t, "progress/plain.txt", out.String())
	})
}

// TestLiveDisplay draws the story as a terminal shows it at a few moments, narrow and wide.
func TestLiveDisplay(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var out strings.Builder
	for _, width := range []int{40, 80} {
		b := newBoard(start, false)
		for i, ev := range story(start) {
			b.apply(ev, ev.Time)
			fmt.Fprintf(&out, "-- %d columns, after event %d\n", width, i)
			for _, s := range b.scroll(width, false) {
				fmt.Fprintln(&out, s)
			}
			for _, s := range b.area(ev.Time, width, 8, false) {
				fmt.Fprintln(&out, s+"|")
				if n := columns(s); n >= width {
					t.Errorf("a line of %d columns does not fit into %d: %q", n, width, s)
				}
			}
		}
	}
	golden(t, "progress/live.txt", out.String())
}

// TestLiveDrawsOverItself counts the lines that it goes up against those that it drew.
func TestLiveDrawsOverItself(t *testing.T) {
	var out bytes.Buffer
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := &live{w: &out, board: newBoard(start, false), size: func() (int, int) { return 60, 10 }}
	for _, ev := range story(start) {
		l.board.apply(ev, ev.Time)
		out.Reset()
		before := l.drawn
		l.draw(ev.Time, false)
		if up := fmt.Sprintf("\x1b[%dA", before); before > 0 && !strings.Contains(out.String(), up) {
			t.Errorf("it drew %d lines and does not go up as many: %q", before, out.String())
		}
	}
	out.Reset()
	l.draw(start, true) // the ^C of who ends it has moved the cursor to the right
	if l.drawn != 0 || !strings.HasSuffix(out.String(), "\r\x1b[J\x1b[?25h") {
		t.Errorf("at the end something stays: %q", out.String())
	}
}

func TestAreaIsNotHigherThanTheTerminal(t *testing.T) {
	b := newBoard(time.Time{}, false)
	for i := range 30 {
		b.step(bindery.Step{ID: fmt.Sprint(i), Name: fmt.Sprint("step ", i)}, time.Time{})
	}
	b.text("last\n")
	if n := len(b.area(time.Time{}, 80, 10, false)); n > 9 {
		t.Errorf("%d lines in a terminal of 10", n)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                    "plain",
		"\x1b[31mred\x1b[0m":       "red",
		"\x1b]0;title\x07x":        "x",
		"\x1b]8;;http://x\x1b\\y":  "y",
		"\x1bPq#0\x1b\\z":          "z",
		"a\tb":                     "a    b",
		"\x1b[":                    "",
		"\x1b":                     "",
		"a\x00b\x7fc\u009bd":       "abcd",
		"bad \xff byte":            "bad � byte",
		"\u202eevil\u2066":         "evil",
		"\x1b[2J\x1b[Hover\x1b[1A": "over",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzDisplay(f *testing.F) {
	f.Add("a\rb\r\n\x1b[31m", 40)
	f.Fuzz(func(t *testing.T, text string, width int) {
		width = 20 + (width&0xff+256)%256
		b := newBoard(time.Time{}, true)
		b.apply(bindery.Event{Phase: bindery.PhaseBuilding, Message: text}, time.Time{})
		b.endLine()
		for _, s := range append(b.scroll(width, false), b.area(time.Time{}, width, 10, false)...) {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q shows %q", text, s)
			}
		}
	})
}
