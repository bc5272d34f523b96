package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
	"github.com/bindery-hub/bindery/plan"
	"github.com/bindery-hub/bindery/runc"
	"github.com/bindery-hub/bindery/worker"
)

const (
	required = "required"
	advised  = "advised"
)

type doctorCmd struct {
	JSON    bool   `help:"Print a JSON array of checks."`
	Base    string `help:"Check for this base (default ${base})." placeholder:"BASE" env:"BINDERY_BASE"`
	Offline bool   `help:"Leave out what needs the network."`
	Pool    string `help:"Check what this node pool wants of its workers, too." placeholder:"POOL"`
	poolFlags
}

// Run prints every check, and fails when something required is missing.
func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	checks := a.checks(ctx, cmp.Or(c.Base, a.cfg.Base, plan.DefaultBase))
	if !c.Offline {
		checks = append(checks, checkIndex(ctx, a.cfg.Steps, a.getenv))
	}
	proofs, err := c.preflight(ctx, a)
	if err != nil {
		return err
	}
	checks = append(checks, proofs...)
	if c.JSON {
		if err := printJSON(a.stdout, checks); err != nil {
			return err
		}
	} else {
		printChecks(a.stdout, checks)
	}
	if slices.ContainsFunc(checks, func(k bindery.Check) bool { return !k.OK && k.Level == required }) {
		return statusError(exitFailed)
	}
	return nil
}

// preflight looks at the state directory's disk as its worker does, and holds it to the same minimums. Where there is no
// state directory yet, nothing is written.
func (c *doctorCmd) preflight(ctx context.Context, a *app) ([]bindery.Check, error) {
	wanted := bindery.DefaultMinimums()
	if c.Pool != "" {
		file, err := c.read(a)
		if err != nil {
			return nil, err
		}
		p, ok := file.Pools[c.Pool]
		if !ok {
			return nil, noSuchPool(c.Pool)
		}
		wanted = p.minimums()
	}
	if info, err := os.Stat(a.inst.dir); err != nil || !info.IsDir() {
		return nil, nil
	}
	probe := worker.Probe{Dir: a.inst.dir}
	if !c.Offline {
		probe.Reach = a.reach
	}
	found := probe.Look(ctx, 0)
	s := found.Scratch
	checks := []bindery.Check{{Name: "worker's disk", OK: true, Level: required,
		Found: fmt.Sprintf("%s on %s, disk %s, %s free, writes %s", s.FileSystem, s.Device, cmp.Or(s.Disk, "none"), size(s.Free), unlessZero(s.WriteRate))}}
	for _, p := range wanted.Judge(found) {
		checks = append(checks, bindery.Check{Name: "worker's " + p.Check, Level: required, Found: p.Measured + "; wanted: " + p.Wanted, Remedy: p.Remedy})
	}
	return checks, nil
}

func printChecks(w io.Writer, checks []bindery.Check) {
	f, ok := w.(*os.File)
	colour := ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
	wide := 0
	for _, k := range checks {
		wide = max(wide, columns(k.Name))
	}
	missing := 0
	for _, k := range checks {
		mark := paint(colour, green, "✓")
		if !k.OK {
			mark = paint(colour, red, "✗")
			missing++
		}
		fmt.Fprintf(w, "%s %-*s  %s\n", mark, wide, k.Name, clean(k.Found))
		if !k.OK {
			note := k.Remedy
			if k.Level != required {
				note = strings.TrimSpace(note + " (advised)")
			}
			if note == "" {
				continue
			}
			fmt.Fprintf(w, "  %-*s  %s\n", wide, "", note)
		}
	}
	if missing == 0 {
		fmt.Fprintln(w, "\nThis machine has everything.")
	}
}

// checks looks at everything that builds and sessions need of this machine.
func (a *app) checks(ctx context.Context, base string) []bindery.Check {
	all := []bindery.Check{checkRoot(os.Geteuid()), checkKernel(kernelRelease())}
	all = append(all, a.runtimeChecks(ctx)...)
	all = append(all, checkRuntime(a.runtime))
	all = append(all, checkProgram("git", required, "Install git: apt-get install git"),
		checkProgram("git-lfs", advised, "Install git-lfs, or files kept in Git LFS stay pointers: apt-get install git-lfs"))
	if strings.HasPrefix(base, "debian:") {
		all = append(all, checkProgram("mmdebstrap", required, "Install it, or choose an image with --base: apt-get install mmdebstrap"))
	}
	all = append(all, checkState(a.inst.dir), checkMemory(), checkTrust(a.cfg.Steps, a.getenv))
	return withoutDoubles(append(all, a.networkChecks(ctx)...))
}

// vital looks at what nothing works without, quickly: run, build, serve and worker begin with it.
func (a *app) vital() []bindery.Check {
	return []bindery.Check{checkRoot(os.Geteuid()), checkKernel(kernelRelease()), checkRuntime(a.runtime)}
}

func kernelRelease() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts) // cannot fail with a valid pointer
	return unix.ByteSliceToString(uts.Release[:])
}

// ready returns the first of the vital things that is missing, as an error.
func (a *app) ready() error { return firstMissing(a.vital()) }

func firstMissing(checks []bindery.Check) error {
	for _, k := range checks {
		if !k.OK {
			return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, k.Remedy, "%s: %s", k.Name, k.Found)
		}
	}
	return nil
}

func checkRoot(euid int) bindery.Check {
	return bindery.Check{Name: "root", OK: euid == 0, Level: required, Found: fmt.Sprintf("running as uid %d", euid),
		Remedy: unless(euid == 0, "Builds and sessions make mounts, networks and cgroups: run bindery as root, with sudo for example.")}
}

// checkKernel asks for 5.11: overlay file systems that skip syncing (5.10), and what runc's file system calls need.
func checkKernel(release string) bindery.Check {
	var major, minor int
	_, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	ok := err == nil && (major > 5 || (major == 5 && minor >= 11))
	return bindery.Check{Name: "kernel", OK: ok, Level: required, Found: "Linux " + release,
		Remedy: unless(ok, "Bindery needs Linux 5.11 or later: upgrade the machine's kernel.")}
}

func checkRuntime(named string) bindery.Check {
	path, err := findRuntime(named)
	k := bindery.Check{Name: "runc", OK: err == nil, Level: required, Found: cmp.Or(path, "not found")}
	if e, ok := errors.AsType[*bindery.Error](err); ok {
		k.Remedy = e.Remedy
	}
	return k
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// networkChecks asks the network without touching it, nor the state directory.
func (a *app) networkChecks(ctx context.Context) []bindery.Check {
	net, err := bridge.New(bridge.Config{
		Name: "bnd" + a.inst.id, Subnet: netip.MustParsePrefix("10.64.0.0/20"), Dir: a.inst.path("net"), RunDir: a.inst.runDir(), Resolvers: a.cfg.Network.DNS,
	})
	if err != nil {
		return nil // the values are good
	}
	return net.Checks(ctx)
}

// runtimeChecks asks the launcher; there is none without a runc.
func (a *app) runtimeChecks(ctx context.Context) []bindery.Check {
	path, err := findRuntime(a.runtime)
	if err != nil {
		return nil
	}
	l, err := runc.New(runc.Config{Dir: a.inst.path("sessions"), Runtime: path, Images: workers{}, Network: ports{}, Nameserver: "127.0.0.1", Shim: []string{shimCommand}})
	if err != nil {
		return nil // the values are good
	}
	return l.Checks(ctx)
}

func checkProgram(name, level, remedy string) bindery.Check {
	path, err := exec.LookPath(name)
	return bindery.Check{Name: name, OK: err == nil, Level: level, Found: cmp.Or(path, "not found"), Remedy: unless(err == nil, remedy)}
}

// checkState looks at the disk under the state directory, or under the nearest parent that exists.
func checkState(dir string) bindery.Check {
	k := bindery.Check{Name: "state directory", Level: required}
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at = filepath.Dir(at)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		k.Found, k.Remedy = dir+" cannot be examined", "Choose another with --state-dir."
		return k
	}
	free := size(int64(fs.Bavail) * fs.Bsize)
	k.Found = fmt.Sprintf("%s, %s free", dir, free)
	const enough, inodes = 10 << 30, 200_000
	switch {
	case slices.Contains([]int64{unix.OVERLAYFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.NFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC}, int64(fs.Type)):
		k.Found += ", on a file system that overlays cannot use well"
		k.Remedy = "Choose a directory on a local ext4, XFS or btrfs disk with --state-dir."
	case unix.Access(at, unix.W_OK) != nil:
		k.Found, k.Remedy = dir+" cannot be written", "Run as root, or choose another with --state-dir."
	case int64(free) < enough:
		k.Remedy = "Images and caches want 10G or more: make room, or choose another disk with --state-dir."
	case fs.Files > 0 && fs.Ffree < inodes:
		k.Found, k.Remedy = fmt.Sprintf("%s, %d inodes free", k.Found, fs.Ffree), "Images are made of many small files: free some inodes."
	default:
		k.OK = true
	}
	return k
}

func checkMemory() bindery.Check {
	total := memoryTotal()
	ok := total >= 1800<<20
	return bindery.Check{Name: "memory", OK: ok, Level: advised, Found: size(total).String(), Remedy: unless(ok, "Builds and a session want 2G or more.")}
}

// memoryTotal is the machine's memory in bytes, 0 if unknown.
func memoryTotal() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

func checkTrust(steps stepConfig, getenv func(string) string) bindery.Check {
	file := trustFile(steps, getenv)
	return bindery.Check{Name: "CA certificates", OK: file != "", Level: advised, Found: cmp.Or(file, "none"),
		Remedy: unless(file != "", "Install them, or build steps bring their own only: apt-get install ca-certificates")}
}

func indexURL(steps stepConfig, getenv func(string) string) string {
	return cmp.Or(machineEnv(config{Steps: steps}, getenv)["UV_DEFAULT_INDEX"], "https://pypi.org/simple/")
}

// checkIndex asks the package index that Python builds use.
func checkIndex(ctx context.Context, steps stepConfig, getenv func(string) string) bindery.Check {
	index := indexURL(steps, getenv)
	k := bindery.Check{Name: "package index", Level: advised, Found: redacted(index)}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(index, "/")+"/pip/", nil)
	if err == nil {
		var resp *http.Response
		if resp, err = http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close() // nothing of it is read
			k.OK = resp.StatusCode < 500
			k.Found += " answers " + resp.Status
		}
	}
	if err != nil {
		k.Found += " cannot be reached"
	}
	k.Remedy = unless(k.OK, "Python environments are installed from it: open the network, set HTTPS_PROXY, or name another index as steps.pip_index.")
	return k
}

// withoutDoubles keeps the first check of each name.
func withoutDoubles(checks []bindery.Check) []bindery.Check {
	seen := map[string]bool{}
	return slices.DeleteFunc(checks, func(k bindery.Check) bool {
		double := seen[k.Name]
		seen[k.Name] = true
		return double
	})
}

// unless returns text when ok is false.
func unless(ok bool, text string) string {
	if ok {
		return ""
	}
	return text
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
