package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A tracer writes down what the scheduler was told and what it decided, one file for each run of the hub: its beginning, if
// the run is long.
type tracer struct {
	file *os.File
	left int64 // bytes that may still be written
	log  *slog.Logger
}

// defaultTrace is how much all traces may take.
const defaultTrace = size(256 << 20)

// newTracer begins a file, and removes old ones: they may take half of what there is for traces, this one the other.
// It returns nil when nothing is to be traced.
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
	if err := thinOut(dir, most/2); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	name := filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000000")+".jsonl")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return &tracer{file: f, left: most / 2, log: log}, nil
}

// thinOut removes the oldest traces until the rest takes no more than so many bytes.
func thinOut(dir string, most int64) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return err
	}
	slices.Sort(files) // by time
	var errs []error
	for _, file := range slices.Backward(files) {
		info, err := os.Stat(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if most = max(most-info.Size(), -1); most < 0 {
			errs = append(errs, os.Remove(file))
		}
	}
	return errors.Join(errs...)
}

// write is called for one line after another. A trace that is full, or cannot be written, ends: what is there replays. No
// other file goes on with it, since it could not be replayed: what a hub begins with, at its start, is what is stored, and
// a queue that has run knows more than that, such as tags, who watches, what a build avoids.
func (t *tracer) write(line []byte) {
	if t.left <= 0 {
		return
	}
	if t.left -= int64(len(line)); t.left <= 0 {
		t.log.Warn("the trace is full: what the queue does is not traced from now until the hub starts again; a larger trace in the configuration file holds more", "file", t.file.Name())
		return
	}
	if _, err := t.file.Write(line); err != nil {
		t.left = 0
		t.log.Error("the trace ends", "file", t.file.Name(), "err", err)
	}
}

func (t *tracer) close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}

// sink is what a dispatcher calls; nil when nothing is traced.
func (t *tracer) sink() func([]byte) {
	if t == nil {
		return nil
	}
	return t.write
}
