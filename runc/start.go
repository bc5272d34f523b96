package runc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// Start starts a container, or returns the one that runs under the same id. What is left of a start that a crash cut
// short is taken away first. A session that has ended is not started again. When Start fails nothing is left.
func (l *Launcher) Start(ctx context.Context, ask bindery.Launch) (bindery.Running, error) {
	if err := checkID(ask.ID); err != nil {
		return bindery.Running{}, err
	}
	done, err := l.own(ctx, ask.ID)
	if err != nil {
		return bindery.Running{}, err
	}
	defer done()
	if r, ok := l.running(ask.ID); ok {
		return r, nil
	}
	if exit, ok := l.exit(ask.ID); ok {
		if _, err := os.Stat(l.dir(ask.ID)); err == nil {
			return bindery.Running{}, bindery.Errorf(bindery.ErrSessionDied, bindery.User, "Look at its log.", "The session ended with status %d", exit.Code)
		}
	}
	if err := l.clean(ctx, ask.ID); err != nil {
		return bindery.Running{}, err
	}
	r, err := l.start(ctx, ask)
	if err != nil {
		return bindery.Running{}, l.undo(ctx, ask.ID, err)
	}
	return r, nil
}

func (l *Launcher) start(ctx context.Context, ask bindery.Launch) (bindery.Running, error) {
	made, err := l.prepare(ctx, ask, false)
	if err != nil {
		return bindery.Running{}, err
	}
	if err := l.startShim(ctx, made); err != nil {
		return bindery.Running{}, err
	}
	r := bindery.Running{ID: ask.ID, Address: made.Address, Started: time.Now()}
	text, err := os.ReadFile(l.file(ask.ID, filePID))
	if err == nil {
		r.PID, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return r, err
}

// undo takes away what a failed start made. What cannot be taken away now stays known, for a later Stop.
func (l *Launcher) undo(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := errors.Join(l.end(ctx, id), l.clean(ctx, id)); err != nil {
		l.cfg.Log.WarnContext(ctx, "session not cleaned up", "session", id, "err", err)
	}
	return cause
}

// prepare makes everything but the container itself: directory, root file system, network, specification.
func (l *Launcher) prepare(ctx context.Context, ask bindery.Launch, terminal bool) (launch, error) {
	ask.Limits = limits(ask.Limits, l.cfg.Defaults)
	made := launch{Launch: ask, Created: time.Now().UTC()}
	if _, err := exec.LookPath(l.cfg.Runtime); err != nil {
		return made, noRuntime(l.cfg.Runtime, err)
	}
	if err := os.RemoveAll(filepath.Join(l.endedDir(), ask.ID)); err != nil {
		return made, err
	}
	if err := os.MkdirAll(l.file(ask.ID, fileRootfs), 0o700); err != nil {
		return made, fmt.Errorf("make session directory: %w", err)
	}
	if err := writeJSON(l.file(ask.ID, fileLaunch), made); err != nil {
		return made, err
	}
	rootfs, err := l.cfg.Images.Prepare(ctx, ask.ID, ask.Image)
	if err != nil {
		return made, err
	}
	if err := l.mount(ask.ID, rootfs.Mounts); err != nil {
		return made, err
	}
	who, err := lookUp(l.file(ask.ID, fileRootfs), rootfs.Config.User)
	if err != nil {
		return made, err
	}
	netns, addr, err := l.cfg.Network.Attach(ctx, ask.ID)
	if err != nil {
		return made, err
	}
	if ask.Port != 0 {
		made.Address = net.JoinHostPort(addr.String(), strconv.Itoa(ask.Port))
	}
	if err := writeJSON(l.file(ask.ID, fileLaunch), made); err != nil {
		return made, err
	}
	return made, l.bundle(container{
		launch: ask, config: rootfs.Config, account: who, netns: netns, terminal: terminal,
		env: environment([]string{defaultPath, "HOME=" + who.home}, terminalEnv(terminal), l.cfg.Env, rootfs.Config.Env, ask.Env),
		dir: l.dir(ask.ID), cgroup: l.cgroup(ask.ID), binds: l.cfg.Binds,
	}, addr)
}

// bundle writes the files that the container is made from.
func (l *Launcher) bundle(c container, addr netip.Addr) error {
	id := c.launch.ID
	s := spec(c)
	if len(s.Process.Args) == 0 {
		return bindery.Errorf(bindery.ErrStep, bindery.User, "Give the image a CMD, or the session a command.", "The image names no command to run")
	}
	if !filepath.IsAbs(s.Process.Cwd) {
		return bindery.Errorf(bindery.ErrStep, bindery.User, "Give WORKDIR an absolute path.", "The image's working directory %q is not absolute", s.Process.Cwd)
	}
	hosts := fmt.Sprintf("127.0.0.1\tlocalhost\n%s\t%s\n", addr, id)
	for name, text := range map[string]string{fileResolv: "nameserver " + l.cfg.Nameserver + "\n", fileHosts: hosts} {
		if err := os.WriteFile(l.file(id, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return writeJSON(l.file(id, fileConfig), s)
}

// mount puts the root file system together in the session's directory.
func (l *Launcher) mount(id string, list []bindery.Mount) error {
	all := make([]mount.Mount, len(list))
	for i, m := range list {
		all[i] = mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options}
	}
	if err := mount.All(all, l.file(id, fileRootfs)); err != nil {
		return fmt.Errorf("mount root file system: %w", err)
	}
	return nil
}

// startShim starts the shim and waits until it says that the container runs, or why not. The shim has a session and a process
// group of its own, and refers to nothing of ours but the pipe that it answers by.
func (l *Launcher) startShim(ctx context.Context, made launch) error {
	id := made.ID
	runtime, err := exec.LookPath(l.cfg.Runtime)
	if err != nil {
		return noRuntime(l.cfg.Runtime, err)
	}
	if err := writeJSON(l.file(id, fileShim), shimConfig{
		ID: id, Runtime: runtime, Root: l.runcRoot(), Cgroup: l.cgroup(id), Log: made.Limits.Log,
	}); err != nil {
		return err
	}
	lock, err := holdLock(l.file(id, fileLock))
	if err != nil {
		return err
	}
	defer lock.Close()
	answer, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answer.Close()
	cmd := exec.Command(l.cfg.Shim[0], append(slices.Clone(l.cfg.Shim[1:]), l.dir(id))...)
	cmd.ExtraFiles = []*os.File{theirs, lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir, cmd.Env = "/", cleanEnv()
	var said bytes.Buffer // only until it answers; a file, since a pipe of ours must not outlive us
	complaint, err := os.OpenFile(l.file(id, fileRuncLog), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		theirs.Close()
		return err
	}
	defer complaint.Close()
	cmd.Stderr = complaint
	err = cmd.Start()
	theirs.Close()
	lock.Close()
	if err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that it does not stay a zombie; how the session ended is in its directory
	stop := context.AfterFunc(ctx, func() { answer.Close() })
	defer stop()
	_, err = io.Copy(&said, io.LimitReader(answer, 64<<10))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || said.String() != shimStarted {
		return startFailed(said.String(), lastWords(l.file(id, fileRuncLog)), err)
	}
	return nil
}

// startFailed words what runc says. That the command does not exist is the image's fault; anything else is ours.
func startFailed(said, logged string, err error) error {
	cause := errors.Join(errors.New(strings.TrimSpace(said+" "+logged)), err)
	for _, theirs := range []string{"executable file not found", "no such file or directory", "permission denied", "exec format error", "is a directory", "not a directory"} {
		if strings.Contains(logged, "exec") && strings.Contains(logged, theirs) || strings.Contains(logged, "chdir to cwd") {
			return bindery.Errorf(bindery.ErrSessionDied, bindery.User, "Check the command, the ENTRYPOINT, the WORKDIR of the image.", "The command cannot be started in this image").Because(cause)
		}
	}
	return bindery.Errorf(bindery.ErrInternal, bindery.Ours, "Run `bindery doctor`.", "The container cannot be started").Because(cause)
}

// lastWords returns the end of runc's own log.
func lastWords(path string) string {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return ""
	}
	return strings.TrimSpace(string(text[max(0, len(text)-2000):]))
}

func noRuntime(path string, err error) error {
	return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Run `make setup`, or name one with --runtime.", "There is no container runtime %q on this machine", path).Because(err)
}

// cleanEnv is the environment of the shim and of runc. They get nothing of ours: runc would pass sockets on to the container
// that LISTEN_FDS or NOTIFY_SOCKET name.
func cleanEnv() []string { return []string{defaultPath, "GOMAXPROCS=1"} }

func terminalEnv(terminal bool) []string {
	if !terminal {
		return nil
	}
	return []string{"TERM=" + cmp.Or(os.Getenv("TERM"), "xterm")}
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// clean takes away everything of id but what is kept for later readers. It can be called in any state, any number of times.
func (l *Launcher) clean(ctx context.Context, id string) error {
	if _, err := os.Lstat(l.dir(id)); errors.Is(err, fs.ErrNotExist) {
		return nil // the directory is made first and removed last
	}
	var errs []error
	errs = append(errs, l.deleteContainer(ctx, id), unmount(l.file(id, fileRootfs)), l.cfg.Network.Detach(ctx, id), l.cfg.Images.Release(ctx, id))
	if err := errors.Join(errs...); err != nil {
		return err // the directory stays, and with it the knowledge that there is something to do
	}
	if err := l.keep(id); err != nil {
		return err
	}
	if mounted(l.file(id, fileRootfs)) { // RemoveAll would empty what is mounted
		return errors.New("the session's root file system is still mounted")
	}
	return os.RemoveAll(l.dir(id))
}

// mounted reports whether something is mounted on path; if that cannot be told, it may be.
func mounted(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func unmount(path string) error {
	if err := mount.UnmountAll(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount root file system: %w", err)
	}
	return nil
}
