// Package web serves the hub's own origin: BinderHub's routes, the native API, the pages.
package web

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// Builds is the part of a dispatcher that makes images.
type Builds interface {
	Resolve(ctx context.Context, src bindery.Source) (bindery.Source, error)
	Submit(ctx context.Context, ask bindery.Ask) (bindery.Build, error)
	Build(ctx context.Context, id string) (bindery.Build, error)
	Events(ctx context.Context, id string, after int64) iter.Seq2[bindery.Event, error]
	// Standings yields where a build stands, or how far it is, now and at most a second after that has changed, until it is over.
	Standings(ctx context.Context, id string) iter.Seq2[bindery.Standing, error]
	// Watch counts one more who watches a build, beside those who read its events, until leave is called.
	Watch(id string) (leave func())
}

// Sessions is the part of a dispatcher that runs them.
type Sessions interface {
	Launch(ctx context.Context, build bindery.Build, ask bindery.Ask) (bindery.Session, error)
	Session(ctx context.Context, id string) (bindery.Session, error)
	Sessions(ctx context.Context) ([]bindery.Session, error)
	StopSession(ctx context.Context, id, reason string) error
	// OustSession is StopSession for an operator, whom the audit log names.
	OustSession(ctx context.Context, id, who, reason string) error
}

// Queue is the part of a dispatcher that operators work with.
type Queue interface {
	Queue(ctx context.Context) (bindery.Queue, error)
	CancelBuild(ctx context.Context, id, who, reason string) error
	RetryBuild(ctx context.Context, id, who, reason string) (bindery.Build, error)
	Rules(ctx context.Context) ([]bindery.Rule, error)
	SetRule(ctx context.Context, r bindery.Rule) error
	LiftRule(ctx context.Context, r bindery.Rule, who, reason string) error
}

// Workers is the part of a hub that knows its workers.
type Workers interface {
	Workers(ctx context.Context) ([]bindery.WorkerView, error)
	DrainWorker(ctx context.Context, name, who, reason string) error
	ResumeWorker(ctx context.Context, name, who, reason string) error
	RemoveWorker(ctx context.Context, name, who, reason string, force bool) error
	// AddWorker has a worker of this machine join.
	AddWorker(ctx context.Context, who string, in api.NewWorker) error
	AddJoinToken(ctx context.Context, who string, in api.NewJoinToken) (api.JoinToken, error)
}

// History is the part of a store that remembers.
type History interface {
	// Past returns builds that have ended, the last first.
	Past(ctx context.Context, limit int) ([]bindery.Build, error)
	// Events returns at most limit events of a build that follow number after.
	Events(ctx context.Context, build string, after int64, limit int) ([]bindery.Event, error)
	// Audit returns lines of the audit log, the newest first.
	Audit(ctx context.Context, q bindery.AuditQuery) ([]bindery.Audit, error)
}

// Config configures a Server.
type Config struct {
	Builds      Builds      // required
	Sessions    Sessions    // required
	Generations Generations // default: nothing is known of them
	Rollouts    Rollouts    // default: none can be made
	Library     Library     // default: no image is known
	Queue       Queue       // default: nothing is known of the queue, no rule is made
	Workers     Workers     // default: nothing is known of them
	History     History     // default: only what lives is known
	SessionLog  func(ctx context.Context, id string, follow bool) (io.ReadCloser, error)
	Worker      func(ctx context.Context) (bindery.WorkerStatus, error)
	Checks      func(ctx context.Context) []bindery.Check

	Secret     []byte // signs build tokens; 128 random bits or more, the same after a restart. required
	Version    string // default: "dev"
	Generation string

	// URL is the hub's own public URL, such as "https://hub.example.org". Default: what each request came by.
	URL string
	// SessionURL is the sessions' origin. Without a host ("http://:8586") the host of each request is put in. required
	SessionURL string
	// Tokens are the native API's.
	Tokens []Token
	// HideSources keeps the names of repositories out of what everybody may look at.
	HideSources bool
	// Proxies may say by X-Forwarded-For and X-Forwarded-Proto who asks; nobody else may.
	Proxies []netip.Prefix
	// Providers are those whose links work here; default: bindery.DefaultProviders().
	Providers []bindery.Provider
	// Base is the path that the hub is below, such as "/binder"; default: none.
	Base string
	// BadgeURL is what links in badges begin with, where that is not the hub's own URL.
	BadgeURL string
	// ImagePrefix is what the names of images begin with in event streams, the registry's host included.
	ImagePrefix string
	// APIOnly leaves the pages out, and lets build_only=true build without launching.
	APIOnly bool
	// AnyTokenOrigin lets build tokens be used from other origins than the one that they were made for.
	AnyTokenOrigin bool
	// Rules say who may launch what, and how often.
	Rules Rules
	// Agents is a list in the form of agents.txt; default: that one.
	Agents string
	// Report is told how each launch ended. It must not wait.
	Report func(bindery.LaunchReport)
	// Export yields what happened from since until before until, as lines of JSON; default: nothing is known.
	Export func(ctx context.Context, kind string, since, until time.Time) (iter.Seq2[[]byte, error], error)
	// Metrics answers GET /metrics; default: there is none.
	Metrics http.Handler
	// Admin makes the pages below /admin, of a Server that is not ready yet; default: there are none.
	Admin func(s *Server) (http.Handler, error)
	// SessionsAtOnce is the most sessions that the queue admits, for /health; 0: it is not told.
	SessionsAtOnce int
	// AllowOrigin is sent as Access-Control-Allow-Origin with all but pages, for pages that launch from elsewhere.
	AllowOrigin string
	// Login is where visitors say who they are; default: nobody is asked. Users are those who may come in; default: all who
	// sign in there.
	Login Login
	Users []string
	// Headers are sent with every answer, in place of ours of the same name.
	Headers map[string]string

	Files fs.FS // with templates/ and static/; default: the embedded ones, see Overlay
	// Banner is shown at the top of every page, About on the page of that name. Both are the operator's own HTML; the
	// pages' policy runs no script that is in it.
	Banner, About template.HTML
	// Static holds files of the operator's, served as they are below /extra_static/; default: none.
	Static fs.FS
	// SocialTitle is what previews of links to the hub's pages are headed by, but for launch pages; default: the page's title.
	SocialTitle string
	Dev         bool // templates are read again for each page, /storybook shows them all

	TokenLife    time.Duration    // of a build token; default: 6 hours
	Keepalive    time.Duration    // between comments that keep a stream open; default: 25 seconds
	WriteTimeout time.Duration    // a reader that takes nothing for so long is cut off; default: 20 seconds
	Linger       time.Duration    // a finished stream stays open so long for its client to close it; default: 60 seconds
	LeaveGrace   time.Duration    // a launch that nobody waits for is given up after; default: 30 seconds
	Drain        time.Duration    // Run gives requests so long to end; default: 10 seconds
	Now          func() time.Time // default: time.Now
	Log          *slog.Logger     // default: discard
}

func (c Config) withDefaults() (Config, error) {
	if c.Builds == nil || c.Sessions == nil {
		return c, errors.New("web: Config needs Builds and Sessions")
	}
	if len(c.Secret) < 16 {
		return c, errors.New("web: Config.Secret needs 16 bytes or more")
	}
	c.Tokens = slices.Clone(c.Tokens)
	for i, t := range c.Tokens {
		if b, err := hex.DecodeString(t.Hash); err != nil || len(b) != 32 {
			return c, errors.New("web: Config.Tokens holds something that HashToken did not make")
		}
		c.Tokens[i].Name = cmp.Or(t.Name, strings.ToLower(t.Hash[:8]))
		if c.Tokens[i].Scope = cmp.Or(t.Scope, api.ScopeAdmin); !c.Tokens[i].Scope.Includes(api.ScopeRead) {
			return c, fmt.Errorf("web: %q is not a scope", t.Scope)
		}
	}
	for _, u := range []string{c.SessionURL, cmp.Or(c.URL, "http://default")} {
		p, err := url.Parse(u)
		if err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Host == "" || strings.Trim(p.Path, "/") != "" || p.RawQuery != "" {
			return c, fmt.Errorf("web: %q is not the URL of an origin", u)
		}
	}
	c.URL, c.SessionURL = strings.TrimSuffix(c.URL, "/"), strings.TrimSuffix(c.SessionURL, "/")
	c.BadgeURL = strings.TrimRight(c.BadgeURL, "/")
	if err := CheckBase(c.Base); err != nil {
		return c, fmt.Errorf("web: %w", err)
	}
	if err := CheckImagePrefix(c.ImagePrefix); err != nil {
		return c, fmt.Errorf("web: %w", err)
	}
	if err := CheckHeaders(c.Headers); err != nil {
		return c, fmt.Errorf("web: %w", err)
	}
	if c.Base = strings.Trim(c.Base, "/"); c.Base != "" {
		c.Base = "/" + c.Base
	}
	c.Agents = cmp.Or(c.Agents, agentsText)
	c.Version = cmp.Or(c.Version, "dev")
	c.TokenLife = cmp.Or(c.TokenLife, 6*time.Hour)
	c.Keepalive = cmp.Or(c.Keepalive, 25*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 20*time.Second)
	c.Linger = cmp.Or(c.Linger, 60*time.Second)
	c.LeaveGrace = cmp.Or(c.LeaveGrace, 30*time.Second)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Providers == nil {
		c.Providers = bindery.DefaultProviders()
	}
	if c.Files == nil {
		c.Files = embedded
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// baseRE wants a path that needs no escaping and that no router changes.
var baseRE = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

// CheckBase refuses what cannot be Config.Base.
func CheckBase(base string) error {
	if base = strings.Trim(base, "/"); base != "" && !baseRE.MatchString("/"+base) {
		return fmt.Errorf("%q is not a path for a hub to be below", bindery.Printable(base))
	}
	return nil
}

var imagePrefixRE = regexp.MustCompile(`^[a-z0-9][a-z0-9.:/_-]{0,126}$`)

// CheckImagePrefix refuses what no image's name begins with.
func CheckImagePrefix(prefix string) error {
	if prefix != "" && !imagePrefixRE.MatchString(prefix) {
		return fmt.Errorf("%q cannot be what the names of images begin with", bindery.Printable(prefix))
	}
	return nil
}

// A Server answers for the hub. Public is for visitors, Local for the socket of whoever owns the machine.
type Server struct {
	cfg         Config
	assets      *assets
	pages       *pages
	launches    *launches
	audiences   audiences
	criers      criers
	health      *health
	rules       *ruleset
	limiter     *limiter
	pageLimiter *limiter // of launches by pages of ours
	load        load
	streams     sync.WaitGroup // those on connections that were taken over
	agents      agents
	replays     *replays
	glance      *glance
	matchers    matchers
	gate        *gate
	openapi     []byte
	admin       http.Handler
	public      http.Handler
	local       http.Handler
}

// New makes a Server; Run starts it.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, launches: newLaunches(cfg), health: newHealth(cfg), replays: newReplays(cfg.Now), gate: newGate(cfg)}
	s.audiences = audiences{s: s, all: map[string]*audience{}}
	s.criers = criers{s: s, all: map[string]*crier{}}
	if s.rules, err = newRuleset(cfg.Rules); err != nil {
		return nil, err
	}
	s.limiter, s.pageLimiter = newLimiter(s.rules.Requests, s.rules.Window), newLimiter(pageLimit*s.rules.Requests, s.rules.Window)
	s.agents = parseAgents(cfg.Agents)
	if s.assets, err = newAssets(cfg.Files); err != nil {
		return nil, err
	}
	if s.pages, err = newPages(cfg, s.assets); err != nil {
		return nil, err
	}
	if cfg.Queue != nil {
		s.glance = &glance{look: cfg.Queue.Queue, now: cfg.Now}
	}
	if s.openapi, err = s.describe(); err != nil {
		return nil, err
	}
	if cfg.Admin != nil {
		if s.admin, err = cfg.Admin(s); err != nil {
			return nil, err
		}
	}
	routes := s.routes()
	s.public = s.adapt(routes, false)
	s.local = s.adapt(routes, true)
	return s, nil
}

// Public is the handler for visitors. The native API's writes, lists and administration want a token there.
func (s *Server) Public() http.Handler { return s.public }

// Local is the handler for the hub's unix socket: whoever may open that owns the machine, so everything is allowed.
func (s *Server) Local() http.Handler { return s.local }

// Run serves visitors on public and the machine's owner on local, either of which may be nil, until ctx ends. Then it
// ends the event streams, gives other requests Config.Drain to end, and returns when everything has.
func (s *Server) Run(ctx context.Context, public, local net.Listener) error {
	ended := make(chan error, 2)
	var servers []*http.Server
	closing, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	base := context.WithValue(context.WithoutCancel(ctx), closingKey{}, closing)
	serve := func(l net.Listener, h http.Handler) {
		if l == nil {
			return
		}
		srv := &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
			BaseContext: func(net.Listener) context.Context { return base },
			ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, srv)
		go func() { ended <- srv.Serve(l) }()
	}
	serve(public, s.public)
	serve(local, s.local)

	var failed error
	running := len(servers)
	select {
	case failed = <-ended:
		running--
	case <-ctx.Done():
	}
	endStreams()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	for _, srv := range servers {
		if err := srv.Shutdown(drain); err != nil {
			s.cfg.Log.WarnContext(ctx, "requests were cut off at the end", "err", err)
			_ = srv.Close() // it only reports what Shutdown did
		}
	}
	for ; running > 0; running-- {
		<-ended
	}
	s.streams.Wait() // each has a deadline since endStreams
	s.launches.wait(drain)
	if failed != nil {
		return fmt.Errorf("serve HTTP: %w", failed)
	}
	return nil
}
