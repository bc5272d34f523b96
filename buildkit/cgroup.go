package buildkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Caps bound all build steps of an engine together. Zero means no cap.
type Caps struct {
	Memory   int64   // bytes
	CPU      float64 // cores
	PIDs     int64
	StepPIDs int64 // of each step: one that forks without end leaves some to the others
}

const cgroupRoot = "/sys/fs/cgroup"

// makeCgroup makes the cgroup that all steps are under. Version 1 has a tree per controller, version 2 one tree in
// which every level hands its controllers on.
func makeCgroup(parent string, c Caps) error {
	if parent == "" {
		return nil
	}
	removeCgroup(parent) // with what the steps of an engine that was killed left; the directory's lock says it is dead
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return makeCgroup2(parent, c)
	}
	for controller, files := range map[string]map[string]string{
		"memory":  {"memory.limit_in_bytes": number(c.Memory)},
		"cpu":     {"cpu.cfs_quota_us": number(int64(c.CPU * 100000))},
		"pids":    {"pids.max": number(c.PIDs)},
		"cpuacct": {}, // so that a meter has what to read
	} {
		dir := filepath.Join(cgroupRoot, controller, parent)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		if err := writeCaps(dir, files); err != nil {
			return err
		}
	}
	return nil
}

// capStep makes the cgroup of one step before runc does, which takes it as it is. remove is for a step that never began:
// runc removes it else.
func capStep(parent, id string, pids int64) (remove func(), err error) {
	if parent == "" || pids <= 0 {
		return func() {}, nil
	}
	all := filepath.Join(cgroupRoot, "pids", parent, "buildkit")
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		all = filepath.Join(cgroupRoot, parent, "buildkit")
	}
	dir := filepath.Join(all, id)
	if err := os.MkdirAll(all, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	handOn(all)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	remove = func() { _ = os.Remove(dir) }
	if err := writeCaps(dir, map[string]string{"pids.max": number(pids)}); err != nil {
		remove()
		return nil, err
	}
	return remove, nil
}

func makeCgroup2(parent string, c Caps) error {
	dir := cgroupRoot
	for _, name := range strings.Split(strings.Trim(parent, "/"), "/") {
		handOn(dir)
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cgroup: %w", err)
		}
	}
	handOn(dir)
	files := map[string]string{"memory.max": number(c.Memory), "pids.max": number(c.PIDs)}
	if c.CPU > 0 {
		files["cpu.max"] = number(int64(c.CPU*100000)) + " 100000"
	}
	return writeCaps(dir, files)
}

// handOn gives the children of dir the controllers that dir has. Those it lacks show when the caps are written.
func handOn(dir string) {
	for _, c := range []string{"+memory", "+cpu", "+pids"} {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(c), 0o644)
	}
}

func number(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func writeCaps(dir string, files map[string]string) error {
	var errs []error
	for name, value := range files {
		if value == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeCgroup takes the cgroup away again, with what steps left in it. One in use stays.
func removeCgroup(parent string) {
	if parent == "" {
		return
	}
	trees, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", parent))
	for _, dir := range append(trees, filepath.Join(cgroupRoot, parent)) {
		steps, _ := filepath.Glob(filepath.Join(dir, "buildkit", "*"))
		for _, d := range append(steps, filepath.Join(dir, "buildkit"), dir) {
			_ = os.Remove(d) // a plain file or a cgroup in use refuses
		}
	}
}
