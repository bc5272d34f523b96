package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"

	bindery "github.com/bindery-hub/bindery"
)

// A key names one attempt of one build.
type key struct {
	build   string
	attempt int
}

// An attempt is what the server knows of one: what was asked, and its event log.
type attempt struct {
	key     key
	request []byte // canonical JSON
	log     *journal
	cancel  context.CancelCauseFunc // nil for attempts of an earlier worker
}

// Files of an attempt.
const (
	requestFile = "request.json"
	doneFile    = "done.json"
)

func (k key) check() error {
	if regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`).MatchString(k.build) && k.attempt > 0 {
		return nil
	}
	return bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Use letters, digits, - and _; attempts count from 1.",
		"%q, attempt %d, is not the name of a build", bindery.Printable(k.build), k.attempt)
}

func (s *Server) attemptDir(k key) string {
	return filepath.Join(s.builds, k.build, strconv.Itoa(k.attempt))
}

// newAttempt stores the request, so that it is known to have been accepted after a crash.
func (s *Server) newAttempt(k key, request []byte) (*attempt, error) {
	dir := s.attemptDir(k)
	if err := os.RemoveAll(dir); err != nil { // what is not in s.attempts was never accepted
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	j, err := s.newJournal(dir, k)
	if err == nil {
		err = writeDurably(filepath.Join(dir, requestFile), request)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &attempt{key: k, request: request, log: j}, nil
}

// recover takes over the attempts of an earlier worker. Those that had not ended were lost with it.
func (s *Server) recover() error {
	if err := os.MkdirAll(s.builds, 0o700); err != nil {
		return err
	}
	dirs, err := filepath.Glob(filepath.Join(s.builds, "*", "*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		n, err := strconv.Atoi(filepath.Base(dir))
		k := key{filepath.Base(filepath.Dir(dir)), n}
		if err != nil || k.check() != nil {
			continue
		}
		a, err := s.recoverAttempt(dir, k)
		if errors.Is(err, fs.ErrNotExist) { // the request was never accepted
			err = os.RemoveAll(dir)
		}
		if err != nil {
			return err
		}
		if a != nil {
			s.mu.Lock()
			s.attempts[k] = a
			s.mu.Unlock()
		}
	}
	return nil
}

func (s *Server) recoverAttempt(dir string, k key) (*attempt, error) {
	request, err := os.ReadFile(filepath.Join(dir, requestFile))
	if err != nil {
		return nil, err
	}
	j, err := s.openJournal(dir, k)
	if err != nil {
		return nil, err
	}
	if j.done {
		return &attempt{key: k, request: request, log: j}, nil
	}
	return &attempt{key: k, request: request, log: j}, j.finish(bindery.Event{Phase: bindery.PhaseFailed, Err: lost()})
}

// list returns the attempts that are running or not acknowledged.
func (s *Server) list() []bindery.BuildAttempt {
	s.mu.Lock()
	all := make([]*attempt, 0, len(s.attempts))
	for _, a := range s.attempts {
		all = append(all, a)
	}
	s.mu.Unlock()
	out := make([]bindery.BuildAttempt, 0, len(all))
	for _, a := range all {
		out = append(out, a.log.state())
	}
	slices.SortFunc(out, func(a, b bindery.BuildAttempt) int {
		if a.ID != b.ID {
			if a.ID < b.ID {
				return -1
			}
			return 1
		}
		return a.Attempt - b.Attempt
	})
	return out
}

// writeDurably writes path so that after a crash it is there whole, or not at all.
func writeDurably(path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func noSpaceOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return bindery.Errorf(bindery.ErrNoSpace, bindery.Ours, "Try again later; the operator has to free space.", "The disk of the worker is full").Because(err)
	}
	return err
}

func stack() string { return string(debug.Stack()) }

// readDone reads what done.json says of an attempt.
func readDone(dir string) (bindery.BuildAttempt, bool) {
	var state bindery.BuildAttempt
	raw, err := os.ReadFile(filepath.Join(dir, doneFile))
	return state, err == nil && json.Unmarshal(raw, &state) == nil && state.Done
}
