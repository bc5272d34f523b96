package buildkit

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"

	bindery "github.com/bindery-hub/bindery"
)

// A Registry is how one registry is reached.
type Registry struct {
	Mirrors         []string // hosts, with or without a path, that are asked first when something is pulled
	PlainHTTP       bool
	CAFile          string // authorities that are trusted beside the system's
	CredentialsFile string // in the form of Docker's config.json; read when it is needed
	// Shared credentials are also shown for images that the Dockerfiles of repositories name. Otherwise they are for what
	// the operator names: a base, what is pushed, a cache.
	Shared bool
}

// hubHost is where Docker Hub, which image names call docker.io, has its images.
const hubHost = "registry-1.docker.io"

// keyOf is the name of a registry in image names and in the configuration.
func keyOf(host string) string {
	if host == hubHost {
		return "docker.io"
	}
	return host
}

// checkRegistries refuses what cannot work, so that it is heard of at the start and not at the first pull.
func checkRegistries(all map[string]Registry) error {
	for host, r := range all {
		if !registryRE.MatchString(host) || strings.Contains(host, "/") {
			return fmt.Errorf("%q is not the host of a registry", bindery.Printable(host))
		}
		for _, m := range r.Mirrors {
			if !registryRE.MatchString(m) {
				return fmt.Errorf("%q is not the host of a mirror", bindery.Printable(m))
			}
		}
		if _, err := r.tls(); err != nil {
			return err
		}
	}
	return nil
}

// registryRE is a host with a port and a path, without a scheme.
var registryRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*$`)

func (r Registry) tls() (*tls.Config, error) {
	if r.CAFile == "" {
		return nil, nil //nolint:nilnil // the system's trust is what nil means to a transport
	}
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		return nil, fmt.Errorf("authority of a registry: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s", r.CAFile)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// registries is how the engine finds registries: mirrors first, which the operator has named; then the registry itself,
// wherever it is when the operator has named it, else through the guard.
func (g *guard) registries() docker.RegistryHosts {
	return func(host string) ([]docker.RegistryHost, error) {
		var hosts []docker.RegistryHost
		for _, m := range g.config[keyOf(host)].Mirrors {
			name, prefix, _ := strings.Cut(m, "/")
			h, err := g.host(name, true)
			if err != nil {
				return nil, err
			}
			// containerd puts the rest behind the path: /v2/PREFIX/library/busybox/manifests/latest.
			h.Path = path.Join("/v2", prefix)
			h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
			hosts = append(hosts, h)
		}
		own, err := g.host(host, g.isNamed(host))
		if err != nil {
			return nil, err
		}
		return append(hosts, own), nil
	}
}

// host makes the way to one registry. One that the operator trusts may be at any address.
func (g *guard) host(name string, trusted bool) (docker.RegistryHost, error) {
	set := g.config[keyOf(name)]
	client, err := g.client(keyOf(name), trusted)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	h := docker.RegistryHost{
		Client: client, Host: name, Scheme: "https", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
	}
	if name == "docker.io" {
		h.Host = hubHost
	}
	local, _ := docker.MatchLocalhost(name)
	if set.PlainHTTP || local && set.CAFile == "" {
		h.Scheme = "http"
	}
	return h, nil
}

// client returns the client for a registry, the same each time: its connections are worth keeping.
func (g *guard) client(key string, trusted bool) (*http.Client, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := fmt.Sprint(key, " ", trusted)
	if g.config[key].CAFile == "" {
		at = fmt.Sprint(trusted)
	}
	if c := g.clients[at]; c != nil {
		return c, nil
	}
	authority, err := g.config[key].tls()
	if err != nil {
		return nil, err
	}
	t := g.transport()
	if trusted {
		t = http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	}
	t.TLSClientConfig = authority
	c := &http.Client{Transport: t}
	g.clients[at] = c
	return c, nil
}

// entitled reports whether a registry is shown the credentials that we have for it.
func (g *guard) entitled(host string) bool {
	if g.isNamed(host) || g.config[keyOf(host)].Shared {
		return true
	}
	for upstream, r := range g.config {
		for _, m := range r.Mirrors {
			name, _, _ := strings.Cut(m, "/")
			if name == host && (g.isNamed(upstream) || r.Shared) {
				return true
			}
		}
	}
	return false
}

// keys returns the credentials for a registry: from its own file, else from what docker login has stored.
func (g *guard) keys(host string, stored *configfile.ConfigFile) (*configfile.ConfigFile, error) {
	name := g.config[keyOf(host)].CredentialsFile
	if name == "" {
		return stored, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("credentials of a registry: %w", err)
	}
	defer f.Close()
	return config.LoadFromReader(f)
}
