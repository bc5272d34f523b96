package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// A gatehouse is a hub's side: its authority, where workers join, whom it has let in.
type gatehouse struct {
	*Authority
	addr   string
	joined []bindery.WorkerRecord
	tokens map[string]string // id to hash
}

func newGatehouse(t *testing.T, dir string) *gatehouse {
	t.Helper()
	a, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := &gatehouse{Authority: a, tokens: map[string]string{}}
	gate := &Gate{Authority: a, Log: slog.New(slog.DiscardHandler), Join: func(_ context.Context, r bindery.WorkerRecord, token, hash string) error {
		if token != "" && g.tokens[token] != hash {
			return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Make one.", "no such token")
		}
		delete(g.tokens, token)
		g.joined = append(g.joined, r)
		return nil
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: gate.Handler(), TLSConfig: a.ServerTLS(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() { _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = srv.Close() })
	g.addr = l.Addr().String()
	return g
}

func (g *gatehouse) token() Token {
	tok := g.NewToken()
	g.tokens[tok.ID] = tok.Hash()
	return tok
}

func member(t *testing.T, hub, name, dir string, tok *Token) *Membership {
	t.Helper()
	return &Membership{Hub: hub, Name: name, Pool: "build", Address: ":7", Dir: dir, Log: slog.New(slog.DiscardHandler), Token: func() (Token, error) {
		if tok == nil {
			return Token{}, errors.New("no token")
		}
		return ParseToken(tok.String())
	}}
}

// serveAs serves a worker's protocol over TLS, as one that has joined.
func serveAs(t *testing.T, m *Membership) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/alive", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	srv := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() { _ = srv.Serve(tls.NewListener(l, m.ServerTLS())) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

func TestJoin(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	g := newGatehouse(t, dir)
	tok := g.token()
	m := member(t, g.addr, "b", home, &tok)
	if err := m.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := bindery.WorkerRecord{Name: "b", Pool: "build", Address: "tls:127.0.0.1:7", Shared: true}
	if len(g.joined) != 1 || g.joined[0] != want {
		t.Errorf("joined %+v, want %+v", g.joined, want)
	}
	addr := serveAs(t, m)
	if err := g.Client("b", addr).Alive(t.Context()); err != nil {
		t.Errorf("the hub does not reach the worker: %v", err)
	}
	if err := g.Client("c", addr).Alive(t.Context()); err == nil {
		t.Error("it passes for another worker")
	}
	second := g.token()
	other := member(t, g.addr, "c", t.TempDir(), &second)
	if err := other.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	cert := other.cert.Load()
	passing := newTLSClient(addr, &tls.Config{RootCAs: g.pool(), ServerName: "b" + workerTail, Certificates: []tls.Certificate{*cert}})
	if err := passing.Alive(t.Context()); err == nil {
		t.Error("another worker passes for the hub")
	}
	if err := newTLSClient(addr, &tls.Config{RootCAs: g.pool(), ServerName: "b" + workerTail}).Alive(t.Context()); err == nil {
		t.Error("it serves whoever comes")
	}
	if info, err := os.Stat(filepath.Join(home, "worker.tls", "identity.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	// The next time it needs no token, nor does the hub need more than what it has kept.
	again := member(t, g.addr, "b", home, nil)
	if err := again.Join(t.Context()); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	if renamed := member(t, g.addr, "d", home, nil); renamed.Join(t.Context()) == nil {
		t.Error("it joins under another name by a certificate")
	}
	reopened, err := OpenAuthority(dir)
	if err != nil || reopened.Fingerprint() != g.Fingerprint() {
		t.Errorf("the authority changed: %v", err)
	}
}

func TestJoinIsRefused(t *testing.T) {
	g := newGatehouse(t, t.TempDir())
	good := g.token()
	wrong, used, foreign := good, g.token(), good
	wrong.Secret = "guessed"
	foreign.Fingerprint = strings.Repeat("0", 64)
	if err := member(t, g.addr, "a", t.TempDir(), &used).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		worker string
		token  *Token
		kind   bindery.Kind
	}{
		"wrong secret": {"b", &wrong, bindery.ErrNotAllowed}, "used up": {"b", &used, bindery.ErrNotAllowed},
		"another hub": {"b", &foreign, bindery.ErrNotAllowed}, "name": {"../b", &good, bindery.ErrInvalid},
	} {
		err := member(t, g.addr, tt.worker, t.TempDir(), tt.token).Join(t.Context())
		if !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), good.Secret) {
			t.Errorf("%s: it tells the secret", name)
		}
	}
	if len(g.joined) != 1 {
		t.Errorf("joined: %+v", g.joined)
	}
	for _, text := range []string{"", "x", "bnd1.a.b", "bnd1.a.b.c", "bnd2.a.b." + strings.Repeat("0", 64)} {
		if _, err := ParseToken(text); !errors.Is(err, bindery.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := member(t, "127.0.0.1:1", "b", t.TempDir(), &good).Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no hub: %v", err)
	}
	if sees(t.TempDir(), strings.Repeat("x", 26)) || sees("relative", "x") {
		t.Error("it sees what is not there")
	}
}
