package build_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/fstest"

	bindery "github.com/bindery-hub/bindery"
)

func (e *engine) Images(context.Context) ([]bindery.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.images)), nil
}

// TestQuick builds without a slot only what is nothing but copied.
func TestQuick(t *testing.T) {
	for name, c := range map[string]struct {
		files fstest.MapFS
		quick bool
	}{
		"copied":          {fstest.MapFS{"requirements.txt": {Data: []byte("six")}}, true},
		"with postBuild":  {fstest.MapFS{"requirements.txt": {Data: []byte("six")}, "postBuild": {Data: []byte("#!/bin/sh\ntrue\n"), Mode: 0o755}}, false},
		"with Dockerfile": {fstest.MapFS{"Dockerfile": {Data: []byte("FROM scratch\n")}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := &engine{}
			b, _ := newBuilder(t, sources{files: c.files}, e)
			build := func(commit string, quick bool) error {
				_, err := b.Build(t.Context(), bindery.BuildRequest{Source: gitSource(commit), Quick: quick}, func(bindery.Event) {})
				return err
			}
			if err := build("1", true); !errors.Is(err, bindery.ErrNotReady) || len(e.jobs) != 0 {
				t.Errorf("with no environment: %v, %d solved", err, len(e.jobs))
			}
			if err := build("1", false); err != nil {
				t.Fatal(err)
			}
			if err := build("2", true); (err == nil) != c.quick || err != nil && !errors.Is(err, bindery.ErrNotReady) {
				t.Errorf("another commit: %v", err)
			}
			if err := build("1", true); err != nil {
				t.Errorf("an image that is there: %v", err)
			}
		})
	}
}
