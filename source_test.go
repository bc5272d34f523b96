package bindery_test

import (
	"errors"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
)

func TestParseGitSource(t *testing.T) {
	commit := strings.Repeat("a", 40)
	for _, tt := range []struct{ url, ref, wantURL, wantRef, wantIdentity, wantOwner string }{
		{"https://Host.example/o/r.git", "main", "https://host.example/o/r.git", "main", "git:https://host.example/o/r", "git/host.example/o"},
		{"https://host.example/o/r/", "HEAD", "https://host.example/o/r/", "", "git:https://host.example/o/r", "git/host.example/o"},
		{"git@host.example:o/r.git", commit, "ssh://git@host.example/o/r.git", commit, "git:https://host.example/o/r", "git/host.example/o"},
		{"http://127.0.0.1:8080/r", "feature/x", "http://127.0.0.1:8080/r", "feature/x", "git:https://127.0.0.1:8080/r", "git/127.0.0.1:8080/r"},
		{"https://HOST.example.:0443//o/%72%2F/r(1).git", "", "https://host.example/o/r/r(1).git", "", "git:https://host.example/o/r/r(1)", "git/host.example/o"},
		{"http://[2001:DB8:0::1]:80/o/r%20/.git", "", "http://[2001:db8::1]/o/r%20/.git", "", "git:https://[2001:db8::1]/o/r%20", "git/[2001:db8::1]/o"},
		{"file:///srv/git/r.git", "v1.0", "file:///srv/git/r.git", "v1.0", "git:file:///srv/git/r", "git/file:///srv/git/r.git"},
	} {
		got, err := bindery.ParseGitSource(tt.url, tt.ref)
		if err != nil {
			t.Errorf("ParseGitSource(%q, %q): %v", tt.url, tt.ref, err)
			continue
		}
		if got.Provider != bindery.ProviderGit || got.URL != tt.wantURL || got.Ref != tt.wantRef {
			t.Errorf("ParseGitSource(%q, %q) = %+v", tt.url, tt.ref, got)
		}
		if got.Identity() != tt.wantIdentity {
			t.Errorf("Identity of %q = %q, want %q", tt.url, got.Identity(), tt.wantIdentity)
		}
		if got.Owner() != tt.wantOwner {
			t.Errorf("Owner of %q = %q, want %q", tt.url, got.Owner(), tt.wantOwner)
		}
	}
}

func TestParseGitSourceRefuses(t *testing.T) {
	for _, tt := range []struct{ url, ref string }{
		{"", ""}, {"r", ""}, {"/srv/r", ""}, {"-uevil", ""}, {"--upload-pack=x", ""},
		{"ext::sh -c touch% /x", ""}, {"javascript:alert(1)", ""}, {"ftp://host/r", ""},
		{"https:///r", ""}, {"file://host/r", ""}, {"ssh://-oProxyCommand=x/r", ""}, {"ssh://-l@host/r", ""},
		{"-x@host:r", ""}, {"https://user:secret@host/r", ""}, {"https://token@host/r", ""}, {"ssh://u:p@host/r", ""},
		{"https://host/o/../r", ""}, {"https://host/./r", ""}, {"https://host/o/%2e%2E/r", ""}, {"https://host/o%2F..%2Fr", ""}, {"https://host/o/r/..", ""},
		{"https://host/r?x=1", ""}, {"https://host/r?", ""}, {"https://host/r#readme", ""}, {"git@host:o/r?x", ""}, {"https://host/r%0a", ""},
		{"https://ho\u017ft/r", ""}, {"https://\uff47ithub.com/o/r", ""}, {"https://./r", ""}, {"file:r", ""},
		{"https://host/r\nx", ""}, {"https://host/r\x00", ""},
		{"https://host/r", "-x"}, {"https://host/r", "--upload-pack=x"}, {"https://host/r", "a..b"}, {"https://host/r", "a b"},
		{"https://host/r", "a\nb"}, {"https://host/r", "x@{1}"}, {"https://host/r", "x:y"}, {"https://host/r", strings.Repeat("a", 256)},
	} {
		src, err := bindery.ParseGitSource(tt.url, tt.ref)
		if err == nil {
			t.Errorf("ParseGitSource(%q, %q) = %+v, want an error", tt.url, tt.ref, src)
			continue
		}
		e := bindery.AsError(err)
		if !errors.Is(err, bindery.ErrInvalid) || e.Fault != bindery.User || e.Remedy == "" {
			t.Errorf("ParseGitSource(%q, %q): %#v, want an invalid of the user's with a remedy", tt.url, tt.ref, e)
		}
		if strings.Contains(e.Error(), "secret") {
			t.Errorf("ParseGitSource(%q): the message shows the secret: %v", tt.url, e)
		}
	}
}

func TestCleanSubdir(t *testing.T) {
	for in, want := range map[string]string{"": "", ".": "", "a": "a", "/a/b/": "a/b", "a/./b": "a/b", "ä ö": "ä ö"} {
		if got, err := bindery.CleanSubdir(in); err != nil || got != want {
			t.Errorf("CleanSubdir(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"..", "../x", "a/../../x", "a/..", "x\x00"} {
		if got, err := bindery.CleanSubdir(in); err == nil {
			t.Errorf("CleanSubdir(%q) = %q, want an error", in, got)
		}
	}
}

func FuzzParseGitSource(f *testing.F) {
	f.Add("https://host/o/r", "main")
	f.Add("git@host:o/r", "-x")
	f.Fuzz(func(t *testing.T, url, ref string) {
		src, err := bindery.ParseGitSource(url, ref)
		if err != nil {
			return
		}
		if strings.HasPrefix(src.URL, "-") || strings.HasPrefix(src.Ref, "-") || strings.ContainsAny(src.URL+src.Ref, "\n\r\x00") {
			t.Errorf("ParseGitSource(%q, %q) lets through %+v", url, ref, src)
		}
		again, err := bindery.ParseGitSource(src.URL, src.Ref)
		if err != nil || again.Identity() != src.Identity() {
			t.Errorf("ParseGitSource(%q) is not stable: %+v, %v", src.URL, again, err)
		}
	})
}
