package runc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
	"github.com/bindery-hub/bindery/runc"
)

// The test program is also the shim, and a launcher that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "session-shim" {
		if err := runc.Shim(context.Background(), os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("RUNC_TEST_LAUNCHER") != "" {
		launchAndHang()
	}
	code := m.Run()
	if program, err := guest(); err == nil && code == 0 {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A machine is a launcher with real runc, a real network, and images that are a directory with the guest in it.
type machine struct {
	*runc.Launcher
	net    *bridge.Network
	images *images
	cfg    runc.Config
	base   string
}

// images prepares an overlay on one directory.
type images struct {
	lower, dir string
	config     bindery.ImageConfig

	mu      sync.Mutex
	refuse  error // what Release answers, while set
	prepare error // what Prepare answers, while set
}

func (m *images) Prepare(_ context.Context, session, image string) (bindery.Rootfs, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.prepare != nil {
		return bindery.Rootfs{}, m.prepare
	}
	up, work := filepath.Join(m.dir, session, "up"), filepath.Join(m.dir, session, "work")
	if err := errors.Join(os.MkdirAll(up, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return bindery.Rootfs{}, err
	}
	return bindery.Rootfs{Config: m.config, Mounts: []bindery.Mount{{
		Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + m.lower, "upperdir=" + up, "workdir=" + work},
	}}}, nil
}

func (m *images) Release(_ context.Context, session string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return m.refuse
	}
	return os.RemoveAll(filepath.Join(m.dir, session))
}

func (m *images) set(refuse error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = refuse
}

// ports adapts a bridge to what the launcher asks for.
type ports struct{ n *bridge.Network }

func (p ports) Attach(ctx context.Context, id string) (string, netip.Addr, error) {
	port, err := p.n.Attach(ctx, id)
	return port.Netns, port.Addr, err
}

func (p ports) Detach(ctx context.Context, id string) error { return p.n.Detach(ctx, id) }

func runtimePath(t testing.TB) string {
	t.Helper()
	for _, p := range []string{os.Getenv("BINDERY_RUNC"), "../bin/runc", "runc"} {
		if p == "" {
			continue
		}
		if found, err := exec.LookPath(p); err == nil {
			abs, err := filepath.Abs(found)
			must(t, err)
			return abs
		}
	}
	t.Fatal("no runc: set BINDERY_RUNC, or run `make setup`")
	return ""
}

// guest compiles the program that the containers run, once per test process.
var guest = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bindery-guest-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "guest"), "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "guest"), nil
})

// rootfs makes a root file system with nothing but the guest in it.
func rootfs(t testing.TB) string {
	t.Helper()
	program, err := guest()
	must(t, err)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	for _, d := range []string{"etc", "proc", "dev", "sys", "tmp", "home/user"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	must(t, os.Chown(filepath.Join(dir, "home/user"), 1000, 1000))
	text, err := os.ReadFile(program)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "guest"), text, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nuser:x:1000:\nextra:x:44:user\n"), 0o644))
	return dir
}

// newMachine makes a launcher with a directory, a bridge, a subnet, a cgroup of its own. number, below 200, tells subnets apart.
func newMachine(t testing.TB, number int, change func(*runc.Config)) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: containers cannot be made")
	}
	ctx := context.WithoutCancel(t.Context())
	dir := t.TempDir()
	m := &machine{base: dir, images: &images{
		lower: rootfs(t), dir: filepath.Join(dir, "snapshots"),
		config: bindery.ImageConfig{User: "user", WorkingDir: "/home/user", Entrypoint: []string{"/guest"}, Cmd: []string{"serve", "8888"}, Env: []string{"FROM=image"}},
	}}
	m.net = network(t, dir, number)
	must(t, m.net.Up(ctx))
	m.cfg = runc.Config{
		Dir: filepath.Join(dir, "sessions"), Runtime: runtimePath(t), CgroupParent: cgroupParent(number), Images: m.images,
		Network: ports{m.net}, Nameserver: m.net.Gateway().String(), Shim: []string{"/proc/self/exe", "session-shim"},
		Grace:    2 * time.Second,
		Defaults: bindery.Limits{Memory: 256 << 20, CPU: 1, PIDs: 64, Log: 64 << 10},
	}
	if change != nil {
		change(&m.cfg)
	}
	m.reopen(t)
	t.Cleanup(func() {
		ids, err := m.Known(ctx)
		must(t, err)
		for _, id := range ids {
			must(t, m.Stop(ctx, id))
		}
		must(t, m.net.Down(ctx))
		removeCgroups(number)
	})
	return m
}

func network(t testing.TB, dir string, number int) *bridge.Network {
	t.Helper()
	n, err := bridge.New(bridge.Config{
		Name: fmt.Sprintf("bndrunc%d", number), Subnet: netip.MustParsePrefix(fmt.Sprintf("10.232.%d.0/24", number)),
		Dir: filepath.Join(dir, "net"), RunDir: filepath.Join(dir, "pins"),
	})
	must(t, err)
	return n
}

func cgroupParent(number int) string { return fmt.Sprintf("/bindery-test-runc%d", number) }

func removeCgroups(number int) {
	for _, pattern := range []string{"/sys/fs/cgroup" + cgroupParent(number), "/sys/fs/cgroup/*" + cgroupParent(number)} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			_ = os.Remove(p)
		}
	}
}

// reopen makes another launcher on the same directory, as a restarted hub does.
func (m *machine) reopen(t testing.TB) {
	t.Helper()
	l, err := runc.New(m.cfg)
	must(t, err)
	m.Launcher = l
}

// start starts a session; with no arguments it is the web server, which is waited for.
func (m *machine) start(t testing.TB, id string, args ...string) bindery.Running {
	t.Helper()
	r, err := m.Start(t.Context(), bindery.Launch{ID: id, Image: "i", Args: args, Port: 8888})
	must(t, err)
	if len(args) == 0 {
		answers(t, r.Address)
	}
	return r
}

func answers(t testing.TB, addr string) {
	t.Helper()
	eventually(t, "an answer of "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// get asks the guest at addr.
func get(t testing.TB, addr, path string, params ...string) string {
	t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + addr + path + "?" + q.Encode())
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return string(text)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s in twenty seconds", what)
		}
	}
}

// waitExit waits for the end of a session.
func (m *machine) waitExit(t testing.TB, id string) bindery.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	exit, err := m.Wait(ctx, id)
	must(t, err)
	return exit
}

func (m *machine) log(t testing.TB, id string) string {
	t.Helper()
	f, err := m.Log(t.Context(), id, false)
	must(t, err)
	defer f.Close()
	text, err := io.ReadAll(f)
	must(t, err)
	return string(text)
}

// traces lists what containers of this machine leave in the kernel and on disk.
func (m *machine) traces(t testing.TB) []string {
	t.Helper()
	var found []string
	text, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, m.base) {
			found = append(found, "mount "+line)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*" + m.cfg.CgroupParent + "/*/")
	more, _ := filepath.Glob("/sys/fs/cgroup" + m.cfg.CgroupParent + "/*/")
	for _, g := range append(groups, more...) {
		found = append(found, "cgroup "+g)
	}
	ports, _ := filepath.Glob("/sys/class/net/" + strings.TrimPrefix(m.cfg.CgroupParent, "/bindery-test-") + "/brif/*")
	bridgePorts, _ := filepath.Glob("/sys/class/net/bnd" + strings.TrimPrefix(m.cfg.CgroupParent, "/bindery-test-") + "/brif/*")
	for _, p := range append(ports, bridgePorts...) {
		found = append(found, "port "+p)
	}
	for _, dir := range []string{"pins", "net/leases", "snapshots", "sessions/.runc"} {
		entries, _ := os.ReadDir(filepath.Join(m.base, dir))
		for _, e := range entries {
			found = append(found, dir+"/"+e.Name())
		}
	}
	entries, _ := os.ReadDir(m.cfg.Dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			found = append(found, "session "+e.Name())
		}
	}
	return append(found, m.processes(t)...)
}

// processes lists the shims, runcs, and guests of this machine.
func (m *machine) processes(t testing.TB) []string {
	t.Helper()
	var found []string
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, p := range all {
		text, _ := os.ReadFile(p)
		group, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cgroup"))
		if bytes.Contains(text, []byte(m.cfg.Dir)) || bytes.Contains(group, []byte(m.cfg.CgroupParent+"/")) {
			found = append(found, "process "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// clean fails the test unless nothing is left of any session.
func (m *machine) clean(t testing.TB) {
	t.Helper()
	eventually(t, "end of the last process", func() bool { return len(m.processes(t)) == 0 })
	if left := m.traces(t); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
