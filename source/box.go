package source

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A box is where git runs: one thread of this process that has moved into mount, network and IPC namespaces of its
// own and starts all git processes, which inherit them. Its root is a small tmpfs with the programs of the machine,
// read only, the cache, and the checkouts that are open; its network is a loopback on which the guard listens.
// When the thread ends, its namespaces and mounts end with it.
//
// Without root there is no box: git runs as we are, and only the guard stands between it and the network.
type box struct {
	cfg      boxConfig
	listener net.Listener
	calls    chan func()
	quit     chan struct{}
	gone     chan struct{}
	next     atomic.Int64
}

type boxConfig struct {
	plain    bool
	uid, gid int
	root     string // mount point, on this side
	home     string // an empty directory, when plain
	cache    string // directory shown as /cache
	dirs     []string
	helper   []string // in place of ssh; none: there is none
	ca       string
	config   string // git's configuration
	global   string // where it is written when plain
}

func (s *Sources) boxConfig() boxConfig {
	return boxConfig{
		plain: os.Geteuid() != 0, uid: s.cfg.UID, gid: s.cfg.GID,
		root: filepath.Join(s.cfg.Dir, "root"), home: filepath.Join(s.cfg.Dir, "home"), cache: s.reposDir(),
		dirs: s.cfg.Policy.Dirs, helper: s.cfg.Policy.SSH.helper(), ca: s.cfg.CAFile, config: s.gitConfig(), global: filepath.Join(s.cfg.Dir, "gitconfig"),
	}
}

// Paths inside the box.
const (
	boxCache  = "/cache"
	boxWork   = "/work"
	boxHome   = "/home"
	boxCA     = "/etc/bindery-ca.crt"
	boxConfFn = "/etc/bindery-gitconfig"
	boxHelper = "/etc/bindery-ssh"
)

// openBox makes the box; close ends it.
func openBox(cfg boxConfig) (*box, error) {
	b := &box{cfg: cfg, calls: make(chan func()), quit: make(chan struct{}), gone: make(chan struct{})}
	if cfg.plain {
		close(b.gone)
		if err := os.WriteFile(cfg.global, []byte(cfg.config), 0o600); err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		b.listener = l
		return b, err
	}
	ready := make(chan error, 1)
	go b.live(ready)
	return b, <-ready
}

// live is the thread. It is never unlocked, so the runtime ends the thread when live returns.
func (b *box) live(ready chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread is what /proc shows as the process; it must not move. Hold it while another one is taken.
		go b.live(ready)
		<-b.gone
		runtime.UnlockOSThread()
		return
	}
	defer close(b.gone)
	if err := b.enter(); err != nil {
		ready <- err
		return
	}
	ready <- nil
	for {
		select {
		case call := <-b.calls:
			call()
		case <-b.quit:
			return
		}
	}
}

func (b *box) close() {
	_ = b.listener.Close()
	close(b.quit)
	<-b.gone
}

// on runs f on the box's thread.
func (b *box) on(f func() error) error {
	if b.cfg.plain {
		return f()
	}
	err := make(chan error, 1)
	select {
	case b.calls <- func() { err <- f() }:
		return <-err
	case <-b.quit:
		return errors.New("git's namespaces are closed")
	}
}

// enter moves the calling thread into the box.
func (b *box) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// Slave, so that mounts that go on the outside go here too until the old root is let go.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	if err := b.fill(); err != nil {
		return err
	}
	if err := pivot(b.cfg.root); err != nil {
		return err
	}
	if err := loopback(); err != nil {
		return fmt.Errorf("raise the loopback: %w", err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	b.listener = l
	return err
}

// fill mounts the new root and what is in it.
func (b *box) fill() error {
	if err := unix.Mount("tmpfs", b.cfg.root, "tmpfs", unix.MS_NOSUID, "mode=0755,size=64m"); err != nil {
		return fmt.Errorf("mount the root of git's box: %w", err)
	}
	for _, p := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
		"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/crypto-policies", "/etc/gnutls"} {
		if err := b.show(p, p, true); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, p := range []string{"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"} {
		if err := b.show(p, p, false); err != nil {
			return err
		}
	}
	for _, p := range b.cfg.dirs {
		if err := b.show(p, p, true); err != nil {
			return err
		}
	}
	if err := b.show(b.cfg.cache, boxCache, false); err != nil {
		return err
	}
	if len(b.cfg.helper) > 0 {
		if err := b.show(b.cfg.helper[0], boxHelper, true); err != nil {
			return err
		}
	}
	for _, p := range []string{boxWork, boxHome, "/tmp", "/etc"} {
		if err := os.MkdirAll(b.cfg.root+p, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(b.cfg.root+"/tmp", 0o777|os.ModeSticky); err != nil {
		return err
	}
	return b.configure()
}

func (b *box) configure() error {
	if b.cfg.ca != "" {
		pem, err := os.ReadFile(b.cfg.ca)
		if err != nil {
			return fmt.Errorf("read the certificates that git trusts: %w", err)
		}
		if err := os.WriteFile(b.cfg.root+boxCA, pem, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(b.cfg.root+boxConfFn, []byte(b.cfg.config), 0o644)
}

// show makes path from of the machine visible as to in the box. Symbolic links are made again.
func (b *box) show(from, to string, readOnly bool) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	target := b.cfg.root + to
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	case info.IsDir():
		err = os.MkdirAll(target, 0o755)
	default:
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show %s to git: %w", from, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("show %s to git read only: %w", from, err)
	}
	return nil
}

// pivot makes root the root of the calling thread and lets go of the old one.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	return unix.Chdir("/")
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// open shows the directory dir to git until release is called, and returns its path in the box.
func (b *box) open(dir string) (path string, release func(), err error) {
	if b.cfg.plain {
		return dir, func() {}, nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("open the checkout for git: %w", err)
	}
	defer unix.Close(fd)
	path = filepath.Join(boxWork, strconv.FormatInt(b.next.Add(1), 10))
	err = b.on(func() error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		return unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
	if err != nil {
		return "", nil, fmt.Errorf("show the checkout to git: %w", err)
	}
	return path, func() {
		_ = b.on(func() error { return errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)) })
	}, nil
}

// cachePath is where git finds the cache called name.
func (b *box) cachePath(name string) string {
	if b.cfg.plain {
		return filepath.Join(b.cfg.cache, name)
	}
	return filepath.Join(boxCache, name)
}

// env is the whole environment of a git process that shows the guard the ticket t.
func (b *box) env(t *ticket) []string {
	home, global, ca := boxHome, boxConfFn, boxCA
	if b.cfg.plain {
		home, global, ca = b.cfg.home, b.cfg.global, b.cfg.ca
	}
	proxy := fmt.Sprintf("http://%s:x@%s", t.name, b.listener.Addr())
	allow, ssh := "http:https", "/bin/false"
	if len(b.cfg.helper) > 0 {
		allow += ":ssh"
		program := boxHelper
		if b.cfg.plain {
			program = b.cfg.helper[0]
		}
		ssh = shellWords(append([]string{program}, b.cfg.helper[1:]...))
	}
	if len(b.cfg.dirs) > 0 {
		allow += ":file"
	}
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "LC_ALL=C.UTF-8", "TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + global, "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=/bin/true", "SSH_ASKPASS=/bin/true",
		"GIT_ALLOW_PROTOCOL=" + allow, "GIT_SSH_COMMAND=" + ssh, "GIT_SSH_VARIANT=ssh", "GIT_ADVICE=0", "GIT_ATTR_NOSYSTEM=1",
		"http_proxy=" + proxy, "https_proxy=" + proxy, "HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy, "ALL_PROXY=" + proxy, "all_proxy=" + proxy, "no_proxy=", "NO_PROXY=",
	}
	if b.cfg.ca != "" {
		env = append(env, "GIT_SSL_CAINFO="+ca, "SSL_CERT_FILE="+ca)
	}
	return env
}

// start starts cmd in the box. The processes that it leaves behind die with it.
func (b *box) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !b.cfg.plain {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // of the box's thread
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(b.cfg.uid), Gid: uint32(b.cfg.gid), Groups: []uint32{}}
	}
	return b.on(cmd.Start)
}
