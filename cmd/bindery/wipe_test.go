package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestForcedWipeAsks drops images at once only when somebody has typed yes, after it has said what that costs.
func TestForcedWipeAsks(t *testing.T) {
	flags, hub, _ := runHub(t, t.TempDir())
	expect(t, watch(t, hub, "ann/quick"), `"phase":"ready"`)
	// The one image is in use, so that a wipe which is done says that it stays.
	const done, cost = "1 of them are in use and stay.", "1 images are dropped at once."
	for _, tt := range []struct {
		what, types string // typed at a terminal; none: nobody is there
		args        []string
		status      int
		out, says   string
	}{
		{"nobody is there", "", nil, exitUsage, "", "nobody is here to be asked: say --yes"},
		{"no", "no\n", nil, exitFailed, "", "Drop them? Type yes: "},
		{"nothing", "\n", nil, exitFailed, "", "Nothing was done"},
		{"yes", "yes\n", nil, exitOK, done, "Drop them? Type yes: "},
		{"--yes", "", []string{"--yes"}, exitOK, done, cost},
		{"only the cost", "", []string{"--dry-run"}, exitOK, "", cost},
	} {
		t.Run(tt.what, func(t *testing.T) {
			var out, says bytes.Buffer
			args := append(append([]string{"generation", "invalidate", "--force", "*"}, tt.args...), flags...)
			getenv := func(string) string { return "" }
			status := 0
			if tt.types == "" {
				status = run(t.Context(), args, getenv, strings.NewReader("yes\n"), &out, &says)
			} else {
				status = run(t.Context(), args, getenv, terminal(t, tt.types), &out, &says)
			}
			if status != tt.status || strings.TrimSpace(out.String()) != tt.out || !strings.Contains(says.String(), cost) || !strings.Contains(says.String(), tt.says) {
				t.Errorf("status %d, want %d: %q %q", status, tt.status, out.String(), says.String())
			}
		})
	}
}

// terminal is one at which something has been typed.
func terminal(t *testing.T, typed string) *os.File {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if _, err := keys.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	return tty
}
