package bindery

import (
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Bounds of a regular expression in a rule, and of what it is tried on. Go's engine takes time in proportion to both,
// whatever the expression is.
const (
	mostExpression   = 300  // bytes
	mostInstructions = 2000 // of its program: what repetition makes of it
	mostMatched      = 2000 // bytes
)

// A Matcher tells whether something is among what a pattern of OnSpec or OnNetwork names.
type Matcher struct {
	re  *regexp.Regexp
	net netip.Prefix
}

// NewMatcher reads a name of a rule of that scope.
func NewMatcher(scope, name string) (Matcher, error) {
	if scope == OnNetwork {
		net, err := netip.ParsePrefix(name)
		if err != nil {
			return Matcher{}, Errorf(ErrInvalid, User, "Write it as 192.0.2.0/24.", "%q is not a network", Printable(name))
		}
		return Matcher{net: net.Masked()}, nil
	}
	const remedy = "Write a regular expression of RE2 for specs such as gh/owner/repository/ref, which begins with ^."
	if len(name) > mostExpression {
		return Matcher{}, Errorf(ErrInvalid, User, "Write a shorter one.", "The expression is longer than %d bytes", mostExpression)
	}
	parsed, err := syntax.Parse(name, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return Matcher{}, Errorf(ErrInvalid, User, remedy, "%q is not a regular expression: %s", Printable(name), Printable(err.Error()))
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(prog.Inst) > mostInstructions {
		return Matcher{}, Errorf(ErrInvalid, User, "Repeat less often.", "%q is too large a regular expression", Printable(name))
	}
	// As BinderHub's banned_specs: at the start of the spec, in any case.
	re, err := regexp.Compile(`(?i)\A(?:` + name + `)`)
	if err != nil {
		return Matcher{}, Errorf(ErrInvalid, User, remedy, "%q is not a regular expression: %s", Printable(name), Printable(err.Error()))
	}
	return Matcher{re: re}, nil
}

// CheckSpecs refuses an expression that begins as no spec does, as Source.Link writes it: mostly one of BinderHub's
// banned_specs, which have no provider in front. Of what begins with a choice nothing is known.
func CheckSpecs(expression string) error {
	re, err := regexp.Compile(strings.TrimPrefix(expression, "^"))
	if err != nil || !strings.HasPrefix(expression, "^") {
		return nil // NewMatcher says why, or it is looked for anywhere
	}
	prefix, _ := re.LiteralPrefix()
	prefix = strings.ToLower(prefix)
	for _, begin := range specBeginnings() {
		if strings.HasPrefix(prefix, begin) || strings.HasPrefix(begin, prefix) {
			return nil
		}
	}
	return Errorf(ErrInvalid, User, "Specs are written as gh/owner/repository/ref here, with the provider in front: begin it with ^gh/, with ^gl/, or with ^https:// and the server.",
		"%q matches no spec of any provider", Printable(expression))
}

// specBeginnings are what every spec begins with one of.
func specBeginnings() (out []string) {
	for _, prefix := range forgePrefixes() {
		out = append(out, prefix+"/")
	}
	for scheme := range schemes {
		out = append(out, scheme+"://")
	}
	for _, kind := range archiveKinds() {
		out = append(out, kind+":")
	}
	return append(out, "/") // a directory of this machine
}

// Matches reports whether a spec, as Source.Link writes it, or an address or a block of addresses is meant. A block
// that is only partly in the network is not.
func (m Matcher) Matches(subject string) bool {
	if m.re != nil {
		return m.re.MatchString(subject[:min(len(subject), mostMatched)])
	}
	block, err := netip.ParsePrefix(subject)
	if err != nil {
		addr, err := netip.ParseAddr(subject)
		if err != nil {
			return false
		}
		addr = addr.Unmap().WithZone("")
		block = netip.PrefixFrom(addr, addr.BitLen())
	}
	return m.net.IsValid() && m.net.Bits() <= block.Bits() && m.net.Contains(block.Addr())
}

// Link is the source as rules with expressions see it: the repository as operators write it, and the ref that was asked
// for, such as "gh/owner/repository/main". However a link spells the repository, this is the same.
func (s Source) Link() string {
	spec := SpecText(s.Identity(), s.Ref)
	if s.Subdir != "" {
		spec += "/" + strings.Trim(s.Subdir, "/")
	}
	return spec
}

// SpecText is the spec of a repository, by its identity, and a ref; none is the default branch.
func SpecText(identity, ref string) string {
	if ref == "" {
		ref = "HEAD"
	}
	return PatternText(OnRepository, identity) + "/" + ref
}
