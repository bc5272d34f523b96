package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	steps "github.com/moby/buildkit/util/progress"

	bindery "github.com/bindery-hub/bindery"
)

// inContainer is the status of a step that runs in the container of that id. BuildKit brings it to the builds that are
// told what the step prints, and to no others.
const inContainer = "runs in a container"

func tellContainer(ctx context.Context, id string) {
	w, _, _ := steps.NewFromContext(ctx)
	_ = w.Write(id, steps.Status{Action: inContainer}) // a step without it looks like one that waits
	_ = w.Close()
}

// look emits an event if there was none since the last look although one of the build's steps computes. A step that
// has no container yet waits for those of others, such as the one that has apt's cache: it lives as long as they do.
func (p *progress) look(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := p.all.computes(now)
	for _, v := range p.vertices {
		if running := v.state.Ended.Before(v.state.Started); !running || !v.command && v.meter == nil {
			continue
		}
		lives := others
		if v.meter != nil {
			lives = v.meter.computes(now)
		}
		if lives && p.silent {
			p.say(bindery.Event{Phase: bindery.PhaseBuilding, Step: new(v.state)})
		}
	}
	p.silent = true
}

// idleShare is the share of one core below which a cgroup counts as doing nothing.
const idleShare = 0.002

// A meter looks at the processor time of a cgroup.
type meter struct {
	root, cgroup string
	at           time.Time
	had          time.Duration
}

// computes reports whether the cgroup has computed since the last look; the first look only begins. What cannot be
// known counts as computing.
func (m *meter) computes(now time.Time) bool {
	had, err := processorTime(m.root, m.cgroup)
	if err != nil {
		return true
	}
	first, since, more := m.at.IsZero(), now.Sub(m.at), had-m.had
	m.at, m.had = now, had
	return !first && more.Seconds() > idleShare*since.Seconds()
}

// processorTime is what the processes of a cgroup have had so far, those that have ended included.
func processorTime(root, cgroup string) (time.Duration, error) {
	if cgroup == "" {
		return 0, errors.New("there is no cgroup")
	}
	if text, err := os.ReadFile(filepath.Join(root, "cpuacct", cgroup, "cpuacct.usage")); err == nil { // version 1
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns), err
	}
	text, err := os.ReadFile(filepath.Join(root, cgroup, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("cgroup %s: cpu.stat has no usage_usec", cgroup)
}
