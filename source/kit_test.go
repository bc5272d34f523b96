package source_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// logTo collects what is logged; the writer is read when all has ended.
func logTo(b *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(&locked{b: b}, nil))
}

type locked struct {
	mu sync.Mutex
	b  *strings.Builder
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// inRepo runs git in a checkout as its owner would.
func inRepo(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_GLOBAL=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// wantRepo checks that dir is a whole, clean, shallow repository that borrows nothing and names url.
func wantRepo(t *testing.T, dir, url string) {
	t.Helper()
	if got := inRepo(t, dir, "status", "--porcelain"); got != "" {
		t.Errorf("git status says %q", got)
	}
	if got := inRepo(t, dir, "rev-list", "--count", "HEAD"); got != "1" {
		t.Errorf("there are %s commits, want 1", got)
	}
	if got := inRepo(t, dir, "config", "remote.origin.url"); got != url {
		t.Errorf("remote.origin.url is %q, want %q", got, url)
	}
	inRepo(t, dir, "fsck", "--strict")
	if _, err := os.Lstat(filepath.Join(dir, ".git/objects/info/alternates")); err == nil {
		t.Error("the checkout borrows objects")
	}
	for _, left := range []string{"hooks", "logs", "FETCH_HEAD", "ORIG_HEAD"} {
		if _, err := os.Lstat(filepath.Join(dir, ".git", left)); err == nil {
			t.Errorf(".git has %s", left)
		}
	}
}
