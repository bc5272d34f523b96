package bindery

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// What a pattern may name.
const (
	OnRepository = "repository"
	OnOwner      = "owner"
	OnRequester  = "requester" // a person, a token, an address block as requests are charged to
	OnNetwork    = "network"   // addresses wider or narrower than such a block
	OnSpec       = "spec"      // a regular expression: specs that it matches, see Source.Link
)

// A Pattern names the repositories or requesters that a rule is about.
type Pattern struct {
	Scope string // OnRepository, OnOwner, OnRequester, OnNetwork or OnSpec
	// Names are what it stands for, as Source.Identity, Source.Owner and Ask.Requester have it, or a network in CIDR
	// notation. However a link names a repository, by the forge's prefix or by its URL, it has one identity.
	Names []string
}

// String is the pattern as people write it; ParsePattern reads it again.
func (p Pattern) String() string { return PatternText(p.Scope, p.Names[0]) }

// PatternText writes the pattern that stands for a name.
func PatternText(scope, name string) string {
	switch scope {
	case OnRepository:
		kind, repo, _ := strings.Cut(name, ":")
		if isArchive(kind) {
			return name // a page alone would be taken for a repository
		}
		for _, prefix := range forgePrefixes() {
			if rest, ok := strings.CutPrefix(repo, "https://"+forgeHost(prefix)+"/"); ok {
				return prefix + "/" + rest
			}
		}
		return repo
	case OnOwner:
		owner, ok := strings.CutPrefix(name, ProviderGit+"/")
		switch {
		case ok && strings.HasPrefix(owner, "file://"):
			return owner // a directory belongs to itself
		case ok:
			return "https://" + owner + "/*"
		}
		return name + "/*"
	}
	return name
}

// ParsePattern reads what an operator writes:
//
//	gh/owner/repository, https://host/owner/repository   a repository; gh is github.com here, whatever links mean by it
//	gh/owner/*, https://host/owner/*                     all repositories of an owner
//	zenodo:https://zenodo.org/records/3242074            a data set, by the page that its DOI leads to
//	192.0.2.7, 192.0.2.0/24, 2001:db8::/48               who asks from there
//	token:1234abcd, local, user:jane                     who asks by that name
//	^gh/owner/course-.*, ^gl/                            specs that a regular expression matches at their start
func ParsePattern(text string) (Pattern, error) {
	text = strings.TrimSpace(text)
	bad := Errorf(ErrInvalid, User, "Write gh/owner/repository, gh/owner/*, https://host/owner/repository, an address, a network, a requester, or a regular expression that begins with ^.",
		"%q is not a pattern of a rule", Printable(text))
	switch {
	case text == "" || len(text) > 500 || hasControl(text) || strings.ContainsAny(text, " \t"):
		return Pattern{}, bad
	case strings.HasPrefix(text, "^"):
		_, err := NewMatcher(OnSpec, text)
		return Pattern{OnSpec, []string{text}}, err
	case text == "local" || strings.HasPrefix(text, "token:") || strings.HasPrefix(text, "user:"):
		return Pattern{OnRequester, []string{text}}, nil
	}
	if p, ok := networkPattern(text); ok {
		return p, nil
	}
	if kind, page, ok := strings.Cut(text, ":"); ok && isArchive(kind) && strings.HasPrefix(page, "https://") {
		return Pattern{OnRepository, []string{text}}, nil
	}
	full, deep := text, 0 // what a name of that forge must have of slashes; GitLab's groups have groups
	if prefix, rest, ok := strings.Cut(text, "/"); ok {
		if host := forgeHost(prefix); host != "" {
			full, deep = "https://"+host+"/"+rest, 4
		} else if prefix == ProviderGit {
			full = rest
		}
	}
	owner, every := strings.CutSuffix(full, "/*")
	if every {
		full = owner + "/x"
	}
	src, err := ParseGitSource(full, "")
	if err != nil || strings.Contains(full, "*") || strings.Count(strings.TrimSuffix(src.URL, "/"), "/") < deep {
		return Pattern{}, bad
	}
	if every && strings.HasPrefix(src.URL, "file:") {
		return Pattern{}, Errorf(ErrInvalid, User, "Name each directory.", "%q is not a pattern of a rule: directories of this machine have no owner", Printable(text))
	}
	if every {
		return Pattern{OnOwner, []string{src.Owner()}}, nil
	}
	return Pattern{OnRepository, []string{src.Identity()}}, nil
}

// ParsePatternAt reads a pattern where links lead to these providers. It refuses one whose prefix leads to another forge in
// links than in patterns, since its author may mean either.
func ParsePatternAt(text string, providers []Provider) (Pattern, error) {
	text = strings.TrimSpace(text)
	name, expression := strings.CutPrefix(text, "^")
	for _, p := range providers {
		_, home, forge := strings.Cut(p.Home(), ":")
		repo, named := strings.CutPrefix(name, p.ID+"/")
		if !forge || !named || home == "https://"+forgeHost(p.ID) {
			continue
		}
		better := home + "/" + repo
		if expression {
			better = "^" + regexp.QuoteMeta(home) + "/" + repo
		}
		return Pattern{}, Errorf(ErrInvalid, User, "Write it as "+Printable(better)+", which is what links of this hub mean by "+p.ID+"/.",
			"%q is not a pattern of a rule of this hub", Printable(text))
	}
	p, err := ParsePattern(text)
	for i, name := range p.Names {
		if p.Scope == OnRepository || p.Scope == OnOwner {
			p.Names[i] = atForge(name, providers)
		}
	}
	return p, err
}

// atForge writes the identity of a repository, or an owner, in small letters where a forge has it, as Source.At does. A
// directory of a server that the forge is in is no forge's: its letters count.
func atForge(name string, providers []Provider) string {
	for _, p := range providers {
		_, host, forge := strings.Cut(p.Home(), "://")
		if forge && (strings.HasPrefix(name, p.Home()+"/") || strings.HasPrefix(name, ProviderGit+"/"+host+"/")) && host == strings.ToLower(host) {
			return strings.ToLower(name)
		}
	}
	return name
}

// At is the source as a hub with these providers knows it. Forges do not tell cases of letters apart: of the public ones
// Identity knows that, at others a repository gets small letters.
func (s Source) At(providers []Provider) Source {
	if id := s.Identity(); s.Provider == ProviderGit && atForge(id, providers) != id {
		s.URL = strings.ToLower(s.URL)
	}
	return s
}

func forgePrefixes() []string { return []string{"gh", "gl", "gist"} }

// forgeHost is the host whose repositories a short prefix names.
func forgeHost(prefix string) string {
	switch prefix {
	case "gh":
		return "github.com"
	case "gl":
		return "gitlab.com"
	case "gist":
		return "gist.github.com"
	}
	return ""
}

// networkPattern reads addresses. A block as requests are charged to is a requester; all else is a network.
func networkPattern(text string) (Pattern, bool) {
	prefix, err := netip.ParsePrefix(text)
	if addr, notAddr := netip.ParseAddr(text); notAddr == nil {
		addr = addr.Unmap().WithZone("")
		prefix, err = addr.Prefix(addr.BitLen())
	}
	if err != nil {
		return Pattern{}, false
	}
	prefix = prefix.Masked()
	scope := OnNetwork
	if prefix.Bits() == AddressBits(prefix.Addr()) {
		scope = OnRequester
	}
	return Pattern{scope, []string{prefix.String()}}, true
}

// AddressBits is how much of an address names the household or company behind it: requests are charged to that block.
func AddressBits(a netip.Addr) int {
	if a.Is4() || a.Is4In6() {
		return 24
	}
	return 48
}

// Concerns reports whether a request for src by requester, from addr, is one that the pattern names. An invalid addr
// is in no network.
func (p Pattern) Concerns(src Source, requester string, addr netip.Addr) bool {
	switch p.Scope {
	case OnRepository:
		return slices.Contains(p.Names, src.Identity())
	case OnOwner:
		return slices.Contains(p.Names, src.Owner())
	case OnRequester:
		return slices.Contains(p.Names, requester)
	case OnNetwork:
		m, err := NewMatcher(OnNetwork, p.Names[0])
		return err == nil && addr.IsValid() && m.Matches(addr.String())
	case OnSpec:
		m, err := NewMatcher(OnSpec, p.Names[0])
		return err == nil && m.Matches(src.Link())
	}
	return false
}
