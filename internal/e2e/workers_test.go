package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// A site is one more worker of a hub, in a process and a state directory of its own.
type site struct {
	*hub
	name  string
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}
}

// newSite lays out a state directory for a worker, whose name is its own.
func newSite(t *testing.T, dir, name string, args ...string) *site {
	t.Helper()
	h, err := newHub(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{hub: h, name: name, args: append([]string{"worker", "--state-dir", dir, "--name", name}, args...)}
	t.Cleanup(func() {
		s.end()
		s.sweep()
		_ = os.RemoveAll(dir) // a disk that is read-only by now goes as a whole
	})
	return s
}

func (s *site) begin(t *testing.T) {
	t.Helper()
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.cmd = s.command(context.WithoutCancel(t.Context()), s.args...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // how it ended is in its log
	}()
}

func (s *site) end() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// loopDisk makes a disk of its own for a state directory: a file with ext4, which turns read-only at the first error as
// disks do that are mounted by the book.
func loopDisk(t *testing.T, name, size string) (mount string) {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "disk-")
	if err != nil {
		t.Fatal(err)
	}
	image, mount := filepath.Join(dir, name+".img"), filepath.Join(dir, name)
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("umount", "-l", mount).Run() // a test that failed early has not mounted it
		_ = os.RemoveAll(dir)
	})
	for _, args := range [][]string{{"truncate", "-s", size, image}, {"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop,errors=remount-ro", image, mount}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return mount
}

// loopOf is the loop device that is mounted somewhere, as in loop0.
func loopOf(t *testing.T, mount string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "findmnt", "-no", "SOURCE", mount).Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(strings.TrimSpace(string(out)))
}

// becomes waits until a worker is in a state for a reason, for a minute at most: that is the promise.
func (h *hub) becomes(t *testing.T, worker string, state bindery.WorkerState, reason string) bindery.WorkerView {
	t.Helper()
	var v bindery.WorkerView
	began := time.Now()
	eventually(t, time.Minute, fmt.Sprintf("%s is %s: %s", worker, state, reason), func() bool {
		all, err := h.client(t).Workers(t.Context())
		if err != nil {
			return false
		}
		i := slices.IndexFunc(all, func(v bindery.WorkerView) bool { return v.Name == worker })
		if i < 0 {
			return false
		}
		v = all[i]
		return v.State == state && strings.Contains(v.Reason, reason)
	})
	t.Logf("%s is %s after %.1f s: %s", worker, v.State, time.Since(began).Seconds(), v.Reason)
	return v
}

// alone has all builds go to one worker.
func (h *hub) alone(t *testing.T, worker string, others ...string) {
	t.Helper()
	for _, o := range others {
		h.must(t, "workers", "drain", o, "--reason", "a test")
	}
	h.becomes(t, worker, bindery.WorkerReady, "")
}

// perlServer answers everything, with what Debian's base has: a build is a matter of a second.
const perlServer = `use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 8888, Listen => 50, ReuseAddr => 1) or die;
while (my $c = $s->accept) { while (<$c>) { last if /^\r?\n$/ } print $c "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"; close $c }
`

// serving makes a repository of that server, with one more step.
func serving(srv *sourcetest.Server, name, step string) (url string) {
	r := srv.Repo("ann/" + name)
	r.Commit("main", map[string]string{"Dockerfile": "FROM debian:bookworm\n" + step + "COPY serve /serve\nENTRYPOINT [\"perl\", \"/serve\"]\n", "serve": perlServer})
	return r.URL
}

// ticking is a step that takes some seconds and says so, and then does something.
func ticking(seconds int, then string) string {
	return fmt.Sprintf("RUN for i in $(seq %d); do echo tick $i; sleep 1; done; %s\n", seconds, then)
}

// TestWorkers runs a hub with several workers, each a process with a state directory of its own, and lets their disks
// fail in each of the ways that disks do. No visitor sees a failure.
func TestWorkers(t *testing.T) {
	h, b, srv, pools, gate := crew(t)
	elsewhere := serving(srv, "elsewhere", "")
	t.Run("a disk too small", func(t *testing.T) {
		v := h.becomes(t, "b", bindery.WorkerRefused, "free space: ")
		if s := v.Found.Scratch; !s.Separate || s.FileSystem != "ext4" || s.Disk == s.Boot {
			t.Errorf("the disk: %+v", s)
		}
		checked := h.run(t, "pool", "check", "--file", pools.path)
		if checked.code != 1 || !strings.Contains(checked.stdout, "pool build, worker b: free space: ") {
			t.Errorf("pool check: %+v", checked)
		}
		pools.write(t, "free: 600M")
		h.becomes(t, "b", bindery.WorkerReady, "")
	})
	t.Run("no disk of its own", func(t *testing.T) {
		c := newSite(t, filepath.Join(shared.dir, "site-c"), "c", "--pool", "build", "--join", h.dir)
		c.begin(t)
		h.becomes(t, "c", bindery.WorkerRefused, "local disk: ")
		c.end()
		h.becomes(t, "c", bindery.WorkerAway, "")
		h.must(t, "workers", "rm", "c")
	})
	h.alone(t, "own", "b")
	h.launch(t, serving(srv, "here", ""), "main")
	h.must(t, "workers", "resume", "b")
	h.alone(t, "b", "own")
	t.Run("another worker's image", func(t *testing.T) {
		h.launch(t, serving(srv, "unwanted", ""), "main")
		e, _ := h.launch(t, elsewhere, "main")
		if on := h.lastWorker(t); on != "b" {
			t.Errorf("it was built on %q", on)
		}
		resp, err := http.Get(e.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the session answers %s", resp.Status)
		}
	})
	t.Run("images of both", func(t *testing.T) {
		lib := h.library(t)
		for name, want := range map[string]string{"here": "own", "elsewhere": "b", "unwanted": "b"} {
			if r := imageOf(lib, name); !slices.Equal(r.Workers, []string{want}) {
				t.Errorf("%s is at %v, want %s: %+v", name, r.Workers, want, lib.Images)
			}
		}
		d, has := lib.Disk, h.held(t)+b.held(t)
		if d == nil || d.Images+d.Shared+d.Sessions+d.Cache+d.Other != d.Total || len(d.Silent) != 0 || max(has, d.Total)-min(has, d.Total) > has/50 {
			t.Errorf("the disks have %d bytes; accounted for: %+v", has, d)
		}
	})
	t.Run("killed hub", func(t *testing.T) {
		h.kill9(t)
		(&upgrade{t: t, h: h}).configure("RUN true")
		h.start(t)
		h.becomes(t, "own", bindery.WorkerDrained, "a test")
		h.becomes(t, "b", bindery.WorkerReady, "")
	})
	t.Run("remove another worker's image", func(t *testing.T) {
		gone := imageOf(h.library(t), "unwanted")
		h.must(t, "images", "rm", gone.Image, "--reason", "a test")
		lib := h.library(t)
		if slices.ContainsFunc(lib.Images, func(r bindery.ImageRecord) bool { return r.Image == gone.Image }) || lib.Disk.Own[gone.Image] != 0 {
			t.Errorf("%s is still there", gone.Image)
		}
	})
	t.Run("a roll-out on another worker", func(t *testing.T) {
		all, err := h.client(t).Generations(t.Context())
		if err != nil || len(all) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		h.must(t, "generation", "start", "--reason", "a test")
		(&upgrade{t: t, h: h}).reaches(all[0].Name, bindery.GenerationCurrent)
		r := imageOf(h.library(t), "elsewhere")
		if r.Generation != all[0].Name || r.Proven.IsZero() || !slices.Equal(r.Workers, []string{"b"}) {
			t.Errorf("what serves now: %+v", r)
		}
	})
	t.Run("a slow disk", func(t *testing.T) {
		pools.write(t, "free: 600M, write_rate: 2M")
		release := b.throttle(t, 200<<10)
		h.becomes(t, "b", bindery.WorkerRefused, "write rate: ")
		release()
		h.becomes(t, "b", bindery.WorkerReady, "")
		pools.write(t, "free: 600M")
	})
	t.Run("a disk that fills", func(t *testing.T) {
		filler := filepath.Join(b.mount, "filler")
		before := h.refusals(t)
		h.during(t, srv, "fills", ticking(6, "dd if=/dev/zero of=/big bs=1M count=300"), func() { fill(t, filler, 40<<20) })
		// It may be ready again by now: it makes room by dropping what nobody uses.
		eventually(t, time.Minute, "b to be refused for want of space", func() bool { return h.refusals(t) > before })
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		h.becomes(t, "b", bindery.WorkerReady, "")
	})
	h.alone(t, "b", "own")
	t.Run("a disk that turns read-only", func(t *testing.T) {
		h.during(t, srv, "fails", ticking(6, "true"), func() {
			if err := os.WriteFile("/sys/fs/ext4/"+loopOf(t, b.mount)+"/trigger_fs_error", []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
		})
		h.becomes(t, "b", bindery.WorkerRefused, "read-only")
	})
	b.end()
	t.Run("an image whose worker is away", func(t *testing.T) {
		h.becomes(t, "b", bindery.WorkerAway, "")
		h.launch(t, elsewhere, "main")
		if on := h.lastWorker(t); on != "own" {
			t.Errorf("it was built again on %q", on)
		}
	})
	t.Run("over the network", func(t *testing.T) {
		token := filepath.Join(shared.dir, "token")
		if err := os.WriteFile(token, []byte(h.must(t, "workers", "token")), 0o600); err != nil {
			t.Fatal(err)
		}
		far := newSite(t, filepath.Join(shared.dir, "site-far"), "far", "--join", gate, "--listen", "127.0.0.1:0", "--token-file", token)
		far.begin(t)
		h.becomes(t, "far", bindery.WorkerReady, "")
		h.alone(t, "far", "own")
		h.launch(t, serving(srv, "far", ""), "main")
		if on := h.lastWorker(t); on != "far" {
			t.Errorf("it was built on %q", on)
		}
		// Whoever knows the address and has no certificate of the hub's is not let in.
		v := h.becomes(t, "far", bindery.WorkerReady, "")
		insecure := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		if resp, err := insecure.Get("https://" + strings.TrimPrefix(v.Record.Address, "tls:") + "/v1/status"); err == nil {
			resp.Body.Close()
			t.Error("a stranger talks to the worker")
		}
	})
}

// A poolsFile is the file of pools, as it is changed.
type poolsFile struct{ path string }

func (p poolsFile) write(t *testing.T, minimums string) {
	t.Helper()
	text := "pools:\n  build: {machine_type: x, count: {min: 1, max: 3}, local_disks: 1, minimums: {" + minimums + "}}\n"
	if err := os.WriteFile(p.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A disked site has a disk of its own.
type disked struct {
	*site
	mount string
}

// crew starts a hub with a worker of its own, and one more on a disk that is too small for its pool.
func crew(t *testing.T) (*hub, disked, *sourcetest.Server, poolsFile, string) {
	t.Helper()
	h, err := newHub(filepath.Join(shared.dir, "crew"))
	if err != nil {
		t.Fatal(err)
	}
	pools := poolsFile{filepath.Join(shared.dir, "pools.yaml")}
	pools.write(t, "free: 64G")
	gate, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(h.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "pools: %s\nworker_listen: %s\nworker: {name: own}\n", pools.path, gate)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.destroy)
	h.start(t)
	disk := loopDisk(t, "b", "3G")
	t.Cleanup(func() { removeSlow(shared.dir) })
	b := newSite(t, filepath.Join(disk, "state"), "b", "--pool", "build", "--join", h.dir)
	b.begin(t)
	return h, disked{b, disk}, sourcetest.Start(t), pools, gate
}

// lastWorker is where the newest build ran.
func (h *hub) lastWorker(t *testing.T) string {
	t.Helper()
	all, err := h.client(t).Builds(t.Context(), 100)
	if err != nil || len(all) == 0 {
		t.Fatalf("builds: %v, %v", all, err)
	}
	return slices.MaxFunc(all, func(a, b bindery.Build) int { return a.Created.Compare(b.Created) }).Worker
}

// library is the images and where the disks went.
func (h *hub) library(t *testing.T) (lib bindery.Library) {
	t.Helper()
	if err := json.Unmarshal([]byte(h.must(t, "images", "ls", "--json")), &lib); err != nil {
		t.Fatal(err)
	}
	return lib
}

// imageOf is the image that serves a repository of serving.
func imageOf(lib bindery.Library, name string) bindery.ImageRecord {
	i := slices.IndexFunc(lib.Images, func(r bindery.ImageRecord) bool {
		return r.State == "serving" && strings.HasSuffix(r.Source.URL, "/"+name)
	})
	if i < 0 {
		return bindery.ImageRecord{}
	}
	return lib.Images[i]
}

// during builds on b alone, lets the hub's own worker help once that has begun, does something to b's disk, and wants
// the visitor to get a session all the same, built elsewhere.
func (h *hub) during(t *testing.T, srv *sourcetest.Server, name, step string, do func()) {
	t.Helper()
	begun := false
	all, err := h.watch(t.Context(), serving(srv, name, step), "main", "", func(e said) bool {
		if !begun && strings.Contains(e.Message, "tick 2") {
			begun = true
			if on := h.lastWorker(t); on != "b" {
				t.Errorf("it is built on %q", on)
			}
			h.must(t, "workers", "resume", "own")
			do()
		}
		return true
	})
	if err != nil || all.last().Phase != bindery.PhaseReady || !begun {
		t.Fatalf("%v, %v\n%s\n%s", err, all.last(), all.text(), h.tail())
	}
	t.Cleanup(func() { h.stop(t, all.last().session()) })
	if on := h.lastWorker(t); on != "own" {
		t.Errorf("it ended on %q\n%s", on, all.text())
	}
}

// refusals counts how often b was refused for want of space.
func (h *hub) refusals(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(h.log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), `worker=b state=refused reason="free space: `)
}

// fill leaves so much of a file's disk to users; root, as which steps write, has a twentieth more.
func fill(t *testing.T, path string, leave int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-leave); err != nil {
		t.Fatal(err)
	}
}

// throttle has the kernel let a worker write so many bytes a second to its disk, until release.
func (d disked) throttle(t *testing.T, rate int) (release func()) {
	t.Helper()
	device, err := os.ReadFile("/sys/block/" + loopOf(t, d.mount) + "/dev")
	if err != nil {
		t.Fatal(err)
	}
	number := strings.TrimSpace(string(device))
	groups := slowGroups(shared.dir)
	group, file, line, lift := groups[0], "blkio.throttle.write_bps_device", number+" "+strconv.Itoa(rate), number+" 0"
	if _, err := os.Stat(filepath.Dir(group)); err != nil { // control groups of the second version
		group, file, line, lift = groups[1], "io.max", number+" wbps="+strconv.Itoa(rate), number+" wbps=max"
		_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+io"), 0) // what it lacks shows below
	}
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(group, name), []byte(text), 0); err != nil {
			t.Fatalf("%s %q: %v", name, text, err)
		}
	}
	write(file, line)
	for _, p := range processes() {
		if p.exe == shared.bin && slices.Contains(p.args, "--contained") && slices.Contains(p.args, d.dir) {
			write("cgroup.procs", strconv.Itoa(p.pid))
		}
	}
	return func() { write(file, lift) }
}

// slowGroups are the control groups in which a run throttles a worker, of the first version and of the second.
func slowGroups(run string) [2]string {
	name := "bindery-test-" + filepath.Base(run) + "-slow"
	return [2]string{filepath.Join("/sys/fs/cgroup/blkio", name), filepath.Join("/sys/fs/cgroup", name)}
}

// removeSlow removes them, when no worker is in them any more.
func removeSlow(run string) {
	for _, group := range slowGroups(run) {
		_ = os.Remove(group) // one of them was never there
	}
}
