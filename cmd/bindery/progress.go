package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/text/width"

	bindery "github.com/bindery-hub/bindery"
)

// A display shows a person how a build gets on. It is used by one goroutine.
type display interface {
	Event(bindery.Event)
	// Note shows one line of our own.
	Note(format string, args ...any)
	// Close ends the display and leaves the cursor on a fresh line.
	Close()
}

// silent shows nothing.
type silent struct{}

func (silent) Event(bindery.Event) {}
func (silent) Note(string, ...any) {}
func (silent) Close()              {}

// A plain display writes one line after another, each with the phase in front: for pipes and log files.
type plain struct {
	w     io.Writer
	board *board
	now   func() time.Time
}

func newPlain(w io.Writer, now func() time.Time) *plain {
	return &plain{w: w, board: newBoard(now(), true), now: now}
}

func (p *plain) Event(ev bindery.Event) {
	p.board.apply(ev, p.now())
	p.flush()
}

func (p *plain) Note(format string, args ...any) {
	p.board.note(fmt.Sprintf(format, args...))
	p.flush()
}

func (p *plain) Close() {
	p.board.endLine()
	p.flush()
}

func (p *plain) flush() {
	for _, l := range p.board.take() {
		if l.mark != "" {
			l.text = l.mark + " " + l.text
		}
		if l.phase == "" {
			fmt.Fprintln(p.w, l.text)
			continue
		}
		fmt.Fprintf(p.w, "[%s] %s\n", l.phase, l.text)
	}
}

// A board is what a display knows about a build: steps that run, counts, and finished lines not yet shown.
type board struct {
	started time.Time
	full    bool // every line of the log becomes a line of the display
	phase   bindery.Phase
	order   []string // of running steps
	running map[string]bindery.Step
	done    map[string]bool
	ran     int
	cached  int
	partial string // a line of the log that has not ended
	last    string // the newest whole line
	lines   []line
}

// A line is finished text: it is written once and scrolls away.
type line struct {
	phase bindery.Phase
	mark  string // "✓", "✗" or nothing
	text  string
}

func newBoard(now time.Time, full bool) *board {
	return &board{started: now, full: full, running: map[string]bindery.Step{}, done: map[string]bool{}}
}

func (b *board) note(text string) {
	b.endLine()
	b.lines = append(b.lines, line{text: clean(text)})
}

// apply takes one event in.
func (b *board) apply(ev bindery.Event, now time.Time) {
	if ev.Phase != "" && ev.Phase != b.phase {
		b.endLine()
		b.phase = ev.Phase
	}
	if ev.Step != nil {
		b.step(*ev.Step, now)
		return // its message, if there is one, says the same
	}
	if ev.Message != "" && !ev.Last() {
		b.text(ev.Message)
	}
}

func (b *board) step(s bindery.Step, now time.Time) {
	if b.done[s.ID] {
		return
	}
	_, known := b.running[s.ID]
	ended := !s.Ended.IsZero() || s.Cached || s.Failed
	if !ended {
		if !known {
			b.order = append(b.order, s.ID)
			if b.full {
				b.push("", s.Name)
			}
		}
		b.running[s.ID] = s
		return
	}
	b.done[s.ID] = true
	delete(b.running, s.ID)
	for i, id := range b.order {
		if id == s.ID {
			b.order = append(b.order[:i], b.order[i+1:]...)
			break
		}
	}
	took := seconds(elapsed(s, now))
	switch {
	case s.Failed:
		b.push("✗", s.Name+"  "+took)
	case s.Cached:
		b.cached++
		if b.full {
			b.push("✓", s.Name+"  cached")
		}
	default:
		b.ran++
		b.push("✓", s.Name+"  "+took)
	}
}

func (b *board) push(mark, text string) {
	b.endLine()
	b.lines = append(b.lines, line{b.phase, mark, clean(text)})
}

// text takes a piece of the log in: lines may come in pieces, and progress bars overwrite theirs with \r.
func (b *board) text(s string) {
	const most = 64 << 10 // a line without an end is cut, not kept
	b.partial += s
	for {
		i := strings.IndexAny(b.partial, "\r\n")
		if i < 0 && len(b.partial) < most {
			return
		}
		if i < 0 {
			i = len(b.partial) - 1
		}
		whole := b.partial[:i]
		overwritten := b.partial[i] == '\r' && !strings.HasPrefix(b.partial[i+1:], "\n") && i+1 < len(b.partial)
		b.partial = b.partial[i+1:]
		if overwritten || whole == "" {
			continue
		}
		b.finish(whole)
	}
}

// endLine makes a whole line of what came without an end.
func (b *board) endLine() {
	if b.partial != "" {
		b.finish(b.partial)
		b.partial = ""
	}
}

func (b *board) finish(text string) {
	text = clean(text)
	if strings.TrimSpace(text) == "" {
		return
	}
	b.last = text
	if b.full {
		b.lines = append(b.lines, line{phase: b.phase, text: text})
	}
}

// take returns the finished lines and forgets them.
func (b *board) take() []line {
	all := b.lines
	b.lines = nil
	return all
}

func elapsed(s bindery.Step, now time.Time) time.Duration {
	if s.Started.IsZero() {
		return 0
	}
	if !s.Ended.IsZero() {
		now = s.Ended
	}
	return max(0, now.Sub(s.Started))
}

// seconds prints a duration for people: 0.3s, 12s, 3m05s.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// clean takes escape sequences and control characters out of text: a repository must not steer the terminal.
func clean(s string) string {
	var out strings.Builder
	rs := []rune(strings.ToValidUTF8(s, "�"))
	for i := 0; i < len(rs); i++ {
		switch r := rs[i]; {
		case r == 0x1b:
			i = escapeEnd(rs, i)
		case r == '\t':
			out.WriteString("    ")
		case r < ' ', r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // controls; marks that reverse text
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// escapeEnd returns the index of the last rune of the escape sequence that begins at i.
func escapeEnd(rs []rune, i int) int {
	if i+1 >= len(rs) {
		return i
	}
	switch rs[i+1] {
	case '[':
		for j := i + 2; j < len(rs); j++ {
			if rs[j] >= 0x40 && rs[j] <= 0x7e {
				return j
			}
		}
		return len(rs) - 1
	case ']', 'P', '_', '^', 'X': // strings: up to BEL or ESC \
		for j := i + 2; j < len(rs); j++ {
			if rs[j] == 0x07 {
				return j
			}
			if rs[j] == 0x1b && j+1 < len(rs) {
				return j + 1
			}
		}
		return len(rs) - 1
	}
	return i + 1
}

// fit cuts s to n columns; wide characters take two.
func fit(s string, n int) string {
	col := 0
	for i, r := range s {
		w := 1
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			w = 2
		}
		if col+w > n-1 && columns(s[i:]) > n-col {
			return s[:i] + "…"
		}
		col += w
	}
	return s
}

func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}
