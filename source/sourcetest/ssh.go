package sourcetest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// An SSH server serves a Server's repositories by the real git upload-pack, to one key.
type SSH struct {
	Addr       string // host:port
	KnownHosts string // file with the server's key
	Key        string // file of the key that it lets in

	s  *Server
	mu sync.Mutex
	// commands that were run, and with which protocol
	ran []string
}

// SSH starts such a server.
func (s *Server) SSH() *SSH {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = l.Close() })
	dir := s.t.TempDir()
	out := &SSH{Addr: l.Addr().String(), KnownHosts: filepath.Join(dir, "known_hosts"), Key: filepath.Join(dir, "key"), s: s}
	host, _ := newKey(s.t)
	user, raw := newKey(s.t)
	line := knownhosts.Line([]string{out.Addr}, host.PublicKey())
	for file, text := range map[string]string{out.KnownHosts: line + "\n", out.Key: raw} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() == "git" && string(key.Marshal()) == string(user.PublicKey().Marshal()) {
			return &ssh.Permissions{}, nil
		}
		return nil, fmt.Errorf("%s is not let in", c.User())
	}}
	cfg.AddHostKey(host)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go out.serve(conn, cfg)
		}
	}()
	return out
}

func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

// Ran returns the commands so far, with the protocol that was asked for in front.
func (s *SSH) Ran() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ran...)
}

func (s *SSH) serve(conn net.Conn, cfg *ssh.ServerConfig) {
	server, chans, reqs, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		_ = conn.Close()
		return
	}
	defer server.Close()
	go ssh.DiscardRequests(reqs)
	for c := range chans {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		ch, reqs, err := c.Accept()
		if err != nil {
			return
		}
		go s.session(ch, reqs)
	}
}

func (s *SSH) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	protocol := ""
	for r := range reqs {
		switch r.Type {
		case "env":
			var kv struct{ Name, Value string }
			if ssh.Unmarshal(r.Payload, &kv) == nil && kv.Name == "GIT_PROTOCOL" {
				protocol = kv.Value
			}
			_ = r.Reply(true, nil)
		case "exec":
			var cmd struct{ Line string }
			_ = ssh.Unmarshal(r.Payload, &cmd)
			_ = r.Reply(true, nil)
			status := s.run(ch, cmd.Line, protocol)
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			return
		default:
			_ = r.Reply(false, nil)
		}
	}
}

func (s *SSH) run(ch ssh.Channel, line, protocol string) uint32 {
	s.mu.Lock()
	s.ran = append(s.ran, strings.TrimSpace(protocol+" "+line))
	s.mu.Unlock()
	name, ok := strings.CutPrefix(line, "git-upload-pack '/")
	name = strings.TrimSuffix(strings.TrimSuffix(name, "'"), ".git")
	if !ok || !s.s.has(name) {
		fmt.Fprintln(ch.Stderr(), "ERROR: Repository not found.")
		return 1
	}
	cmd := exec.Command(s.s.git, "-c", "safe.directory=*", "upload-pack", filepath.Join(s.s.Root, name+".git"))
	cmd.Env = append(os.Environ(), "GIT_PROTOCOL="+protocol)
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 1
	}
	go func() {
		defer in.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := ch.Read(buf)
			if _, werr := in.Write(buf[:n]); err != nil || werr != nil {
				return
			}
		}
	}()
	if cmd.Wait() != nil {
		return 128
	}
	return 0
}
