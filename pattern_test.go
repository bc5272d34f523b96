package bindery_test

import (
	"errors"
	"net/netip"
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
		"gl/group/project":                          {bindery.OnRepository, []string{"git:https://gitlab.com/group/project"}, "gl/group/project"},
		" https://example.org/o/r/ ":                {bindery.OnRepository, []string{"git:https://example.org/o/r"}, "https://example.org/o/r"},
		"ssh://git@example.org/o/r":                 {bindery.OnRepository, []string{"git:ssh://git@example.org/o/r"}, "ssh://git@example.org/o/r"},
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
	for _, text := range []string{"", "*", "gh/*", "gh/o", "gh/o/r*", "nope", "git/", "-x", "a b", "192.0.2.0/99", "https://u:p@example.org/o/r", "gh/o/\x00"} {
		if p, err := bindery.ParsePattern(text); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%q: %v, %v", text, p, err)
		}
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
