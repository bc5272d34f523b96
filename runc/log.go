package runc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A log that outgrows its limit is cut to its newest half. Its first line then says how many bytes are missing before what
// follows, so that a follower knows where it is.
const (
	cutPrefix = "[bindery: the first "
	cutSuffix = " bytes of this log were dropped]\n"
)

// keepLog copies in to the log until in ends. When the log cannot be written the output is thrown away: a full disk must
// not stop a session.
func keepLog(in io.Reader, path string, limit int64) {
	w := &cappedLog{path: path, limit: max(limit, 4096)} // goes on with what is there
	defer w.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		w.write(buf[:n])
		if err != nil {
			return
		}
	}
}

type cappedLog struct {
	path  string
	limit int64
	file  *os.File
	size  int64 // of the file
	cut   int64 // bytes dropped so far
	head  int64 // length of the first line that says so
}

func (w *cappedLog) write(p []byte) {
	for len(p) > 0 {
		if w.file == nil && !w.open() {
			return
		}
		part := p[:min(int64(len(p)), max(w.limit/4, 1))]
		n, err := w.file.Write(part)
		w.size += int64(n)
		if err != nil {
			return
		}
		p = p[n:]
		if w.size > w.limit {
			w.halve()
		}
	}
}

func (w *cappedLog) open() bool {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	w.file = f
	w.cut, w.head = dropped(f)
	w.size, err = f.Seek(0, io.SeekEnd)
	return err == nil
}

// dropped reads the first line of a log: how many bytes it says are missing, and how long it is. A log that was never cut
// has no such line.
func dropped(f *os.File) (cut, head int64) {
	buf := make([]byte, 128)
	n, _ := f.ReadAt(buf, 0)
	line, _, whole := bytes.Cut(buf[:n], []byte("\n"))
	if _, err := fmt.Sscanf(string(line)+"\n", cutPrefix+"%d"+cutSuffix, &cut); err != nil || !whole {
		return 0, 0
	}
	return cut, int64(len(line)) + 1
}

// halve puts a new file with the newest half in the place of the old one. Who reads the old one can finish it.
func (w *cappedLog) halve() {
	tail := make([]byte, w.limit/2)
	n, err := w.file.ReadAt(tail, w.size-int64(len(tail)))
	if err != nil && err != io.EOF {
		return
	}
	tail = tail[:n]
	if i := bytes.IndexByte(tail, '\n'); i >= 0 && i < len(tail)-1 {
		tail = tail[i+1:]
	}
	cut := w.cut + (w.size - w.head - int64(len(tail)))
	head := cutPrefix + strconv.FormatInt(cut, 10) + cutSuffix
	next, err := os.OpenFile(w.path+".new", os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, err = next.WriteString(head)
	if err == nil {
		_, err = next.Write(tail)
	}
	if err == nil {
		err = os.Rename(w.path+".new", w.path)
	}
	if err != nil {
		next.Close()
		os.Remove(w.path + ".new")
		return
	}
	w.file.Close()
	w.file, w.cut, w.head = next, cut, int64(len(head))
	w.size = w.head + int64(len(tail))
}

func (w *cappedLog) close() {
	if w.file == nil && !w.open() { // a session that says nothing has an empty log, not none
		return
	}
	w.file.Close()
}

// Log returns what the container of id has written. With follow it goes on until the container has ended, or the reader
// is closed, or ctx ends. The logs of the last Config.KeepEnded sessions that were stopped can be read too.
func (l *Launcher) Log(ctx context.Context, id string, follow bool) (io.ReadCloser, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	ended := filepath.Join(l.endedDir(), id, fileLog)
	_, err := os.Stat(l.dir(id))
	if errors.Is(err, fs.ErrNotExist) {
		f, err := os.Open(ended)
		if err != nil {
			return nil, bindery.Errorf(bindery.ErrNotFound, bindery.User, "See `bindery sessions ls`.", "There is no log of a session %s", id)
		}
		return f, nil
	}
	if !follow {
		f, err := os.Open(l.file(id, fileLog))
		if errors.Is(err, fs.ErrNotExist) {
			return io.NopCloser(strings.NewReader("")), nil
		}
		return f, err
	}
	ctx, cancel := context.WithCancel(ctx)
	return &follower{ctx: ctx, cancel: cancel, path: l.file(id, fileLog), over: func() bool {
		if _, ok := l.exit(id); ok {
			return true
		}
		_, err := os.Stat(l.dir(id))
		return err != nil
	}, later: ended}, nil
}

// A follower reads a log that grows and is cut meanwhile. It lives for one reader, so it may hold that reader's context.
type follower struct {
	ctx    context.Context
	cancel context.CancelFunc
	path   string
	later  string // where the log is after Stop
	over   func() bool

	file *os.File
	at   int64 // bytes of the log read, dropped ones included
	last bool  // the container had ended before the last look
}

// Read returns more of the log as soon as there is any.
func (f *follower) Read(p []byte) (int, error) {
	for {
		if f.ctx.Err() != nil {
			return 0, io.EOF
		}
		if f.file != nil {
			if n, err := f.file.Read(p); n > 0 || err != nil && err != io.EOF {
				f.at += int64(n)
				return n, err
			}
		}
		if f.reopen() {
			continue
		}
		if f.last {
			return 0, io.EOF
		}
		f.last = f.over()
		if f.last {
			continue // once more: it may have written before it ended
		}
		select {
		case <-f.ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// reopen changes to the file that is now in the log's place, if that is another one, where the old one ended.
func (f *follower) reopen() bool {
	next, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		next, err = os.Open(f.later)
	}
	if err != nil {
		return false
	}
	if f.file == nil {
		f.file = next
		return true
	}
	old, err1 := f.file.Stat()
	now, err2 := next.Stat()
	if err1 != nil || err2 != nil || os.SameFile(old, now) {
		next.Close()
		return false
	}
	cut, start := dropped(next)
	if f.at < cut { // some was dropped before it could be read; the first line, which says how much, is shown
		f.at, start = cut-start, 0
	} else {
		start += f.at - cut
	}
	_, err = next.Seek(start, io.SeekStart)
	f.file.Close()
	f.file = next
	return err == nil
}

// Close ends a Read that waits.
func (f *follower) Close() error {
	f.cancel()
	return nil
}
