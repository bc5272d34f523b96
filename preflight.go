package bindery

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Preflight is what a worker found when it looked at its machine. It holds facts only: what follows from them is for
// Minimums to say.
type Preflight struct {
	At      time.Time     `json:"at,omitzero"` // when it looked last; zero: not yet
	Scratch Scratch       `json:"scratch"`
	CPUs    int           `json:"cpus"`
	Memory  int64         `json:"memory"` // bytes
	Clock   time.Time     `json:"clock,omitzero"`
	Offset  time.Duration `json:"clock_offset"` // how far its clock is ahead of the hub's; the hub fills it in
	Network []Reach       `json:"network,omitempty"`
}

// Scratch is the disk that builds are made on.
type Scratch struct {
	Path       string    `json:"path"`
	FileSystem string    `json:"file_system"`      // its type, such as ext4
	Device     string    `json:"device,omitempty"` // such as /dev/nvme1n1p1, or what else is mounted there
	Disk       string    `json:"disk,omitempty"`   // the whole disk that the device is on, such as nvme1n1; empty: it is on none
	Boot       string    `json:"boot,omitempty"`   // the disk that the machine starts from, as far as that can be seen
	Separate   bool      `json:"separate"`         // it is on a disk of this machine, and not on the one that it starts from
	ReadOnly   bool      `json:"read_only"`
	Size       int64     `json:"size"`
	Free       int64     `json:"free"`
	Inodes     int64     `json:"inodes"` // 0: the file system does not count them
	FreeInodes int64     `json:"free_inodes"`
	WriteRate  int64     `json:"write_rate"` // bytes a second, the best of the last two measurements; 0: not measured
	WrittenAt  time.Time `json:"written_at,omitzero"`
	Trouble    string    `json:"trouble,omitempty"` // why nothing can be written to it
}

// A Reach is one try to reach something over the network.
type Reach struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Found string `json:"found,omitempty"`
}

// Minimums are what a pool wants of each of its workers. A field that is zero asks for nothing.
type Minimums struct {
	Free      int64         `json:"free,omitempty"`
	Inodes    int64         `json:"inodes,omitempty"`
	WriteRate int64         `json:"write_rate,omitempty"` // bytes a second
	Memory    int64         `json:"memory,omitempty"`
	CPUs      int           `json:"cpus,omitempty"`
	Clock     time.Duration `json:"clock,omitempty"`      // that its clock may differ from the hub's
	LocalDisk bool          `json:"local_disk,omitempty"` // its scratch is on a disk of its own
	Network   bool          `json:"network,omitempty"`    // what it tried to reach must have answered
}

// DefaultMinimums are those of a worker that belongs to no pool: what no build can do without.
func DefaultMinimums() Minimums {
	return Minimums{Free: 512 << 20, Inodes: 20_000, Clock: 5 * time.Minute}
}

// StalePreflight is the age at which a preflight counts no more: a worker that has not looked at its disk for so long
// hangs over it.
const StalePreflight = 45 * time.Second

// A Problem is one thing that a worker lacks.
type Problem struct {
	Check    string `json:"check"`
	Measured string `json:"measured"`
	Wanted   string `json:"wanted"`
	Remedy   string `json:"remedy"`
}

// String is the problem in one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; wanted: %s", p.Check, p.Measured, p.Wanted)
}

// ProblemText is all problems in one line.
func ProblemText(all []Problem) string {
	var words []string
	for _, p := range all {
		words = append(words, p.String())
	}
	return strings.Join(words, "; ")
}

// The checks that a Problem may be of.
const (
	CheckPreflight = "preflight"
	CheckScratch   = "scratch"
	CheckReadOnly  = "read-only"
	CheckLocalDisk = "local disk"
	CheckFree      = "free space"
	CheckInodes    = "free inodes"
	CheckWriteRate = "write rate"
	CheckMemory    = "memory"
	CheckCPUs      = "CPUs"
	CheckClock     = "clock"
	CheckNetwork   = "network"
	CheckImages    = "images"
	CheckName      = "name"
)

// Raised are the minimums for a worker that was below them: some more, so that it does not come and go.
func (m Minimums) Raised() Minimums {
	m.Free += m.Free / 10
	m.Inodes += m.Inodes / 10
	m.WriteRate += m.WriteRate / 10
	return m
}

// Judge names what a worker lacks. Nothing: it may build.
func (m Minimums) Judge(p Preflight) []Problem {
	if p.At.IsZero() {
		return []Problem{{CheckPreflight, "the worker has not looked at its disk yet", "a look at it",
			"Wait a moment. If it stays so, its disk hangs: look at the kernel's messages with dmesg."}}
	}
	if age := p.Clock.Sub(p.At); age > StalePreflight {
		return []Problem{{CheckPreflight, "the last look at its disk was " + ageText(age) + " ago", "one in the last " + ageText(StalePreflight),
			"Its disk hangs: look at the kernel's messages with dmesg, then replace the disk or the machine."}}
	}
	var out []Problem
	add := func(bad bool, check, measured, wanted, remedy string) {
		if bad {
			out = append(out, Problem{check, measured, wanted, remedy})
		}
	}
	s := p.Scratch
	add(s.ReadOnly, CheckReadOnly, s.Path+" is mounted read-only", "a file system that can be written",
		"Look at the kernel's messages with dmesg: a file system turns read-only when its disk fails. Repair or replace it, and mount it again.")
	add(!s.ReadOnly && s.Trouble != "", CheckScratch, "a file cannot be written to "+s.Path+": "+s.Trouble, "a file that is written and synced",
		"Look at the disk: df -h and df -i, mount, dmesg.")
	add(m.LocalDisk && !s.Separate, CheckLocalDisk, s.whereabouts(), "a local disk that the machine does not start from",
		"Mount the local disk and put the worker's --state-dir on it. A node that was made without one has to be replaced: `bindery pool command` prints how.")
	add(s.Free < m.Free, CheckFree, bytesText(s.Free)+" at "+s.Path, bytesText(m.Free),
		"Make room on the disk, or use a larger one. The worker's cache has been emptied as far as nothing holds it.")
	add(s.Inodes > 0 && s.FreeInodes < m.Inodes, CheckInodes, strconv.FormatInt(s.FreeInodes, 10)+" at "+s.Path, strconv.FormatInt(m.Inodes, 10),
		"Images are made of many small files: free some, or make the file system with more inodes (mkfs.ext4 -i 8192).")
	add(m.WriteRate > 0 && s.WriteRate < m.WriteRate && s.Trouble == "" && !s.ReadOnly, CheckWriteRate, rateText(s.WriteRate), rateText(m.WriteRate),
		"The disk is slower than the pool says: look for what else writes to it (iostat -x 5), for a limit of the provider, or for a failing disk.")
	add(p.Memory < m.Memory, CheckMemory, bytesText(p.Memory), bytesText(m.Memory), "Use a larger machine, or lower the pool's minimum.")
	add(p.CPUs < m.CPUs, CheckCPUs, strconv.Itoa(p.CPUs), strconv.Itoa(m.CPUs), "Use a larger machine, or lower the pool's minimum.")
	add(m.Clock > 0 && p.Offset.Abs() > m.Clock, CheckClock, offsetText(p.Offset), "at most "+m.Clock.String()+" apart",
		"Set the clock and keep it set: systemctl enable --now systemd-timesyncd.")
	if m.Network {
		for _, r := range p.Network {
			add(!r.OK, CheckNetwork, r.What+" "+cmp.Or(r.Found, "cannot be reached"), "an answer", "Open the network, set HTTPS_PROXY, or name an index that can be reached as steps.pip_index.")
		}
	}
	return out
}

// whereabouts says what the scratch directory is on.
func (s Scratch) whereabouts() string {
	switch {
	case s.Disk == "":
		return s.Path + " is on " + cmp.Or(s.FileSystem, "an unknown file system") + ", which is on no disk of this machine"
	case s.Boot == "":
		return s.Path + " is on the disk " + s.Disk + "; which one the machine starts from cannot be seen"
	case s.Disk == s.Boot:
		return s.Path + " is on the boot disk " + s.Disk
	}
	return s.Path + " is on the disk " + s.Disk
}

func bytesText(n int64) string {
	const units = "KMGT"
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	i, x := -1, float64(n)
	for ; x >= 1024 && i < len(units)-1; i++ {
		x /= 1024
	}
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0") + " " + units[i:i+1] + "iB"
}

func rateText(n int64) string { return bytesText(n) + "/s" }

func ageText(d time.Duration) string { return d.Round(time.Second).String() }

func offsetText(d time.Duration) string {
	if d < 0 {
		return (-d).Round(time.Millisecond).String() + " behind the hub's"
	}
	return d.Round(time.Millisecond).String() + " ahead of the hub's"
}
