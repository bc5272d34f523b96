package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
)

// sshConfig says which hosts repositories are read from by ssh.
type sshConfig struct {
	KnownHosts string            `yaml:"known_hosts"`
	Keys       map[string]string `yaml:"keys"`
}

// gitSSHCommand is what git runs in its box in place of ssh.
const gitSSHCommand = "git-ssh"

// gitSSH is that process. Like the sessions' shim it is no command of the parser's.
func gitSSH(args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	if err := source.SSHHelper(args, getenv, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "bindery: git-ssh:", err)
		return exitFailed
	}
	return exitOK
}

func (c sshConfig) source() source.SSH {
	return source.SSH{Helper: []string{ourselves(), gitSSHCommand}, KnownHosts: c.KnownHosts, Keys: c.Keys}
}

func (c sshConfig) check() error {
	if len(c.Keys) > 0 && c.KnownHosts == "" {
		return errors.New("ssh: keys need known_hosts: a host whose key is not known is not spoken to")
	}
	for what, file := range map[string]string{"known_hosts": c.KnownHosts} {
		if file != "" && !filepath.IsAbs(file) {
			return fmt.Errorf("ssh: %s is not an absolute path", what)
		}
	}
	for host, file := range c.Keys {
		if !filepath.IsAbs(file) {
			return fmt.Errorf("ssh: the key of %q is not an absolute path", bindery.Printable(host))
		}
	}
	return nil
}
