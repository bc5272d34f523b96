package dispatch

import (
	"context"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// try starts a session of an image, waits until it answers, and stops it. It has no record and no place: whatever is
// left of it when the hub dies is swept away as what no record wants.
func (d *Dispatcher) try(ctx context.Context, src bindery.Source, image string) (err error) {
	s := newSession(bindery.Session{
		ID: sessionID(hubSession+"try-", src), Image: image, Source: src, Token: Token(), Limits: d.cfg.Limits, State: bindery.SessionPending,
	})
	d.mu.Lock()
	d.trying[s.ID] = true
	d.mu.Unlock()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if stopErr := d.cfg.Launcher.Stop(end, s.ID); stopErr != nil {
			d.cfg.Log.WarnContext(ctx, "a session that was tried is not down yet", "session", s.ID, "error", stopErr) // the sweep goes on
		}
		d.mu.Lock()
		delete(d.trying, s.ID)
		d.mu.Unlock()
	}()
	within, cancel := context.WithTimeout(ctx, d.cfg.LaunchWithin)
	defer cancel()
	args, env := Command(s.Session, d.cfg.Port, nil)
	run, err := d.cfg.Launcher.Start(within, bindery.Launch{
		ID: s.ID, Image: image, Args: args, Env: append(env, d.cfg.Env...), Port: d.cfg.Port, Limits: s.Limits,
	})
	if err == nil {
		gone, stopWatching := context.WithCancel(within)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			d.watchTried(gone, s)
		}()
		err = d.answers(within, s, run.Address)
		stopWatching()
		<-watched
	}
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		err = bindery.Errorf(bindery.ErrTimeout, bindery.User, "Look at what the repository starts.", "The session did not answer within %s", d.cfg.LaunchWithin)
	}
	return err
}

// watchTried notes that the server of a session that is tried has ended.
func (d *Dispatcher) watchTried(ctx context.Context, s *session) {
	exit, err := d.cfg.Launcher.Wait(ctx, s.ID)
	if err != nil || ctx.Err() != nil {
		return
	}
	last := d.lastWords(ctx, s.ID)
	d.mu.Lock()
	s.died = diedError(exit, s.Limits, last)
	d.mu.Unlock()
	close(s.down)
}
