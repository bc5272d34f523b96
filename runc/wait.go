package runc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// first returns the process id of the container's first process, if that lives.
func (l *Launcher) first(id string) (int, bool) {
	text, err := os.ReadFile(l.file(id, filePID))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid, err == nil && pid > 1 && inCgroup(pid, l.cgroup(id)) && !zombie(pid)
}

// zombie reports whether a process has ended and only waits for its parent to notice.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

// Wait blocks until the container of id has ended, and says how. Containers that another launcher started are waited for just
// as well. Where nobody saw the end (the shim was killed too) the code is -1.
func (l *Launcher) Wait(ctx context.Context, id string) (bindery.Exit, error) {
	if err := checkID(id); err != nil {
		return bindery.Exit{}, err
	}
	for {
		if exit, ok := l.exit(id); ok {
			return exit, nil
		}
		if _, err := os.Stat(l.dir(id)); errors.Is(err, fs.ErrNotExist) {
			if exit, ok := l.exit(id); ok { // moved in between
				return exit, nil
			}
			return bindery.Exit{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "See `bindery sessions ls`.", "There is no session %s", id)
		}
		if pid, ok := l.shim(id); ok {
			if err := processEnd(ctx, pid); err != nil {
				return bindery.Exit{}, err
			}
			continue
		}
		if pid, ok := l.first(id); ok { // without its shim
			if err := l.standIn(ctx, id, pid); err != nil {
				return bindery.Exit{}, err
			}
			continue
		}
		if l.starting(id) { // its shim has not come up yet
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-ctx.Done():
				return bindery.Exit{}, ctx.Err()
			}
		}
		if exit, ok := l.exit(id); ok { // written while we looked
			return exit, nil
		}
		exit := bindery.Exit{Code: -1, OutOfMemory: oomKilled(l.cgroup(id)), Time: time.Now().UTC()}
		if err := writeJSON(l.file(id, fileExit), exit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return bindery.Exit{}, err
		}
	}
}

func (l *Launcher) starting(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy[id] != nil
}

// exit returns how id ended, if that is written down.
func (l *Launcher) exit(id string) (bindery.Exit, bool) {
	var exit bindery.Exit
	for _, path := range []string{l.file(id, fileExit), l.endedDir() + "/" + id + "/" + fileExit} {
		if readJSON(path, &exit) == nil {
			return exit, true
		}
		if _, err := os.Stat(l.dir(id)); err == nil {
			break // a session of the same name that ended before is another story
		}
	}
	return bindery.Exit{}, false
}

// shim returns the process id of id's shim, if that lives: it holds the lock as long as it does.
func (l *Launcher) shim(id string) (int, bool) {
	f, err := os.Open(l.file(id, fileLock))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return 0, false
	}
	buf := make([]byte, 16)
	for range 400 { // it writes its id as the first thing it does
		n, _ := f.ReadAt(buf, 0)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err == nil && pid > 1 {
			return pid, true
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
			return 0, false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, false
}

// standIn waits for a container whose shim was killed, and keeps its log meanwhile: it would stop at a full pipe. Of several
// that wait, one keeps the log.
func (l *Launcher) standIn(ctx context.Context, id string, pid int) error {
	turn, err := os.OpenFile(l.file(id, fileShim), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer turn.Close()
	var cfg shimConfig
	if err := readJSON(l.file(id, fileShim), &cfg); err != nil {
		return err
	}
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return processEnd(ctx, pid)
	}
	out, err := os.OpenFile(l.file(id, fileStdout), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		keepLog(out, l.file(id, fileLog), cfg.Log)
	}()
	err = processEnd(ctx, pid)
	_ = out.SetReadDeadline(time.Now().Add(time.Second)) // for the last of it
	if err != nil {
		_ = out.SetReadDeadline(time.Unix(1, 0))
	}
	<-logged
	return errors.Join(err, out.Close())
}

// processEnd blocks until process pid has ended.
func processEnd(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool { // called again whenever the runtime's poller says that the process has ended
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// signal sends a signal to the container's first process, and not to another that got its id meanwhile.
func (l *Launcher) signal(id string, s unix.Signal) error {
	pid, ok := l.first(id)
	if !ok {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if again, ok := l.first(id); !ok || again != pid {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
