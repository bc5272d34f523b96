package web

import (
	"cmp"
	"net/url"
	"strings"

	bindery "github.com/bindery-hub/bindery"
)

// A spec is a repository and a ref as a link names them: "PROVIDER/REST". It is taken from the path as it was sent and
// decoded once, by whoever knows the provider's grammar.
type spec struct {
	provider string
	raw      string // after the provider, still percent-encoded, a slash at its end kept
}

// specOf cuts "/PREFIX/PROVIDER/REST".
func specOf(escapedPath, prefix string) spec {
	rest := strings.TrimPrefix(escapedPath, prefix)
	provider, raw, _ := strings.Cut(rest, "/")
	return spec{provider: provider, raw: raw}
}

func (sp spec) String() string { return sp.provider + "/" + sp.raw }

// provider finds the provider of a spec.
func (s *Server) provider(sp spec) (bindery.Provider, error) {
	for _, p := range s.cfg.Providers {
		if p.ID == sp.provider {
			return p, nil
		}
	}
	return bindery.Provider{}, bindery.Errorf(bindery.ErrNotFound, bindery.User, "Begin at the start page: it names the providers of this hub.",
		"No provider found for prefix %s", bindery.Printable(sp.provider))
}

// otherNames are the specs by which providers of forges here name a repository that a link names otherwise, by its URL
// for one.
func (s *Server) otherNames(sp spec, src bindery.Source) (out []spec) {
	at, err := url.Parse(strings.TrimPrefix(src.Identity(), bindery.ProviderGit+":"))
	if err != nil || src.IsArchive() {
		return nil
	}
	for _, p := range s.cfg.Providers {
		home, err := url.Parse(p.URL)
		if err != nil || p.ID == sp.provider || home.Host == "" || !strings.EqualFold(home.Hostname(), at.Hostname()) {
			continue
		}
		path, below := strings.CutPrefix(at.Path, strings.TrimRight(home.Path, "/")+"/")
		ref := cmp.Or(src.Ref, "HEAD")
		switch {
		case !below:
		case p.Kind == bindery.ProviderGitLab:
			out = append(out, spec{p.ID, escape(path) + "/" + escapeRef(ref)})
		case p.Kind == bindery.ProviderGitHub || p.Kind == bindery.ProviderGist:
			out = append(out, spec{p.ID, path + "/" + escapeRef(ref)})
		}
	}
	return out
}

// gitSpec writes the spec of a repository at a ref, as the start page and clients do.
func gitSpec(repoURL, ref string) string {
	return escape(repoURL) + "/" + escapeRef(ref)
}

// escape encodes like JavaScript's encodeURIComponent, slashes included.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// escapeRef keeps the slashes of a ref.
func escapeRef(ref string) string { return strings.ReplaceAll(escape(ref), "%2F", "/") }
