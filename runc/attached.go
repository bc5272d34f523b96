package runc

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// Stdio is what an attached container reads and writes. When In is a terminal the container gets one too.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Attached runs one command in a container, with standard input, output and error attached, and returns how it ended. SIGINT,
// SIGTERM to this process are passed on to it; when ctx ends it is asked to stop, then killed. Nothing of it stays.
func (l *Launcher) Attached(ctx context.Context, ask bindery.Launch, stdio Stdio) (exit bindery.Exit, err error) {
	if err := checkID(ask.ID); err != nil {
		return bindery.Exit{}, err
	}
	done, err := l.own(ctx, ask.ID)
	if err != nil {
		return bindery.Exit{}, err
	}
	defer done()
	if _, ok := l.running(ask.ID); ok {
		return bindery.Exit{}, bindery.Errorf(bindery.ErrConflict, bindery.Ours, "", "The session %s runs already", ask.ID)
	}
	if err := l.clean(ctx, ask.ID); err != nil {
		return bindery.Exit{}, err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, l.clean(late, ask.ID))
	}()
	terminal := isTerminal(stdio.In)
	if _, err := l.prepare(ctx, ask, terminal); err != nil {
		return bindery.Exit{}, err
	}
	return l.foreground(ctx, ask.ID, stdio, terminal)
}

// foreground is runc as our child: it passes the signals that it gets on to the container, and ends with its status.
func (l *Launcher) foreground(ctx context.Context, id string, stdio Stdio, terminal bool) (bindery.Exit, error) {
	cmd := exec.CommandContext(ctx, l.cfg.Runtime, "--root", l.runcRoot(), "--log", l.file(id, fileRuncLog),
		"run", "--bundle", l.dir(id), "--pid-file", l.file(id, filePID), id)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = stdio.In, stdio.Out, stdio.Err, cleanEnv()
	// A process group of its own, so that Ctrl-C reaches it once: from us. With a terminal it must be in ours, to read it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !terminal}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = l.cfg.Grace
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return bindery.Exit{}, noRuntime(l.cfg.Runtime, err)
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-over:
				return
			}
		}
	}()
	err := cmd.Wait()
	exit := bindery.Exit{Code: cmd.ProcessState.ExitCode(), Time: time.Now().UTC(), OutOfMemory: oomKilled(l.cgroup(id))}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit.Code = 128 + int(status.Signal())
	}
	if _, made := os.Stat(l.file(id, filePID)); made != nil { // runc itself failed
		return exit, startFailed("", lastWords(l.file(id, fileRuncLog)), err)
	}
	if failed := new(exec.ExitError); err == nil || errors.As(err, &failed) || errors.Is(err, exec.ErrWaitDelay) {
		err = nil // its own status, or standard input that nobody reads any more
	}
	return exit, cmp.Or(ctx.Err(), err)
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
