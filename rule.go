package bindery

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A RuleKind is what a rule does to what its pattern names.
type RuleKind string

// The kinds of rules. One of each kind stands for each pattern: a second one replaces the first.
const (
	RuleBan      RuleKind = "ban"           // nothing of it is built or launched; what waits or runs is stopped
	RuleHold     RuleKind = "hold"          // its builds wait; what runs goes on, what is built is launched
	RuleHoldOpen RuleKind = "hold-launches" // nothing of it is launched; its builds go on
	RuleQuota    RuleKind = "quota"         // Value: its sessions at once
	RuleWeight   RuleKind = "weight"        // Value: its share of the slots, where 1 is everybody's
)

// RuleKinds lists all kinds.
func RuleKinds() []RuleKind {
	return []RuleKind{RuleBan, RuleHold, RuleHoldOpen, RuleQuota, RuleWeight}
}

// A RuleScope says what a pattern names.
type RuleScope string

// The scopes of patterns.
const (
	OnRepository RuleScope = "repository"
	OnOwner      RuleScope = "owner"
	OnRequester  RuleScope = "requester" // a person, a token, an address block as requests are charged to
	OnNetwork    RuleScope = "network"   // addresses wider or narrower than such a block
)

// A Rule changes what is served until it is lifted or expires.
type Rule struct {
	ID      string    `json:"id"` // of kind and pattern: the same again replaces the rule
	Kind    RuleKind  `json:"kind"`
	Pattern string    `json:"pattern"` // as Pattern.String writes it
	Value   float64   `json:"value,omitempty"`
	Reason  string    `json:"reason"`            // for operators: why it was made
	Message string    `json:"message,omitempty"` // for the visitors whom it concerns
	Until   time.Time `json:"until,omitzero"`    // zero: until it is lifted
	Created time.Time `json:"created"`
	By      string    `json:"by"` // who made it
}

// RuleID is the id of a rule.
func RuleID(kind RuleKind, p Pattern) string {
	return string(kind) + "-" + Key("rule", p.String())[:10]
}

// Check fills in the id, writes the pattern as all others are written, and refuses what cannot be meant.
func (r *Rule) Check(now time.Time) error {
	p, err := ParsePattern(r.Pattern)
	if err != nil {
		return err
	}
	switch {
	case !slices.Contains(RuleKinds(), r.Kind):
		return Errorf(ErrInvalid, User, "Use ban, hold, hold-launches, quota or weight.", "%q is not a kind of rule", Printable(string(r.Kind)))
	case strings.TrimSpace(r.Reason) == "":
		return Errorf(ErrInvalid, User, "Say why: the audit log keeps it.", "A rule needs a reason")
	case len(r.Reason) > 1000 || len(r.Message) > 1000:
		return Errorf(ErrInvalid, User, "Use at most 1000 bytes for each.", "The reason or the message is too long")
	case !r.Until.IsZero() && !r.Until.After(now):
		return Errorf(ErrInvalid, User, "Give a time to come.", "The rule would have expired already")
	case r.Kind == RuleWeight && !(r.Value > 0 && r.Value <= 1000):
		return Errorf(ErrInvalid, User, "Give a number above 0 and up to 1000; everybody has 1.", "%v is not a weight", r.Value)
	case r.Kind == RuleQuota && (r.Value < 0 || r.Value > 1e6 || r.Value != float64(int(r.Value))):
		return Errorf(ErrInvalid, User, "Give a number of sessions.", "%v is not a quota", r.Value)
	case r.Kind == RuleWeight && p.Scope == OnRepository:
		return Errorf(ErrInvalid, User, "Weigh its owner, as in gh/owner/*.", "Slots are shared over owners and requesters, not over repositories")
	case p.Scope == OnNetwork && r.Kind != RuleBan && r.Kind != RuleHoldOpen:
		return Errorf(ErrInvalid, User, "Name one /24 or /48.", "Shares and quotas belong to the blocks that requests are charged to")
	}
	r.Pattern, r.ID = p.String(), RuleID(r.Kind, p)
	r.Reason, r.Message = oneLine(r.Reason), oneLine(r.Message)
	return nil
}

// Words says what a visitor is told whom a rule concerns.
func (r Rule) Words() string {
	if r.Message != "" {
		return r.Message
	}
	return r.Reason
}

// Expired reports whether a rule has ended by itself.
func (r Rule) Expired(now time.Time) bool { return !r.Until.IsZero() && !r.Until.After(now) }

// A Pattern names the repositories or requesters that a rule is about.
type Pattern struct {
	Scope RuleScope
	// Names are what it stands for, as Source.Identity, Source.Owner and Ask.Requester have it, or a network in CIDR
	// notation. A repository of a forge has two: visitors reach it by the forge's prefix and by its URL.
	Names []string
	text  string
}

// String is the pattern as people write it.
func (p Pattern) String() string { return p.text }

// ParsePattern reads what an operator writes:
//
//	gh/owner/repository, https://host/owner/repository   a repository
//	gh/owner/*, https://host/owner/*                     all repositories of an owner
//	192.0.2.7, 192.0.2.0/24, 2001:db8::/48               who asks from there
//	token:1234abcd, local, user:jane                     who asks by that name
func ParsePattern(text string) (Pattern, error) {
	text = strings.TrimSpace(text)
	bad := Errorf(ErrInvalid, User, "Write gh/owner/repository, gh/owner/*, https://host/owner/repository, an address, a network or a requester.",
		"%q is not a pattern of a rule", Printable(text))
	switch {
	case text == "" || len(text) > 500 || hasControl(text) || strings.ContainsAny(text, " \t"):
		return Pattern{}, bad
	case text == "local" || strings.HasPrefix(text, "token:") || strings.HasPrefix(text, "user:"):
		return Pattern{OnRequester, []string{text}, text}, nil
	}
	if p, ok := networkPattern(text); ok {
		return p, nil
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
	if err != nil || strings.Contains(full, "*") || strings.Count(strings.TrimSuffix(full, "/"), "/") < deep {
		return Pattern{}, bad
	}
	if every {
		return Pattern{OnOwner, bothNames(src, Source.Owner), text}, nil
	}
	return Pattern{OnRepository, bothNames(src, Source.Identity), strings.TrimSuffix(strings.TrimSuffix(text, "/"), ".git")}, nil
}

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

// bothNames are the names of a repository, or of its owner, by its URL and by the prefix of its forge.
func bothNames(src Source, name func(Source) string) []string {
	names := []string{name(src)}
	for _, prefix := range []string{"gh", "gl", "gist"} {
		if strings.HasPrefix(src.URL, "https://"+forgeHost(prefix)+"/") {
			src.Provider = prefix
			names = append(names, name(src))
		}
	}
	return names
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
	return Pattern{scope, []string{prefix.String()}, prefix.String()}, true
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
		n, err := netip.ParsePrefix(p.Names[0])
		return err == nil && addr.IsValid() && n.Contains(addr.Unmap())
	}
	return false
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
