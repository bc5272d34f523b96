package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const (
	watchers       = 200
	watchedLines   = 1000
	maxPerWatcher  = 400 << 10 // bytes of the hub's memory, with garbage that a busy machine collects late; 200 is usual
	sharedByTheLot = "the-request-that-all-watchers-share"
)

// TestWatchers: two hundred watch one build, half from the start, half from its middle. All see every line from the
// first, it is built once, and a watcher costs the hub little.
func TestWatchers(t *testing.T) {
	h := theHub(t)
	repo := made(t, requirements(map[string]string{
		"postBuild": fmt.Sprintf("#!/bin/bash\nfor i in $(seq %d); do echo \"line $i of many\"; sleep 0.005; done\nsleep 3\n", watchedLines),
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	idle := memory(t, h.serve.Process.Pid).resident

	half := make(chan struct{})
	reach := sync.OnceFunc(func() { close(half) })
	stories, errs := make([]story, watchers), make([]error, watchers)
	var wg sync.WaitGroup
	var peak int64
	middle := fmt.Sprintf("line %d of many", watchedLines/2)
	last := fmt.Sprintf("line %d of many", watchedLines)
	var measure sync.Once
	for i := range watchers {
		wg.Go(func() {
			if i >= watchers/2 {
				select {
				case <-half:
				case <-ctx.Done():
				}
			}
			stories[i], errs[i] = h.watch(ctx, repo, "main", "ids=1&request="+sharedByTheLot, func(e said) bool {
				if strings.Contains(e.Message, middle) {
					reach()
				}
				if strings.Contains(e.Message, last) {
					measure.Do(func() { peak = memory(t, h.serve.Process.Pid).resident })
				}
				return true
			})
		})
	}
	wg.Wait()
	for i := range watchers {
		if errs[i] != nil || stories[i].last().Phase != bindery.PhaseReady {
			t.Fatalf("watcher %d: %v, %+v\n%s", i, errs[i], stories[i].last(), h.tail())
		}
		if diff := missing(stories[i].text()); diff != "" {
			t.Fatalf("watcher %d: %s", i, diff)
		}
		if stories[i].last().session() != stories[0].last().session() {
			t.Errorf("watcher %d has a session of its own", i)
		}
	}
	per := (peak - idle) / watchers
	t.Logf("hub: %d KiB idle, %d KiB with %d watchers: %d KiB each", idle>>10, peak>>10, watchers, per>>10)
	if per > maxPerWatcher {
		t.Errorf("a watcher costs %d KiB, at most %d are right", per>>10, maxPerWatcher>>10)
	}
	s, err := h.client(t).Session(ctx, stories[0].last().session())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := h.client(t).Build(ctx, s.Build); err != nil || b.Attempt != 1 {
		t.Errorf("%d attempts, %v; want one", b.Attempt, err)
	}
	h.stop(t, s.ID)
}

// missing says what a log lacks of the lines that postBuild printed.
func missing(text string) string {
	at := 0
	for i := 1; i <= watchedLines; i++ {
		line := fmt.Sprintf("line %d of many", i)
		n := strings.Index(text[at:], line)
		if n < 0 {
			return fmt.Sprintf("%q is missing, or not in its place", line)
		}
		at += n + len(line)
	}
	return ""
}

// A usage is how much memory a process has, in bytes.
type usage struct {
	resident int64 // all of it
	share    int64 // where pages that several processes have count for each in part
}

func memory(t testing.TB, pid int) (m usage) {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "Rss:":
				m.resident = kib << 10
			case "Pss:":
				m.share = kib << 10
			}
		}
	}
	return m
}
