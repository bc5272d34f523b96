package bindery

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// Providers that this version knows.
const (
	ProviderGit   = "git"   // any Git repository, by URL
	ProviderLocal = "local" // a directory on this machine, named by the person at its keyboard
)

// A Source names the files to build: a repository of a provider, at a ref, or one directory of it.
type Source struct {
	Provider string `json:"provider"`         // git, local, or the kind of an archive
	URL      string `json:"url"`              // clone URL, an absolute directory, an archive's page
	Ref      string `json:"ref,omitempty"`    // as asked; empty means the default branch; of an archive its DOI
	Commit   string `json:"commit,omitempty"` // what Ref resolved to: 40 or 64 hex digits, or a version; empty for a directory
	Subdir   string `json:"subdir,omitempty"` // slash-separated, inside the repository

	// Trusted is set for a source that the person at this machine's keyboard named: it may be at any address and in
	// any directory. A hub never sets it, and refuses it from others.
	Trusted bool `json:"trusted,omitempty"`
}

var (
	commitRE = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	scpRE    = regexp.MustCompile(`^([A-Za-z0-9._-]+@[A-Za-z0-9._-]+):([^/].*)$`)
	schemes  = map[string]string{"https": "443", "http": "80", "git": "9418", "ssh": "22", "file": ""} // with their usual ports

	// forges do not tell cases of letters apart, and have other names.
	forges = map[string]string{
		"github.com": "github.com", "www.github.com": "github.com", "ssh.github.com": "github.com", "gist.github.com": "gist.github.com",
		"gitlab.com": "gitlab.com", "altssh.gitlab.com": "gitlab.com",
	}

	// plain is what a path may hold as it is, although Go's own encoding writes it otherwise.
	plain = strings.NewReplacer("%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*")
)

// IsCommit reports whether s is a full object name.
func IsCommit(s string) bool { return commitRE.MatchString(s) }

// ParseGitSource checks a clone URL and a ref and returns the Source they name. It accepts https, http, git, ssh and
// file URLs and the user@host:path form. It refuses everything that another program could read as an option,
// credentials inside the URL: they would end in logs, and what no repository's address has, but what would make another
// name of it.
func ParseGitSource(rawURL, ref string) (Source, error) {
	if m := scpRE.FindStringSubmatch(rawURL); m != nil && !strings.Contains(rawURL, "://") {
		rawURL = "ssh://" + m[1] + "/" + m[2]
	}
	u, err := url.Parse(rawURL)
	if err != nil || hasControl(rawURL) || !isGitURL(u) {
		return Source{}, Errorf(ErrInvalid, User, "Give a URL like https://host/owner/repository.", "%q is not the URL of a Git repository", Printable(rawURL))
	}
	if _, secret := u.User.Password(); secret || (u.User != nil && u.Scheme != "ssh") {
		return Source{}, Errorf(ErrInvalid, User, "Take the user name and password out of the URL.", "The URL of the repository contains credentials")
	}
	if strings.HasPrefix(u.User.Username(), "-") {
		return Source{}, Errorf(ErrInvalid, User, "Give a URL like ssh://git@host/owner/repository.", "%q is not the URL of a Git repository", Printable(rawURL))
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || (u.Scheme != "file" && hasDots(u.Path)) {
		return Source{}, Errorf(ErrInvalid, User, "Give the URL that it is cloned by, like https://host/owner/repository, without ?, # and the steps . and .. in its path.",
			"%q is not the URL of a Git repository", Printable(rawURL))
	}
	if err := checkRef(ref); err != nil {
		return Source{}, err
	}
	tidy(u)
	u.RawFragment = ""
	if ref == "HEAD" {
		ref = ""
	}
	return Source{Provider: ProviderGit, URL: u.String(), Ref: ref}, nil
}

// isGitURL looks at the parts of a URL. Hosts are ASCII: of others it is not known here which name is asked for.
func isGitURL(u *url.URL) bool {
	_, known := schemes[u.Scheme]
	named := strings.Trim(u.Hostname(), ".") != ""
	return known && u.Opaque == "" && named != (u.Scheme == "file") && (named || u.Host == "") && !strings.HasPrefix(u.Host, "-") &&
		!strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' }) && !hasControl(u.Path)
}

// hasDots reports whether a path has steps that lead elsewhere than they say.
func hasDots(path string) bool {
	return strings.Contains("/"+path+"/", "/./") || strings.Contains("/"+path+"/", "/../")
}

// tidy writes host and path of a URL in the one way of many in which they can be written, so that what is judged by its
// name is what is asked for.
func tidy(u *url.URL) {
	host, port := strings.TrimRight(strings.ToLower(u.Hostname()), "."), strings.TrimLeft(u.Port(), "0")
	if strings.Contains(host, ":") || host != "" && host[len(host)-1] <= '9' { // else it is a name
		if a, err := netip.ParseAddr(host); err == nil {
			host = a.String()
		}
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && port != schemes[u.Scheme] {
		host += ":" + port
	}
	u.Host = host
	for strings.Contains(u.Path, "//") {
		u.Path = strings.ReplaceAll(u.Path, "//", "/")
	}
	u.RawPath = escaped(u.Path)
}

// escaped writes a path as it stands in a URL.
func escaped(path string) string {
	return plain.Replace((&url.URL{Path: path}).EscapedPath())
}

// checkRef refuses refs that Git would refuse or read as an option. The empty ref is the default branch.
func checkRef(ref string) error {
	bad := strings.HasPrefix(ref, "-") || strings.HasPrefix(ref, "/") || strings.HasSuffix(ref, "/") || strings.HasSuffix(ref, ".lock") ||
		strings.Contains(ref, "..") || strings.Contains(ref, "//") || strings.Contains(ref, "@{") || strings.ContainsAny(ref, " ~^:?*[\\") ||
		hasControl(ref) || len(ref) > 255
	if bad {
		return Errorf(ErrInvalid, User, "Give a branch, a tag or a commit.", "%q is not a Git ref", Printable(ref))
	}
	return nil
}

// CleanSubdir checks a directory inside a repository and returns it without a leading or trailing slash.
func CleanSubdir(dir string) (string, error) {
	if dir == "" || dir == "." {
		return "", nil
	}
	c := path.Clean("/" + dir)[1:]
	if hasControl(dir) || strings.Contains("/"+dir+"/", "/../") {
		return "", Errorf(ErrInvalid, User, "Name a directory inside the repository.", "%q is not a directory inside the repository", Printable(dir))
	}
	return c, nil
}

// Identity is the repository without ref and commit: host and path, so that equal repositories compare equal, by
// whichever provider's link they were named, and whichever of its protocols the host is asked by. It is a name: who
// wants to read the repository needs its URL.
func (s Source) Identity() string {
	if s.Provider == ProviderLocal || s.IsArchive() {
		return s.Provider + ":" + s.URL
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" {
		return ProviderGit + ":" + strings.TrimSuffix(strings.TrimSuffix(s.URL, "/"), ".git")
	}
	tidy(u)
	if u.Scheme == "ssh" || u.Scheme == "git" {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port()) // it says nothing of where the pages are
	}
	u.Host = strings.TrimSuffix(u.Host, ":443")
	if home, ok := forges[u.Hostname()]; ok {
		u.Host, u.Path = home, strings.ToLower(u.Path)
	}
	u.Path = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git"), "/")
	at := url.URL{Scheme: "https", Host: u.Host, Path: u.Path, RawPath: escaped(u.Path)}
	return ProviderGit + ":" + at.String()
}

// Owner is the account a repository belongs to: "gh/account" at GitHub, "gl/account" at GitLab, else provider, host and
// first path element. An archive's dataset belongs to itself: who deposited it is not part of its name.
func (s Source) Owner() string {
	if s.IsArchive() {
		_, at, _ := strings.Cut(s.URL, "://")
		return s.Provider + "/" + at
	}
	u, err := url.Parse(strings.TrimPrefix(s.Identity(), ProviderGit+":"))
	if s.Provider == ProviderLocal || err != nil || u.Host == "" {
		return s.Provider + "/" + s.URL
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch u.Host {
	case "github.com":
		return ProviderGitHub + "/" + first
	case "gist.github.com":
		return ProviderGist + "/" + first
	case "gitlab.com":
		return ProviderGitLab + "/" + first
	}
	return ProviderGit + "/" + u.Host + "/" + first
}

// Printable returns s short and without control characters, to be quoted in a message.
func Printable(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
