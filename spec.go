package bindery

import (
	"net/url"
	"regexp"
	"strings"
)

var (
	accountRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)
	gistRE    = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)
	doiRE     = regexp.MustCompile(`^10\.[0-9]{4,9}(\.[0-9]+)*/[!-~]+$`)
	hydroRE   = regexp.MustCompile(`[0-9a-f]{32}`)
	swhRE     = regexp.MustCompile(`^swh:1:(dir|rev):[0-9a-f]{40}$`)
	doiAtRE   = regexp.MustCompile(`(?i)^(doi:|(https?://)?(dx\.)?doi\.org/)`)
)

// ParseSpec reads the part of a link after "/v2/ID/", still percent-encoded as it was sent, and returns the source
// that it names. Slashes at its end mean nothing.
func (p Provider) ParseSpec(raw string) (Source, error) {
	raw = strings.TrimRight(raw, "/")
	if len(raw) > 2000 {
		return Source{}, Errorf(ErrInvalid, User, "Check the link.", "The link is too long")
	}
	switch p.Kind {
	case ProviderGitHub:
		return p.parseGitHub(raw)
	case ProviderGist:
		return p.parseGist(raw)
	case ProviderGit, ProviderGitLab:
		return p.parseEncoded(raw)
	case ProviderCKAN:
		return p.parseCKAN(raw)
	}
	name, err := url.PathUnescape(raw)
	if err != nil || hasControl(name) {
		return Source{}, p.wrongSpec(raw, "").Because(err)
	}
	switch p.Kind {
	case ProviderZenodo, ProviderFigshare, ProviderDataverse:
		return p.parseDOI(name)
	case ProviderHydroshare:
		id := hydroRE.FindString(name)
		if id == "" {
			return Source{}, p.wrongSpec(name, "")
		}
		return Source{Provider: p.Kind, URL: p.URL + "/resource/" + id}, nil
	case ProviderSWH:
		id, _, _ := strings.Cut(name, ";") // what follows only says where it was found
		if !swhRE.MatchString(id) {
			return Source{}, p.wrongSpec(name, "")
		}
		return Source{Provider: p.Kind, URL: p.URL + "/" + id}, nil
	}
	return Source{}, Errorf(ErrInvalid, User, "Begin at the start page.", "No provider found for prefix %s", Printable(p.ID))
}

// wrongSpec is what a person reads whose link has the wrong form. The first sentence is BinderHub's.
func (p Provider) wrongSpec(raw, more string) *Error {
	form := map[string]string{
		ProviderGitHub: "user/repo/ref", ProviderGist: "user/gistid[/ref]", ProviderGit: "<url-escaped git url>/<ref>",
		ProviderGitLab: "<url-escaped namespace>/<ref>", ProviderHydroshare: "resource id", ProviderCKAN: "<url-escaped dataset url>",
		ProviderSWH: "swh:1:rev:<40 hexadecimal digits>",
	}[p.Kind]
	if form == "" {
		form = "10.<number>/<name>"
	}
	remedy := "Write it in this form; the start page makes such links."
	if p.Kind == ProviderGit {
		remedy = "Write the repository's URL percent-encoded, a slash, and a branch, tag or commit."
	}
	return Errorf(ErrInvalid, User, remedy, "Spec is not of the form \"%s\", provided: %q.%s", form, Printable(raw), more)
}

func (p Provider) parseGitHub(raw string) (Source, error) {
	parts := strings.SplitN(raw, "/", 3)
	if len(parts) < 3 {
		more := ""
		if len(parts) == 2 && parts[1] != "main" && parts[1] != "master" && parts[1] != "HEAD" {
			more = " Did you mean \"" + Printable(raw) + "/HEAD\"?"
		}
		return Source{}, p.wrongSpec(raw, more)
	}
	repo := strings.TrimSuffix(parts[1], ".git")
	// The two become part of an address that is asked with the hub's own token, so nothing but plain names passes.
	if !accountRE.MatchString(parts[0]) || !accountRE.MatchString(repo) {
		return Source{}, p.wrongSpec(raw, "")
	}
	ref, err := url.PathUnescape(parts[2])
	if err != nil {
		return Source{}, p.wrongSpec(raw, "").Because(err)
	}
	return ParseGitSource(p.URL+"/"+parts[0]+"/"+repo, ref)
}

func (p Provider) parseGist(raw string) (Source, error) {
	parts := strings.Split(raw, "/")
	if len(parts) < 2 || !accountRE.MatchString(parts[0]) || !gistRE.MatchString(strings.TrimSuffix(parts[1], ".git")) {
		return Source{}, p.wrongSpec(raw, "")
	}
	ref := ""
	if len(parts) > 2 {
		ref = parts[2]
	}
	if ref == "master" || ref == "main" {
		ref = "" // a gist has one branch, and people name it as they please
	}
	return ParseGitSource(p.URL+"/"+parts[0]+"/"+strings.TrimSuffix(parts[1], ".git")+".git", ref)
}

// parseEncoded reads an address that is one path element, and a ref.
func (p Provider) parseEncoded(raw string) (Source, error) {
	first, rest, found := strings.Cut(raw, "/")
	if !found || first == "" || rest == "" {
		return Source{}, p.wrongSpec(raw, "")
	}
	at, err := url.PathUnescape(first)
	if err != nil {
		return Source{}, p.wrongSpec(raw, "").Because(err)
	}
	ref, err := url.PathUnescape(rest)
	if err != nil {
		return Source{}, p.wrongSpec(raw, "").Because(err)
	}
	if p.Kind == ProviderGit {
		return ParseGitSource(at, ref)
	}
	at = strings.TrimSuffix(strings.Trim(at, "/"), ".git")
	parts := strings.Split(at, "/")
	for _, part := range parts {
		if len(parts) < 2 || !accountRE.MatchString(part) {
			return Source{}, p.wrongSpec(raw, "")
		}
	}
	return ParseGitSource(p.URL+"/"+at+".git", ref)
}

func (p Provider) parseCKAN(raw string) (Source, error) {
	at, err := url.PathUnescape(raw)
	u, bad := url.Parse(at)
	if err != nil || bad != nil || (u.Scheme != "https" && u.Scheme != "http") || !isGitURL(u) || u.User != nil || hasControl(at) || hasDots(u.Path) {
		return Source{}, p.wrongSpec(raw, "")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	tidy(u)
	of := u.Query().Get("activity_id") // the rest of a query and the fragment say nothing of which dataset it is
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	if of != "" {
		u.RawQuery = url.Values{"activity_id": {of}}.Encode()
	}
	at = u.String()
	if p.URL != "" && at != p.URL && !strings.HasPrefix(at, p.URL+"/") {
		return Source{}, Errorf(ErrNotAllowed, User, "Name a dataset at "+p.URL+".", "%q is at another address than this hub reads datasets from", Printable(at))
	}
	if !strings.Contains(u.Path, "/dataset/") {
		return Source{}, Errorf(ErrRefNotFound, User, "Give the address of a dataset's page: it has /dataset/ in it.", "%q is not the address of a CKAN dataset", Printable(at))
	}
	return Source{Provider: p.Kind, URL: at}, nil
}

// parseDOI makes a source of a DOI, whose Ref it is: where the DOI leads to is known when it is resolved.
func (p Provider) parseDOI(name string) (Source, error) {
	name = doiAtRE.ReplaceAllString(name, "")
	if !doiRE.MatchString(name) || len(name) > 220 || strings.Contains("/"+name+"/", "/../") || strings.Contains("/"+name+"/", "/./") || strings.ContainsAny(name, "?#%\\") {
		return Source{}, p.wrongSpec(name, "")
	}
	return Source{Provider: p.Kind, URL: p.DOI + "/" + name, Ref: name}, nil
}

// encoded escapes like JavaScript's encodeURIComponent.
func encoded(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// encodedRef keeps the slashes of a ref.
func encodedRef(ref string) string { return strings.ReplaceAll(encoded(ref), "%2F", "/") }

// Spec writes the spec of a source of p, percent-encoded: the persistent one when the source is resolved.
func (p Provider) Spec(s Source) string {
	ref := s.Commit
	if ref == "" {
		ref = s.Ref
	}
	if ref == "" {
		ref = "HEAD"
	}
	path := strings.TrimPrefix(s.URL, p.URL+"/")
	switch p.Kind {
	case ProviderGitHub:
		return strings.TrimSuffix(path, ".git") + "/" + encodedRef(ref)
	case ProviderGist:
		return strings.TrimSuffix(path, ".git") + "/" + encodedRef(ref)
	case ProviderGitLab:
		return encoded(strings.TrimSuffix(path, ".git")) + "/" + encodedRef(ref)
	case ProviderGit:
		return encoded(s.URL) + "/" + encodedRef(ref)
	case ProviderZenodo, ProviderFigshare:
		if i := strings.Index(s.Ref, p.Kind); i >= 0 && s.Commit != "" {
			return s.Ref[:i] + p.Kind + "." + s.Commit
		}
		return s.Ref
	case ProviderDataverse:
		return s.Ref
	case ProviderSWH:
		if s.Commit != "" {
			return s.Commit
		}
		return path
	}
	return encoded(s.URL)
}

// RepoURL is where a repository of p is, as clients show it; of an archive with a DOI it is the DOI.
func (p Provider) RepoURL(s Source) string {
	switch p.Kind {
	case ProviderZenodo, ProviderFigshare, ProviderDataverse:
		return s.Ref
	}
	return s.URL
}

// RefURL is a page about the resolved state of s.
func (p Provider) RefURL(s Source) string {
	bare := strings.TrimSuffix(s.URL, ".git")
	switch p.Kind {
	case ProviderGitHub, ProviderGitLab:
		return bare + "/tree/" + s.Commit
	case ProviderGist:
		return bare + "/" + s.Commit
	case ProviderZenodo, ProviderFigshare, ProviderDataverse:
		return p.DOI + "/" + p.Spec(s)
	case ProviderSWH:
		return p.URL + "/" + s.Commit
	}
	return s.URL
}
