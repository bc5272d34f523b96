package runc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

const (
	required = "required"
	advised  = "advised"
)

// Checks says what sessions need of this machine.
func (l *Launcher) Checks(ctx context.Context) []bindery.Check {
	return append([]bindery.Check{checkRoot(), checkKernel(), checkOverlay(), checkCgroups(), checkSwap()}, l.checkRuntime(ctx)...)
}

func checkRoot() bindery.Check {
	c := bindery.Check{Name: "root", OK: os.Geteuid() == 0, Level: required, Found: "user id " + strconv.Itoa(os.Geteuid())}
	if !c.OK {
		c.Remedy = "Run as root."
	}
	return c
}

func checkKernel() bindery.Check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return bindery.Check{Name: "kernel", Level: required, Found: err.Error()}
	}
	release := unix.ByteSliceToString(u.Release[:])
	c := bindery.Check{Name: "kernel", OK: atLeast(release, 5, 10), Level: required, Found: release}
	if !c.OK {
		c.Remedy = "Use Linux 5.10 or newer; Debian 11 and later have it."
	}
	return c
}

// atLeast reports whether a version such as "6.1.0-13-amd64" is major.minor or newer.
func atLeast(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// checkOverlay opens an overlay file system without mounting it: a kernel that has it as a module loads it on demand, so
// the list of loaded file systems would say too little.
func checkOverlay() bindery.Check {
	const name = "overlay file system"
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return bindery.Check{Name: name, Level: required, Found: "cannot be had of the kernel: " + err.Error(), Remedy: "Load it: `modprobe overlay`."}
	}
	_ = unix.Close(fd) // nothing was mounted
	return bindery.Check{Name: name, OK: true, Level: required, Found: "known to the kernel"}
}

// checkCgroups looks for the controllers that bound a session.
func checkCgroups() bindery.Check {
	c := bindery.Check{Name: "cgroups", Level: required, Remedy: "Boot with the memory controller on (cgroup_enable=memory), and mount /sys/fs/cgroup."}
	version, have := "v1", ""
	if unified() {
		version = "v2"
		text, _ := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
		have = " " + strings.TrimSpace(string(text)) + " "
	}
	var missing []string
	for _, name := range []string{"memory", "cpu", "pids"} {
		_, err := os.Stat(filepath.Join(cgroupRoot, name))
		if version == "v1" && err != nil || version == "v2" && !strings.Contains(have, " "+name+" ") {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		c.Found = version + " without " + strings.Join(missing, ", ")
		return c
	}
	return bindery.Check{Name: c.Name, OK: true, Level: required, Found: version + " with memory, cpu, pids"}
}

func checkSwap() bindery.Check {
	c := bindery.Check{Name: "swap limits", OK: swapLimited(), Level: advised, Found: "memory and swap are limited together"}
	if !c.OK {
		c.Found, c.Remedy = "swap is not limited", "Boot with swapaccount=1, or switch swap off."
	}
	return c
}

func (l *Launcher) checkRuntime(ctx context.Context) []bindery.Check {
	c := bindery.Check{Name: "runc", Level: required, Found: "not found: " + l.cfg.Runtime, Remedy: "Run `make setup`, or name one with --runtime."}
	path, err := exec.LookPath(l.cfg.Runtime)
	if err != nil {
		return []bindery.Check{c}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		c.Found = fmt.Sprintf("%s --version: %v", path, err)
		return []bindery.Check{c}
	}
	return runtimeChecks(path, string(out))
}

// runtimeChecks judges what runc --version says.
func runtimeChecks(path, text string) []bindery.Check {
	first, _, _ := strings.Cut(text, "\n")
	version := strings.TrimPrefix(first, "runc version ")
	found := version + " at " + path
	present := bindery.Check{Name: "runc", OK: strings.HasPrefix(first, "runc ") && atLeast(version, 1, 1), Level: required, Found: found}
	if !present.OK {
		present.Remedy = "Use runc 1.1 or newer; `make setup` builds one."
	}
	recent := bindery.Check{Name: "runc escapes fixed", OK: atLeast(version, 1, 4) || fixed(version), Level: advised, Found: found}
	if !recent.OK {
		recent.Remedy = "Use runc 1.2.8, 1.3.3 or newer: older ones let a container write outside of it (CVE-2025-31133, -52565, -52881). `make setup` builds one."
	}
	filter := bindery.Check{Name: "runc with seccomp", OK: strings.Contains(text, "libseccomp"), Level: required, Found: "built in"}
	if !filter.OK {
		filter.Found, filter.Remedy = "not built in", "Use a runc built with the tag seccomp; `make setup` builds one."
	}
	return []bindery.Check{present, filter, recent}
}

// fixed reports whether one of the older lines has the fixes of November 2025.
func fixed(version string) bool {
	var major, minor, patch int
	_, _ = fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch)
	return major == 1 && (minor == 2 && patch >= 8 || minor == 3 && patch >= 3)
}
