package buildkit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/plan"
)

// pry tries what a step must not be able to do, and says which of it worked.
const pry = `#!/bin/bash
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "worked: $name"; fi; }
cat secret-link deep/link/shadow 2>/dev/null
try "mount a file system" mount -t tmpfs none /mnt
try "make a device" mknod /tmp/disk b 254 0
try "read the disk" head -c 1 /dev/vda
try "read memory" head -c 1 /dev/mem
try "set a kernel parameter" sh -c 'echo 1 >/proc/sys/kernel/sysrq'
try "write to a control group" sh -c 'mkdir /sys/fs/cgroup/pids/evil || mkdir /sys/fs/cgroup/evil'
try "reach the container's runtime" test -S /run/containerd/containerd.sock -o -S /var/run/docker.sock
try "become root" sudo -n true
try "write to the base" touch /etc/evil
try "leave anything in the caches of others" touch /run/bindery-cache/evil
try "see other processes" sh -c 'ps ax | grep -q bindery-buildki[t]'
try "find a device of the repository" test -b block-device -o -c char-device -o -p pipe
{ python3 -c 'import ctypes
call = ctypes.CDLL(None).syscall
call(39)
print("called the kernel", flush=True)
call(0x40000000 + 39)
print("worked: a system call of x32")'; } 2>/dev/null # where the shell tells of who was killed, all that it ran included
ls -1A
head -c 1048576000 /dev/zero >large
stat -c 'large is %s' large
rm large
`

// A repository that tries to get out gets nothing: links lead nowhere outside of the image, devices and pipes stay out of
// it, and its scripts can do what an ordinary user can.
func TestHostileRepository(t *testing.T) {
	e := shared(t)
	secret := filepath.Join(tempDir(t), "secret")
	const word = "the machine's own secret"
	if err := os.WriteFile(secret, []byte(word), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := repo(t, "postBuild", pry, "..hidden", "x", "...", "x", "deep/file", "x")
	for link, to := range map[string]string{"secret-link": secret, "up-link": "../../../../../../../../.." + secret, "deep/link": "/etc", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		syscall.Mknod(filepath.Join(dir, "char-device"), syscall.S_IFCHR|0o666, 1<<8|3),
		syscall.Mknod(filepath.Join(dir, "block-device"), syscall.S_IFBLK|0o666, 7<<8),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666),
		os.Truncate(filepath.Join(dir, "deep", "file"), 1<<30), // a GB of nothing
	)
	if err != nil {
		t.Fatal(err)
	}
	j := job("hostile", dir)
	j.Plan.PostBuild = "postBuild"
	s := &story{t: t}
	began := time.Now()
	made, err := e.Solve(t.Context(), j, s.emit)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.text())
	}
	t.Logf("built in %.1f s", time.Since(began).Seconds())
	if strings.Contains(s.text(), "worked: ") || strings.Contains(s.text(), word) {
		t.Errorf("it got out:\n%s", s.text())
	}
	if !strings.Contains(s.text(), "large is 1048576000") || !strings.Contains(s.text(), "..hidden") || !strings.Contains(s.text(), "called the kernel") {
		t.Errorf("it did not do what it may:\n%s", s.text())
	}
	got, _ := tryInside(t, e, made.Image.Name, "/bin/sh", "-c", "cd /home/jovyan; cat secret-link up-link; find . -type b -o -type c -o -type p; stat -c %s deep/file")
	if strings.Contains(got, word) || strings.Contains(got, "device") || strings.Contains(got, "./pipe") || !strings.Contains(got, strconv.Itoa(1<<30)) {
		t.Errorf("the image has\n%s", got)
	}
}

// A postBuild that forks without end meets the limit of one step, and leaves its neighbours what they need. With its build
// it is killed, with all its children, and the next build is none the worse.
func TestForkBomb(t *testing.T) {
	c := config(t, tempDir(t))
	c.Caps = buildkit.Caps{Memory: 1 << 30, PIDs: 400, StepPIDs: 200, CPU: 1}
	e, _ := start(t, c)
	with := func(name, postBuild string) plan.Job {
		j := job(name, repo(t, "postBuild", "#!/bin/bash\n"+postBuild))
		j.Plan.PostBuild = "postBuild"
		return j
	}
	const many = "for i in {1..100}; do sleep 1 & done\nwait\necho fine >made\n"
	solve(t, e, with("before", "true\n")) // what they all stand on
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var most atomic.Int64
	met := make(chan struct{})
	meet := sync.OnceFunc(func() { close(met) })
	ended := make(chan error, 1)
	go func() {
		_, err := e.Solve(ctx, with("bomb", "bomb() { bomb & bomb & exec sleep 600; }\necho lit\nbomb\n"), func(ev bindery.Event) {
			most.Store(max(most.Load(), int64(pidsIn(c.CgroupParent))))
			if strings.Contains(ev.Message, "Resource temporarily unavailable") {
				meet()
			}
		})
		meet()
		ended <- err
	}()
	<-met
	if n := most.Load(); n < 150 || n > 200 {
		t.Errorf("at its limit of 200 it had %d processes", n)
	}
	neighbour := solve(t, e, with("beside", many))
	if got := inside(t, e, neighbour.Image.Name, "/bin/cat", "/home/jovyan/made"); got != "fine\n" {
		t.Errorf("beside a fork bomb a build made %q", got)
	}
	cancel() // a hub's own limit of time would
	if err := <-ended; err == nil {
		t.Error("a fork bomb was built")
	}
	tick := time.NewTicker(50 * time.Millisecond) // the kernel takes its time to bury them
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); pidsIn(c.CgroupParent) > 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", pidsIn(c.CgroupParent))
		}
	}
	solve(t, e, with("after", "# once more\n"+many))
}

// pidsIn counts the processes of a control group and those below it.
func pidsIn(group string) int {
	most := 0
	for _, pattern := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		b, err := os.ReadFile(pattern + group + "/pids.current")
		if n, nerr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && nerr == nil {
			most = max(most, n)
		}
	}
	return most
}

// memoryPeak is the most memory that a control group ever had.
func memoryPeak(group string) int64 {
	for _, file := range []string{"/sys/fs/cgroup/memory" + group + "/memory.max_usage_in_bytes", "/sys/fs/cgroup" + group + "/memory.peak"} {
		b, err := os.ReadFile(file)
		if n, nerr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && nerr == nil {
			return n
		}
	}
	return 0
}

// Eight builds at once, each with a version of its own of the same package, end with their own, and all their steps together
// stay under the limits of one worker.
func TestEightAtOnce(t *testing.T) {
	e := shared(t)
	versions := []string{"1.10.0", "1.11.0", "1.12.0", "1.13.0", "1.14.0", "1.15.0", "1.16.0", "1.17.0"}
	solve(t, e, job("first", repo(t, "x", ""))) // what they all stand on
	var all sync.WaitGroup
	var most atomic.Int64
	began := time.Now()
	for i, v := range versions {
		// The source of docopt is built with a cache of the repository's own.
		dir := repo(t, "requirements.txt", "six=="+v+"\ndocopt==0.6.2\n", "postBuild", fmt.Sprintf("echo mine-%d >mine; test ! -e /run/bindery-cache\n", i))
		all.Go(func() {
			j := job("eight-"+v, dir)
			j.Plan.Env = []plan.Install{{Tool: "pip", Files: []string{"requirements.txt"}}}
			j.Plan.PostBuild = "postBuild"
			s := &story{t: t}
			_, err := e.Solve(t.Context(), j, func(ev bindery.Event) {
				s.emit(ev)
				most.Store(max(most.Load(), int64(pidsIn(sharedCgroup)))) // roughly: it only grows
			})
			if err != nil {
				t.Errorf("%s: %v\n%s", v, err, s.text())
			}
		})
	}
	all.Wait()
	t.Logf("eight builds in %.1f s, at most %d processes of %d at once", time.Since(began).Seconds(), most.Load(), sharedCaps.PIDs)
	if n := most.Load(); n == 0 || n > sharedCaps.PIDs {
		t.Errorf("%d processes were seen under a limit of %d", n, sharedCaps.PIDs)
	}
	const slack = 1 << 20 // the kernel counts some pages that it cannot refuse
	if peak := memoryPeak(sharedCgroup); peak == 0 || peak > sharedCaps.Memory+slack {
		t.Errorf("the steps had %d bytes of memory under a limit of %d", peak, sharedCaps.Memory)
	}
	for i, v := range versions {
		got := inside(t, e, "bindery/eight-"+v, "/bin/sh", "-c", "cat /home/jovyan/mine; /srv/conda/envs/notebook/bin/python -c 'import six, docopt; print(six.__version__)'")
		if want := fmt.Sprintf("mine-%d\n%s\n", i, v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
