package bindery_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// good is what a machine has that lacks nothing.
func good() bindery.Preflight {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return bindery.Preflight{
		At: at, Clock: at.Add(3 * time.Second), CPUs: 8, Memory: 32 << 30,
		Scratch: bindery.Scratch{
			Path: "/srv/b", FileSystem: "ext4", Device: "/dev/nvme1n1", Disk: "nvme1n1", Boot: "vda", Separate: true,
			Size: 400 << 30, Free: 300 << 30, Inodes: 1 << 24, FreeInodes: 1 << 23, WriteRate: 500 << 20, WrittenAt: at,
		},
		Network: []bindery.Reach{{What: "the name pypi.org", OK: true}, {What: "the package index", OK: true}},
	}
}

func demanding() bindery.Minimums {
	return bindery.Minimums{Free: 100 << 30, Inodes: 1 << 20, WriteRate: 200 << 20, Memory: 16 << 30, CPUs: 4, Clock: 5 * time.Second, LocalDisk: true, Network: true}
}

func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*bindery.Preflight)
		check  string // empty: nothing is wrong
		text   string
	}{
		"a good machine": {func(*bindery.Preflight) {}, "", ""},
		"not looked yet": {func(p *bindery.Preflight) { *p = bindery.Preflight{} }, bindery.CheckPreflight, "not looked"},
		"a disk hangs":   {func(p *bindery.Preflight) { p.Clock = p.At.Add(2 * time.Minute) }, bindery.CheckPreflight, "2m0s ago"},
		"read-only":      {func(p *bindery.Preflight) { p.Scratch.ReadOnly = true }, bindery.CheckReadOnly, "/srv/b is mounted read-only"},
		"cannot write":   {func(p *bindery.Preflight) { p.Scratch.Trouble = "input/output error" }, bindery.CheckScratch, "input/output error"},
		"boot disk":      {func(p *bindery.Preflight) { p.Scratch.Disk, p.Scratch.Separate = "vda", false }, bindery.CheckLocalDisk, "/srv/b is on the boot disk vda"},
		"in memory": {func(p *bindery.Preflight) {
			p.Scratch.Disk, p.Scratch.FileSystem, p.Scratch.Separate = "", "tmpfs", false
		}, bindery.CheckLocalDisk, "is on tmpfs, which is on no disk"},
		"boot unknown":     {func(p *bindery.Preflight) { p.Scratch.Boot, p.Scratch.Separate = "", false }, bindery.CheckLocalDisk, "cannot be seen"},
		"little space":     {func(p *bindery.Preflight) { p.Scratch.Free = 1536 << 20 }, bindery.CheckFree, "1.5 GiB at /srv/b; wanted: 100 GiB"},
		"few inodes":       {func(p *bindery.Preflight) { p.Scratch.FreeInodes = 12 }, bindery.CheckInodes, "12 at /srv/b; wanted: 1048576"},
		"inodes uncounted": {func(p *bindery.Preflight) { p.Scratch.Inodes, p.Scratch.FreeInodes = 0, 0 }, "", ""},
		"slow":             {func(p *bindery.Preflight) { p.Scratch.WriteRate = 3 << 20 }, bindery.CheckWriteRate, "3 MiB/s; wanted: 200 MiB/s"},
		"not measured":     {func(p *bindery.Preflight) { p.Scratch.WriteRate = 0 }, bindery.CheckWriteRate, "0 bytes/s"},
		"little memory":    {func(p *bindery.Preflight) { p.Memory = 1 << 30 }, bindery.CheckMemory, "1 GiB"},
		"few CPUs":         {func(p *bindery.Preflight) { p.CPUs = 2 }, bindery.CheckCPUs, "2; wanted: 4"},
		"clock ahead":      {func(p *bindery.Preflight) { p.Offset = time.Minute }, bindery.CheckClock, "1m0s ahead of the hub's"},
		"clock behind":     {func(p *bindery.Preflight) { p.Offset = -time.Minute }, bindery.CheckClock, "1m0s behind the hub's"},
		"no network":       {func(p *bindery.Preflight) { p.Network[1].OK = false }, bindery.CheckNetwork, "the package index cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good()
			tt.change(&p)
			got := demanding().Judge(p)
			if tt.check == "" {
				if len(got) != 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Check != tt.check || got[0].Remedy == "" || !strings.Contains(got[0].String(), tt.text) {
				t.Errorf("%+v; want one %s with %q", got, tt.check, tt.text)
			}
		})
	}
}

// TestJudgeNamesAll: a worker that lacks several things hears of all of them at once.
func TestJudgeNamesAll(t *testing.T) {
	p := good()
	p.Scratch.Free, p.Memory, p.Offset = 0, 0, time.Hour
	var checks []string
	for _, x := range demanding().Judge(p) {
		checks = append(checks, x.Check)
	}
	if want := []string{bindery.CheckFree, bindery.CheckMemory, bindery.CheckClock}; !slices.Equal(checks, want) {
		t.Errorf("%q, want %q", checks, want)
	}
	if got := (bindery.Minimums{}).Judge(p); len(got) != 0 {
		t.Errorf("nothing is wanted: %+v", got)
	}
	// Who was below a minimum has to be some way above it, so that it does not come and go.
	p = good()
	p.Scratch.Free = 105 << 30
	if len(demanding().Judge(p)) != 0 || len(demanding().Raised().Judge(p)) != 1 {
		t.Error("raised minimums ask for no more")
	}
}

func TestWorkerNames(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "node-1.example": true, "": false, "-a": false, "a-": false, "A": false, "a/b": false, "a\nb": false, strings.Repeat("a", 64): false} {
		if err := bindery.CheckWorkerName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
