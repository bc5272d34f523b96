package runc

import (
	"cmp"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

const (
	// specVersion is old on purpose: nothing newer is used, and older runtimes refuse what they do not know.
	specVersion = "1.0.2"
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	cpuPeriod   = 100_000 // microseconds
	openFiles   = 65_536
	oomScore    = 500 // above ours: when the whole machine runs out, a session goes before the hub
)

// container is everything that a specification is made of.
type container struct {
	launch   bindery.Launch
	config   bindery.ImageConfig
	account  account
	env      []string
	netns    string
	cgroup   string
	dir      string // with resolv.conf, hosts
	terminal bool
	binds    []Bind
}

// spec describes the container to runc: no capabilities, no new privileges, the default system call filter, and limits for
// everything that can be limited.
func spec(c container) *specs.Spec {
	swap := (*int64)(nil)
	if swapLimited() {
		swap = new(c.launch.Limits.Memory) // together with memory: no swap
	}
	s := &specs.Spec{
		Version:  specVersion,
		Hostname: c.launch.ID,
		Root:     &specs.Root{Path: fileRootfs},
		Process:  process(c),
		Mounts:   mounts(c),
		Linux: &specs.Linux{
			CgroupsPath: c.cgroup,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}, {Type: specs.NetworkNamespace, Path: c.netns},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: new(c.launch.Limits.Memory), Swap: swap},
				CPU:     &specs.LinuxCPU{Quota: new(int64(c.launch.Limits.CPU * cpuPeriod)), Period: new(uint64(cpuPeriod))},
				Pids:    &specs.LinuxPids{Limit: new(c.launch.Limits.PIDs)},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
				"/sys/devices/virtual/powercap", "/sys/kernel/security",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	s.Linux.Seccomp = seccomp.DefaultProfile(s) // looks at the capabilities, so it comes last
	// Nobody has programs for x32, and making its part of the filter is a quarter of what a start takes.
	s.Linux.Seccomp.Architectures = slices.DeleteFunc(s.Linux.Seccomp.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	return s
}

func process(c container) *specs.Process {
	args := slices.Concat(c.config.Entrypoint, c.launch.Args)
	if len(c.launch.Args) == 0 {
		args = slices.Concat(c.config.Entrypoint, c.config.Cmd)
	}
	files := fileLimit()
	return &specs.Process{
		Terminal: c.terminal,
		User:     specs.User{UID: c.account.uid, GID: c.account.gid, AdditionalGids: c.account.groups},
		Args:     args,
		Env:      c.env,
		Cwd:      cmp.Or(c.config.WorkingDir, "/"),
		Capabilities: &specs.LinuxCapabilities{
			Bounding: []string{}, Effective: []string{}, Inheritable: []string{}, Permitted: []string{}, Ambient: []string{},
		},
		Rlimits: []specs.POSIXRlimit{
			{Type: "RLIMIT_NOFILE", Hard: files, Soft: files},
			{Type: "RLIMIT_CORE"},
		},
		NoNewPrivileges: true,
		OOMScoreAdj:     new(oomScore),
	}
}

// fileLimit is how many files a process may open: no more than we may, since raising the limit is a right of its own.
func fileLimit() uint64 {
	var ours unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &ours); err != nil {
		return 1024
	}
	return min(openFiles, ours.Max)
}

func mounts(c container) []specs.Mount {
	shm := max(c.launch.Limits.Memory/2, 1<<20)
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + decimal(shm)}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/etc/resolv.conf", Type: "bind", Source: c.dir + "/" + fileResolv, Options: []string{"bind", "ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/etc/hosts", Type: "bind", Source: c.dir + "/" + fileHosts, Options: []string{"bind", "ro", "nosuid", "noexec", "nodev"}},
	}
	for _, b := range c.binds {
		list = append(list, specs.Mount{Destination: b.Target, Type: "bind", Source: b.Source, Options: []string{"bind", "ro", "nosuid", "nodev"}})
	}
	return list
}

// environment joins lists of K=V; the last value of a name wins, at the place of the first.
func environment(lists ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, kv := range slices.Concat(lists...) {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.ContainsRune(kv, 0) {
			continue
		}
		if i, ok := at[name]; ok {
			out[i] = kv
			continue
		}
		at[name] = len(out)
		out = append(out, kv)
	}
	return out
}
