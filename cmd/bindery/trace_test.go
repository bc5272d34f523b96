package main

import (
	"bytes"
	"encoding/json"
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
			if err := thinOut(dir, tt.most); err != nil {
				t.Fatal(err)
			}
			want := append(slices.Clone(names[len(names)-tt.kept:]), "notes.txt")
			if got := filesIn(t, dir); !slices.Equal(got, want) {
				t.Errorf("left: %q, want %q", got, want)
			}
		})
	}
}

// TestTraceEnds fills a trace: it ends with a whole line, the log says so once, what is there replays, and the next run of
// the hub begins another beside it. All of them take no more than they may.
func TestTraceEnds(t *testing.T) {
	dir, limit := filepath.Join(t.TempDir(), "trace"), size(6000)
	var said bytes.Buffer
	for run := 1; run <= 4; run++ {
		said.Reset()
		tr, err := newTracer(dir, &limit, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		s := sched.New(sched.Config{})
		write := func(x sched.Traced) {
			line, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			tr.sink()(append(line, '\n'))
		}
		write(sched.Traced{At: now, Config: &sched.Config{}, State: &sched.State{}})
		for range 100 {
			now = now.Add(time.Minute)
			in := sched.AskSession{Session: now.Format("s150405"), Repo: "r"}
			x, err := sched.TraceStep(now, in, s.Step(now, in))
			if err != nil {
				t.Fatal(err)
			}
			write(x)
		}
		if err := tr.close(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(said.String(), "level=WARN"); n != 1 || !strings.Contains(said.String(), "is not traced") {
			t.Errorf("run %d: the log says %d times: %s", run, n, said.String())
		}
		text, err := os.ReadFile(tr.file.Name())
		if err != nil || len(text) > 3000 || len(text) < 2500 {
			t.Errorf("run %d: %d bytes, %v", run, len(text), err)
		}
		if r, err := sim.Replay(bytes.NewReader(text), nil); err != nil || r.Truncated || r.Different > 0 || r.Inputs < 5 || r.Inputs > 99 {
			t.Errorf("run %d: replayed: %+v, %v", run, r, err)
		}
		all := int64(0)
		files := filesIn(t, dir)
		for _, name := range files {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all += info.Size()
		}
		if want := min(run, 2); len(files) != want || files[want-1] != filepath.Base(tr.file.Name()) || all > int64(limit) {
			t.Errorf("run %d: %d bytes in %q", run, all, files)
		}
	}
}

// TestTraceFails loses its file under a trace: that ends, and the log says why once.
func TestTraceFails(t *testing.T) {
	var said bytes.Buffer
	tr, err := newTracer(t.TempDir(), nil, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.close(); err != nil {
		t.Fatal(err)
	}
	tr.write([]byte("{}\n"))
	tr.write([]byte("{}\n"))
	if n := strings.Count(said.String(), "level=ERROR"); n != 1 {
		t.Errorf("the log says it %d times: %s", n, said.String())
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
