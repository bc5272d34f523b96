package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

// TestFleetBuildsTheCanary lets a worker that has joined build the hub's own repository, and no other directory, and has
// its image removed from there.
func TestFleetBuildsTheCanary(t *testing.T) {
	const canary = "/srv/hub/canary"
	var mu sync.Mutex
	var asked []string
	held := []bindery.Image{{Name: "bindery/c", Source: canarySource(canary)}, {Name: "bindery/v", Source: bindery.Source{URL: "https://example.org/o/r"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /v1/images", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(held) // the client complains otherwise
	})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	srv.Start()
	defer srv.Close()
	f := newFleet(workers{}, canary, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	w, err := f.connect(bindery.WorkerRecord{Name: "b", Address: bySocket + socket, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(t.Context(), bindery.BuildRequest{ID: "b-1", Attempt: 1, Source: canarySource(canary)}); err != nil {
		t.Errorf("the hub's own: %v", err)
	}
	for _, src := range []bindery.Source{canarySource("/etc"), {Provider: bindery.ProviderLocal, URL: canary}, {Provider: bindery.ProviderGit, URL: "https://example.org/o/r", Trusted: true}} {
		if err := w.Start(t.Context(), bindery.BuildRequest{ID: "b-2", Attempt: 1, Source: src}); !errors.Is(err, bindery.ErrNotAllowed) {
			t.Errorf("%+v: %v", src, err)
		}
	}
	_, clients := f.crew()
	if err := forgetImages(t.Context(), clients[0], canarySource(canary)); err != nil {
		t.Error(err)
	}
	if want := []string{"PUT /v1/builds/b-1/1", "DELETE /v1/images/bindery/c"}; !slices.Equal(asked, want) {
		t.Errorf("it was asked %q, want %q", asked, want)
	}
}
