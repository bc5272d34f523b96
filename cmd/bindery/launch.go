package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

type launchCmd struct {
	What  string `arg:"" help:"A launch link, a spec such as gh/owner/repository/HEAD, or the URL of a repository."`
	Ref   string `help:"Branch, tag or commit of a repository's URL (default HEAD)." placeholder:"REF"`
	Hub   string `help:"Launch at the hub at this URL, a Bindery or another Binder (default: the link's, else the one of this machine's configuration)." placeholder:"URL" env:"BINDERY_HUB"`
	Token string `help:"Token for the hub; better in the variable than on the command line." placeholder:"TOKEN" env:"BINDERY_TOKEN"`
	File  string `help:"Open this file of the repository in JupyterLab." placeholder:"PATH" xor:"path"`
	Path  string `help:"Open this path of the session." placeholder:"PATH" xor:"path"`
	Quiet bool   `short:"q" help:"Print the URL, and nothing of the build."`
	JSON  bool   `help:"Print the hub's last event as JSON, with the link."`
}

// Run launches at a hub and prints where the session is.
func (c *launchCmd) Run(ctx context.Context, a *app) error {
	if dir, err := os.Stat(c.What); err == nil && dir.IsDir() {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "`bindery run` builds and starts a directory. A hub takes the URL of a repository.", "%q is a directory of this machine", bindery.Printable(c.What))
	}
	link, err := api.ParseLaunchLink(c.What, c.Ref, bindery.DefaultProviders())
	if err != nil {
		return err
	}
	hub := cmp.Or(c.Hub, link.Hub, ownHub(a.cfg, a.getenv))
	if err := checkURL(hub); err != nil {
		return usagef("--hub: %v", err)
	}
	token := c.Token
	if c.Hub == "" && link.Hub != "" {
		token = "" // it is for the hub that the person named, not for one that a link does
	}
	path := cmp.Or(strings.TrimLeft(c.Path, "/"), link.Path)
	if c.File != "" {
		path = api.FilePath(c.File)
	}
	binder := api.Binder{URL: hub, Token: token, Agent: "bindery-launch/" + thisRelease().Version}
	e, err := c.follow(ctx, a, binder, link.Spec)
	if c.Hub == "" && link.Hub == "" && e.Error == nil && errors.Is(err, bindery.ErrUnreachable) { // not what a hub says of others
		bindery.AsError(err).Remedy = "Start it with `bindery serve`, or name another hub with --hub."
	}
	if err != nil {
		return err
	}
	to, err := api.SessionLink(e, path)
	if err != nil {
		return err
	}
	if !c.JSON {
		_, err = fmt.Fprintln(a.stdout, to)
		return err
	}
	return json.NewEncoder(a.stdout).Encode(struct {
		Link string `json:"link"`
		api.LaunchEvent
	}{to, e})
}

// ownHub is the URL at which this machine's hub listens, as the configuration says.
func ownHub(cfg config, getenv func(string) string) string {
	addr := cmp.Or(getenv("BINDERY_LISTEN"), cfg.Listen, defaultListen)
	if host, port, err := net.SplitHostPort(addr); err == nil && (host == "" || host == "0.0.0.0" || host == "::") { // at all addresses
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + addr + strings.TrimRight(cfg.Binder.BaseURL, "/")
}

// follow prints what the hub says until the session is ready.
func (c *launchCmd) follow(ctx context.Context, a *app, binder api.Binder, spec string) (api.LaunchEvent, error) {
	begun := true // at the start of a line
	for e, err := range binder.Launch(ctx, spec) {
		switch {
		case err != nil:
			return e, err
		case e.Phase == bindery.PhaseReady && e.URL == "":
			return e, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Check the hub's URL.", "The hub says that the session is ready, and not where")
		case e.Phase == bindery.PhaseReady:
			return e, nil
		case e.Phase == bindery.PhaseFailed && e.Error != nil:
			return e, e.Error
		case e.Phase == bindery.PhaseFailed:
			return e, bindery.Errorf(bindery.ErrStep, bindery.User, "What the hub printed above says more, if it knows.", "The launch failed: %s", strings.TrimSpace(clean(e.Message)))
		case c.Quiet || e.Message == "":
			continue
		}
		text := cleanLines(strings.ReplaceAll(e.Message, "\r", "\n"))
		if !begun && e.Phase != bindery.PhaseBuilding && e.Phase != "" {
			text = "\n" + text
		}
		if strings.TrimSpace(text) != "" {
			fmt.Fprint(a.stderr, text)
			begun = strings.HasSuffix(text, "\n")
		}
	}
	return api.LaunchEvent{}, cmp.Or(ctx.Err(), error(bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Try again.", "The hub did not say how the launch ended")))
}
