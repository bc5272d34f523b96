package web_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// TestExportByTheAPI wants all lines, or an answer that is seen to be cut off.
func TestExportByTheAPI(t *testing.T) {
	var breaks error
	export := func(_ context.Context, kind string, since, until time.Time) (iter.Seq2[[]byte, error], error) {
		if kind != "builds" {
			return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Use builds.", "no")
		}
		return func(yield func([]byte, error) bool) {
			if !yield([]byte(`{"since":"`+since.Format(time.RFC3339)+`"}`), nil) || !yield([]byte(`{}`), nil) {
				return
			}
			if breaks != nil {
				yield(nil, breaks)
			}
		}, nil
	}
	_, c := dial(t, newHub(), "good", func(cfg *web.Config) { operated(newHub())(cfg); cfg.Export = export })
	since := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	read := func() (string, error) {
		body, err := c.Export(t.Context(), "builds", since, time.Time{})
		if err != nil {
			return "", err
		}
		defer func() { _ = body.Close() }() // read
		text, err := io.ReadAll(body)
		return string(text), err
	}
	if text, err := read(); err != nil || text != "{\"since\":\"2026-03-01T00:00:00Z\"}\n{}\n" {
		t.Errorf("%q, %v", text, err)
	}
	breaks = errors.New("the disk is gone")
	if text, err := read(); err == nil {
		t.Errorf("half an answer passed for all: %q", text)
	}
	if _, err := c.Export(t.Context(), "gossip", since, time.Time{}); !errors.Is(err, bindery.ErrInvalid) {
		t.Errorf("an unknown kind: %v", err)
	}
	_, nobody := dial(t, newHub(), "bad", func(cfg *web.Config) { operated(newHub())(cfg); cfg.Export = export })
	if _, err := nobody.Export(t.Context(), "builds", since, time.Time{}); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
}
