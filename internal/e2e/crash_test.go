package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// A gate stands before a Git server and holds back one kind of question until it is opened: for its refs, or for a pack.
type gate struct {
	url     string
	reached chan struct{} // closed when that is asked for the first time
	open    func()
}

func newGate(t testing.TB, server, stage string) *gate {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	g := &gate{reached: make(chan struct{}), open: sync.OnceFunc(func() { close(opened) })}
	reach := sync.OnceFunc(func() { close(g.reached) })
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // its clients are killed
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		refs := bytes.Contains(body, []byte("command=ls-refs"))
		if r.Method == http.MethodPost && (stage == "resolve" && refs || stage == "fetch" && !refs) {
			reach()
			select {
			case <-opened:
			case <-r.Context().Done():
				return
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	g.url = srv.URL
	t.Cleanup(srv.Close)
	t.Cleanup(g.open)
	return g
}

// TestKills kills the hub, the worker, or both, at each stage of a build and of its session. The build must go on, or
// start again once, from what is cached; all its lines are there from the first; the session answers; nothing is left.
func TestKills(t *testing.T) {
	h := theHub(t)
	for _, stage := range []string{"resolve", "fetch", "solve", "launch", "ready"} {
		for _, victim := range []string{"hub", "worker", "both"} {
			t.Run(stage+"/"+victim, func(t *testing.T) { killAt(t, h, stage, victim) })
		}
	}
}

func killAt(t *testing.T, h *hub, stage, victim string) {
	srv := sourcetest.Start(t)
	repo := srv.Repo("ann/kill")
	// Each has a postBuild of its own, so that none is cached, with a middle in which to die.
	repo.Commit("main", requirements(map[string]string{
		"postBuild": fmt.Sprintf("#!/bin/bash\n# %s\necho the beginning\nsleep 3\necho the end\n", t.Name()),
	}))
	g := newGate(t, srv.URL, stage)
	address := g.url + "/ann/kill"
	before := h.remains(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	query := "ids=1&request=" + strings.Repeat("killed-request-", 2) + strings.NewReplacer("/", "-").Replace(t.Name())

	killed := make(chan struct{})
	kill := sync.OnceFunc(func() {
		defer close(killed)
		strike(t, h, victim)
		g.open()
	})
	go func() {
		select {
		case <-g.reached: // at the stages resolve and fetch
			kill()
		case <-ctx.Done():
		}
	}()
	first, err := h.watch(ctx, address, "main", query, func(e said) bool {
		if (stage == "solve" && strings.Contains(e.Message, "the beginning")) || (stage == "launch" && e.Phase == bindery.PhaseLaunching) {
			kill()
		}
		return true
	})
	started := ""
	if stage == "ready" {
		if err != nil || first.last().Phase != bindery.PhaseReady {
			t.Fatalf("the stream ended %v: %+v", err, first.last())
		}
		started = startedAt(t, first.last())
		kill()
	}
	select {
	case <-killed:
	case <-ctx.Done():
		t.Fatalf("the stage %s was never reached: %v\n%s", stage, err, first.text())
	}
	stillServed(t, h, stage, victim, first)
	h.start(t)

	all := first
	if stage == "ready" {
		eventually(t, 20*time.Second, "the session is proxied again", func() bool { _, err := answers(first.last(), "api"); return err == nil })
		if again := startedAt(t, first.last()); again != started {
			t.Errorf("the session's server was started at %s, and is now another of %s", started, again)
		}
	} else if victim != "worker" || err != nil {
		if all, err = h.watch(ctx, address, "main", query, nil); err != nil {
			t.Fatalf("the second stream: %v\n%s\n%s", err, all.text(), h.tail())
		}
	}
	checkKilled(t, h, stage, victim, all)
	for _, id := range h.list(t) {
		h.stop(t, id)
	}
	h.settles(t, before)
}

func strike(t testing.TB, h *hub, victim string) {
	if victim != "hub" {
		h.killWorker(t)
	}
	if victim != "worker" {
		h.kill9(t)
	}
}

// stillServed asks the session itself while nobody proxies it.
func stillServed(t testing.TB, h *hub, stage, victim string, s story) {
	t.Helper()
	if stage != "ready" || victim == "worker" {
		return
	}
	if h.running() {
		t.Fatal("the hub still runs")
	}
	found := false
	for _, p := range h.mine() {
		found = found || strings.Contains(p.cgroup, s.last().session())
	}
	if !found {
		t.Error("the session died with the hub")
	}
}

// checkKilled looks at what became of the build.
func checkKilled(t testing.TB, h *hub, stage, victim string, all story) {
	t.Helper()
	ready := all.last()
	if ready.Phase != bindery.PhaseReady {
		t.Fatalf("it ended %s: %s\n%s\n%s", ready.Phase, ready.Message, all.text(), h.tail())
	}
	if _, err := answers(ready, "api"); err != nil {
		t.Errorf("the session does not answer: %v", err)
	}
	text := all.text()
	if (stage != "launch" && stage != "ready") || victim == "worker" {
		for _, want := range []string{"the beginning", "the end"} {
			if !strings.Contains(text, want) {
				t.Errorf("the log has lost %q:\n%s", want, text)
			}
		}
	}
	s, err := h.client(t).Session(t.Context(), ready.session())
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.client(t).Build(t.Context(), s.Build)
	if err != nil {
		t.Fatal(err)
	}
	want := 1
	if victim != "hub" && (stage == "fetch" || stage == "solve") {
		want = 2
	}
	if b.Attempt != want || b.State != bindery.BuildSucceeded {
		t.Errorf("the build is %s after %d attempts, want %d", b.State, b.Attempt, want)
	}
}

// startedAt is when the session's server started: another server, another time.
func startedAt(t testing.TB, ready said) string {
	t.Helper()
	text, err := answers(ready, "api/status")
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ Started string }
	if err := json.Unmarshal([]byte(text), &status); err != nil || status.Started == "" {
		t.Fatalf("%v: %s", err, text)
	}
	return status.Started
}
