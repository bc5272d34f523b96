package runc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/runc"
)

func TestStartStop(t *testing.T) {
	m := newMachine(t, 1, func(c *runc.Config) { c.Env = []string{"FROM=host", "ONLY=host"} })
	ctx := t.Context()
	r := m.start(t, "s1")
	again, err := m.Start(ctx, bindery.Launch{ID: "s1", Image: "i", Port: 8888})
	must(t, err)
	if again.PID != r.PID || again.Address != r.Address || r.PID == 0 {
		t.Errorf("started again: %+v, first %+v", again, r)
	}
	list, err := m.List(ctx)
	must(t, err)
	if len(list) != 1 || list[0].ID != "s1" || list[0].PID != r.PID || list[0].Address != r.Address || time.Since(list[0].Started) > time.Minute {
		t.Errorf("List = %+v", list)
	}
	env := get(t, r.Address, "/env")
	for _, want := range []string{"FROM=image\n", "ONLY=host\n", "HOME=/home/user\n", "PATH=/usr/local", "hostname=s1\n", "cwd=/home/user\n", "uid=1000 gid=1000"} {
		if !strings.Contains(env, want) {
			t.Errorf("no %q in\n%s", want, env)
		}
	}
	if got := get(t, r.Address, "/file", "path", "/etc/resolv.conf"); got != "nameserver "+m.cfg.Nameserver+"\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	if got := get(t, r.Address, "/file", "path", "/etc/hosts"); !strings.Contains(got, "\ts1\n") {
		t.Errorf("hosts: %q", got)
	}
	must(t, m.Stop(ctx, "s1"))
	must(t, m.Stop(ctx, "s1"))
	must(t, m.Stop(ctx, "never"))
	m.clean(t)
	if exit := m.waitExit(t, "s1"); exit.Code != 0 {
		t.Errorf("how it ended is forgotten, or wrong: %+v", exit)
	}
}

func TestExitCodesAndLogs(t *testing.T) {
	m := newMachine(t, 2, nil)
	m.start(t, "seven", "exit", "7")
	if exit := m.waitExit(t, "seven"); exit.Code != 7 || exit.OutOfMemory || time.Since(exit.Time) > time.Minute {
		t.Errorf("exit 7: %+v", exit)
	}
	if diff := cmp.Diff("out\nerr\n", m.log(t, "seven")); diff != "" {
		t.Error(diff)
	}
	if list, _ := m.List(t.Context()); len(list) != 0 {
		t.Errorf("an ended one is listed: %v", list)
	}
	if known, _ := m.Known(t.Context()); !cmp.Equal(known, []string{"seven"}) {
		t.Errorf("Known = %v", known)
	}
	if _, err := m.Start(t.Context(), bindery.Launch{ID: "seven", Image: "i"}); !errors.Is(err, bindery.ErrSessionDied) {
		t.Errorf("started again after its end: %v", err)
	}
	must(t, m.Stop(t.Context(), "seven"))
	if got := m.log(t, "seven"); got != "out\nerr\n" {
		t.Errorf("log after Stop: %q", got)
	}
	r := m.start(t, "killed", "sleep")
	must(t, unix.Kill(r.PID, unix.SIGKILL))
	if exit := m.waitExit(t, "killed"); exit.Code != 137 || exit.OutOfMemory {
		t.Errorf("killed: %+v", exit)
	}
	if _, err := m.Wait(t.Context(), "never"); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("Wait for nobody: %v", err)
	}
	if _, err := m.Log(t.Context(), "never", true); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("Log of nobody: %v", err)
	}
}

func TestOutOfMemory(t *testing.T) {
	m := newMachine(t, 3, nil)
	_, err := m.Start(t.Context(), bindery.Launch{ID: "eater", Image: "i", Args: []string{"eat", "400"}, Limits: bindery.Limits{Memory: 64 << 20}})
	must(t, err)
	if exit := m.waitExit(t, "eater"); !exit.OutOfMemory || exit.Code != 137 {
		t.Errorf("exit = %+v", exit)
	}
}

func TestBox(t *testing.T) {
	m := newMachine(t, 4, nil)
	a, b := m.start(t, "a"), m.start(t, "b")
	status := get(t, a.Address, "/file", "path", "/proc/self/status")
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if !strings.Contains(status, set+":\t0000000000000000\n") {
			t.Errorf("%s is not empty in\n%s", set, status)
		}
	}
	for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Groups:\t44"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	if got := get(t, a.Address, "/unshare"); !strings.Contains(got, "not permitted") {
		t.Errorf("unshare: %s", got)
	}
	for _, path := range []string{"/proc/sys/kernel/hostname", "/etc/hosts", "/etc/resolv.conf", "/sys/fs/cgroup/x", "/etc/passwd"} {
		if got := get(t, a.Address, "/write", "path", path); strings.TrimSpace(got) == "<nil>" {
			t.Errorf("%s can be written", path)
		}
	}
	if got := get(t, a.Address, "/write", "path", "/home/user/x"); strings.TrimSpace(got) != "<nil>" {
		t.Errorf("its home cannot be written: %s", got)
	}
	if got := get(t, b.Address, "/file", "path", "/home/user/x"); !strings.Contains(got, "no such file") {
		t.Errorf("b sees what a wrote: %s", got)
	}
	host, err := os.Hostname()
	must(t, err)
	t.Logf("host %s", host)
	for what, addr := range map[string]string{"neighbour": b.Address, "gateway": m.cfg.Nameserver + ":22", "metadata": "169.254.169.254:80"} {
		if got := get(t, a.Address, "/dial", "addr", addr); strings.TrimSpace(got) == "<nil>" {
			t.Errorf("%s can be reached", what)
		}
	}
	if n, _ := strconv.Atoi(strings.TrimSpace(get(t, a.Address, "/fork", "n", "100"))); n == 0 || n > 64 {
		t.Errorf("%d of 100 processes under a limit of 64", n)
	}
	must(t, m.Stop(t.Context(), "a"))
	must(t, m.Stop(t.Context(), "b"))
	m.clean(t)
}

func TestStubbornIsKilled(t *testing.T) {
	m := newMachine(t, 5, func(c *runc.Config) { c.Grace = 200 * time.Millisecond })
	m.start(t, "stubborn", "stubborn")
	eventually(t, "line", func() bool { return m.log(t, "stubborn") == "ready\n" })
	must(t, m.Stop(t.Context(), "stubborn"))
	m.clean(t)
	if exit := m.waitExit(t, "stubborn"); exit.Code != 137 {
		t.Errorf("exit = %+v", exit)
	}
	m.start(t, "polite", "trap")
	eventually(t, "line", func() bool { return m.log(t, "polite") == "ready\n" })
	must(t, m.Stop(t.Context(), "polite"))
	if exit := m.waitExit(t, "polite"); exit.Code != 7 {
		t.Errorf("exit = %+v", exit)
	}
}

func TestLogIsCappedAndFollowed(t *testing.T) {
	m := newMachine(t, 6, nil)
	m.start(t, "spam", "spam", "100000")
	f, err := m.Log(t.Context(), "spam", true)
	must(t, err)
	defer f.Close()
	text, err := io.ReadAll(f)
	must(t, err)
	if !strings.HasSuffix(string(text), "line 000099999\n") {
		t.Errorf("the follower missed the end: %q", text[max(0, len(text)-100):])
	}
	m.waitExit(t, "spam")
	kept := m.log(t, "spam")
	if len(kept) > 64<<10+200 || !strings.HasPrefix(kept, "[bindery: the first ") || !strings.HasSuffix(kept, "line 000099999\n") {
		t.Errorf("%d bytes kept: %.100q", len(kept), kept)
	}
}

// The launcher is killed; a new one finds the container, waits for it, learns how it ended.
func TestLauncherKilled(t *testing.T) {
	m := newMachine(t, 7, nil)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "RUNC_TEST_LAUNCHER="+m.base+":"+m.cfg.Runtime+":"+m.images.lower)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 512)
	n, err := out.Read(line)
	must(t, err)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	var r bindery.Running
	if err := json.Unmarshal(line[:n], &r); err != nil {
		t.Fatalf("%v: %s", err, line[:n])
	}
	answers(t, r.Address)
	m.reopen(t)
	list, err := m.List(t.Context())
	must(t, err)
	if len(list) != 1 || list[0].PID != r.PID || list[0].Address != r.Address {
		t.Fatalf("found %+v, started %+v", list, r)
	}
	get(t, r.Address, "/print", "text", "still here")
	ended := make(chan bindery.Exit, 1)
	go func() {
		exit, _ := m.Wait(t.Context(), "orphan")
		ended <- exit
	}()
	go func() { _, _ = exec.Command("true").Output() }()
	client := func() { defer func() { _ = recover() }(); _, _ = httpGet("http://" + r.Address + "/exit?code=5") }
	client()
	if exit := <-ended; exit.Code != 5 {
		t.Errorf("exit = %+v", exit)
	}
	if got := m.log(t, "orphan"); got != "still here\n" {
		t.Errorf("log: %q", got)
	}
	must(t, m.Stop(t.Context(), "orphan"))
	m.clean(t)
}

// The launcher is killed at any moment of Start: Stop takes away whatever there is by then.
func TestLauncherKilledWhileStarting(t *testing.T) {
	m := newMachine(t, 7, nil)
	for delay := 4 * time.Millisecond; delay < 160*time.Millisecond; delay += 12 * time.Millisecond {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "RUNC_TEST_LAUNCHER="+m.base+":"+m.cfg.Runtime+":"+m.images.lower)
		must(t, cmd.Start())
		<-time.After(delay)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		m.reopen(t)
		known, err := m.Known(t.Context())
		must(t, err)
		for _, id := range known {
			must(t, m.Stop(t.Context(), id))
		}
		must(t, m.net.Sweep(t.Context(), func(string) bool { return false }))
		m.clean(t)
	}
}

// The shim is killed: the container goes on, its end is noticed, nobody knows its status.
func TestShimKilled(t *testing.T) {
	m := newMachine(t, 8, nil)
	r := m.start(t, "s")
	shim, ok := m.ShimPID("s")
	if !ok {
		t.Fatal("no shim")
	}
	must(t, unix.Kill(shim, unix.SIGKILL))
	eventually(t, "end of the shim", func() bool { _, ok := m.ShimPID("s"); return !ok })
	get(t, r.Address, "/print", "text", "nobody listens")
	long := strings.Repeat("x", 1<<10)
	ended := make(chan bindery.Exit, 1)
	go func() {
		exit, _ := m.Wait(t.Context(), "s")
		ended <- exit
	}()
	if list, _ := m.List(t.Context()); len(list) != 1 {
		t.Errorf("List = %v", list)
	}
	for range 200 { // more than a pipe holds
		get(t, r.Address, "/print", "text", long)
	}
	_, _ = httpGet("http://" + r.Address + "/exit?code=5")
	if exit := <-ended; exit.Code != -1 {
		t.Errorf("exit = %+v", exit)
	}
	if got := m.log(t, "s"); !strings.HasSuffix(got, long+"\n") || len(got) > 64<<10+200 {
		t.Errorf("%d bytes of log: %.100q", len(got), got)
	}
	must(t, m.Stop(t.Context(), "s"))
	m.clean(t)
}

// A crash anywhere in Start leaves something that Stop, or the next Start, takes away.
func TestHalfStarted(t *testing.T) {
	m := newMachine(t, 9, nil)
	dir := filepath.Join(m.cfg.Dir, "half")
	for name, make := range map[string]func(){
		"directory only": func() { must(t, os.MkdirAll(dir, 0o700)) },
		"prepared": func() {
			must(t, os.MkdirAll(filepath.Join(dir, "rootfs"), 0o700))
			_, err := m.images.Prepare(t.Context(), "half", "i")
			must(t, err)
		},
		"mounted, attached": func() {
			must(t, os.MkdirAll(filepath.Join(dir, "rootfs"), 0o700))
			_, err := m.images.Prepare(t.Context(), "half", "i")
			must(t, err)
			must(t, unix.Mount(m.images.lower, filepath.Join(dir, "rootfs"), "", unix.MS_BIND, ""))
			_, err = m.net.Attach(t.Context(), "half")
			must(t, err)
			must(t, os.MkdirAll(filepath.Join(m.cfg.Dir, ".runc", "half"), 0o700))
		},
	} {
		make()
		if known, _ := m.Known(t.Context()); !cmp.Equal(known, []string{"half"}) {
			t.Errorf("%s: Known = %v", name, known)
		}
		if list, _ := m.List(t.Context()); len(list) != 0 {
			t.Errorf("%s: List = %v", name, list)
		}
		must(t, m.Stop(t.Context(), "half"))
		m.clean(t)
		make()
		m.start(t, "half")
		must(t, m.Stop(t.Context(), "half"))
		m.clean(t)
		if _, err := os.Stat(filepath.Join(m.images.lower, "guest")); err != nil {
			t.Fatalf("%s: the image itself was removed", name)
		}
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	m := newMachine(t, 10, nil)
	for name, tt := range map[string]struct {
		change func()
		ask    bindery.Launch
		kind   bindery.Kind
		fault  bindery.Fault
	}{
		"no such command":   {func() { m.images.config.Entrypoint = []string{"/nothing"} }, bindery.Launch{}, bindery.ErrSessionDied, bindery.User},
		"not in the path":   {func() { m.images.config.Entrypoint = []string{"nothing"} }, bindery.Launch{}, bindery.ErrSessionDied, bindery.User},
		"not a program":     {func() { m.images.config.Entrypoint = []string{"/etc/passwd"} }, bindery.Launch{}, bindery.ErrSessionDied, bindery.User},
		"no command at all": {func() { m.images.config.Entrypoint, m.images.config.Cmd = nil, nil }, bindery.Launch{}, bindery.ErrStep, bindery.User},
		"no such user":      {func() { m.images.config.User = "nobody-here" }, bindery.Launch{}, bindery.ErrStep, bindery.User},
		"image is lost":     {func() { m.images.prepare = bindery.Errorf(bindery.ErrNotFound, bindery.Ours, "", "gone") }, bindery.Launch{}, bindery.ErrNotFound, bindery.Ours},
		"relative workdir":  {func() { m.images.config.WorkingDir = "x" }, bindery.Launch{}, bindery.ErrStep, bindery.User},
	} {
		was := m.images.config
		tt.change()
		_, err := m.Start(t.Context(), bindery.Launch{ID: "s", Image: "i"})
		m.images.config, m.images.prepare = was, nil
		if e := bindery.AsError(err); err == nil || !errors.Is(err, tt.kind) || e.Fault != tt.fault {
			t.Errorf("%s: %v", name, err)
		}
		m.clean(t)
	}
	for _, id := range []string{"", "-x", "A", "a/b", "..", "a_b", strings.Repeat("a", 64)} {
		if _, err := m.Start(t.Context(), bindery.Launch{ID: id}); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("id %q: %v", id, err)
		}
		if err := m.Stop(t.Context(), id); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("stop %q: %v", id, err)
		}
	}
	cfg := m.cfg
	cfg.Runtime = "/nowhere/runc"
	l, err := runc.New(cfg)
	must(t, err)
	if _, err := l.Start(t.Context(), bindery.Launch{ID: "s", Image: "i"}); !errors.Is(err, bindery.ErrNotReady) || bindery.AsError(err).Remedy == "" {
		t.Errorf("without runc: %v", err)
	}
	m.clean(t)
}

// While the worker is away the image cannot be released: Stop says so, and finishes later.
func TestReleaseFails(t *testing.T) {
	m := newMachine(t, 11, nil)
	m.start(t, "s")
	away := errors.New("the worker is away")
	m.images.set(away)
	if err := m.Stop(t.Context(), "s"); !errors.Is(err, away) {
		t.Errorf("Stop: %v", err)
	}
	if list, _ := m.List(t.Context()); len(list) != 0 {
		t.Errorf("still running: %v", list)
	}
	m.reopen(t)
	if known, _ := m.Known(t.Context()); !cmp.Equal(known, []string{"s"}) {
		t.Errorf("Known = %v", known)
	}
	m.images.set(nil)
	must(t, m.Stop(t.Context(), "s"))
	m.clean(t)
}

func TestTenAtOnce(t *testing.T) {
	m := newMachine(t, 12, nil)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			r, err := m.Start(t.Context(), bindery.Launch{ID: fmt.Sprint("s", i), Image: "i", Port: 8888})
			if err != nil {
				t.Error(err)
				return
			}
			answers(t, r.Address)
		})
	}
	wg.Wait()
	for i := range 10 {
		wg.Go(func() {
			if err := m.Stop(t.Context(), fmt.Sprint("s", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m.clean(t)
}

func TestAttached(t *testing.T) {
	m := newMachine(t, 13, nil)
	var out, errs bytes.Buffer
	exit, err := m.Attached(t.Context(), bindery.Launch{ID: "c", Image: "i", Args: []string{"cat"}}, runc.Stdio{In: strings.NewReader("through\n"), Out: &out, Err: &errs})
	must(t, err)
	if exit.Code != 0 || out.String() != "through\n" {
		t.Errorf("cat: %+v, %q, %q", exit, out.String(), errs.String())
	}
	m.clean(t)
	out.Reset()
	exit, err = m.Attached(t.Context(), bindery.Launch{ID: "c", Image: "i", Args: []string{"exit", "9"}}, runc.Stdio{Out: &out, Err: &errs})
	must(t, err)
	if exit.Code != 9 || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("exit 9: %+v, %q, %q", exit, out.String(), errs.String())
	}
	m.clean(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		line := make([]byte, 64)
		_, _ = r.Read(line)
		cancel()
		_, _ = io.Copy(io.Discard, r)
	}()
	exit, err = m.Attached(ctx, bindery.Launch{ID: "c", Image: "i", Args: []string{"trap"}}, runc.Stdio{Out: w, Err: io.Discard})
	if !errors.Is(err, context.Canceled) || exit.Code != 7 {
		t.Errorf("cancelled: %+v, %v", exit, err)
	}
	m.clean(t)
	if _, err = m.Attached(t.Context(), bindery.Launch{ID: "c", Image: "i", Args: []string{"x"}}, runc.Stdio{}); err != nil {
		t.Errorf("without any stdio: %v", err)
	}
	m.images.config.Entrypoint = []string{"/nothing"}
	if _, err = m.Attached(t.Context(), bindery.Launch{ID: "c", Image: "i"}, runc.Stdio{}); !errors.Is(err, bindery.ErrSessionDied) {
		t.Errorf("no such command: %v", err)
	}
	m.clean(t)
}

func TestEndedAreForgotten(t *testing.T) {
	m := newMachine(t, 14, func(c *runc.Config) { c.KeepEnded = 1 })
	for _, id := range []string{"old", "new"} {
		m.start(t, id, "exit", "0")
		m.waitExit(t, id)
		must(t, m.Stop(t.Context(), id))
	}
	if _, err := m.Log(t.Context(), "old", false); !errors.Is(err, bindery.ErrNotFound) {
		t.Errorf("the older log is still there: %v", err)
	}
	if got := m.log(t, "new"); got != "out\nerr\n" {
		t.Errorf("the newer log: %q", got)
	}
}

func BenchmarkLaunchToTCP(b *testing.B) {
	m := newMachine(b, 15, nil)
	i := 0
	var stop time.Duration
	for b.Loop() {
		id := fmt.Sprint("b", i)
		i++
		m.start(b, id)
		b.StopTimer()
		from := time.Now()
		must(b, m.Stop(b.Context(), id))
		stop += time.Since(from)
		b.StartTimer()
	}
	b.ReportMetric(float64(stop.Milliseconds())/float64(i), "ms/stop")
}
