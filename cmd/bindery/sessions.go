package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"syscall"
	"text/tabwriter"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type sessionsCmd struct {
	Ls   sessionsLsCmd   `cmd:"" help:"List running sessions."`
	Stop sessionsStopCmd `cmd:"" help:"Stop sessions: some that are named, or the hub's of a repository or an age."`
	Logs sessionsLogsCmd `cmd:"" help:"Print what a session's server printed."`
}

// hubFlags say which hub to ask: that of the state directory when nothing is said.
type hubFlags struct {
	Hub   string `help:"Ask the hub at this URL, not the one of the state directory." placeholder:"URL" env:"BINDERY_HUB"`
	Token string `help:"Token for --hub; better in the variable than on the command line." placeholder:"TOKEN" env:"BINDERY_TOKEN"`
}

// client returns a client of the hub; none when no hub runs here.
func (h hubFlags) client(a *app) (*api.Client, error) {
	if h.Hub != "" {
		if err := checkURL(h.Hub); err != nil {
			return nil, usagef("--hub: %v", err)
		}
		return api.NewClient(api.ClientConfig{URL: h.Hub, Token: h.Token})
	}
	sock := a.inst.path("hub.sock")
	if _, err := os.Stat(sock); err != nil {
		return nil, a.readable(err)
	}
	c, err := api.NewClient(api.ClientConfig{Socket: sock, As: person(a.getenv)})
	return c, err
}

// person is who sits at the keyboard, behind sudo too.
func person(getenv func(string) string) string {
	return cmp.Or(getenv("SUDO_USER"), getenv("USER"), getenv("LOGNAME"))
}

// readable tells a state directory that is not there, which holds no sessions, from one that we may not read.
func (a *app) readable(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return bindery.Errorf(bindery.ErrNotReady, bindery.User, "Run the command as root, with sudo for example.", "The state directory %s belongs to somebody else", a.inst.dir)
	}
	return nil
}

// A listed session, as `bindery sessions ls --json` prints it.
type listed struct {
	ID      string         `json:"id"`
	Owner   string         `json:"owner"` // "hub" or "run"
	State   string         `json:"state"` // a session's, or "stale": its owner was killed
	Source  bindery.Source `json:"source"`
	Image   string         `json:"image"`
	URL     string         `json:"url,omitempty"`
	Created time.Time      `json:"created"`
}

type sessionsLsCmd struct {
	hubFlags
	JSON bool `help:"Print a JSON array."`
}

// Run lists the sessions of the hub and of every `bindery run`.
func (c *sessionsLsCmd) Run(ctx context.Context, a *app) error {
	all, err := c.list(ctx, a)
	if err != nil {
		return err
	}
	if c.JSON {
		if all == nil {
			all = []listed{}
		}
		return printJSON(a.stdout, all)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tOWNER\tSTATE\tAGE\tREPOSITORY\tURL")
	for _, s := range all {
		repo := s.Source.URL
		if s.Source.Commit != "" {
			repo += "@" + s.Source.Commit[:min(12, len(s.Source.Commit))]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Owner, s.State, seconds(time.Since(s.Created)), clean(repo), s.URL)
	}
	return w.Flush()
}

func (h hubFlags) list(ctx context.Context, a *app) ([]listed, error) {
	var all []listed
	client, err := h.client(a)
	if err != nil {
		return nil, err
	}
	if client != nil {
		sessions, err := client.Sessions(ctx)
		if err != nil && !(h.Hub == "" && noHub(err)) {
			return nil, err
		}
		for _, s := range sessions {
			all = append(all, listed{s.ID, "hub", string(s.State), s.Source, s.Image, s.URL, s.Created})
		}
	}
	if h.Hub != "" {
		return all, nil
	}
	runs, err := a.inst.loadOwned()
	if err != nil {
		return nil, err
	}
	for _, o := range runs {
		state := "stale"
		if o.Owner.alive() {
			state = string(bindery.SessionPending)
			if o.URL != "" {
				state = string(bindery.SessionReady)
			}
		}
		all = append(all, listed{o.ID, "run", state, o.Source, o.Image, o.URL, o.Created})
	}
	return all, nil
}

// noHub reports whether err means that nobody serves the socket: a hub that was killed leaves its file.
func noHub(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) || errors.Is(err, bindery.ErrUnreachable)
}

type sessionsStopCmd struct {
	hubFlags
	ID        []string      `arg:"" optional:"" help:"Sessions, as bindery sessions ls names them."`
	Repo      string        `help:"Those of the hub that are of a repository, an owner or a spec, as a rule names them." placeholder:"PATTERN"`
	OlderThan time.Duration `help:"Those of the hub that began so long ago; with --repo those of them." placeholder:"DURATION"`
	DryRun    bool          `help:"Only print which these are."`
	Reason    string        `help:"Why; their visitors read it, and the audit log keeps it." placeholder:"TEXT"`
}

// Run stops one session after the other.
func (c *sessionsStopCmd) Run(ctx context.Context, a *app) error {
	chosen := c.Repo != "" || c.OlderThan != 0
	switch {
	case c.OlderThan < 0:
		return usagef("--older-than is not negative")
	case chosen == (len(c.ID) > 0):
		return usagef("name the sessions, or choose them by --repo and --older-than")
	case c.DryRun && !chosen:
		return usagef("--dry-run is for --repo and --older-than")
	case chosen:
		return c.stopChosen(ctx, a)
	}
	for _, id := range c.ID {
		if err := c.stop(ctx, a, id); err != nil {
			return err
		}
	}
	return nil
}

// stopChosen stops those of the hub that the flags choose. One that has ended meanwhile is no error.
func (c *sessionsStopCmd) stopChosen(ctx context.Context, a *app) error {
	pattern, err := c.pattern()
	if err != nil {
		return err
	}
	client, err := c.running(a)
	if err != nil {
		return err
	}
	all, err := client.Sessions(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		if time.Since(s.Created) < c.OlderThan || c.Repo != "" && !pattern.Concerns(s.Source, "", netip.Addr{}) {
			continue
		}
		if !c.DryRun {
			if err := client.StopSession(ctx, s.ID, c.Reason); err != nil && !errors.Is(err, bindery.ErrNotFound) {
				return err
			}
		}
		fmt.Fprintln(a.stdout, s.ID)
	}
	return nil
}

func (c *sessionsStopCmd) pattern() (bindery.Pattern, error) {
	if c.Repo == "" {
		return bindery.Pattern{}, nil
	}
	p, err := bindery.ParsePattern(c.Repo)
	if err == nil && (p.Scope == bindery.OnRequester || p.Scope == bindery.OnNetwork) {
		err = usagef("--repo: %s is who asks, not what for", c.Repo)
	}
	return p, err
}

func (c *sessionsStopCmd) stop(ctx context.Context, a *app, id string) error {
	runs, err := a.inst.loadOwned()
	if err != nil {
		return err
	}
	for _, o := range runs {
		if o.ID == id && c.Hub == "" {
			return a.stopOwned(ctx, o)
		}
	}
	client, err := c.client(a)
	if err != nil {
		return err
	}
	if client != nil {
		err := client.StopSession(ctx, id, c.Reason)
		if err == nil || !errors.Is(err, bindery.ErrNotFound) && (c.Hub != "" || !noHub(err)) {
			return err
		}
	}
	return noSession(id)
}

func noSession(id string) error {
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, "`bindery sessions ls` lists the running ones.", "There is no session %q", bindery.Printable(id))
}

// stopOwned asks the owner to stop its session, and does it in its place when it is dead.
func (a *app) stopOwned(ctx context.Context, o owned) error {
	if o.Owner.alive() {
		if err := syscall.Kill(o.Owner.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the session's process: %w", err)
		}
		limit := time.NewTimer(40 * time.Second)
		defer limit.Stop()
		for o.Owner.alive() {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-limit.C:
				return bindery.Errorf(bindery.ErrTimeout, bindery.Ours, fmt.Sprintf("Kill process %d and run this again.", o.Owner.PID), "The process of session %s does not end", o.ID)
			case <-time.After(20 * time.Millisecond):
			}
		}
		if !exists(a.inst.ownedFile(o.ID)) {
			return nil
		}
	}
	w, err := a.workers()
	if err != nil {
		return err
	}
	p, err := a.open(ctx, w, w, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := p.launcher.Stop(ctx, o.ID); err != nil {
		return err
	}
	return a.inst.dropOwned(o.ID)
}

type sessionsLogsCmd struct {
	hubFlags
	ID     string `arg:"" help:"The session."`
	Follow bool   `short:"f" help:"Go on until the session ends."`
}

// Run prints a session's log.
func (c *sessionsLogsCmd) Run(ctx context.Context, a *app) error {
	log, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // only read
	out := shownLog(a.stdout)
	_, err = io.Copy(out, log)
	err = errors.Join(err, out.Close())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// open looks among the sessions of this machine, which keep their logs for a while after their end, then asks the hub.
func (c *sessionsLogsCmd) open(ctx context.Context, a *app) (io.ReadCloser, error) {
	client, err := c.client(a)
	if err != nil {
		return nil, err
	}
	if c.Hub == "" && a.ready() == nil && exists(a.inst.path("sessions")) {
		w, err := a.workers()
		if err != nil {
			return nil, err
		}
		p, err := a.parts(ctx, w, w, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		log, err := p.launcher.Log(ctx, c.ID, c.Follow)
		if !errors.Is(err, bindery.ErrNotFound) {
			return log, err
		}
	}
	if client == nil {
		return nil, noSession(c.ID)
	}
	log, err := client.SessionLog(ctx, c.ID, c.Follow)
	if errors.Is(err, bindery.ErrNotFound) || c.Hub == "" && noHub(err) {
		return nil, noSession(c.ID)
	}
	return log, err
}
