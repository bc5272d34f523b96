package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Contain finishes the namespaces that Spawn or Foreground began: what is mounted here stays here, /proc shows this
// PID namespace, and copies of other people's mounts are let go: of namespaces, and of everything below the
// directories forget. A copy would keep them alive after their owners have removed them.
//
// What goes on the outside goes here too, where the machine shares its mounts; a new mount here is never seen outside.
func Contain(forget ...string) error {
	if os.Getpid() != 1 {
		return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Start it by `bindery worker`.", "The worker is not in a PID namespace of its own")
	}
	if err := syscall.Mount("", "/", "", syscall.MS_SLAVE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts from spreading: %w", err)
	}
	if err := letGo(forget); err != nil {
		return err
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

func letGo(forget []string) error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // the newest first: it may cover others
		fields := strings.Fields(lines[i])
		_, after, ok := strings.Cut(lines[i], " - ")
		if len(fields) < 5 || !ok {
			continue
		}
		point := unescape(fields[4])
		drop := strings.HasPrefix(after, "nsfs ")
		for _, dir := range forget {
			drop = drop || strings.HasPrefix(point, strings.TrimSuffix(dir, "/")+"/")
		}
		if drop {
			_ = syscall.Unmount(point, syscall.MNT_DETACH) // one that is gone with its parent is fine
		}
	}
	return nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// reap collects the orphans of builds, which the kernel gives to the first process of a PID namespace. A process that
// somebody here waits for is collected by them at once; so only one that has been dead for a while is an orphan.
func reap(ctx context.Context) {
	const patience = time.Minute
	first := map[int]time.Time{}
	tick := time.NewTicker(patience / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			dead := deadChildren()
			for pid := range first {
				if !dead[pid] {
					delete(first, pid)
				}
			}
			for pid := range dead {
				if _, seen := first[pid]; !seen {
					first[pid] = now
				}
				if now.Sub(first[pid]) >= patience {
					_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil) // somebody may have been faster
				}
			}
		}
	}
}

// deadChildren lists the children of this process that have ended and were not collected.
func deadChildren() map[int]bool {
	out := map[int]bool{}
	entries, _ := os.ReadDir("/proc") // without /proc there is nothing to find
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if state, parent := stat(pid); state == 'Z' && parent == os.Getpid() {
			out[pid] = true
		}
	}
	return out
}

func zombie(pid int) bool {
	state, _ := stat(pid)
	return state == 'Z'
}

// stat returns the state and the parent of a process, or zeros. The name in the line may contain anything, so the
// fields are counted from its last parenthesis.
func stat(pid int) (state byte, parent int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := bytes.LastIndexByte(raw, ')')
	if err != nil || end < 0 {
		return 0, 0
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 2 {
		return 0, 0
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return 0, 0
	}
	return fields[0][0], parent
}
