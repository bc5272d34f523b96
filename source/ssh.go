package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	bindery "github.com/bindery-hub/bindery"
)

// SSH says how repositories are read over ssh. Neither the key nor an ssh program is in git's box: git starts Helper
// there, which hands its lines to the guard, and the guard speaks ssh.
type SSH struct {
	Helper     []string          // a program and its first arguments, which calls SSHHelper; required
	KnownHosts string            // file of the keys of hosts, in OpenSSH's form; a host that is not in it is refused
	Keys       map[string]string // file of the private key, by host or host:port; other hosts are refused
}

// key returns the file of the key for a host.
func (s SSH) key(host, port string) (string, bool) {
	if f, ok := s.Keys[net.JoinHostPort(host, port)]; ok {
		return f, true
	}
	f, ok := s.Keys[host]
	return f, ok && port == "22"
}

// helper is the program in place of ssh, with links followed: it is shown to git by itself.
func (s SSH) helper() []string {
	if len(s.Keys) == 0 || len(s.Helper) == 0 {
		return nil
	}
	program, err := filepath.EvalSymlinks(s.Helper[0])
	if err != nil {
		program = s.Helper[0]
	}
	return append([]string{program}, s.Helper[1:]...)
}

// shellWords writes words for a shell, which is what git hands the variable to. They are ours, and quoted all the same.
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// allows reports whether repositories at u may be read.
func (s SSH) allows(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = "22"
	}
	_, ok := s.key(u.Hostname(), port)
	return ok
}

// Headers in which the helper tells the guard what git wants.
const (
	sshUser     = "Bindery-Ssh-User"
	sshCommand  = "Bindery-Ssh-Command"
	sshProtocol = "Bindery-Ssh-Protocol"
)

// uploadRE is the one command that is run at other people's servers. Git quotes for a shell; what needs more than plain
// quotes is refused, since nobody knows what shell there is.
var uploadRE = regexp.MustCompile(`^git-upload-pack '[^'\\!\x00-\x1f]+'$`)

// dialSSH connects to hostport as user, with a host key that is known.
func (g *guard) dialSSH(ctx context.Context, hostport, user string) (*ssh.Client, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Correct the URL.", "%q is not an address", bindery.Printable(hostport))
	}
	file, ok := g.ssh.key(host, port)
	if !ok {
		return nil, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use the https URL of the repository.", "Repositories are not read by ssh from %s here", bindery.Printable(host))
	}
	operator := func(err error) error {
		return bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "The operator has to repair ssh in the configuration.", "Repositories of %s cannot be read by ssh", bindery.Printable(host)).Because(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, operator(err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, operator(errors.New("the key cannot be read")) // its parser's words may quote it
	}
	known, err := knownhosts.New(g.ssh.KnownHosts)
	if err != nil {
		return nil, operator(err)
	}
	far, err := g.dialURL(ctx, "tcp", hostport)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = far.Close() })
	defer stop()
	conn, chans, reqs, err := ssh.NewClientConn(far, hostport, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known, HostKeyAlgorithms: algorithms(known, hostport, far.RemoteAddr()), Timeout: dialTimeout,
	})
	if err == nil {
		return ssh.NewClient(conn, chans, reqs), nil
	}
	_ = far.Close()
	if _, ok := errors.AsType[*knownhosts.KeyError](err); ok {
		return nil, bindery.Errorf(bindery.ErrNotAllowed, bindery.Ours, "The operator has to compare the host's key with known_hosts in the configuration.",
			"%s does not show the key that it is known by", bindery.Printable(host)).Because(err)
	}
	if strings.Contains(err.Error(), "unable to authenticate") {
		return nil, bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Ask the operator to give the hub access.", "%s does not let this hub in", bindery.Printable(host)).Because(err)
	}
	return nil, unreachable("%s cannot be spoken to by ssh", bindery.Printable(hostport)).Because(err)
}

// algorithms are those of the keys that the host is known by: asked for another kind, an honest host would look like a
// false one.
func algorithms(known ssh.HostKeyCallback, hostport string, addr net.Addr) []string {
	var wrong *knownhosts.KeyError
	if !errors.As(known(hostport, addr, noKey{}), &wrong) {
		return nil
	}
	var all []string
	for _, k := range wrong.Want {
		if t := k.Key.Type(); t == ssh.KeyAlgoRSA {
			all = append(all, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			all = append(all, t)
		}
	}
	return all
}

// noKey is nobody's key: asked about it, known hosts tell which keys they have.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("nobody's key") }

// serveSSH runs the server's part of a fetch at another host and joins it to the helper in the box.
func (g *guard) serveSSH(w http.ResponseWriter, r *http.Request, t *ticket) {
	command, err := base64.StdEncoding.DecodeString(r.Header.Get(sshCommand))
	user := r.Header.Get(sshUser)
	if err != nil || !uploadRE.Match(command) || user == "" || strings.HasPrefix(user, "-") {
		g.refuse(w, t, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use a URL like ssh://git@host/owner/repository.", "The address of the repository has characters that are not allowed"))
		return
	}
	client, err := g.dialSSH(r.Context(), r.Host, user)
	if err != nil {
		g.refuse(w, t, err)
		return
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		g.refuse(w, t, err)
		return
	}
	if p := r.Header.Get(sshProtocol); p == "version=2" || p == "version=1" {
		_ = session.Setenv("GIT_PROTOCOL", p) // a server may refuse; git finds out
	}
	said := &tail{}
	session.Stderr = said
	in, err1 := session.StdinPipe()
	out, err2 := session.StdoutPipe()
	if err := errors.Join(err1, err2, session.Start(string(command))); err != nil {
		g.refuse(w, t, err)
		return
	}
	near, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no tunnel", http.StatusInternalServerError)
		return
	}
	defer near.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	defer context.AfterFunc(r.Context(), func() { _, _ = near.Close(), client.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(in, rest(near, buf)) // an end that is gone ends the tunnel
		_ = in.Close()
	})
	_, _ = io.Copy(near, out)
	// A server that gives up says so by its exit status; one whose connection we closed says nothing.
	if exit, ok := errors.AsType[*ssh.ExitError](session.Wait()); ok {
		t.note(sshFailure(said.String(), exit))
	}
	_ = near.Close()
	wg.Wait()
}

// sshFailure says why the far end gave up. Servers tell it in words of their own.
func sshFailure(said string, err error) *bindery.Error {
	low := strings.ToLower(said)
	for _, s := range []string{"not found", "does not exist", "does not appear to be a git repository", "denied", "not permitted", "could not read"} {
		if strings.Contains(low, s) {
			return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check the address, and that the hub's key may read the repository.",
				"There is no Git repository at this address that this hub may read").Because(err)
		}
	}
	return unreachable("The server of the repository ended the connection").Because(fmt.Errorf("%w: %s", err, bindery.Printable(said)))
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() < 4096 {
		t.b.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// SSHHelper is what git runs in its box in place of ssh: it reads OpenSSH's arguments as git gives them, asks the
// guard for the connection, and copies. It knows no key and reaches nothing but the guard.
func SSHHelper(args []string, getenv func(string) string, stdin io.Reader, stdout io.Writer) error {
	port, rest := "22", args
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		switch {
		case rest[0] == "-p" && len(rest) > 1:
			port, rest = rest[1], rest[2:]
		case rest[0] == "-o" && len(rest) > 1:
			rest = rest[2:]
		default:
			rest = rest[1:]
		}
	}
	if len(rest) != 2 {
		return errors.New("want [user@]host and a command")
	}
	user, host, ok := strings.Cut(rest[0], "@")
	if !ok {
		user, host = "git", rest[0]
	}
	proxy, err := url.Parse(getenv("http_proxy"))
	if err != nil || proxy.Host == "" {
		return errors.New("there is no guard")
	}
	conn, err := net.DialTimeout("tcp", proxy.Host, dialTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * dialTimeout))
	at := proxy.User.Username() + ":x"
	far, err := askTunnelWith(conn, net.JoinHostPort(strings.Trim(host, "[]"), port), http.Header{
		"Proxy-Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(at))},
		sshUser:               {user}, sshCommand: {base64.StdEncoding.EncodeToString([]byte(rest[1]))}, sshProtocol: {getenv("GIT_PROTOCOL")},
	})
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	go func() { pour(conn, stdin) }() // it ends with the process
	_, err = io.Copy(stdout, far)
	return err
}
