package main

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTerminalLog(t *testing.T) {
	var out strings.Builder
	log := newTerminalLog(&out)
	for _, piece := range []string{
		"one\ntw", "o\r\n", "10 %\r50 %\r100 %\n", // pieces; a line that was written again
		"\x1b[31mred\x1b[0m \x1b]52;c;b3duZWQ=\x07and\x1b[2J\n", // what steers a terminal
		"caf\xc3", "\xa9\n", "\n", "no end",
	} {
		if n, err := log.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", piece, n, err)
		}
	}
	log.Close()
	if want := "one\ntwo\n100 %\nred and\ncafé\n\nno end\n"; out.String() != want {
		t.Errorf("shown is %q, want %q", out.String(), want)
	}
	out.Reset()
	log.Write([]byte(strings.Repeat("x", 200<<10)))
	if out.Len() < 128<<10 {
		t.Errorf("of a line without an end %d bytes are shown, the rest is kept", out.Len())
	}
}

// TestTerminalLogSettles has the address of a session printed below what its server says while it starts.
func TestTerminalLogSettles(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines int // one each 100 ms
		want  time.Duration
	}{
		{"a server that says nothing", 0, settleCalm},
		{"one that says where it is", 5, 400*time.Millisecond + settleCalm},
		{"one that goes on", 50, settleMost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newTerminalLog(new(strings.Builder))
				var server sync.WaitGroup
				defer server.Wait()
				server.Go(func() {
					for range tt.lines {
						log.Write([]byte("line\n"))
						time.Sleep(100 * time.Millisecond)
					}
				})
				began := time.Now()
				log.settle(t.Context())
				if got := time.Since(began); got != tt.want {
					t.Errorf("it has settled after %v, want %v", got, tt.want)
				}
			})
		})
	}
}
