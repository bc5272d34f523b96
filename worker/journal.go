package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	bindery "github.com/bindery-hub/bindery"
)

// A journal is the event log of one attempt: a file of lines, one event each, numbered from 1 without gaps. Any
// number of readers follow it, each at its own pace with its own handle of the file; a reader that does not read holds
// nobody up.
type journal struct {
	path string
	dir  string
	max  int64
	now  func() time.Time

	mu      sync.Mutex
	file    *os.File // nil when done
	size    int64    // bytes of whole lines
	head    bindery.BuildAttempt
	tail    []byte // the last event, when there was no space for it on disk
	cut     bool   // the log has reached max
	done    bool
	redact  redactor
	changed chan struct{} // closed, and made again, at each change
}

const (
	eventsFile  = "events.ndjson"
	reserveFile = "reserve"
	reserve     = 128 << 10 // bytes set aside so that the last event fits on a full disk
	maxMessage  = 16 << 10  // bytes of one event's message; longer ones are split
)

func (s *Server) journal(dir string, k key) *journal {
	return &journal{
		path: filepath.Join(dir, eventsFile), dir: dir, max: s.cfg.MaxLog, now: s.cfg.Now,
		head: bindery.BuildAttempt{ID: k.build, Attempt: k.attempt}, redact: newRedactor(s.cfg.Secrets), changed: make(chan struct{}),
	}
}

func (s *Server) newJournal(dir string, k key) (*journal, error) {
	j := s.journal(dir, k)
	if err := os.WriteFile(filepath.Join(dir, reserveFile), bytes.Repeat([]byte{'.'}, reserve), 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	j.file = f
	return j, err
}

// openJournal takes over the journal in dir. What a crash left of a half-written line goes.
func (s *Server) openJournal(dir string, k key) (*journal, error) {
	j := s.journal(dir, k)
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(f)
	var last bindery.Event
	for {
		line, err := r.ReadBytes('\n')
		var ev bindery.Event
		if err != nil || json.Unmarshal(line, &ev) != nil || ev.Seq != j.head.LastSeq+1 {
			break
		}
		j.size, j.head.LastSeq, last = j.size+int64(len(line)), ev.Seq, ev
	}
	if state, ok := readDone(dir); ok && state.LastSeq == j.head.LastSeq {
		j.head, j.done = state, true
		return j, f.Close()
	}
	if last.Last() { // the crash came between the last event and done.json
		j.head.Done, j.head.Result, j.head.Err, j.done = true, last.Result, last.Err, true
		return j, f.Close()
	}
	j.file = f
	return j, f.Truncate(j.size)
}

// emit numbers ev, writes it and announces it. An event that ends a build is not the builder's to send.
func (j *journal) emit(ev bindery.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.done {
		return
	}
	stream := ""
	if ev.Step != nil {
		step := *ev.Step
		step.Name = j.redact.whole(step.Name)
		ev.Step, stream = &step, step.ID
	}
	if ev.Plan != nil {
		ev.Plan = j.redact.data(ev.Plan)
	}
	ev.Result, ev.Err = nil, nil
	silent := ev.Message == ""
	ev.Message = j.redact.chunk(stream, ev.Message)
	if silent || ev.Message != "" || ev.Step != nil || ev.Plan != nil {
		j.append(ev)
	}
	j.announce()
}

// append writes ev, in pieces when its message is long. It is lost when the disk is full: its number is not used up.
func (j *journal) append(ev bindery.Event) {
	pieces := split(strings.ToValidUTF8(ev.Message, "�"))
	for i, piece := range pieces {
		if j.cut {
			return
		}
		if j.size > j.max {
			j.cut = true
			piece = fmt.Sprintf("[The log is cut here: it has reached %d MB. The build goes on.]\n", j.max>>20)
		}
		ev.Message = piece
		if i > 0 {
			ev.Step, ev.Plan = nil, nil
		}
		_ = j.write(ev)
	}
}

// write adds one line to the file. A line that cannot be written whole is taken back.
func (j *journal) write(ev bindery.Event) error {
	ev.Seq, ev.Time = j.head.LastSeq+1, j.now().UTC()
	line, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if _, err := j.file.WriteAt(line, j.size); err != nil {
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(len(line))
	j.head.LastSeq = ev.Seq
	return nil
}

// split cuts s into pieces of at most maxMessage bytes, at line ends where it can, between characters where not.
func split(s string) []string {
	var out []string
	for len(s) > maxMessage {
		n := strings.LastIndexByte(s[:maxMessage], '\n') + 1
		for n == 0 || !utf8.RuneStart(s[n]) {
			if n == 0 {
				n = maxMessage
				continue
			}
			n--
		}
		out, s = append(out, s[:n]), s[n:]
	}
	return append(out, s)
}

// finish writes the last event, makes it durable, and only then announces it.
func (j *journal) finish(last bindery.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.done {
		return nil
	}
	if rest := j.redact.flush(); rest != "" {
		j.append(bindery.Event{Phase: last.Phase, Message: rest})
	}
	if last.Err != nil {
		e := *last.Err
		e.Msg, e.Remedy, e.Err = j.redact.whole(e.Msg), j.redact.whole(e.Remedy), nil
		last.Err = &e
	}
	_ = os.Remove(filepath.Join(j.dir, reserveFile)) // the space it kept is for what follows
	err := j.write(last)
	if err != nil {
		last.Seq, last.Time = j.head.LastSeq+1, j.now().UTC()
		line, _ := json.Marshal(last) // it was marshalled a moment ago
		j.tail, j.head.LastSeq = append(line, '\n'), last.Seq
	}
	j.head.Done, j.head.Result, j.head.Err, j.done = true, last.Result, last.Err, true
	err = errors.Join(err, j.file.Sync(), j.file.Close())
	if err == nil {
		raw, merr := json.Marshal(j.head)
		err = errors.Join(merr, writeDurably(filepath.Join(j.dir, doneFile), raw))
	}
	j.file = nil
	j.announce()
	return err
}

func (j *journal) announce() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) state() bindery.BuildAttempt {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head
}

// remove deletes the files. Readers that have them open read to the end.
func (j *journal) remove() error {
	err := os.RemoveAll(j.dir)
	_ = os.Remove(filepath.Dir(j.dir)) // the build's directory, when this was its only attempt
	return err
}

// follow copies the events after number after to w, line by line, until the last one or the end of ctx.
func (j *journal) follow(ctx context.Context, after int64, w io.Writer) error {
	f, err := os.Open(j.path)
	if err != nil {
		return fmt.Errorf("open an event log: %w", err)
	}
	defer f.Close()
	var offset int64
	skip := after > 0
	for {
		j.mu.Lock()
		size, done, tail, last, changed := j.size, j.done, j.tail, j.head.LastSeq, j.changed
		j.mu.Unlock()
		if skip && last > after {
			if offset, err = skipTo(f, after, size); err != nil {
				return err
			}
			skip = false
		}
		if !skip && size > offset {
			if _, err := io.Copy(w, io.NewSectionReader(f, offset, size-offset)); err != nil {
				return err
			}
			offset = size
		}
		if done {
			if !skip {
				_, err = w.Write(tail)
			}
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// skipTo returns where the line after event number after begins.
func skipTo(f io.ReaderAt, after, size int64) (int64, error) {
	r := bufio.NewReader(io.NewSectionReader(f, 0, size))
	var offset int64
	for range after {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			offset += int64(len(line))
			line, err = r.ReadSlice('\n')
		}
		offset += int64(len(line))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read an event log: %w", err)
		}
	}
	return offset, nil
}
