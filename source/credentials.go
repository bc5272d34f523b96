package source

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A credential is the hub's access to the Git server of one provider. Git never has it: in the box the server's
// https address is written as http, so that requests reach the guard in the open, on a loopback that only the box
// and the guard have. The guard makes them https again and adds the credential.
type credential struct {
	base     *url.URL // what it is for
	provider Provider
}

// credentials are those of the configuration.
func credentials(providers []Provider) []credential {
	var all []credential
	for _, p := range providers {
		base, err := url.Parse(p.URL)
		if p.TokenFile == "" || err != nil || base.Host == "" || p.IsArchive() {
			continue
		}
		all = append(all, credential{base, p})
	}
	return all
}

// credentialConfig has git write those addresses as http.
func credentialConfig(providers []Provider) string {
	var b strings.Builder
	for _, c := range credentials(providers) {
		if c.base.Scheme == "https" {
			at := c.base.Host + strings.TrimSuffix(c.base.Path, "/") + "/"
			fmt.Fprintf(&b, "[url %s]\n\tinsteadOf = %s\n", quote("http://"+at), quote("https://"+at))
		}
	}
	return b.String()
}

// opens reports whether c is for a request: one of those by which repositories are read. Nobody pushes from here.
func (c credential) opens(r *http.Request) bool {
	path := r.URL.Path
	if !strings.EqualFold(r.URL.Host, c.base.Host) || !strings.HasPrefix(path, strings.TrimSuffix(c.base.Path, "/")+"/") || strings.Contains(path, "/../") {
		return false
	}
	switch {
	case r.Method == http.MethodGet && strings.HasSuffix(path, "/info/refs"):
		return r.URL.Query().Get("service") == "git-upload-pack"
	case r.Method == http.MethodPost:
		return strings.HasSuffix(path, "/git-upload-pack") || strings.HasSuffix(path, "/info/lfs/objects/batch")
	}
	return false
}

// authorization is what c shows to its server.
func (c credential) authorization() (string, error) {
	token, err := c.provider.token()
	if err != nil {
		return "", err
	}
	user := c.provider.User
	if user == "" {
		user = map[string]string{bindery.ProviderGitHub: "x-access-token", bindery.ProviderGist: "x-access-token", bindery.ProviderGitLab: "oauth2"}[c.provider.Kind]
	}
	if user == "" {
		user = "git"
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+token)), nil
}

// rewriting says how a request of git's goes out: whether as https, and with what credential.
func (g *guard) rewriting(r *http.Request) (func(*httputil.ProxyRequest), func(*http.Response) error, error) {
	var mine *credential
	auth := ""
	for i, c := range g.credentials {
		if strings.EqualFold(r.URL.Host, c.base.Host) && strings.HasPrefix(r.URL.Path, strings.TrimSuffix(c.base.Path, "/")+"/") {
			mine = &g.credentials[i]
			if !c.opens(r) {
				continue
			}
			var err error
			if auth, err = c.authorization(); err != nil {
				return nil, nil, err
			}
			break
		}
	}
	rewrite := func(pr *httputil.ProxyRequest) {
		pr.Out.URL, pr.Out.Host = pr.In.URL, pr.In.URL.Host
		pr.Out.Header.Del("Proxy-Authorization")
		if mine == nil {
			return
		}
		at := *pr.In.URL
		at.Scheme = mine.base.Scheme
		pr.Out.URL = &at
		if auth != "" {
			pr.Out.Header.Set("Authorization", auth)
		}
	}
	modify := func(resp *http.Response) error {
		if mine == nil {
			return nil
		}
		if resp.StatusCode == http.StatusUnauthorized && auth != "" {
			g.log.WarnContext(context.WithoutCancel(r.Context()), "a Git server does not take the hub's token", "provider", mine.provider.ID)
		}
		// Git is to come back to us, not to go round us.
		if at, err := url.Parse(resp.Header.Get("Location")); err == nil && at.Scheme == "https" && strings.EqualFold(at.Host, mine.base.Host) && mine.base.Scheme == "https" {
			at.Scheme = "http"
			resp.Header.Set("Location", at.String())
		}
		return nil
	}
	return rewrite, modify, nil
}
