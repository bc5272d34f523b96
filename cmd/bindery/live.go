package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	bindery "github.com/bindery-hub/bindery"
)

// newDisplay chooses how progress is shown on stderr.
func newDisplay(stderr io.Writer, getenv func(string) string, quiet, verbose bool) display {
	if quiet {
		return silent{}
	}
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || getenv("TERM") == "dumb" {
		return newPlain(stderr, time.Now)
	}
	l := &live{
		w: f, board: newBoard(time.Now(), verbose), colour: getenv("NO_COLOR") == "",
		size: func() (int, int) { return terminalSize(f) },
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go l.redraw()
	return l
}

func terminalSize(f *os.File) (width, height int) {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 20 || height < 4 {
		return 80, 24
	}
	return width, height
}

// A live display keeps a few lines at the foot of the terminal up to date; what is finished scrolls up above them.
type live struct {
	w      io.Writer
	colour bool
	size   func() (width, height int)

	mu    sync.Mutex // guards what follows
	board *board
	drawn int // lines of the area on the screen

	stop, stopped chan struct{}
}

func (l *live) Event(ev bindery.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.board.apply(ev, time.Now())
}

func (l *live) Note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.board.note(fmt.Sprintf(format, args...))
}

func (l *live) Close() {
	close(l.stop)
	<-l.stopped
}

func (l *live) redraw() {
	defer close(l.stopped)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			l.draw(time.Now(), true)
			return
		case now := <-tick.C:
			l.draw(now, false)
		}
	}
}

// draw replaces the area by one write, so that nothing flickers.
func (l *live) draw(now time.Time, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	width, height := l.size()
	if last {
		l.board.endLine()
	}
	text := l.board.scroll(width, l.colour)
	var area []string
	if !last {
		area = l.board.area(now, width, height, l.colour)
	}
	var out strings.Builder
	out.WriteString("\x1b[?25l") // no cursor while it moves
	if l.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", l.drawn)
	}
	for _, s := range append(text, area...) {
		out.WriteString("\r" + s + "\x1b[K\n")
	}
	out.WriteString("\r\x1b[J\x1b[?25h")
	l.drawn = len(area)
	_, _ = io.WriteString(l.w, out.String()) // a terminal that has gone is no reason to stop a build
}

// scroll returns the finished lines as a terminal shows them.
func (b *board) scroll(width int, colour bool) []string {
	var all []string
	for _, ln := range b.take() {
		switch ln.mark {
		case "✓":
			all = append(all, paint(colour, green, " ✓ ")+fit(ln.text, width-4))
		case "✗":
			all = append(all, paint(colour, red, " ✗ ")+fit(ln.text, width-4))
		default:
			all = append(all, ln.text) // whole: the terminal wraps it, and it is not drawn over
		}
	}
	return all
}

// area returns the lines that change: what runs now, under one line of totals.
func (b *board) area(now time.Time, width, height int, colour bool) []string {
	spin := string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[int(now.Sub(b.started)/(100*time.Millisecond))%10])
	head := fmt.Sprintf(" %s  %s", b.title(), seconds(now.Sub(b.started)))
	if b.ran+b.cached > 0 {
		head += fmt.Sprintf("  %d done, %d cached", b.ran, b.cached)
	}
	all := []string{paint(colour, cyan, " "+spin) + paint(colour, bold, fit(head, width-3))}
	room := height - 4
	for i, id := range b.order {
		if i >= room && len(b.order) > room {
			all = append(all, fit(fmt.Sprintf("   … %d more", len(b.order)-i), width-1))
			break
		}
		s := b.running[id]
		right := bar(s) + seconds(elapsed(s, now))
		left := fit("   "+clean(s.Name), width-columns(right)-3)
		pad := max(1, width-2-columns(left)-columns(right))
		all = append(all, left+strings.Repeat(" ", pad)+paint(colour, dim, right))
	}
	if b.last != "" && !b.full {
		all = append(all, paint(colour, dim, fit("   │ "+b.last, width-1)))
	}
	return all
}

func (b *board) title() string {
	switch b.phase {
	case "":
		return "Starting"
	case bindery.PhaseBuilt:
		return "Built"
	}
	p := string(b.phase)
	return strings.ToUpper(p[:1]) + p[1:]
}

// bar draws a step's own progress when it tells of one.
func bar(s bindery.Step) string {
	const cells = 16
	switch {
	case s.Current > 0 && s.Total > 0:
		n := int(min(cells, cells*s.Current/s.Total))
		return "[" + strings.Repeat("=", n) + strings.Repeat(" ", cells-n) + "] "
	case s.Current > 0:
		return size(s.Current).String() + " "
	}
	return ""
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
)

func paint(on bool, code, text string) string {
	if !on {
		return text
	}
	return code + text + "\x1b[0m"
}
