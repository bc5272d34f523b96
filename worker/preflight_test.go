package worker

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const someMounts = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
30 22 259:1 / /mnt/disk\0401 rw,noatime - ext4 /dev/nvme1n1 rw
31 30 0:40 / /mnt/disk\0401/tmp rw - tmpfs tmpfs rw
32 22 0:41 /sub /srv rw - btrfs /dev/none rw
33 22 0:50 / /srv/net rw - nfs4 server:/export rw
34 22 0:51 / /srv/net rw - tmpfs over rw
nonsense
`

func TestMountOf(t *testing.T) {
	for path, want := range map[string]mount{
		"/etc":             {"/", "254:0", "ext4", "/dev/vda"},
		"/mnt/disk 1":      {"/mnt/disk 1", "259:1", "ext4", "/dev/nvme1n1"},
		"/mnt/disk 1/a/b":  {"/mnt/disk 1", "259:1", "ext4", "/dev/nvme1n1"},
		"/mnt/disk 10":     {"/", "254:0", "ext4", "/dev/vda"},
		"/mnt/disk 1/tmp/": {"/mnt/disk 1/tmp", "0:40", "tmpfs", "tmpfs"},
		"/srv/x":           {"/srv", "0:41", "btrfs", "/dev/none"},
		"/srv/net/x":       {"/srv/net", "0:51", "tmpfs", "over"}, // the later mount covers the earlier one
	} {
		if got := mountOf(someMounts, path); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if got := diskOf(mount{device: "0:40", kind: "tmpfs", source: "tmpfs"}); got != "" {
		t.Errorf("memory is on the disk %q", got)
	}
}

// TestLook looks at a real directory, then at one in memory, small and at last read-only.
func TestLook(t *testing.T) {
	calls := 0
	p := &Probe{Dir: t.TempDir(), Reach: func(context.Context) []bindery.Reach {
		calls++
		return []bindery.Reach{{What: "there", OK: true}}
	}}
	got := p.Look(t.Context(), time.Hour)
	s := got.Scratch
	if got.CPUs != runtime.NumCPU() || got.Memory == 0 || s.Trouble != "" || s.ReadOnly || s.Free == 0 || s.WriteRate == 0 || s.FileSystem == "" || len(got.Network) != 1 {
		t.Errorf("%+v", got)
	}
	if again := p.Look(t.Context(), time.Hour); !again.Scratch.WrittenAt.Equal(s.WrittenAt) || calls != 1 {
		t.Errorf("measured more often than asked: %v, %v; the network %d times", s.WrittenAt, again.Scratch.WrittenAt, calls)
	}
	if again := p.Look(t.Context(), 0); again.Scratch.WrittenAt.Equal(s.WrittenAt) {
		t.Error("not measured again")
	}
	left, err := os.ReadDir(p.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

func TestLookAtABrokenDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=100"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := &Probe{Dir: dir}
	s := p.Look(t.Context(), time.Hour).Scratch
	if s.FileSystem != "tmpfs" || s.Disk != "" || s.Separate || s.Size != 1<<20 || s.Inodes != 100 {
		t.Errorf("in memory: %+v", s)
	}
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if s = p.Look(t.Context(), time.Hour).Scratch; !strings.Contains(s.Trouble, "no space") {
		t.Errorf("full: %+v", s)
	}
	if text := p.broken(); !strings.Contains(text, "disk cannot be written") {
		t.Errorf("full: %q", text)
	}
	if err := os.Remove(filepath.Join(dir, "full")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if s = p.Look(t.Context(), time.Hour).Scratch; !s.ReadOnly || s.Trouble != "" {
		t.Errorf("read-only: %+v", s)
	}
	if text := p.broken(); !strings.Contains(text, "read-only") {
		t.Errorf("read-only: %q", text)
	}
	if s = (&Probe{Dir: filepath.Join(dir, "none")}).Look(t.Context(), time.Hour).Scratch; s.Trouble == "" {
		t.Errorf("no directory: %+v", s)
	}
}
