package runc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// unified reports whether this machine has cgroup v2 only.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// swapLimited reports whether memory and swap can be limited together.
func swapLimited() bool {
	if unified() {
		return true
	}
	_, err := os.Stat(filepath.Join(cgroupRoot, "memory", "memory.memsw.limit_in_bytes"))
	return err == nil
}

// oomKilled reports whether the kernel killed something in the cgroup for its memory limit.
func oomKilled(cgroup string) bool {
	path := filepath.Join(cgroupRoot, "memory", cgroup, "memory.oom_control")
	if unified() {
		path = filepath.Join(cgroupRoot, cgroup, "memory.events")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(count))
			return n > 0
		}
	}
	return false
}

// inCgroup reports whether process pid is in the cgroup. It guards against process ids that are used again.
func inCgroup(pid int, cgroup string) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy:controllers:path
		if len(fields) != 3 || !strings.HasSuffix(fields[2], cgroup) {
			continue
		}
		if fields[1] == "" || strings.Contains(","+fields[1]+",", ",pids,") {
			return true
		}
	}
	return false
}
