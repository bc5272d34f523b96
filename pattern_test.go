package bindery_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
)

func TestPatterns(t *testing.T) {
	for text, want := range map[string]struct {
		scope string
		names []string
		text  string
	}{
		"gh/jupyterlab/jupyterlab-demo":             {bindery.OnRepository, []string{"git:https://github.com/jupyterlab/jupyterlab-demo"}, "gh/jupyterlab/jupyterlab-demo"},
		"https://github.com/o/r.git":                {bindery.OnRepository, []string{"git:https://github.com/o/r"}, "gh/o/r"},
		"gh/jupyterlab/*":                           {bindery.OnOwner, []string{"gh/jupyterlab"}, "gh/jupyterlab/*"},
		"git/https://example.org/o/r":               {bindery.OnRepository, []string{"git:https://example.org/o/r"}, "https://example.org/o/r"},
		"https://example.org/o/*":                   {bindery.OnOwner, []string{"git/example.org/o"}, "https://example.org/o/*"},
		"192.0.2.7":                                 {bindery.OnNetwork, []string{"192.0.2.7/32"}, "192.0.2.7/32"},
		"192.0.2.9/24":                              {bindery.OnRequester, []string{"192.0.2.0/24"}, "192.0.2.0/24"},
		"2001:db8::/48":                             {bindery.OnRequester, []string{"2001:db8::/48"}, "2001:db8::/48"},
		"10.0.0.0/8":                                {bindery.OnNetwork, []string{"10.0.0.0/8"}, "10.0.0.0/8"},
		"token:1234abcd":                            {bindery.OnRequester, []string{"token:1234abcd"}, "token:1234abcd"},
		"local":                                     {bindery.OnRequester, []string{"local"}, "local"},
		"file:///srv/course.git":                    {bindery.OnRepository, []string{"git:file:///srv/course"}, "file:///srv/course"},
		"gl/group/project":                          {bindery.OnRepository, []string{"git:https://gitlab.com/group/project"}, "gl/group/project"},
		" https://example.org/o/r/ ":                {bindery.OnRepository, []string{"git:https://example.org/o/r"}, "https://example.org/o/r"},
		"ssh://git@example.org/o/r":                 {bindery.OnRepository, []string{"git:https://example.org/o/r"}, "https://example.org/o/r"},
		"gl/Group/Project":                          {bindery.OnRepository, []string{"git:https://gitlab.com/group/project"}, "gl/group/project"},
		"https://github.com:443/o/*":                {bindery.OnOwner, []string{"gh/o"}, "gh/o/*"},
		"https://github.com/jupyterlab/*":           {bindery.OnOwner, []string{"gh/jupyterlab"}, "gh/jupyterlab/*"},
		"2001:db8::1":                               {bindery.OnNetwork, []string{"2001:db8::1/128"}, "2001:db8::1/128"},
		"https://EXAMPLE.org/Owner/Project":         {bindery.OnRepository, []string{"git:https://example.org/Owner/Project"}, "https://example.org/Owner/Project"},
		"zenodo:https://zenodo.org/records/3242074": {bindery.OnRepository, []string{"zenodo:https://zenodo.org/records/3242074"}, "zenodo:https://zenodo.org/records/3242074"},
	} {
		p, err := bindery.ParsePattern(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if d := cmp.Diff(want.names, p.Names); d != "" || p.Scope != want.scope || p.String() != want.text {
			t.Errorf("%q: %s %q\n%s", text, p.Scope, p, d)
		}
		if again, err := bindery.ParsePattern(p.String()); err != nil || again.String() != p.String() {
			t.Errorf("%q is written as %q, which is read as %q, %v", text, p, again, err)
		}
	}
	for _, text := range []string{"", "*", "gh/*", "gh/o", "gh/o//", "gh/o/../r", "gh/o/r?x", "gh/o/r*", "nope", "git/", "-x", "a b", "192.0.2.0/99", "https://u:p@example.org/o/r", "gh/o/\x00", "file:///srv/*", "git/file:///srv/*"} {
		if p, err := bindery.ParsePattern(text); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	}
	local := bindery.Source{Provider: bindery.ProviderGit, URL: "file:///srv/course"}
	if got := bindery.PatternText(bindery.OnOwner, local.Owner()); got != "file:///srv/course" {
		t.Errorf("the owner of a directory is shown as %q", got)
	}
}

func TestConcerns(t *testing.T) {
	src := bindery.Source{Provider: "git", URL: "https://github.com/o/r.git"}
	addr := netip.MustParseAddr("192.0.2.7")
	for text, want := range map[string]bool{
		"gh/o/r": true, "gh/o/*": true, "gh/o/other": false, "gh/x/*": false, "192.0.2.0/24": true, "192.0.2.7": true, "192.0.2.8": false,
		"192.0.0.0/16": true, "198.51.100.0/24": false, "token:1234": false, "::/0": false,
	} {
		p, err := bindery.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Concerns(src, "192.0.2.0/24", addr); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestExpressions is about rules in the form of BinderHub's banned_specs.
func TestExpressions(t *testing.T) {
	p, err := bindery.ParsePattern(`^gh/(jupyterlab|rasahq)/.*/(main|master)$`)
	if err != nil || p.Scope != bindery.OnSpec || p.String() != p.Names[0] {
		t.Fatalf("%+v, %v", p, err)
	}
	at := func(url, ref string) bool {
		src, err := bindery.ParseGitSource(url, ref)
		if err != nil {
			t.Fatal(err)
		}
		return p.Concerns(src, "local", netip.Addr{})
	}
	for url, want := range map[string]bool{
		"https://github.com/JupyterLab/jupyterlab-demo": true, "https://github.com/jupyterlab/jupyterlab-demo.git": true,
		"https://www.github.com/RasaHQ/rasa_core": true, "https://github.com/other/rasa": false, "https://gitlab.com/jupyterlab/demo": false,
	} {
		if got := at(url, "main"); got != want {
			t.Errorf("%s: %v", url, got)
		}
	}
	if at("https://github.com/jupyterlab/demo", "other") {
		t.Error("another ref")
	}
	for name, text := range map[string]string{
		"unclosed": "^gh/(", "look-behind": "^(?<=x)", "large": "^(((a{100}){100}){100})", "much": "^" + strings.Repeat("a", 400),
		"repeated": "^(abc){900}", "space": "^gh/a b",
	} {
		if _, err := bindery.ParsePattern(text); !errors.Is(err, bindery.ErrInvalid) || bindery.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What takes a backtracking engine years.
	m, err := bindery.NewMatcher(bindery.OnSpec, `^(a|a|aa)*$`)
	if err != nil || m.Matches(strings.Repeat("a", 100_000)+"b") != true { // only its start is looked at
		t.Errorf("a hostile expression: %v", err)
	}
}

// TestImpossibleExpressions: an expression that no spec can match, such as one pasted from BinderHub's configuration, is
// told apart from one that matches what is not there yet.
func TestImpossibleExpressions(t *testing.T) {
	for text, want := range map[string]bool{
		"^jupyterlab/jupyterlab-demo.*": false, "^github.com/ann/": false, "^gh:ann/": false, `^gh/ann\b`: true, "^git/https": false, "^ghx/": false, "^ssh:/x": false, "^zenodo/": false,
		"^[a-f]": true, "^": true, "^.*/rasa_core": true, "^[^/]+/ann/": true, "^GH/Ann/": true, "^gl/": true, "^gist/": true, "^https://git.example.org/": true, "^ssh://": true,
		"^zenodo:https://zenodo.org/records/1": true, "^/home/ann/": true, "^g(h|l)/(a|b)": true, "^(?:x|gh/)ann": true, "^gh/ann/^x": true, "^h": true,
	} {
		err := bindery.CheckSpecs(text)
		if (err == nil) != want || err != nil && (!errors.Is(err, bindery.ErrInvalid) || !strings.Contains(bindery.AsError(err).Remedy, "^gh/")) {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := bindery.ParsePattern(text); err != nil {
			t.Errorf("one that was made before cannot be lifted: %v", err)
		}
	}
}

// TestNetworks is about networks of any size: an address, or the block that is all that is known of it.
func TestNetworks(t *testing.T) {
	for network, subjects := range map[string]map[string]bool{
		"192.0.0.0/16":  {"192.0.2.7": true, "192.0.2.0/24": true, "192.1.2.7": false, "::ffff:192.0.2.7": true, "": false, "token:x": false},
		"192.0.2.6/31":  {"192.0.2.7": true, "192.0.2.8": false, "192.0.2.0/24": false},
		"2001:db8::/32": {"2001:db8:1::5": true, "2001:db8:1::/48": true, "2001:db9::1": false, "192.0.2.7": false},
		"0.0.0.0/0":     {"192.0.2.7": true, "2001:db8::1": false},
	} {
		m, err := bindery.NewMatcher(bindery.OnNetwork, network)
		if err != nil {
			t.Fatal(err)
		}
		for subject, want := range subjects {
			if got := m.Matches(subject); got != want {
				t.Errorf("%s in %s: %v", subject, network, got)
			}
		}
	}
	if _, err := bindery.NewMatcher(bindery.OnNetwork, "192.0.2.0/33"); !errors.Is(err, bindery.ErrInvalid) {
		t.Error(err)
	}
}
