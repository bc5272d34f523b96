package web

import (
	"cmp"
	"net/url"
	"path"
	"slices"
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

// A name is a source as the rules of one provider see it.
type name struct {
	provider string
	specs    []string // by which links of the provider may name it, written as they are usually written
	decides  bool     // what the provider allows, and its quotas, count; what it bans always does
}

// names are all names that a source has here, whatever link it came by. A forge's rules decide over its repositories;
// those about URLs only where a link has one, or where there is no forge.
func (s *Server) names(link spec, src bindery.Source) (out []name) {
	forge := false
	for _, p := range s.cfg.Providers {
		if specs := specsAt(p, src); len(specs) > 0 {
			forge = forge || p.Kind != bindery.ProviderGit
			out = append(out, name{p.ID, specs, p.ID == link.provider || p.Kind != bindery.ProviderGit})
		}
	}
	for i := range out {
		out[i].decides = out[i].decides || !forge
	}
	return out
}

// specsAt are the usual specs of a source at one provider; none: it is not there.
func specsAt(p bindery.Provider, src bindery.Source) (out []string) {
	if p.IsArchive() {
		if p.Kind != src.Provider {
			return nil
		}
		out = []string{p.Spec(src)} // of a resolved one its own DOI, which may be another than was asked for
		if src.Ref != "" {
			out = append(out, src.Ref)
		}
		if p.Kind == bindery.ProviderHydroshare {
			out = append(out, path.Base(src.URL))
		}
		return out
	}
	if src.Provider != bindery.ProviderGit {
		return nil
	}
	at := strings.TrimPrefix(src.Identity(), bindery.ProviderGit+":")
	below := []string{escape(at), escape(at + ".git"), escape(src.URL)}
	if p.Kind != bindery.ProviderGit {
		repo, here := strings.CutPrefix(strings.ToLower(src.Identity()), strings.ToLower(p.Home())+"/")
		if !here {
			return nil
		}
		below = []string{repo}
		if p.Kind == bindery.ProviderGitLab {
			below = []string{escape(repo)}
		}
	}
	refs := []string{cmp.Or(src.Ref, "HEAD")}
	if p.Kind == bindery.ProviderGist && src.Ref == "" {
		refs, out = append(refs, "master", "main"), slices.Clone(below) // they all mean its one branch
	}
	for _, repo := range below {
		for _, ref := range refs {
			out = append(out, repo+"/"+escapeRef(ref), repo+"/"+escape(ref))
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
