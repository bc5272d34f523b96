package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/worker"
)

// TestMain makes this binary a worker, or the starter of one, when the environment says so.
func TestMain(m *testing.M) {
	dir := os.Getenv("WORKER_TEST_DIR")
	switch os.Getenv("WORKER_TEST_MODE") {
	case "worker":
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "broken":
		fmt.Fprintln(os.Stderr, "the engine has a cold")
		os.Exit(3)
	case "starter": // starts a worker and a build, and dies of it
		c, err := worker.Spawn(context.Background(), spawnConfig(dir))
		if err == nil {
			err = c.Start(context.Background(), request("b", "children"))
		}
		fmt.Println(err)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	os.Exit(m.Run())
}

func child(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := worker.Contain(); err != nil {
		return err
	}
	l, err := worker.Listen(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	s, err := worker.New(config(dir, newFake()))
	if err != nil {
		return err
	}
	return s.Run(ctx, l)
}

func spawnConfig(dir string) worker.SpawnConfig {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return worker.SpawnConfig{Exe: exe, StateDir: dir, Env: append(os.Environ(), "WORKER_TEST_MODE=worker", "WORKER_TEST_DIR="+dir)}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: a worker needs namespaces of its own")
	}
}

// spawn gets the worker of dir and sees to its end.
func spawn(t *testing.T, dir string) (*worker.Client, int) {
	t.Helper()
	c, err := worker.Spawn(t.Context(), spawnConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Status(t.Context())
	if err != nil || st.PID <= 1 {
		t.Fatalf("Status: %+v, %v", st, err)
	}
	t.Cleanup(func() { kill(t, st.PID) })
	return c, st.PID
}

// kill kills a worker and waits until it is gone.
func kill(t *testing.T, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	eventually(t, "the worker is gone", func() bool { return !alive(pid) })
}

func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(raw, ')')
	return err == nil && i > 0 && !strings.HasPrefix(string(raw[i+1:]), " Z")
}

// sleepers counts the processes in the PID namespace of pid's children that sleep for a build.
func sleepers(ns string) int {
	n := 0
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, _ := os.ReadFile(dir + "/cmdline")
		if link, _ := os.Readlink(dir + "/ns/pid"); link == ns && bytes.HasPrefix(line, []byte("sleep\x0098765")) {
			n++
		}
	}
	return n
}

func TestSpawn(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	// The starter dies at once; its worker and the build live on.
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WORKER_TEST_MODE=starter", "WORKER_TEST_DIR="+dir)
	if out, err := cmd.Output(); string(out) != "<nil>\n" {
		t.Fatalf("the starter said %q, %v", out, err)
	}
	c, pid := spawn(t, dir)
	firstEvent(t, c, "b")
	recorded, err := os.ReadFile(filepath.Join(dir, "worker.pid"))
	if err != nil || strings.TrimSpace(string(recorded)) != strconv.Itoa(pid) {
		t.Errorf("worker.pid says %q, %v; the worker is %d", recorded, err, pid)
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	own, err2 := os.Readlink("/proc/self/ns/pid")
	if err != nil || err2 != nil || ns == own {
		t.Errorf("the worker's PID namespace is %q, ours %q", ns, own)
	}
	if mnt, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); mnt == "" {
		t.Error("the worker has no mount namespace")
	}
	// Setsid: a terminal that closes does not reach it.
	if sid, err := getsid(pid); err != nil || sid != pid {
		t.Errorf("the worker is in session %d, %v", sid, err)
	}
	eventually(t, "the build has two sleeping children", func() bool { return sleepers(ns) == 2 })

	kill(t, pid)
	eventually(t, "the children died with the worker", func() bool { return sleepers(ns) == 0 })
	c2, pid2 := spawn(t, dir)
	if pid2 == pid {
		t.Fatal("no new worker")
	}
	evs := events(t, c2, "b", 0)
	if e := last(t, evs).Err; len(evs) != 2 || evs[0].Message != "children run\n" || e.Kind != bindery.ErrWorkerLost || e.Fault != bindery.Transient {
		t.Errorf("after the restart the events are %+v", evs)
	}
	// The first client serves again: it connects to whoever is there.
	if err := c.Ack(t.Context(), "b", 1, 2); err != nil {
		t.Error(err)
	}
}

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}

func TestSpawnOnce(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	pids := map[int]bool{}
	for range 8 {
		wg.Go(func() {
			c, err := worker.Spawn(t.Context(), spawnConfig(dir))
			if err != nil {
				t.Error(err)
				return
			}
			st, err := c.Status(t.Context())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			pids[st.PID] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	for pid := range pids {
		kill(t, pid)
	}
	if len(pids) != 1 {
		t.Errorf("there were workers %v, want one", pids)
	}
}

func TestEventsSurviveKills(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	c, pid := spawn(t, dir)
	start(t, c, "done", "lines 50")
	if n := len(events(t, c, "done", 0)); n != 51 {
		t.Fatalf("%d events", n)
	}
	start(t, c, "lost", "wait")
	firstEvent(t, c, "lost")
	kill(t, pid)
	// A line that a crash cut in half is not an event.
	path := filepath.Join(dir, "builds/lost/1/events.ndjson")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"seq":2,"time":"2026`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if err := os.MkdirAll(filepath.Join(dir, "builds/never/1"), 0o700); err != nil { // accepted by nobody
		t.Fatal(err)
	}
	c, _ = spawn(t, dir)
	if evs := events(t, c, "done", 0); len(evs) != 51 || last(t, evs).Result == nil {
		t.Errorf("of the ended build come %d events", len(evs))
	}
	if evs := events(t, c, "lost", 0); len(evs) != 2 || last(t, evs).Err.Kind != bindery.ErrWorkerLost {
		t.Errorf("of the lost build come %+v", evs)
	}
	st, err := c.Status(t.Context())
	if err != nil || len(st.Builds) != 2 {
		t.Errorf("Status: %+v, %v", st.Builds, err)
	}
}

func TestSpawnFails(t *testing.T) {
	needRoot(t)
	cfg := spawnConfig(t.TempDir())
	cfg.Env = append(os.Environ(), "WORKER_TEST_MODE=broken")
	_, err := worker.Spawn(t.Context(), cfg)
	wantKind(t, err, bindery.ErrNotReady, bindery.Ours)
	if err == nil || !strings.Contains(err.Error(), "the engine has a cold") {
		t.Errorf("the error does not say why: %v", err)
	}
}
