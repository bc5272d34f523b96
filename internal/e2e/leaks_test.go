package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A process as /proc shows it.
type process struct {
	pid    int
	exe    string
	cwd    string
	args   []string
	cgroup string
}

// env returns a variable of the process's environment.
func (p process) env(name string) string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/environ") // gone: no variable
	for kv := range strings.SplitSeq(string(text), "\x00") {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

// processes lists those that live: a zombie has no executable any more.
func processes() []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var all []process
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		exe, err := os.Readlink(dir + "/exe")
		if err != nil {
			continue
		}
		cwd, _ := os.Readlink(dir + "/cwd") // it may end while we look; what was read counts
		args, _ := os.ReadFile(dir + "/cmdline")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		all = append(all, process{
			pid: pid, exe: strings.TrimSuffix(exe, " (deleted)"), cwd: cwd, cgroup: string(cgroup),
			args: strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00"),
		})
	}
	return all
}

// mine are the processes that belong to the state directory: by executable, control group, or where they work.
func (h *hub) mine() []process {
	return slices.DeleteFunc(processes(), func(p process) bool {
		ours := strings.Contains(p.cgroup, "/bindery-"+h.id) || strings.HasPrefix(p.cwd, h.dir) ||
			(filepath.Base(p.exe) == "bindery" && p.env("BINDERY_CONFIG") == h.config)
		return !ours
	})
}

// Remains is what a hub has on the machine, by kind. Two of them are compared to find what leaked.
type remains map[string][]string

func (h *hub) remains(t testing.TB) remains {
	t.Helper()
	r := remains{}
	for _, p := range h.mine() {
		name := filepath.Base(p.exe)
		if name == "bindery" && len(p.args) > 1 {
			name += " " + p.args[1]
		}
		r["processes"] = append(r["processes"], name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, h.dir+"/") || strings.HasPrefix(at, "/run/bindery-"+h.id) {
			r["mounts"] = append(r["mounts"], at)
		}
	}
	for kind, pattern := range map[string]string{
		"namespaces": "/run/bindery-" + h.id + "/netns/*",
		"links":      "/sys/class/net/*/brport",
		"sessions":   h.dir + "/sessions/*",
		"scratch":    h.dir + "/worker/scratch/*",
		"temporary":  h.dir + "/worker/engine/tmp/*",
		"leases":     h.dir + "/net/leases/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if kind == "links" {
				bridge, _ := os.Readlink(f + "/bridge") // a link that goes away is no leak
				if filepath.Base(bridge) != "bnd"+h.id {
					continue
				}
				f = filepath.Dir(f)
			}
			if strings.HasPrefix(filepath.Base(f), ".") { // where the launcher keeps its own things
				continue
			}
			r[kind] = append(r[kind], filepath.Base(f))
		}
	}
	r["cgroups"] = h.cgroups()
	tables, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		t.Fatalf("nft list tables: %v", err)
	}
	for line := range strings.Lines(string(tables)) {
		if strings.Contains(line, h.id) {
			r["tables"] = append(r["tables"], strings.TrimSpace(line))
		}
	}
	if len(h.workers()) > 0 {
		r["snapshots"] = h.worker(t).Prepared
	}
	for kind := range r {
		slices.Sort(r[kind])
	}
	return r
}

// cgroups lists the control groups of steps and sessions, in the hierarchies that all of them are in.
func (h *hub) cgroups() []string {
	var all []string
	for _, top := range []string{"/sys/fs/cgroup/bindery-" + h.id, "/sys/fs/cgroup/memory/bindery-" + h.id, "/sys/fs/cgroup/pids/bindery-" + h.id} {
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error { // one that is not there has none
			standing := filepath.Dir(path) == top || strings.HasSuffix(path, "/builds/buildkit") // made once, for all
			if err == nil && d.IsDir() && !standing {
				all = append(all, strings.TrimPrefix(path, "/sys/fs/cgroup/"))
			}
			return nil
		})
	}
	return all
}

// settles waits until the hub has on the machine what it had before: taking down takes a moment.
func (h *hub) settles(t testing.TB, before remains) {
	t.Helper()
	var diff string
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ; time.Now().Before(deadline); <-tick.C {
		if diff = cmp.Diff(before, h.remains(t)); diff == "" {
			return
		}
	}
	t.Errorf("something leaked (-before +after):\n%s", diff)
}

// sweep removes everything of a state directory from the machine, by force. It is for the end of the tests.
func (h *hub) sweep() {
	for _, p := range h.mine() {
		if p.pid != os.Getpid() {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	for range 100 {
		if len(h.mine()) == 0 {
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], h.dir) || strings.HasPrefix(f[4], "/run/bindery-"+h.id)) {
			_ = syscall.Unmount(f[4], syscall.MNT_DETACH)
		}
	}
	pins, _ := filepath.Glob("/run/bindery-" + h.id + "/netns/*")
	for _, pin := range pins {
		_ = os.Remove(pin)
	}
	_ = os.RemoveAll("/run/bindery-" + h.id)
	links, _ := filepath.Glob("/sys/class/net/bnd" + h.id)
	for _, link := range links {
		_ = exec.Command("ip", "link", "del", filepath.Base(link)).Run()
	}
	tables, _ := exec.Command("nft", "list", "tables").Output()
	for line := range strings.Lines(string(tables)) {
		if f := strings.Fields(line); strings.Contains(line, h.id) && len(f) == 3 {
			_ = exec.Command("nft", "delete", "table", f[1], f[2]).Run()
		}
	}
	for _, top := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		for _, below := range []string{"/*/*/*", "/*/*", "/*", ""} {
			dirs, _ := filepath.Glob(top + "bindery-" + h.id + below)
			for _, dir := range dirs {
				_ = os.Remove(dir)
			}
		}
	}
}
