package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
)

// A Probe looks at the machine of a worker.
type Probe struct {
	Dir   string                                    // on the scratch disk; it must exist
	Reach func(ctx context.Context) []bindery.Reach // tries the network; nil: nothing is tried
	Now   func() time.Time                          // default: time.Now

	mu      sync.Mutex
	last    bindery.Preflight
	rates   [2]int64 // bytes a second, the newest first
	reached time.Time
	busy    bool
}

// How often is looked, at most. What costs more is done less often.
const (
	lookEvery  = 4 * time.Second
	reachEvery = time.Minute
)

// A measurement writes so much, in pieces, and gives up after so long.
const (
	rateBytes  = 4 << 20
	ratePiece  = 1 << 20
	rateWithin = 2 * time.Second
)

func (p *Probe) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

// Last is what was found last, with the time of this machine.
func (p *Probe) Last() bindery.Preflight {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.last
	out.Clock = p.now()
	return out
}

// Refresh looks again, unless somebody does or the last look is fresh. A disk that hangs holds up whoever looks, and
// nobody else: Last then grows old.
func (p *Probe) Refresh(ctx context.Context, writes time.Duration) {
	p.mu.Lock()
	old := p.last
	if p.busy || p.now().Sub(old.At) < lookEvery {
		p.mu.Unlock()
		return
	}
	p.busy = true
	p.mu.Unlock()
	p.Look(ctx, writes)
	p.mu.Lock()
	p.busy = false
	p.mu.Unlock()
}

// Look looks at everything. It measures how fast the disk writes when that was last done before writes.
func (p *Probe) Look(ctx context.Context, writes time.Duration) bindery.Preflight {
	at := p.now()
	s := inspect(p.Dir)
	if s.Trouble == "" && !s.ReadOnly {
		s.ReadOnly, s.Trouble = tryWrite(p.Dir)
	}
	p.mu.Lock()
	out, rates := p.last, p.rates
	p.mu.Unlock()
	s.WriteRate, s.WrittenAt = out.Scratch.WriteRate, out.Scratch.WrittenAt
	if s.Trouble == "" && !s.ReadOnly && at.Sub(s.WrittenAt) >= writes {
		rate, err := writeRate(p.Dir)
		if err != nil {
			s.Trouble = plainErrno(err)
		} else {
			rates = [2]int64{rate, rates[0]}
			s.WriteRate, s.WrittenAt = max(rates[0], rates[1]), p.now()
		}
	}
	out.Scratch, out.CPUs, out.Memory, out.At = s, runtime.NumCPU(), memoryTotal(), p.now()
	p.mu.Lock()
	p.last, p.rates = out, rates
	due := p.Reach != nil && p.now().Sub(p.reached) >= reachEvery
	p.mu.Unlock()
	if due {
		out.Network = p.Reach(ctx)
		p.mu.Lock()
		p.last.Network, p.reached = out.Network, p.now()
		p.mu.Unlock()
	}
	out.Clock = p.now()
	return out
}

// broken says what is wrong with the disk itself, after something failed: nothing, as a rule. It waits a moment only, for
// a disk that hangs is broken, too.
func (p *Probe) broken() string {
	found := make(chan string, 1)
	go func() {
		s := inspect(p.Dir)
		if !s.ReadOnly && s.Trouble == "" {
			s.ReadOnly, s.Trouble = tryWrite(p.Dir)
		}
		switch {
		case s.ReadOnly:
			found <- "The worker's disk has become read-only"
		case s.Trouble != "":
			found <- "The worker's disk cannot be written: " + s.Trouble
		case s.Free < 16<<20 || s.Inodes > 0 && s.FreeInodes < 16:
			found <- "The worker's disk is full"
		default:
			found <- ""
		}
	}()
	select {
	case text := <-found:
		return text
	case <-time.After(5 * time.Second):
		return "The worker's disk does not answer"
	}
}

// memoryTotal is the machine's memory in bytes, 0 if unknown.
func memoryTotal() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// inspect says what dir is on.
func inspect(dir string) bindery.Scratch {
	s := bindery.Scratch{Path: dir}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		s.Trouble = plainErrno(err)
		return s
	}
	s.ReadOnly = fs.Flags&unix.ST_RDONLY != 0
	s.Size, s.Free = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
	s.Inodes, s.FreeInodes = int64(fs.Files), int64(fs.Ffree)
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return s
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	m := mountOf(string(info), dir)
	s.FileSystem, s.Device = m.kind, m.source
	s.Disk = diskOf(m)
	// In a container / is an overlay; what the node's agent mounts into it is on the node's own disk.
	for _, path := range []string{"/", "/etc/hosts", "/etc/resolv.conf"} {
		if s.Boot = diskOf(mountOf(string(info), path)); s.Boot != "" {
			break
		}
	}
	s.Separate = s.Disk != "" && s.Boot != "" && s.Disk != s.Boot
	return s
}

// A mount is one line of mountinfo.
type mount struct {
	point, device, kind, source string // device: major:minor
}

// mountOf finds the mount that path is on: the longest mount point that it is below, and of equal ones the last, which
// covers the others.
func mountOf(mountinfo, path string) (found mount) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 2 {
			continue
		}
		m := mount{point: unescape(head[4]), device: head[2], kind: tail[0], source: unescape(tail[1])}
		if within(path, m.point) && len(m.point) >= len(found.point) {
			found = m
		}
	}
	return found
}

func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// diskOf names the whole disk that a file system is on: that of its partition, or what is under its mapped device. A file
// system without a device, over the network or in memory, is on none.
func diskOf(m mount) string {
	number := m.device
	if strings.HasPrefix(number, "0:") { // btrfs has numbers of its own, but says what it is on
		var st unix.Stat_t
		if !strings.HasPrefix(m.source, "/dev/") || unix.Stat(m.source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return ""
		}
		number = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	dir, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		dir = filepath.Dir(dir)
	}
	for range 8 { // LVM on LUKS on RAID is three
		under, _ := os.ReadDir(filepath.Join(dir, "slaves"))
		if len(under) == 0 {
			break
		}
		next, err := filepath.EvalSymlinks(filepath.Join(dir, "slaves", under[0].Name()))
		if err != nil {
			break
		}
		if _, err := os.Stat(filepath.Join(next, "partition")); err == nil {
			next = filepath.Dir(next)
		}
		dir = next
	}
	return filepath.Base(dir)
}

// tryWrite writes a file durably, as a build would.
func tryWrite(dir string) (readOnly bool, trouble string) {
	f, err := os.CreateTemp(dir, ".preflight-*")
	if err == nil {
		_, err = f.Write(make([]byte, 4096))
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	}
	if errors.Is(err, syscall.EROFS) {
		return true, ""
	}
	return false, plainErrno(err)
}

// plainErrno is the kernel's word for an error.
func plainErrno(err error) string {
	if err == nil {
		return ""
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no.Error()
	}
	return err.Error()
}

// writeRate measures how many bytes a second reach the disk: past the page cache where the file system can do that, and
// synced in any case.
func writeRate(dir string) (int64, error) {
	piece, free, err := noise(ratePiece)
	if err != nil {
		return 0, err
	}
	path := filepath.Join(dir, ".preflight-rate")
	const flags = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0o600)
	if err != nil {
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return 0, errors.Join(err, free())
	}
	written := 0
	began := time.Now()
	for written < rateBytes && time.Since(began) < rateWithin {
		n, werr := f.Write(piece)
		written += n
		if err = werr; err != nil {
			break
		}
	}
	if err == nil {
		err = unix.Fdatasync(int(f.Fd()))
	}
	took := time.Since(began)
	err = errors.Join(err, f.Close(), os.Remove(path), free())
	return int64(float64(written) / max(took.Seconds(), 1e-6)), err
}

// noise returns n bytes at an address that O_DIRECT takes. They are no zeros: those a disk need not write.
func noise(n int) (out []byte, free func() error, err error) {
	out, err = unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	for i, x := 0, uint32(2463534242); i < n; i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = byte(x)
	}
	return out, func() error { return unix.Munmap(out) }, nil
}
