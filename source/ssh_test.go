package source_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestMain lets the test program be what git starts in place of ssh.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "git-ssh" {
		if err := source.SSHHelper(os.Args[2:], os.Getenv, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func bySSH(t *testing.T, at *sourcetest.SSH) func(*source.Config) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(c *source.Config) {
		c.Policy.SSH = source.SSH{Helper: []string{program, "git-ssh"}, KnownHosts: at.KnownHosts, Keys: map[string]string{at.Addr: at.Key}}
	}
}

func TestSSH(t *testing.T) {
	srv := sourcetest.Start(t)
	at := srv.SSH()
	part := srv.Repo("ann/part")
	sub := part.Commit("main", map[string]string{"b": "2"})
	r := srv.Repo("ann/demo")
	first := r.Commit("main", map[string]string{"a": "1"})
	r.Submodule("main", "part", "part", "../part", sub)
	s := start(t, bySSH(t, at))
	url := "ssh://git@" + at.Addr + "/ann/demo"
	dir, _ := checkout(t, s, git(url, "main"))
	if read(t, dir, "a") != "1" || read(t, dir, "part/b") != "2" {
		t.Error("not everything is there")
	}
	wantRepo(t, dir, url)
	for _, ref := range []string{first, first[:8]} {
		if got, err := s.Resolve(t.Context(), git(url, ref)); err != nil || got.Commit != first {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	for _, line := range at.Ran() {
		if !strings.HasPrefix(line, "version=2 git-upload-pack '/ann/") {
			t.Errorf("the server ran %q", line)
		}
	}
	_, err := s.Resolve(t.Context(), git("ssh://git@"+at.Addr+"/ann/none", "main"))
	wantError(t, err, bindery.ErrRepoNotFound, bindery.User)
}

func TestSSHRefusals(t *testing.T) {
	srv := sourcetest.Start(t)
	at, other := srv.SSH(), srv.SSH()
	srv.Repo("demo").Commit("main", map[string]string{"a": "1"})
	s := start(t, bySSH(t, at))
	for _, url := range []string{
		"ssh://git@" + other.Addr + "/demo",                       // a host that is not in the configuration
		"ssh://git@127.0.0.1/demo",                                // another port of one that is
		"ssh://git@" + at.Addr + "/demo'$(touch /tmp/x)'",         // quotes
		"ssh://git@" + at.Addr + "/demo';git-receive-pack '/demo", // another command
		"ssh://git@10.0.0.1/demo", "git://" + at.Addr + "/demo",
	} {
		_, err := s.Resolve(t.Context(), git(url, "main"))
		if e := bindery.AsError(err); err == nil || e.Fault != bindery.User || e.Remedy == "" {
			t.Errorf("%s: %#v", url, err)
		}
	}
	for _, line := range append(at.Ran(), other.Ran()...) {
		if !strings.HasSuffix(line, "git-upload-pack '/demo'") && !strings.HasSuffix(line, "git-upload-pack '/demo.git'") {
			t.Errorf("a server ran %q", line)
		}
	}
	// Another host with the same address, and a key that is not let in.
	for name, c := range map[string]struct {
		change func(*source.SSH)
		kind   bindery.Kind
		fault  bindery.Fault
	}{
		"false host":  {func(c *source.SSH) { c.KnownHosts = other.KnownHosts }, bindery.ErrNotAllowed, bindery.Ours},
		"other key":   {func(c *source.SSH) { c.Keys[at.Addr] = other.Key }, bindery.ErrRepoNotFound, bindery.User},
		"no key":      {func(c *source.SSH) { c.Keys[at.Addr] = filepath.Join(t.TempDir(), "none") }, bindery.ErrNotReady, bindery.Ours},
		"damaged key": {func(c *source.SSH) { c.Keys[at.Addr] = at.KnownHosts }, bindery.ErrNotReady, bindery.Ours},
	} {
		s := start(t, bySSH(t, at), func(cfg *source.Config) { c.change(&cfg.Policy.SSH) })
		_, err := s.Resolve(t.Context(), git("ssh://git@"+at.Addr+"/demo", "main"))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		wantError(t, err, c.kind, c.fault)
	}
	_, err := start(t).Resolve(t.Context(), git("ssh://git@"+at.Addr+"/demo", "main"))
	wantError(t, err, bindery.ErrNotAllowed, bindery.User)
}
