package dispatch_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/dispatch"
)

// TestProbe launches against a server that is slow to come up, by the probe that is the default.
func TestProbe(t *testing.T) {
	var asked atomic.Int64
	var path atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path.Store(r.URL.Path)
		w.WriteHeader(http.StatusForbidden)
		if asked.Add(1) < 3 {
			t.Error("asked before it was up")
		}
	}))
	defer server.Close()
	starting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer starting.Close()
	probe := dispatch.Probe()
	for range 2 {
		if probe(t.Context(), strings.TrimPrefix(starting.URL, "http://"), "/user/x/") == nil {
			t.Error("a bad gateway is an answer")
		}
	}
	if err := probe(t.Context(), strings.TrimPrefix(server.URL, "http://"), "/user/x/"); err != nil || path.Load() != "/user/x/api" {
		t.Errorf("asked for %v: %v", path.Load(), err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := probe(gone, "127.0.0.1:1", "/"); !errors.Is(err, context.Canceled) {
		t.Errorf("its asker is gone: %v", err)
	}
}

// TestNotBuilt launches what has no image.
func TestNotBuilt(t *testing.T) {
	bubble(t, nil, func(t *testing.T, h *hub) {
		if _, err := h.Launch(t.Context(), bindery.Build{ID: "b-x"}, bindery.Ask{}); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}
