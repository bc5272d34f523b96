package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTop watches a hub by `bindery top` in a real terminal: it is drawn anew as things change, as the window changes,
// and while the hub is away.
func TestTop(t *testing.T) {
	h := theHub(t)
	name := h.worker(t).Name
	term := newTerminal(t, h, "top", "--every", "200ms")
	term.shows(t, "slots ", name, "ready", "launches (")
	if screen := term.screen(t); strings.Count(screen, "WORKER") != 1 {
		t.Errorf("it is drawn over itself:\n%s", screen)
	}
	h.must(t, "workers", "drain", name, "--reason", "a test of top")
	term.shows(t, "drained", "a test of top")
	h.must(t, "workers", "resume", name)
	term.becomes(t, "without what was there before", func(screen string) bool {
		return strings.Contains(screen, name) && !strings.Contains(screen, "drained") && !strings.Contains(screen, "a test of top")
	})

	term.tmux(t, "resize-window", "-x", "40", "-y", "4")
	term.shows(t, "more lines")
	for _, line := range strings.Split(strings.TrimRight(term.screen(t), "\n"), "\n") {
		if n := len([]rune(line)); n > 40 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	term.tmux(t, "resize-window", "-x", "100", "-y", "24")
	term.shows(t, "WORKER", name)

	h.kill9(t)
	term.shows(t, "The hub does not answer")
	h.start(t)
	term.shows(t, "slots ", name)
	term.tmux(t, "send-keys", "C-c")
	term.shows(t, "interrupted")
	if got := term.status(t); got != "130" {
		t.Errorf("it ended with status %s, not 130", got)
	}
}

// A terminal is a window of a tmux of its own, in which a command of bindery runs.
type terminal struct{ socket, config, ended string }

func newTerminal(t *testing.T, h *hub, args ...string) terminal {
	t.Helper()
	dir := t.TempDir()
	term := terminal{filepath.Join(dir, "socket"), filepath.Join(dir, "tmux.conf"), filepath.Join(dir, "ended")}
	if err := os.WriteFile(term.config, []byte("set -g remain-on-exit on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", term.socket, "kill-server").Run() // it may never have started
	})
	// tmux 3.3 loses a status now and then; a shell keeps it, and has a trap so that it outlives the command's Ctrl-C.
	keep := `trap : INT; "$@"; echo $? >` + term.ended + `.new; mv ` + term.ended + `.new ` + term.ended
	window := []string{"new-session", "-d", "-x", "100", "-y", "24", "-e", "BINDERY_CONFIG=" + h.config, "-e", "HOME=" + h.dir}
	term.tmux(t, append(append(window, "sh", "-c", keep, "sh", shared.bin), args...)...)
	return term
}

// status waits for the command to end and is its exit status.
func (x terminal) status(t *testing.T) string {
	t.Helper()
	var status []byte
	eventually(t, 30*time.Second, "the command to end", func() bool {
		var err error
		status, err = os.ReadFile(x.ended)
		return err == nil
	})
	return strings.TrimSpace(string(status))
}

func (x terminal) tmux(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "tmux", append([]string{"-u", "-S", x.socket, "-f", x.config}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("tmux %q (scripts/setup test installs it): %v\n%s", args, err, out)
	}
	return string(out)
}

// screen is what the window shows.
func (x terminal) screen(t *testing.T) string {
	t.Helper()
	return x.tmux(t, "capture-pane", "-p")
}

// shows waits until all that is on the screen at once.
func (x terminal) shows(t *testing.T, texts ...string) {
	t.Helper()
	x.becomes(t, strings.Join(texts, " and "), func(screen string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(screen, text) })
	})
}

// becomes waits until the screen is as it should be.
func (x terminal) becomes(t *testing.T, what string, good func(screen string) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		screen := x.screen(t)
		if good(screen) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the screen is not %s:\n%s", what, screen)
		case <-tick.C:
		}
	}
}
