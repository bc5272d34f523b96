package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// shimStarted is what the shim says when the container runs. Anything else is why it does not.
const shimStarted = "started\n"

// shimConfig is the content of shim.json.
type shimConfig struct {
	ID      string `json:"id"`
	Runtime string `json:"runtime"`
	Root    string `json:"root"`   // of runc's records
	Cgroup  string `json:"cgroup"` // of the container
	Log     int64  `json:"log"`    // bytes kept
}

// Shim starts the container of the session directory dir, keeps its log, waits for its end and writes exit.json there.
// It is the whole of a process of its own, which has to be started with a pipe as file descriptor 3, by which Shim says
// whether the container runs, and the locked lock file as 4. It ignores the signals that end other processes: only the container's end is its own.
func Shim(ctx context.Context, dir string) error {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	answer := os.NewFile(3, "answer")
	lock := os.NewFile(4, "lock")
	defer lock.Close()
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	var cfg shimConfig
	if err := readJSON(filepath.Join(dir, fileShim), &cfg); err != nil {
		return refuse(answer, err)
	}
	if _, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return refuse(answer, err)
	}
	// Children whose parent ends become ours: that is how the container's first process does, when runc has made it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return refuse(answer, err)
	}
	out, in, err := logPipe(filepath.Join(dir, fileStdout))
	if err != nil {
		return refuse(answer, err)
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		keepLog(out, filepath.Join(dir, fileLog), cfg.Log)
	}()
	pid, err := runDetached(ctx, cfg, dir, in)
	in.Close()
	if err != nil {
		return refuse(answer, err)
	}
	_, err = answer.WriteString(shimStarted)
	answer.Close()
	exit := bindery.Exit{Code: reap(pid), Time: time.Now().UTC()}
	exit.OutOfMemory = oomKilled(cfg.Cgroup)
	select {
	case <-logged:
	case <-time.After(2 * time.Second): // somebody outside still holds the pipe
	}
	return errors.Join(writeJSON(filepath.Join(dir, fileExit), exit), err)
}

// refuse tells the launcher why the container does not run.
func refuse(answer *os.File, err error) error {
	_, _ = answer.WriteString(err.Error()) // a launcher that is gone needs no answer
	answer.Close()
	return err
}

// holdLock takes the lock by which others see that a shim lives. The launcher takes it and hands it on, so that at no moment a
// shim is on its way and nobody knows. The kernel gives it up with the last process that has it, however that ends.
func holdLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	for range 50 { // who looks for a shim takes the lock for an instant
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return f, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.Close()
	return nil, fmt.Errorf("the session has a shim already: %w", err)
}

// logPipe makes the pipe from the container to the log. The container's end is open for reading too: should the shim be
// killed, the container meets a pipe that nobody empties, and not a signal that ends it.
func logPipe(path string) (out, in *os.File, err error) {
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, nil, err
	}
	// Not by os.OpenFile, which would make it non-blocking, for the container too.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	in = os.NewFile(uintptr(fd), path)
	if out, err = os.OpenFile(path, os.O_RDONLY, 0); err != nil {
		in.Close()
		return nil, nil, err
	}
	return out, in, nil
}

// runDetached has runc start the container and returns the id of its first process.
func runDetached(ctx context.Context, cfg shimConfig, dir string, out *os.File) (int, error) {
	pidFile := filepath.Join(dir, filePID)
	cmd := exec.CommandContext(ctx, cfg.Runtime, "--root", cfg.Root, "--log", filepath.Join(dir, fileRuncLog),
		"run", "--detach", "--bundle", dir, "--pid-file", pidFile, cfg.ID)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("runc run: %w", err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// reap waits for pid, and for whatever else becomes our child meanwhile.
func reap(pid int) int {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return -1 // no children: somebody else has taken it
		}
		if got == pid {
			return code(status)
		}
	}
}

// code is the exit status as a shell has it.
func code(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
