package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/bindery-hub/bindery/sched"
)

// A tracer writes down what the scheduler was told and what it decided, in files that follow each other. Each begins with
// all that the scheduler knew, so that it replays without those before it, of which the oldest are removed.
type tracer struct {
	dir  string
	run  string // of the hub: its files are called so, and numbered
	most int64  // bytes of all traces
	log  *slog.Logger
	work sync.WaitGroup

	mu     sync.Mutex // guards what follows; while a file is begun, all but the last two are its maker's
	file   *os.File   // nil: nothing is written until the next one begins
	begun  int        // files
	size   int64      // of the file, or of what was not written since there is none
	enough int64      // size at which the next file is to begin
	others int64      // bytes of the other files
	gap    bool       // it was said that nothing is written
	starts bool       // a file is begun
	behind []sched.Traced
}

const (
	defaultTrace = size(256 << 20) // how much all traces may take
	traceFiles   = 8               // so many share that, unless what they begin with is large
)

// newTracer removes old traces that are too much. It returns nil when nothing is to be traced.
func newTracer(dir string, limit *size, log *slog.Logger) (*tracer, error) {
	most := int64(defaultTrace)
	if limit != nil {
		most = int64(*limit)
	}
	if most == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	others, err := thinOut(dir, "", most)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return &tracer{dir: dir, run: time.Now().UTC().Format("20060102T150405.000000"), most: most, log: log, others: others, enough: most / traceFiles}, nil
}

// thinOut removes the oldest traces, but never the one that is being written, until all others take no more than so many
// bytes. It returns what they take.
func thinOut(dir, writing string, most int64) (rest int64, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return 0, err
	}
	slices.Sort(files) // by time
	var errs []error
	full := false
	for _, file := range slices.Backward(files) {
		info, err := os.Stat(file)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case file == writing:
			continue
		}
		if full = full || rest+info.Size() > most; full {
			errs = append(errs, os.Remove(file))
			continue
		}
		rest += info.Size()
	}
	return rest, errors.Join(errs...)
}

// write is called for one line after another. When it returns true, the next one is to be the whole state of the
// scheduler: a file begins with that. It does not wait until that is written, which may be large: lines that come
// meanwhile wait, in order.
func (t *tracer) write(x sched.Traced) (full bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.starts:
		t.behind = append(t.behind, x)
		return false
	case x.Config != nil || x.Whole != nil:
		t.starts = true
		t.work.Go(func() { t.begin(x) })
		return false
	}
	t.add(x)
	return t.size >= t.enough
}

// begin makes a file of which x is the first line, then writes what has come since. If it cannot, nothing is traced for a
// while: who replays goes on at the next file.
func (t *tracer) begin(x sched.Traced) {
	line, err := x.Line()
	t.enough = max(t.most/traceFiles, 2*int64(len(line))) // so that states are at most half of what is written
	if err == nil {
		err = t.create(line)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.pause(err)
	} else if t.gap {
		t.gap = false
		t.log.Info("the trace goes on", "file", t.file.Name())
	}
	for _, y := range t.behind {
		t.add(y)
	}
	t.behind, t.starts = nil, false
}

func (t *tracer) create(line []byte) error {
	if t.file != nil {
		_ = t.file.Close() // each line of it is written
	}
	t.file, t.size = nil, 0
	if t.enough > t.most {
		return fmt.Errorf("what the queue knows takes %d bytes, which is more than half of %d: a larger trace in the configuration file holds it", len(line), t.most)
	}
	var err error
	if t.others, err = thinOut(t.dir, "", t.most-int64(len(line))); err != nil {
		return err
	}
	t.begun++
	t.file, err = os.OpenFile(filepath.Join(t.dir, fmt.Sprintf("%s-%06d.jsonl", t.run, t.begun)), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.file = nil
		return err
	}
	t.size = int64(len(line))
	_, err = t.file.Write(line)
	return err
}

// add writes a line, for which older files may have to go.
func (t *tracer) add(x sched.Traced) {
	line, err := x.Line()
	t.size += int64(len(line))
	if t.file == nil {
		return
	}
	if err == nil && t.others+t.size > t.most {
		t.others, err = thinOut(t.dir, t.file.Name(), t.most-max(t.size, t.enough)) // once, for all that this one will hold
	}
	if err == nil && t.size > t.most {
		err = fmt.Errorf("a line takes %d bytes, for which there is no room", len(line))
	}
	if err == nil {
		_, err = t.file.Write(line)
	}
	if err != nil {
		t.pause(err)
	}
}

// pause lets as much go by unwritten as a file would hold, then another one is tried.
func (t *tracer) pause(err error) {
	if t.file != nil {
		_ = t.file.Close() // what is in it is all that there will be
	}
	t.file, t.size = nil, 0
	if !t.gap {
		t.gap = true
		t.log.Error("the trace has a gap from now on; it goes on with the first file that can be written", "dir", t.dir, "err", err)
	}
}

// close waits until all is written.
func (t *tracer) close() error {
	if t == nil {
		return nil
	}
	t.work.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// sink is what a dispatcher calls; nil when nothing is traced.
func (t *tracer) sink() func(sched.Traced) bool {
	if t == nil {
		return nil
	}
	return t.write
}
