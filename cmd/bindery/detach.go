package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

// A message is one line from the process in the background to the one that started it: exactly one field is set.
type message struct {
	Event *bindery.Event `json:"event,omitempty"`
	Note  string         `json:"note,omitempty"`
	Ready *ready         `json:"ready,omitempty"`
	Ended *ending        `json:"ended,omitempty"`
}

// An ending is why there will be no session.
type ending struct {
	Status int            `json:"status"`
	Text   string         `json:"text,omitempty"`
	Err    *bindery.Error `json:"error,omitempty"`
}

// A teller is the display of a process in the background. Once the session is ready, or the parent has gone, it is
// silent.
type teller struct {
	pipe *os.File
	enc  *json.Encoder
}

func newTeller(fd int) (*teller, error) {
	f := os.NewFile(uintptr(fd), "parent")
	if f == nil {
		return nil, errors.New("--tell-fd does not name an open file")
	}
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("--tell-fd: %w", err)
	}
	syscall.CloseOnExec(fd)
	return &teller{pipe: f, enc: json.NewEncoder(f)}, nil
}

func (t *teller) Event(ev bindery.Event) { t.send(message{Event: &ev}) }

func (t *teller) Note(format string, args ...any) {
	t.send(message{Note: fmt.Sprintf(format, args...)})
}

func (t *teller) Close() {}

// send does not fail: without its parent the session would be started for nobody, but then ready fails.
func (t *teller) send(m message) {
	if t.pipe != nil {
		_ = t.enc.Encode(m)
	}
}

// ready hands the session over and lets go of the parent.
func (t *teller) ready(out ready) error {
	err := t.enc.Encode(message{Ready: &out})
	err = errors.Join(err, t.pipe.Close())
	t.pipe = nil
	if err != nil {
		return fmt.Errorf("tell the parent process: %w", err)
	}
	return nil
}

// fail reports err to a parent that still listens; it says whether there was one.
func (t *teller) fail(ctx context.Context, err error) bool {
	if t == nil || t.pipe == nil {
		return false
	}
	e := ending{Status: exitFailed, Text: err.Error()}
	if own, ok := errors.AsType[*bindery.Error](err); ok {
		e.Err = own
	}
	if ctx.Err() != nil {
		e.Status = exitInterrupted
	}
	t.send(message{Ended: &e})
	return true
}

// detach starts the owner of the session in the background and waits until it has told that the session is ready.
func (c *runCmd) detach(ctx context.Context, a *app, src bindery.Source) error {
	if err := a.inst.create(); err != nil {
		return err
	}
	id := dispatch.RunID(src)
	child, pipe, err := c.background(a, id)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = child.Process.Signal(syscall.SIGTERM) }) // it cleans up and tells
	defer stop()
	show := newDisplay(a.stderr, a.getenv, c.Quiet, c.Verbose)
	end := listenTo(pipe, show)
	show.Close()
	switch {
	case end.Ready != nil:
		return c.announce(a, *end.Ready)
	case end.Ended == nil:
		err := child.Wait()
		return bindery.Errorf(bindery.ErrInternal, bindery.Ours, "Its messages are in "+a.inst.ownedLog(id)+".",
			"The session's process ended without a word").Because(err)
	case ctx.Err() != nil:
		_ = child.Wait() // it has told all there is
		return context.Cause(ctx)
	}
	_ = child.Wait()                   // it has told all there is
	_ = os.Remove(a.inst.ownedLog(id)) // it may be gone
	if end.Ended.Err != nil {
		return end.Ended.Err
	}
	return errors.New(end.Ended.Text)
}

// listenTo shows what the child tells, up to its last message.
func listenTo(pipe *os.File, show display) (last message) {
	defer func() { _ = pipe.Close() }() // only read
	dec := json.NewDecoder(pipe)
	for {
		var m message
		if dec.Decode(&m) != nil {
			return message{}
		}
		switch {
		case m.Event != nil:
			show.Event(*m.Event)
		case m.Note != "":
			show.Note("%s", m.Note)
		default:
			return m
		}
	}
}

// background starts this program once more, in a session of its own, with the end of a pipe to tell by.
func (c *runCmd) background(a *app, id string) (*exec.Cmd, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = w.Close() }() // the child has its own
	log, err := os.OpenFile(a.inst.ownedLog(id), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = log.Close() }() // as above
	cmd := exec.Command(ourselves(), append(slices.Clone(a.args), "--session", id, "--tell-fd", "3")...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the session's process: %w", err)
	}
	return cmd, r, nil
}

func (c *runCmd) announce(a *app, out ready) error {
	if c.JSON {
		return printJSON(a.stdout, out)
	}
	fmt.Fprintf(a.stderr, "Session %s is ready; `bindery sessions stop %s` ends it.\n", out.Session, out.Session)
	_, err := fmt.Fprintf(a.stdout, "%slab?token=%s\n", out.URL, out.Token)
	return err
}
