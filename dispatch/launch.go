package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sched"
)

// Launch starts a session of a succeeded build and returns when its server answers. When ctx ends before that, the
// session is stopped. A build whose image is gone from the worker is built again first. A launch with the Request of a
// session that lives returns that session.
func (d *Dispatcher) Launch(ctx context.Context, b bindery.Build, ask bindery.Ask) (bindery.Session, error) {
	if err := d.ready(ctx); err != nil {
		return bindery.Session{}, err
	}
	if b.Result == nil {
		return bindery.Session{}, bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Wait until the build has succeeded.", "Build %q has no image to launch", b.ID)
	}
	s, err := d.launch(ctx, b, ask)
	// Every generation may have had an image of it, and all of them may be gone with their worker.
	for tries := 1 + len(d.shelf.Load().order); errors.Is(err, bindery.ErrNotFound) && tries > 0; tries-- {
		d.cfg.Log.WarnContext(ctx, "the image of a build is gone; it is built again", "build", b.ID, "image", b.Result.Image)
		if b, err = d.rebuild(ctx, b, ask); err != nil {
			return bindery.Session{}, err
		}
		s, err = d.launch(ctx, b, ask)
	}
	return s, err
}

// rebuild forgets that a key has an image, and makes it again, unless another generation has one.
func (d *Dispatcher) rebuild(ctx context.Context, b bindery.Build, ask bindery.Ask) (bindery.Build, error) {
	err := d.do(ctx, func(t *turn) {
		for _, key := range []string{b.Key, bindery.BuildKey(b.Source, b.Result.Generation)} { // it may be known by either
			t.forget = append(t.forget, key)
			delete(d.succeeded, key)
		}
	})
	if err != nil {
		return b, err
	}
	ask.Source, ask.Retry = b.Source, true
	again, err := d.Submit(ctx, ask)
	if err != nil {
		return b, err
	}
	for e, err := range d.Events(ctx, again.ID, 0) {
		if err != nil {
			return b, err
		}
		if e.Err != nil {
			return b, e.Err
		}
	}
	if again, err = d.Build(ctx, again.ID); err == nil && again.Result == nil {
		err = fmt.Errorf("build %s ended without a result: %w", again.ID, bindery.ErrInternal)
	}
	return again, err
}

// launch is one try.
func (d *Dispatcher) launch(ctx context.Context, b bindery.Build, ask bindery.Ask) (bindery.Session, error) {
	s, mine, err := d.admit(ctx, b, ask)
	if err != nil {
		return bindery.Session{}, err
	}
	if !mine {
		return d.join(ctx, s)
	}
	within, cancel := context.WithTimeout(ctx, d.cfg.LaunchWithin)
	defer cancel()
	err = d.bringUp(within, s, ask.Env)
	if err == nil {
		return d.Session(ctx, s.ID)
	}
	if ctx.Err() == nil && within.Err() != nil {
		err = bindery.Errorf(bindery.ErrTimeout, bindery.Transient, "Try again; if it happens again, look at what the repository starts.",
			"The session did not answer within %s", d.cfg.LaunchWithin)
	}
	// Nobody will come for it: take it down, whether or not the asker is still there.
	end, cancelEnd := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancelEnd()
	reason := "It was not started: " + bindery.AsError(err).Msg
	if ctx.Err() != nil {
		reason = "Its visitor left before it was ready"
	}
	if stopErr := d.StopSession(end, s.ID, reason); stopErr != nil {
		d.cfg.Log.WarnContext(ctx, "a session that did not start is not down yet", "session", s.ID, "error", stopErr)
	}
	return bindery.Session{}, err
}

// refusedError says why there is no place for a session. The first two are BinderHub's words, which its clients print.
func refusedError(r sched.Refuse, src bindery.Source) error {
	const soon = "Try again in a few minutes."
	switch r.Full {
	case sched.OnRepo:
		return bindery.Errorf(bindery.ErrRepoQuota, bindery.Transient, soon, "Too many users running %s", src.URL)
	case sched.OnHub:
		return bindery.Errorf(bindery.ErrHubQuota, bindery.Transient, soon, "Too many users on this BinderHub")
	}
	return bindery.Errorf(bindery.ErrNotReady, bindery.Transient, soon, "No session can start now: %s", r.Reason)
}

// join waits for a session that another call brings up.
func (d *Dispatcher) join(ctx context.Context, s *session) (bindery.Session, error) {
	select {
	case <-s.up:
		return d.Session(ctx, s.ID)
	case <-s.down:
		d.mu.Lock()
		defer d.mu.Unlock()
		if s.died != nil {
			return bindery.Session{}, s.died
		}
		return bindery.Session{}, bindery.Errorf(bindery.ErrSessionDied, bindery.Transient, "Start it again.", "The session was stopped before it was ready")
	case <-d.stopped:
		return bindery.Session{}, errStopping()
	case <-ctx.Done():
		return bindery.Session{}, ctx.Err()
	}
}

// bringUp starts a session's container and waits until its server answers. Its programs are told of the link that it
// was launched by.
func (d *Dispatcher) bringUp(ctx context.Context, s *session, told []string) error {
	args, env := Command(bindery.Session{ID: s.ID, Token: s.Token, Source: s.Source}, d.cfg.Port, told)
	run, err := d.cfg.Launcher.Start(ctx, bindery.Launch{
		ID: s.ID, Image: s.Image, Args: args, Env: append(env, d.cfg.Env...), Port: d.cfg.Port, Limits: s.Limits,
	})
	if err != nil {
		return err
	}
	// If it was stopped meanwhile, its container may have come after that: StopSession will not see to it again.
	late := false
	err = d.do(ctx, func(t *turn) {
		late = d.sessions[s.ID] != s || s.State != bindery.SessionPending
		t.then(func() { d.spawn(d.watchContainer(s)) })
	})
	if err != nil {
		return err
	}
	if late {
		_ = d.cfg.Launcher.Stop(context.WithoutCancel(ctx), s.ID) // the sweep sees to it otherwise
		return errStopped()
	}
	if err := d.answers(ctx, s, run.Address); err != nil {
		return err
	}
	ready := false
	err = d.do(ctx, func(t *turn) {
		if ready = s.State == bindery.SessionPending && d.sessions[s.ID] == s; !ready {
			return
		}
		s.State, s.Address, s.Ready, s.Active = bindery.SessionReady, run.Address, t.now, t.now
		t.saveSession(s)
		t.started(s.Image, s.Requester != bindery.CanaryRequester)
		t.step(sched.SessionReady{Session: s.ID})
		t.then(func() { s.announce(bindery.SessionReady) })
	})
	if err == nil && !ready {
		err = d.howDied(s)
	}
	return err
}

func errStopped() error {
	return bindery.Errorf(bindery.ErrCancelled, bindery.Transient, "Start it again.", "The session was stopped before it was ready")
}

func (d *Dispatcher) howDied(s *session) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.died != nil {
		return s.died
	}
	return errStopped()
}

// answers asks the server of a session until it answers or is gone: often at first, since people wait, and with growing
// pauses, of which none adds much to the time that has passed already.
func (d *Dispatcher) answers(ctx context.Context, s *session, addr string) error {
	const first, most = 10 * time.Millisecond, 200 * time.Millisecond
	base, began := bindery.Session{ID: s.ID}.BasePath(), d.cfg.Now()
	for {
		if err := d.cfg.Probe(ctx, addr, base); err == nil {
			return nil
		}
		timer := time.NewTimer(min(max(first, d.cfg.Now().Sub(began)/40), most))
		select {
		case <-timer.C:
		case <-s.down:
			timer.Stop()
			return d.howDied(s)
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// httpProbe wants any answer below 500: a server that asks for a token, or knows no such page, is up.
func httpProbe() func(ctx context.Context, addr, basePath string) error {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, addr, basePath string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+basePath+"api", nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }() // nothing was read
		if res.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("probe %s: %s", addr, res.Status)
		}
		return nil
	}
}

// lastWords returns the end of a session's log as an appendix to a remedy, or nothing.
func (d *Dispatcher) lastWords(ctx context.Context, id string) string {
	logs, ok := d.cfg.Launcher.(LogReader)
	if !ok {
		return ""
	}
	r, err := logs.Log(ctx, id, false)
	if err != nil {
		return ""
	}
	defer func() { _ = r.Close() }() // it was only read
	const mostRead, mostLines = 4 << 20, 10
	text, err := io.ReadAll(io.LimitReader(r, mostRead))
	if err != nil && len(text) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(len(lines)-mostLines, 0):]
	for i, l := range lines {
		lines[i] = bindery.Printable(strings.TrimRight(l, "\r"))
	}
	if len(lines) == 1 && lines[0] == "" {
		return " It printed nothing."
	}
	return " Its last lines were:\n" + strings.Join(lines, "\n")
}
