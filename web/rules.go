package web

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Rules say who may ask for launches, how often, and of what. They are BinderHub's settings of the same names, and come
// from the configuration; bans and quotas that operators make while the hub runs are the queue's.
type Rules struct {
	// Requests that carry no build token of our pages may ask so often in each Window; 0: no limit.
	Requests int
	Window   time.Duration // default: an hour

	Networks []NetworkBan // may not ask at all

	RepoQuota       int // sessions of one repository at once; 0: no limit but the queue's
	RepoQuotaHigher int // the same for specs that SpecRules.HighQuota matches

	Specs map[string]SpecRules // by provider
}

// A NetworkBan keeps a network out. The label is told to those who are concerned.
type NetworkBan struct {
	Prefix netip.Prefix
	Label  string
}

// SpecRules are about specs of one provider. Patterns match in any case, at the start of the spec as it is usually written;
// bans at the start of the spec as it was sent, too.
type SpecRules struct {
	Banned    []string
	Allowed   []string // when there are any: all others are banned
	HighQuota []string
	Config    []SpecConfig // of those that match, the last one with a quota counts
}

// A SpecConfig changes the settings of the specs that it matches.
type SpecConfig struct {
	Pattern string
	Quota   *int // 0: no limit
}

// ruleset is Rules with its patterns compiled.
type ruleset struct {
	Rules
	specs map[string]specRules
}

type specRules struct {
	banned, allowed, high patterns
	config                []specConfig
}

type specConfig struct {
	patterns
	quota *int
}

type patterns []*regexp.Regexp

// match reports whether a pattern matches one of the specs.
func (p patterns) match(specs ...string) bool {
	return slices.ContainsFunc(p, func(re *regexp.Regexp) bool { return slices.ContainsFunc(specs, re.MatchString) })
}

func compile(list []string) (patterns, error) {
	var out patterns
	for _, text := range list {
		re, err := regexp.Compile(`(?i)\A(?:` + text + `)`)
		if err != nil {
			return nil, fmt.Errorf("web: the pattern %q cannot be read: %w", text, err)
		}
		out = append(out, re)
	}
	return out, nil
}

func newRuleset(r Rules) (*ruleset, error) {
	if r.Requests < 0 || r.RepoQuota < 0 || r.RepoQuotaHigher < 0 || r.Window < 0 {
		return nil, errors.New("web: limits and quotas are not negative")
	}
	if r.Window == 0 {
		r.Window = time.Hour
	}
	out := &ruleset{Rules: r, specs: map[string]specRules{}}
	for provider, in := range r.Specs {
		var c specRules
		var errs [3]error
		c.banned, errs[0] = compile(in.Banned)
		c.allowed, errs[1] = compile(in.Allowed)
		c.high, errs[2] = compile(in.HighQuota)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		for _, sc := range in.Config {
			p, err := compile([]string{sc.Pattern})
			if err != nil {
				return nil, err
			}
			c.config = append(c.config, specConfig{p, sc.Quota})
		}
		out.specs[provider] = c
	}
	return out, nil
}

// Check refuses rules that cannot be used: patterns above all.
func (r Rules) Check() error {
	_, err := newRuleset(r)
	return err
}

// bannedNetwork returns the label of the ban that a is under.
func (r *ruleset) bannedNetwork(a netip.Addr) (label string, banned bool) {
	for _, b := range r.Networks {
		if b.Prefix.Contains(a) {
			return b.Label, true
		}
	}
	return "", false
}

// allows reports whether the configuration lets a source be launched that a link names, or no link. A ban counts by
// whatever name, and by the link as it was sent; what is allowed, only by usual names: a spelling must not widen it.
func (r *ruleset) allows(link spec, names []name) bool {
	if r.specs[link.provider].banned.match(strings.TrimRight(link.raw, "/")) {
		return false
	}
	for _, n := range names {
		c := r.specs[n.provider]
		if c.banned.match(n.specs...) || n.decides && len(c.allowed) > 0 && !c.allowed.match(n.specs...) {
			return false
		}
	}
	return true
}

// quota returns how many sessions of a source's repository there may be; 0: as the queue is configured. Of what several
// providers say the least counts.
func (r *ruleset) quota(names []name) int {
	least := -1
	for _, n := range names {
		if q := r.quotaAt(n); n.decides && (least < 0 || q != 0 && (least == 0 || q < least)) {
			least = q
		}
	}
	if least < 0 {
		return r.RepoQuota
	}
	return least
}

// quotaAt is what the rules of one provider say.
func (r *ruleset) quotaAt(n name) int {
	c, most := r.specs[n.provider], r.RepoQuota
	if r.RepoQuotaHigher > 0 && c.high.match(n.specs...) {
		most = r.RepoQuotaHigher
	}
	for _, sc := range c.config {
		if sc.quota != nil && sc.match(n.specs...) {
			most = *sc.quota
		}
	}
	return most
}

// notAllowed is told to whoever asks for what the configuration bans.
func notAllowed(spec string) *bindery.Error {
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Ask the operator of this hub.", "This hub does not launch %s", bindery.Printable(spec))
}
