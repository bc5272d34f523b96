package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Files of a worker in its state directory.
const (
	socketFile = "worker.sock"
	lockFile   = "worker.lock"  // held by the worker while it lives
	spawnFile  = "worker.spawn" // held by who starts one
	pidFile    = "worker.pid"   // in the PID namespace of who started it
)

// A SpawnConfig says how to start a worker.
type SpawnConfig struct {
	Exe      string        // required; the program
	Args     []string      // its arguments; it must call Contain, Listen and Server.Run
	Env      []string      // default: this process's
	StateDir string        // required
	Log      string        // file for what it prints; default: worker.log in StateDir
	Timeout  time.Duration // for it to answer; default: 10 minutes, for after a machine's death it looks at every file of every image
}

// Spawn returns a client of the worker of a state directory, and starts the worker if there is none. The worker is
// detached: it has its own session, PID and mount namespaces, and outlives this process. Killing it kills all that it
// started.
//
// A worker of another version is returned like any other; Status tells. It is replaced by Drain, waiting with Gone,
// and calling Spawn again.
func Spawn(ctx context.Context, cfg SpawnConfig) (*Client, error) {
	cfg.Log = cmp.Or(cfg.Log, filepath.Join(cfg.StateDir, "worker.log"))
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Minute)
	c := NewClient(filepath.Join(cfg.StateDir, socketFile))
	if c.Alive(ctx) == nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	lock, err := lockPath(ctx, filepath.Join(cfg.StateDir, spawnFile), nil)
	if err != nil {
		return nil, notStarted(cfg, err)
	}
	defer lock.Close()
	// Whoever has the worker's lock answers soon, or goes.
	held, err := lockPath(ctx, filepath.Join(cfg.StateDir, lockFile), func() bool { return c.Alive(ctx) == nil })
	if err != nil {
		return nil, notStarted(cfg, err)
	}
	if held == nil {
		return c, nil
	}
	awaitDying(ctx, filepath.Join(cfg.StateDir, pidFile))
	if err := held.Close(); err != nil {
		return nil, err
	}
	if err := cfg.start(ctx, c); err != nil {
		return nil, notStarted(cfg, err)
	}
	return c, nil
}

func notStarted(cfg SpawnConfig, err error) error {
	return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Read "+cfg.Log+", and run `bindery doctor`.", "The worker did not start").Because(err)
}

// start starts the process and waits until it answers.
func (cfg SpawnConfig) start(ctx context.Context, c *Client) error {
	if info, err := os.Stat(cfg.Log); err == nil && info.Size() > 16<<20 {
		if err := os.Rename(cfg.Log, cfg.Log+".1"); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(cfg.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := exec.Command(cfg.Exe, cfg.Args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", cfg.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s in namespaces of its own: %w", cfg.Exe, err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }() // it outlives us, or we reap it
	pid := []byte(strconv.Itoa(cmd.Process.Pid) + "\n")
	if err := os.WriteFile(filepath.Join(cfg.StateDir, pidFile), pid, 0o600); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.Alive(ctx) == nil {
			return nil
		}
		select {
		case err := <-gone:
			if c.Alive(ctx) == nil {
				return nil // another one was faster
			}
			return fmt.Errorf("it ended (%v) and said: %s", err, since(cfg.Log, begin))
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("it did not answer; it said: %s", since(cfg.Log, begin)), cmd.Process.Kill())
		case <-tick.C:
		}
	}
}

// since returns the last kilobytes that were written to path after offset.
func since(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 4096
	if info, err := f.Stat(); err == nil {
		offset = max(offset, info.Size()-most)
	}
	raw, _ := io.ReadAll(io.NewSectionReader(f, offset, most)) // what can be read is better than nothing
	return strings.TrimSpace(string(raw))
}

// awaitDying waits for a worker that has been killed until all that it started is gone, too: the kernel lets go of its
// lock before. Such a process has no command line any more.
func awaitDying(ctx context.Context, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(line) > 0 || zombie(pid) {
			return
		}
		<-tick.C
	}
}

// lockPath locks the file path. It tries again until ctx ends, or until enough, if given, says so: then it returns nil.
func lockPath(ctx context.Context, path string, enough func() bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		if enough != nil && enough() {
			return nil, f.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for %s: %w", path, ctx.Err()), f.Close())
		}
	}
}

// tryLock locks a file, or fails at once with EWOULDBLOCK.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Foreground runs this program again with args in PID and mount namespaces of its own, and waits for it. When ctx
// ends, or this process dies, it is asked to end.
func Foreground(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the signal comes when the thread that started it ends
	defer runtime.UnlockOSThread()
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Run it as root; `bindery doctor` names what this machine lacks.",
			"The worker cannot get namespaces of its own").Because(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	err = cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// A Listener is the worker's socket together with its lock. Closing it, which an HTTP server does first of all, leaves
// the lock: builds may still be ending. It goes by Release or with the process.
type Listener struct {
	net.Listener
	lock *os.File
}

// Release lets another process be the worker.
func (l *Listener) Release() error { return l.lock.Close() }

// Listen makes this process the worker of a state directory: it takes the lock, or fails with ErrLocked, and opens the
// socket, in place of one that a killed worker left.
func Listen(stateDir string) (*Listener, error) {
	lock, err := tryLock(filepath.Join(stateDir, lockFile))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, bindery.Errorf(bindery.ErrLocked, bindery.User, "Stop the other worker, or use another --state-dir.", "Another worker uses the state directory %s", stateDir)
	}
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(stateDir, socketFile)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, lock.Close())
	}
	l, err := listen(socket)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Listener{Listener: l, lock: lock}, nil
}
