package bindery

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Kinds of providers. Those of the first group are ways to name Git repositories: the Sources that they make are of
// ProviderGit, so that one repository is one repository however a link spells it. The others are archives.
const (
	ProviderGitHub = "gh"
	ProviderGist   = "gist"
	ProviderGitLab = "gl"

	ProviderZenodo     = "zenodo"
	ProviderFigshare   = "figshare"
	ProviderHydroshare = "hydroshare"
	ProviderDataverse  = "dataverse"
	ProviderCKAN       = "ckan"
	ProviderSWH        = "swh" // Software Heritage, which BinderHub does not know
)

// A Provider is one instance of a kind of place that links name repositories of: "gh" at github.com, or one's own
// server of the same kind under a prefix of its own.
type Provider struct {
	ID   string // the prefix of its links
	Kind string // one of the constants
	Name string // for people
	URL  string // of its pages, without a slash at the end; repositories' clone URLs begin with it
	API  string // of its API, without a slash at the end
	DOI  string // the resolver of its DOIs, such as https://doi.org
}

// DefaultProviders are the public ones, in the order in which BinderHub lists them.
func DefaultProviders() []Provider {
	var all []Provider
	for _, kind := range []string{
		ProviderGitHub, ProviderGist, ProviderGit, ProviderGitLab, ProviderZenodo, ProviderFigshare, ProviderHydroshare,
		ProviderDataverse, ProviderCKAN, ProviderSWH,
	} {
		all = append(all, Provider{ID: kind, Kind: kind}.WithDefaults())
	}
	return all
}

// WithDefaults fills in what p's kind settles. A server of one's own has its API where servers of its kind have it.
func (p Provider) WithDefaults() Provider {
	known := map[string]Provider{
		ProviderGitHub:     {Name: "GitHub", URL: "https://github.com", API: "https://api.github.com"},
		ProviderGist:       {Name: "GitHub Gist", URL: "https://gist.github.com", API: "https://api.github.com"},
		ProviderGit:        {Name: "Git repository"},
		ProviderGitLab:     {Name: "GitLab", URL: "https://gitlab.com", API: "https://gitlab.com/api/v4"},
		ProviderZenodo:     {Name: "Zenodo DOI", URL: "https://zenodo.org", API: "https://zenodo.org/api"},
		ProviderFigshare:   {Name: "FigShare DOI", URL: "https://figshare.com", API: "https://api.figshare.com/v2"},
		ProviderHydroshare: {Name: "Hydroshare resource", URL: "https://www.hydroshare.org", API: "https://www.hydroshare.org/hsapi"},
		ProviderDataverse:  {Name: "Dataverse DOI"},
		ProviderCKAN:       {Name: "CKAN dataset"},
		ProviderSWH:        {Name: "Software Heritage ID", URL: "https://archive.softwareheritage.org", API: "https://archive.softwareheritage.org/api/1"},
	}[cmp.Or(p.Kind, p.ID)]
	p.Kind = cmp.Or(p.Kind, p.ID)
	p.URL, p.API = strings.TrimRight(p.URL, "/"), strings.TrimRight(p.API, "/")
	if p.URL != "" && p.URL != known.URL && p.API == "" && known.API != "" {
		p.API = p.URL + map[string]string{
			ProviderGitHub: "/api/v3", ProviderGist: "/api/v3", ProviderGitLab: "/api/v4", ProviderZenodo: "/api",
			ProviderFigshare: "/v2", ProviderHydroshare: "/hsapi", ProviderSWH: "/api/1",
		}[p.Kind]
	}
	p.Name, p.URL, p.API = cmp.Or(p.Name, known.Name), cmp.Or(p.URL, known.URL), cmp.Or(p.API, known.API)
	p.DOI = strings.TrimRight(cmp.Or(p.DOI, "https://doi.org"), "/")
	return p
}

// Check refuses a provider that cannot work.
func (p Provider) Check() error {
	if (Provider{Kind: p.Kind}).WithDefaults().Name == "" {
		return fmt.Errorf("%q is not a kind of provider", Printable(p.Kind))
	}
	if !providerIDRE.MatchString(p.ID) || p.ID == ProviderLocal {
		return fmt.Errorf("%q cannot be the prefix of links: use a-z, 0-9 and -", Printable(p.ID))
	}
	for _, raw := range []string{p.URL, p.API, p.DOI} {
		u, err := url.Parse(raw)
		if raw != "" && (err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "") {
			return fmt.Errorf("%q is not the http or https URL of a server", Printable(raw))
		}
	}
	return nil
}

var providerIDRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Home is what the identities of a forge's repositories begin with, up to a slash; empty: p is none.
func (p Provider) Home() string {
	switch p.Kind {
	case ProviderGitHub, ProviderGist, ProviderGitLab:
		return Source{Provider: ProviderGit, URL: p.URL}.Identity()
	}
	return ""
}

// IsArchive reports whether sources of p are archives and not Git repositories.
func (p Provider) IsArchive() bool { return isArchive(p.Kind) }

func isArchive(kind string) bool { return slices.Contains(archiveKinds(), kind) }

func archiveKinds() []string {
	return []string{ProviderZenodo, ProviderFigshare, ProviderHydroshare, ProviderDataverse, ProviderCKAN, ProviderSWH}
}

// IsArchive reports whether s is an archive and not a Git repository or directory: one that a DOI or its like names.
func (s Source) IsArchive() bool { return isArchive(s.Provider) }

// pinRE is what the version of an archive may look like: 3242074, 9782777.v3, swh:1:dir:..., a dataset's name and time.
var pinRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)

// IsPinned reports whether Commit names one state of the source for good.
func (s Source) IsPinned() bool {
	if s.IsArchive() {
		return len(s.Commit) <= 255 && pinRE.MatchString(s.Commit) // a length in the expression takes 100 KB of memory
	}
	return IsCommit(s.Commit)
}

// A ProviderDisplay is how BinderHub describes a provider to pages that make links: one item of /api/repoproviders.
type ProviderDisplay struct {
	DisplayName string         `json:"displayName"`
	ID          string         `json:"id"`
	Spec        DisplaySpec    `json:"spec"`
	Detect      *DisplayDetect `json:"detect,omitempty"`
	Repo        DisplayRepo    `json:"repo"`
	Ref         DisplayRef     `json:"ref"`
}

// DisplaySpec says what specs look like.
type DisplaySpec struct {
	ValidateRegex string `json:"validateRegex"`
}

// DisplayDetect takes the repository out of what a person pastes.
type DisplayDetect struct {
	Regex string `json:"regex"`
}

// DisplayRepo is the field for the repository.
type DisplayRepo struct {
	Label       string `json:"label"`
	Placeholder string `json:"placeholder"`
	URLEncode   bool   `json:"urlEncode"`
}

// DisplayRef is the field for the ref.
type DisplayRef struct {
	Enabled bool   `json:"enabled"`
	Default string `json:"default,omitempty"`
}

// Display describes p.
func (p Provider) Display() ProviderDisplay {
	const doi, any = `10\.\d+\/(.)+`, "[^/]+/.+"
	d := ProviderDisplay{DisplayName: p.Name, ID: p.ID, Ref: DisplayRef{Enabled: !p.IsArchive()}}
	if d.Ref.Enabled {
		d.Ref.Default = "HEAD"
	}
	host := p.URL
	if _, rest, ok := strings.Cut(p.URL, "://"); ok {
		host = rest
	}
	detect := &DisplayDetect{Regex: "^(https?://" + host + "/)?(?<repo>.*[^/])/?"}
	switch p.Kind {
	case ProviderGitHub:
		d.Spec.ValidateRegex, d.Detect = "[^/]+/[^/]+/.+", detect
		d.Repo = DisplayRepo{Label: p.Name + " repository name or URL", Placeholder: "example: binder-examples/requirements or " + p.URL + "/binder-examples/requirements"}
	case ProviderGist:
		d.Spec.ValidateRegex, d.Detect = "[^/]+/[^/]+(/[^/]+)?", detect
		d.Repo = DisplayRepo{Label: "Gist ID (username/gistId) or URL"}
	case ProviderGit:
		d.Spec.ValidateRegex = any
		d.Repo = DisplayRepo{Label: "Arbitrary git repository URL", Placeholder: "example: http://git.example.com/repo", URLEncode: true}
	case ProviderGitLab:
		d.Spec.ValidateRegex, d.Detect = any, detect
		const example = "mosaik/examples/mosaik-tutorials-on-binder"
		d.Repo = DisplayRepo{Label: p.Name + " repository name or URL", Placeholder: "example: " + p.URL + "/" + example + " or " + example, URLEncode: true}
	case ProviderZenodo:
		d.Spec.ValidateRegex, d.Repo = doi, DisplayRepo{Label: p.Name, Placeholder: "example: 10.5281/zenodo.3242074"}
	case ProviderFigshare:
		d.Spec.ValidateRegex, d.Repo = doi, DisplayRepo{Label: p.Name, Placeholder: "example: 10.6084/m9.figshare.9782777.v1"}
	case ProviderHydroshare:
		d.Spec.ValidateRegex, d.Repo = "[^/]+", DisplayRepo{Label: p.Name + " id", Placeholder: "example: 8f7c2f0341ef4180b0dbe97f59130756", URLEncode: true}
	case ProviderDataverse:
		d.Spec.ValidateRegex, d.Repo = doi, DisplayRepo{Label: p.Name, Placeholder: "example: 10.7910/DVN/TJCLKP"}
	case ProviderCKAN:
		d.Spec.ValidateRegex, d.Repo = "[^/]+", DisplayRepo{Label: p.Name + " URL", Placeholder: "https://demo.ckan.org/dataset/my-sample-dataset-001", URLEncode: true}
	case ProviderSWH:
		d.Spec.ValidateRegex = "swh:1:(dir|rev):[0-9a-f]{40}"
		d.Repo = DisplayRepo{Label: p.Name, Placeholder: "example: swh:1:rev:94dca98c006b80309704c717b5d83dff3c1fa3a0"}
	}
	return d
}
