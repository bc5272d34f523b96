package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// An owned session is one that a `bindery run` serves: the record says which process, so that a session whose owner
// was killed can be told from one that lives.
type owned struct {
	ID      string         `json:"id"`
	Source  bindery.Source `json:"source"`
	Image   string         `json:"image,omitempty"`
	URL     string         `json:"url,omitempty"` // without its token
	Created time.Time      `json:"created"`
	Owner   process        `json:"owner"`
}

// A process is known by its number, when it started and in which boot: numbers are used again.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // in clock ticks since the boot
	Boot  string `json:"boot"`
}

func thisProcess() (process, error) {
	p := process{PID: os.Getpid(), Boot: bootID()}
	var err error
	p.Start, err = startOf(p.PID)
	return p, err
}

// alive reports whether the very process still runs.
func (p process) alive() bool {
	start, err := startOf(p.PID)
	return err == nil && start == p.Start && p.Boot == bootID()
}

func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// startOf reads field 22 of /proc/PID/stat. The second field, the program's name, may hold anything but ends with the
// last parenthesis. A zombie is dead.
func startOf(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	s := string(text)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", fs.ErrNotExist
	}
	return fields[19], nil
}

func (i instance) ownedFile(id string) string { return i.path("runs", id+".json") }

func (i instance) saveOwned(o owned) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := writeFile(i.ownedFile(o.ID), text); err != nil {
		return fmt.Errorf("keep the session's record: %w", err)
	}
	return nil
}

// loadOwned lists the records, oldest first; a torn or foreign file is no record.
func (i instance) loadOwned() ([]owned, error) {
	files, err := filepath.Glob(i.path("runs", "*.json"))
	if err != nil {
		return nil, err
	}
	var all []owned
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the record of a session: %w", err)
		}
		var o owned
		if json.Unmarshal(text, &o) == nil && i.ownedFile(o.ID) == file {
			all = append(all, o)
		}
	}
	sortBy(all, func(o owned) int64 { return o.Created.UnixNano() })
	return all, nil
}

func (i instance) ownedLog(id string) string { return i.path("runs", id+".log") }

// dropOwned forgets a session, with the messages of the process that owned it.
func (i instance) dropOwned(id string) error {
	for _, file := range []string{i.ownedLog(id), i.ownedFile(id)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
