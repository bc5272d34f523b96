package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// A session is said to be there once its server has been silent for settleCalm, or after settleMost.
const (
	settleCalm = 300 * time.Millisecond
	settleMost = 2 * time.Second
)

// A terminalLog shows a log on a terminal, one whole line after the other. Strangers wrote it: it must not steer the terminal.
type terminalLog struct {
	w       io.Writer
	partial []byte        // a line that has not ended
	wrote   chan struct{} // has one when something came
}

func newTerminalLog(w io.Writer) *terminalLog {
	return &terminalLog{w: w, wrote: make(chan struct{}, 1)}
}

// shownLog is where a log goes that is printed on w: as it is, or as a terminal may have it.
func shownLog(w io.Writer) io.WriteCloser {
	if isTerminal(w) {
		return newTerminalLog(w)
	}
	return asItIs{w}
}

type asItIs struct{ io.Writer }

func (asItIs) Close() error { return nil }

// Write shows the lines that end in p, and keeps the rest.
func (t *terminalLog) Write(p []byte) (int, error) {
	const most = 64 << 10 // a line without an end is cut, not kept
	select {
	case t.wrote <- struct{}{}:
	default:
	}
	t.partial = append(t.partial, p...)
	for {
		i := bytes.IndexByte(t.partial, '\n')
		if i < 0 && len(t.partial) <= most {
			return len(p), nil
		}
		end, next := i, i+1
		if i < 0 {
			end, next = most, most
		}
		if err := t.line(t.partial[:end]); err != nil {
			return 0, err
		}
		t.partial = t.partial[next:]
	}
}

// line shows one, of which a terminal would have seen the last writing.
func (t *terminalLog) line(b []byte) error {
	b = bytes.TrimRight(b, "\r")
	_, err := fmt.Fprintln(t.w, clean(string(b[bytes.LastIndexByte(b, '\r')+1:])))
	return err
}

// Close shows a last line without an end.
func (t *terminalLog) Close() error {
	if len(t.partial) == 0 {
		return nil
	}
	return t.line(t.partial)
}

// settle waits until a server that has started has said what it says then.
func (t *terminalLog) settle(ctx context.Context) {
	limit := time.After(settleMost)
	for {
		select {
		case <-t.wrote:
		case <-time.After(settleCalm):
			return
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}
