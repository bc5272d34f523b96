package buildkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	bkhttp "github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/worker/base"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-hub/bindery/plan"
)

// A Dockerfile makes the engine itself fetch things: FROM an image, ADD a URL. The engine stands on the machine's own
// network, so it must not go where steps may not go. A guard is what it fetches through.
type guard struct {
	allow   []netip.Prefix
	proxies map[string]bool // host:port of the machine's proxies
	config  map[string]Registry

	mu      sync.Mutex
	named   map[string]bool // registries that the operator has named, as a base or to push to
	clients map[string]*http.Client
}

func newGuard(allow []netip.Prefix, registries map[string]Registry, env func(string) string) *guard {
	g := &guard{allow: allow, config: registries, proxies: map[string]bool{}, named: map[string]bool{}, clients: map[string]*http.Client{}}
	for _, k := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		u, err := url.Parse(env(k))
		if err != nil || u.Host == "" {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		g.proxies[net.JoinHostPort(u.Hostname(), port)] = true
	}
	return g
}

// name takes note of the registries that job's operator names.
func (g *guard) name(job plan.Job) {
	refs := append(append(slices.Clone(job.Push), job.Export.CacheFrom...), job.Export.CacheTo)
	if job.Plan.Docker == "" && suiteOf(job.Plan.Base) == "" {
		refs = append([]string{job.Plan.Base}, refs...)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range refs {
		if n, err := reference.ParseNormalizedNamed(r); err == nil {
			g.named[reference.Domain(n)] = true
		}
	}
}

func (g *guard) isNamed(host string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.named[keyOf(host)]
}

// open reports whether an address may be dialled: a public one, or one in a prefix that is allowed. The ranges for
// documentation count as public: some networks have their mirrors there.
func (g *guard) open(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range g.allow {
		if p.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "fec0::/10"} {
		if netip.MustParsePrefix(p).Contains(a) {
			return false
		}
	}
	return true
}

// control is asked with the address that a name has led to, just before it is dialled.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	if !g.open(ap.Addr()) {
		return fmt.Errorf("%w: %s", errClosed, ap.Addr())
	}
	return nil
}

var errClosed = errors.New("builds may not reach this address")

func (g *guard) transport() *http.Transport {
	guarded := &net.Dialer{Timeout: 30 * time.Second, ControlContext: g.control}
	plain := &net.Dialer{Timeout: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if g.proxies[address] {
				return plain.DialContext(ctx, network, address)
			}
			return guarded.DialContext(ctx, network, address)
		},
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        30,
		IdleConnTimeout:     2 * time.Minute,
		TLSHandshakeTimeout: 20 * time.Second,
	}
}

// sources replaces those of w that fetch from networks. ADD of a Git repository is refused: it would run git here,
// outside of any step.
func (g *guard) sources(w *base.Worker) error {
	s, err := bkhttp.NewSource(bkhttp.Opt{CacheAccessor: w.CacheMgr, Transport: g.transport()})
	if err != nil {
		return fmt.Errorf("engine worker: %w", err)
	}
	w.HTTPSource, w.GitSource = s, nil
	w.SourceManager.Register(s)
	w.SourceManager.Register(noGit{})
	return nil
}

type noGit struct{}

// Schemes are git's.
func (noGit) Schemes() []string { return []string{"git"} }

// Identifier refuses.
func (noGit) Identifier(string, string, map[string]string, *pb.Platform) (source.Identifier, error) {
	return nil, errors.New("ADD of a Git repository is not supported: clone it in a RUN step")
}

// Resolve refuses.
func (noGit) Resolve(context.Context, source.Identifier, *session.Manager, solver.Vertex) (source.SourceInstance, error) {
	return nil, errors.New("ADD of a Git repository is not supported: clone it in a RUN step")
}

// credentials answers registries with what the configuration or docker login has for them, but only those that the
// operator has named: a Dockerfile must not pull what only the operator may see, unless the operator shares it. It gives no tokens, so that those are asked for by the
// engine, through the guard.
type credentials struct {
	auth.UnimplementedAuthServer
	g    *guard
	file *configfile.ConfigFile
}

func (g *guard) credentials() session.Attachable {
	file, err := config.Load(config.Dir())
	if err != nil { // unreadable: as if there were none
		file = configfile.New("")
	}
	return &credentials{g: g, file: file}
}

// Register offers the service to the engine.
func (c *credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials answers with a name and a password.
func (c *credentials) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	if !c.g.entitled(req.GetHost()) {
		return &auth.CredentialsResponse{}, nil
	}
	key := req.GetHost()
	if strings.HasSuffix(key, "docker.io") {
		key = "https://index.docker.io/v1/"
	}
	file, err := c.g.keys(req.GetHost(), c.file)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "credentials of %s: %v", req.GetHost(), err)
	}
	a, err := file.GetAuthConfig(key)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "credentials of %s: %v", req.GetHost(), err)
	}
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
}
