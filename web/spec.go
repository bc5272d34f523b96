package web

import (
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

// source reads the spec of the git provider, "<urlencoded url>/<ref>".
func (sp spec) source() (bindery.Source, error) {
	repo, ref, found := strings.Cut(strings.TrimRight(sp.raw, "/"), "/")
	wrong := func(err error) error {
		return bindery.Errorf(bindery.ErrInvalid, bindery.User, "Write the repository's URL percent-encoded, a slash, and a branch, tag or commit.",
			"Spec is not of the form \"<url-escaped git url>/<ref>\", provided: %q.", bindery.Printable(sp.raw)).Because(err)
	}
	if !found || repo == "" || ref == "" {
		return bindery.Source{}, wrong(nil)
	}
	repoURL, err := url.PathUnescape(repo)
	if err != nil {
		return bindery.Source{}, wrong(err)
	}
	ref, err = url.PathUnescape(ref)
	if err != nil {
		return bindery.Source{}, wrong(err)
	}
	return bindery.ParseGitSource(repoURL, ref)
}

// gitSpec writes the spec of a repository at a ref, as the start page and clients do.
func gitSpec(repoURL, ref string) string {
	return escape(repoURL) + "/" + escapeRef(ref)
}

// escape encodes like JavaScript's encodeURIComponent, slashes included.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// escapeRef keeps the slashes of a ref.
func escapeRef(ref string) string { return strings.ReplaceAll(escape(ref), "%2F", "/") }
