package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/sched"
	"github.com/bindery-hub/bindery/sim"
)

// TestThinOut removes the oldest traces, and of those only what must go.
func TestThinOut(t *testing.T) {
	for name, tt := range map[string]struct {
		sizes []int // oldest first
		most  int64
		kept  int // of them, the newest
	}{
		"no trace":                       {nil, 10, 0},
		"all fit":                        {[]int{3, 3, 4}, 10, 3},
		"one byte too many":              {[]int{4, 3, 4}, 10, 2},
		"the newest is too large":        {[]int{1, 1, 11}, 10, 0},
		"one that would fit behind that": {[]int{1, 9, 9}, 10, 1},
		"nothing but what is empty":      {[]int{1, 0}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			names := []string{"20260101T000000.000000.jsonl", "20260102T000000.000000.jsonl", "20260301T000000.000000.jsonl"}[:len(tt.sizes)]
			for i, n := range tt.sizes {
				put(t, filepath.Join(dir, names[i]), n)
			}
			put(t, filepath.Join(dir, "notes.txt"), 100) // of somebody else
			writing := filepath.Join(dir, "20260102T100000.000000.jsonl")
			put(t, writing, 1000)
			rest, err := thinOut(dir, writing, tt.most)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(writing); err != nil {
				t.Errorf("what was being written: %v", err)
			}
			kept := int64(0)
			for _, n := range tt.sizes[len(tt.sizes)-tt.kept:] {
				kept += int64(n)
			}
			if rest != kept {
				t.Errorf("%d bytes are left, want %d", rest, kept)
			}
			want := append(slices.Clone(names[len(names)-tt.kept:]), "notes.txt")
			if got := filesIn(t, dir); !slices.Equal(got, want) {
				t.Errorf("left: %q, want %q", got, want)
			}
		})
	}
}

// A tracedHub does to a tracer what a dispatcher would.
type tracedHub struct {
	t   *testing.T
	tr  *tracer
	s   *sched.Scheduler
	now time.Time
	n   int
}

func traceHub(t *testing.T, dir string, limit size, said *bytes.Buffer) *tracedHub {
	t.Helper()
	tr, err := newTracer(dir, &limit, slog.New(slog.NewTextHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	h := &tracedHub{t: t, tr: tr, s: sched.New(sched.Config{}), now: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	h.write(sched.Traced{At: h.now, Config: &sched.Config{}, State: &sched.State{}})
	return h
}

func (h *tracedHub) write(x sched.Traced) {
	if h.tr.sink()(x) && h.tr.sink()(sched.Traced{At: h.now, Whole: h.s.Whole()}) {
		h.t.Error("the whole state is wanted again at once")
	}
}

// step is one input; it waits until a file that it may have begun is there.
func (h *tracedHub) step(in sched.Input) {
	h.now = h.now.Add(time.Second)
	x, err := sched.TraceStep(h.now, in, h.s.Step(h.now, in))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(x)
	h.tr.work.Wait()
}

// submit has so many builds wait that are not there yet.
func (h *tracedHub) submit(n int) {
	for range n {
		h.n++
		id := fmt.Sprint("b", h.n)
		h.step(sched.Submit{Build: id, Key: id, Repo: "r", Owner: "o", Requester: "q"})
	}
}

// leave cancels as many of the oldest.
func (h *tracedHub) leave(n int) {
	for i := range n {
		h.step(sched.Cancel{Build: fmt.Sprint("b", h.n-i)})
	}
	h.n -= n
}

// taken is what traces take, and how many there are.
func taken(t *testing.T, dir string) (bytes int64, files []string) {
	t.Helper()
	for _, name := range filesIn(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
		files = append(files, filepath.Join(dir, name))
	}
	return bytes, files
}

// replay is what comes out of traces, one after another.
func replay(t *testing.T, files []string) (sum sim.Replayed) {
	t.Helper()
	var play sim.Replayer
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := play.Replay(bytes.NewReader(text), nil)
		if err != nil || r.Different > 0 || r.Unlike > 0 {
			t.Errorf("%s: %+v, %v", filepath.Base(file), r, err)
		}
		sum.Inputs += r.Inputs
		sum.Starts += r.Starts
		sum.Wholes += r.Wholes
		sum.Gaps += r.Gaps
		sum.Truncated = sum.Truncated || r.Truncated
	}
	return sum
}

// TestTraceGoesOn lets hubs run for longer than their traces have room for: the oldest go, what is left is never more than
// it may be, replays from its first file on, and spans most of the room.
func TestTraceGoesOn(t *testing.T) {
	dir, limit := filepath.Join(t.TempDir(), "trace"), size(100_000)
	var said bytes.Buffer
	for run := 1; run <= 3; run++ {
		h := traceHub(t, dir, limit, &said)
		for range 60 {
			h.submit(20)
			h.leave(20)
			if n, files := taken(t, dir); n > int64(limit) {
				t.Fatalf("run %d: %d bytes in %q", run, n, files)
			}
		}
		if err := h.tr.close(); err != nil {
			t.Error(err)
		}
		n, files := taken(t, dir)
		if n < int64(limit)*3/4 || len(files) < 5 || len(files) > 9 {
			t.Errorf("run %d: %d bytes in %q", run, n, files)
		}
		if r := replay(t, files); r.Gaps > 0 || r.Truncated || r.Wholes+r.Starts != len(files) || r.Inputs < 300 {
			t.Errorf("run %d: replayed: %+v", run, r)
		}
		if r := replay(t, files[1:]); r.Gaps > 0 || r.Inputs < 250 {
			t.Errorf("run %d: replayed from the second on: %+v", run, r)
		}
	}
	if said.Len() > 0 {
		t.Errorf("the log says: %s", said.String())
	}
}

// TestTraceOfMuch lets more and more wait. While it can, each file holds as much again as it begins with. When what waits
// takes more than half of the room, the log says that there is a gap, once, and the trace goes on when it is less.
func TestTraceOfMuch(t *testing.T) {
	dir, limit := filepath.Join(t.TempDir(), "trace"), size(100_000)
	var said bytes.Buffer
	h := traceHub(t, dir, limit, &said)
	h.submit(150)
	h.leave(1)
	_, files := taken(t, dir)
	if r := replay(t, files); r.Gaps > 0 || said.Len() > 0 || h.tr.enough < int64(limit)/4 {
		t.Errorf("%+v; files of %d bytes; the log says: %s", r, h.tr.enough, said.String())
	}
	tries := 0
	for range 300 {
		h.submit(1)
		if h.tr.gap && h.tr.size < 200 {
			tries++ // a file was to begin
		}
	}
	if n := strings.Count(said.String(), "level=ERROR"); n != 1 || !strings.Contains(said.String(), "more than half of") || !strings.Contains(said.String(), "has a gap") {
		t.Errorf("the log says %d times: %s", n, said.String())
	}
	if tries == 0 || tries > 3 {
		t.Errorf("a file was to begin %d times", tries)
	}
	said.Reset()
	h.leave(440)
	h.submit(200)
	h.leave(200)
	if err := h.tr.close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(said.String(), "level="); n != 1 || !strings.Contains(said.String(), "the trace goes on") {
		t.Errorf("the log says %d times: %s", n, said.String())
	}
	n, files := taken(t, dir)
	if r := replay(t, files); n > int64(limit) || r.Wholes == 0 || r.Gaps > 1 {
		t.Errorf("%d bytes; replayed: %+v", n, r)
	}
}

// TestTraceBehind gives it lines while a file is begun: they come behind what it begins with, in order.
func TestTraceBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trace")
	var said bytes.Buffer
	h := traceHub(t, dir, size(64<<20), &said)
	for i := range 300 {
		h.now = h.now.Add(time.Second)
		in := sched.AskSession{Session: fmt.Sprint("s", i), Repo: "r", Wait: true}
		x, err := sched.TraceStep(h.now, in, h.s.Step(h.now, in))
		if err != nil {
			t.Fatal(err)
		}
		h.write(x)
		if i%10 == 0 {
			h.tr.sink()(sched.Traced{At: h.now, Whole: h.s.Whole()})
		}
	}
	if err := h.tr.close(); err != nil {
		t.Error(err)
	}
	_, files := taken(t, dir)
	if r := replay(t, files); r.Inputs != 300 || r.Gaps > 0 || r.Wholes != 30 || said.Len() > 0 {
		t.Errorf("replayed: %+v; the log says: %s", r, said.String())
	}
}

// TestTraceFails loses its file under a trace, then its directory: the log says why once, and what follows is traced when
// there is a directory again.
func TestTraceFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trace")
	var said bytes.Buffer
	h := traceHub(t, dir, size(40_000), &said)
	h.submit(5)
	if err := h.tr.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	h.submit(5)
	h.leave(10)
	h.submit(50)
	h.leave(50)
	if n := strings.Count(said.String(), "level="); n != 1 || !strings.Contains(said.String(), "has a gap") {
		t.Errorf("the log says it %d times: %s", n, said.String())
	}
	if err := os.Rename(dir+".old", dir); err != nil {
		t.Fatal(err)
	}
	h.submit(50)
	h.leave(50)
	if err := h.tr.close(); err != nil {
		t.Error(err)
	}
	_, files := taken(t, dir)
	if r := replay(t, files); len(files) < 2 || r.Starts != 1 || r.Wholes == 0 || r.Gaps != 1 || !strings.Contains(said.String(), "the trace goes on") {
		t.Errorf("%q replayed: %+v; the log says: %s", files, r, said.String())
	}
}

// TestSimReplay replays the traces of a state directory: as a hub left them, with one missing, with one that says something
// else, with one in which the hub knew something else, with one that a kill tore.
func TestSimReplay(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil        func(text string, third string) error
		status       int
		out, because string
	}{
		"whole":          {func(string, string) error { return nil }, exitOK, "0 different; 1 restores", ""},
		"one is missing": {func(_, third string) error { return os.Remove(third) }, exitOK, "-000004.jsonl: inputs are missing before it; ", ""},
		"another decision": {func(text, third string) error {
			return os.WriteFile(third, []byte(strings.Replace(text, `"out":["queue b`, `"out":["queue x`, 1)), 0o600)
		}, exitFailed, " 1 different; ", "something else is decided now"},
		"another state": {func(text, third string) error {
			return os.WriteFile(third, []byte(strings.Replace(text, `"Virtual":`, `"Virtual":1`, 1)), 0o600)
		}, exitFailed, "-000003.jsonl: its state is not what the inputs before it lead to; ", "The inputs do not lead to the state that the hub wrote down, 2 times"},
		"torn": {func(text, third string) error { return os.WriteFile(third, []byte(text[:300]), 0o600) }, exitOK, "-000003.jsonl: 0 inputs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			var said bytes.Buffer
			h := traceHub(t, filepath.Join(state, "trace"), size(100_000), &said)
			for range 15 {
				h.submit(10)
				h.leave(10)
			}
			if err := h.tr.close(); err != nil {
				t.Fatal(err)
			}
			_, files := taken(t, filepath.Join(state, "trace"))
			if len(files) != 5 {
				t.Fatalf("there are %d files", len(files))
			}
			third, err := os.ReadFile(files[2])
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(string(third), files[2]); err != nil {
				t.Fatal(err)
			}
			status, out, complaints := try(t, "sim", "replay", "--state-dir", state)
			if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(complaints, tt.because) || tt.because == "" && complaints != "" {
				t.Errorf("status %d\n%s\n%s", status, out, complaints)
			}
		})
	}
}

// TestNoTrace writes nothing where nothing is to be traced.
func TestNoTrace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trace")
	tr, err := newTracer(dir, new(size), nil)
	if _, no := os.Stat(dir); err != nil || tr.sink() != nil || tr.close() != nil || !os.IsNotExist(no) {
		t.Errorf("%+v, %v, %v", tr, err, no)
	}
}

func put(t *testing.T, name string, n int) {
	t.Helper()
	if err := os.WriteFile(name, make([]byte, n), 0o600); err != nil {
		t.Fatal(err)
	}
}

func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
