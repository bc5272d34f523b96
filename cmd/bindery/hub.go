package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/runc"
)

// visitorWorker is the worker as a hub may use it: for sources that visitors may name.
type visitorWorker struct {
	w      workers
	canary string // directory of the hub's own repository
}

// visited refuses what only the person at the keyboard may ask for, whoever passed it on, but for the hub's own
// repository, where it has one. That is no visitor's to name: their sources are never trusted.
func visited(src bindery.Source, canary string) error {
	if canary != "" && src == canarySource(canary) {
		return nil
	}
	if src.Provider == bindery.ProviderLocal || src.Trusted {
		return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the https URL of the repository.", "A hub builds no directories of its machine")
	}
	return nil
}

func (v visitorWorker) Start(ctx context.Context, req bindery.BuildRequest) error {
	if err := visited(req.Source, v.canary); err != nil {
		return err
	}
	c, err := v.w.client(ctx)
	if err != nil {
		return err
	}
	return c.Start(ctx, req)
}

func (v visitorWorker) Events(ctx context.Context, id string, attempt int, after int64) iter.Seq2[bindery.Event, error] {
	c, err := v.w.client(ctx)
	if err != nil {
		return func(yield func(bindery.Event, error) bool) { yield(bindery.Event{}, err) }
	}
	return c.Events(ctx, id, attempt, after)
}

func (v visitorWorker) Ack(ctx context.Context, id string, attempt int, seq int64) error {
	c, err := v.w.client(ctx)
	if err != nil {
		return err
	}
	return c.Ack(ctx, id, attempt, seq)
}

func (v visitorWorker) Cancel(ctx context.Context, id string, attempt int) error {
	c, err := v.w.client(ctx)
	if err != nil {
		return err
	}
	return c.Cancel(ctx, id, attempt)
}

// Resolve asks again when the worker dies over it: to ask is harmless, and there is a new worker at once.
func (v visitorWorker) Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error) {
	if err := visited(src, v.canary); err != nil {
		return src, err
	}
	for tries := 1; ; tries++ {
		c, err := v.w.client(ctx)
		if err != nil {
			return src, err
		}
		resolved, err := c.Resolve(ctx, src)
		if tries == 3 || !errors.Is(err, bindery.ErrWorkerLost) {
			return resolved, err
		}
	}
}

func (v visitorWorker) Status(ctx context.Context) (bindery.WorkerStatus, error) {
	c, err := v.w.client(ctx)
	if err != nil {
		return bindery.WorkerStatus{}, err
	}
	return c.Status(ctx)
}

// Preflight says what it found of its machine.
func (v visitorWorker) Preflight(ctx context.Context, writes time.Duration) (bindery.Preflight, error) {
	c, err := v.w.client(ctx)
	if err != nil {
		return bindery.Preflight{}, err
	}
	return c.Preflight(ctx, writes)
}

// MakeRoom has it empty its cache.
func (v visitorWorker) MakeRoom(ctx context.Context) error {
	c, err := v.w.client(ctx)
	if err != nil {
		return err
	}
	return c.MakeRoom(ctx)
}

// Images lists what it keeps.
func (v visitorWorker) Images(ctx context.Context) ([]bindery.Image, error) { return v.w.Images(ctx) }

// RemoveImage removes one.
func (v visitorWorker) RemoveImage(ctx context.Context, name string) error {
	return v.w.RemoveImage(ctx, name)
}

// Disk says where the bytes of its disk are.
func (v visitorWorker) Disk(ctx context.Context) (bindery.DiskUse, error) { return v.w.Disk(ctx) }

// Dropped lists the images that it removed for want of room.
func (v visitorWorker) Dropped(ctx context.Context) ([]bindery.Dropped, error) {
	return v.w.Dropped(ctx)
}

// ForgetDropped says that those up to a number are known.
func (v visitorWorker) ForgetDropped(ctx context.Context, last int64) error {
	return v.w.ForgetDropped(ctx, last)
}

// hubSessions begins the ids of a hub's sessions.
const hubSessions = "s-"

// hubLauncher is the launcher without the sessions of `bindery run`, which are not a hub's to reconcile.
type hubLauncher struct{ *runc.Launcher }

// List returns the hub's own.
func (h hubLauncher) List(ctx context.Context) ([]bindery.Running, error) {
	all, err := h.Launcher.List(ctx)
	var own []bindery.Running
	for _, r := range all {
		if strings.HasPrefix(r.ID, hubSessions) {
			own = append(own, r)
		}
	}
	return own, err
}

// Log lets the last words of a session be told.
func (h hubLauncher) Log(ctx context.Context, id string, follow bool) (io.ReadCloser, error) {
	return h.Launcher.Log(ctx, id, follow)
}

// hubLeases lists the network addresses that the hub's own sessions hold.
func (p *parts) hubLeases() ([]string, error) {
	all, err := p.net.Attached()
	return slices.DeleteFunc(all, func(id string) bool { return !strings.HasPrefix(id, hubSessions) }), err
}
