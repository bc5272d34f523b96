package worker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A Token is a join token in its parts. Its text is all that a worker needs to find the right hub.
type Token struct{ ID, Secret, Fingerprint string }

const tokenMark = "bnd1"

// NewToken makes a token for the hub of an authority.
func (a *Authority) NewToken() Token {
	return Token{ID: strings.ToLower(rand.Text()[:8]), Secret: rand.Text(), Fingerprint: a.Fingerprint()}
}

// String is the token as it is passed on.
func (t Token) String() string {
	return strings.Join([]string{tokenMark, t.ID, t.Secret, t.Fingerprint}, ".")
}

// Hash is what the hub keeps of it.
func (t Token) Hash() string {
	sum := sha256.Sum256([]byte("join\x00" + t.ID + "\x00" + t.Secret))
	return hex.EncodeToString(sum[:])
}

// ParseToken reads the text of a token. An error does not repeat it.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != tokenMark || parts[1] == "" || parts[2] == "" || len(parts[3]) != 2*sha256.Size {
		return Token{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Make one with `bindery workers token` on the hub's machine.", "That is not a join token")
	}
	return Token{parts[1], parts[2], strings.ToLower(parts[3])}, nil
}

// joinRequest is what a worker sends to the hub to join, and to renew its certificate.
type joinRequest struct {
	Name    string `json:"name"`
	Pool    string `json:"pool,omitempty"`
	Token   string `json:"token,omitempty"`  // its id; none to renew
	Secret  string `json:"secret,omitempty"` // of the token
	Address string `json:"address"`          // host and port; without a host, the one that it comes from
	Request []byte `json:"request"`          // for a certificate
	Dir     string `json:"dir"`              // where it keeps its images
	Proof   string `json:"proof"`            // is in proofFile there: who can read it sees the same file system
}

type joinAnswer struct {
	Certificate string `json:"certificate"`
	Authority   string `json:"authority"`
}

const proofFile = "worker.proof"

// A Gate lets workers join a hub.
type Gate struct {
	Authority *Authority
	// Join makes the worker a member: by a token's id and hash, or, without, because it is one already.
	Join func(ctx context.Context, r bindery.WorkerRecord, token, hash string) error
	Log  *slog.Logger
}

// Handler answers workers. It is to be served with Authority.ServerTLS.
func (g *Gate) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/join", func(w http.ResponseWriter, r *http.Request) {
		answer, err := g.join(r)
		if err != nil {
			e := bindery.AsError(err)
			g.Log.WarnContext(r.Context(), "a worker was not let in", "from", r.RemoteAddr, "err", err)
			_ = writeJSON(w, api.StatusOf(e.Kind), e) // an Error always marshals
			return
		}
		_ = writeJSON(w, http.StatusOK, answer) // two strings always do
	})
	return mux
}

func (g *Gate) join(r *http.Request) (joinAnswer, error) {
	var in joinRequest
	if err := decode(r, &in); err != nil {
		return joinAnswer{}, err
	}
	known := workerOf(r.TLS)
	switch {
	case in.Token == "" && known == "":
		return joinAnswer{}, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Make a token with `bindery workers token`.", "A worker joins with a token or with its certificate")
	case in.Token == "" && known != in.Name:
		return joinAnswer{}, bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Join with a token.", "The certificate is %s's, the name is %s", known, bindery.Printable(in.Name))
	}
	host, port, err := net.SplitHostPort(in.Address)
	if err != nil || port == "" {
		return joinAnswer{}, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Name one with --listen.", "%q is not an address", bindery.Printable(in.Address))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	cert, ca, err := g.Authority.SignWorker(in.Name, in.Request)
	if err != nil {
		return joinAnswer{}, err
	}
	rec := bindery.WorkerRecord{Name: in.Name, Pool: in.Pool, Address: "tls:" + net.JoinHostPort(host, port), Shared: sees(in.Dir, in.Proof)}
	if in.Pool != "" {
		if err := bindery.CheckWorkerName(in.Pool); err != nil {
			return joinAnswer{}, err
		}
	}
	if err := g.Join(r.Context(), rec, in.Token, Token{ID: in.Token, Secret: in.Secret}.Hash()); err != nil {
		return joinAnswer{}, err
	}
	return joinAnswer{string(cert), string(ca)}, nil
}

// sees reports whether a worker's directory is on this machine: what it wrote there can be read here.
func sees(dir, proof string) bool {
	if !filepath.IsAbs(dir) || len(proof) < 20 {
		return false
	}
	f, err := os.OpenFile(filepath.Join(dir, proofFile), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(f, 100))
	return err == nil && subtle.ConstantTimeCompare(text, []byte(proof)) == 1
}

// A Membership is a worker's side of having joined a hub over the network.
type Membership struct {
	Hub     string // host and port of the hub's gate
	Name    string
	Pool    string
	Address string // where the worker serves
	Dir     string // its state directory; certificate and key are kept there
	Token   func() (Token, error)
	Log     *slog.Logger

	cert atomic.Pointer[tls.Certificate]
	ca   atomic.Pointer[x509.Certificate]
}

func (m *Membership) file(name string) string { return filepath.Join(m.Dir, "worker.tls", name) }

// Join joins, or says that it is there again, and keeps trying while the hub cannot be reached.
func (m *Membership) Join(ctx context.Context) error {
	if err := os.MkdirAll(m.file(""), 0o700); err != nil {
		return err
	}
	m.load()
	pause := time.Second
	for {
		err := m.ask(ctx)
		if err == nil || !errors.Is(err, bindery.ErrUnreachable) {
			return err
		}
		m.Log.WarnContext(ctx, "the hub cannot be reached; trying again", "hub", m.Hub, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// Keep renews the certificate in time, until ctx ends.
func (m *Membership) Keep(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if due(m.cert.Load().Leaf) {
			if err := m.ask(ctx); err != nil && ctx.Err() == nil {
				m.Log.ErrorContext(ctx, "the certificate was not renewed; it is tried again in an hour", "until", m.cert.Load().Leaf.NotAfter, "err", err)
			}
		}
	}
}

// load takes over a certificate of this name that is still good.
func (m *Membership) load() {
	pair, err := tls.LoadX509KeyPair(m.file("identity.pem"), m.file("identity.pem"))
	ca, caErr := readCert(m.file("ca.pem"))
	if err != nil || caErr != nil || time.Now().After(pair.Leaf.NotAfter) || pair.Leaf.VerifyHostname(m.Name+workerTail) != nil {
		return
	}
	m.cert.Store(&pair)
	m.ca.Store(ca)
}

func readCert(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseCert(text)
}

// ask sends one request, with the certificate when there is one, else with a token.
func (m *Membership) ask(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	proof := rand.Text()
	if err := replaceFile(filepath.Join(m.Dir, proofFile), []byte(proof)); err != nil {
		return err
	}
	in := joinRequest{Name: m.Name, Pool: m.Pool, Address: m.Address, Request: csr, Dir: m.Dir, Proof: proof}
	fp := ""
	if ca := m.ca.Load(); ca != nil {
		fp = fingerprint(ca)
	} else {
		tok, err := m.Token()
		if err != nil {
			return err
		}
		in.Token, in.Secret, fp = tok.ID, tok.Secret, tok.Fingerprint
	}
	out, err := m.post(ctx, in, fp)
	if err != nil {
		return err
	}
	return m.take(out, key, fp)
}

func (m *Membership) post(ctx context.Context, in joinRequest, fp string) (out joinAnswer, err error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+m.Hub+"/v1/join", bytes.NewReader(raw))
	if err != nil {
		return out, err
	}
	transport := &http.Transport{TLSClientConfig: m.hubTLS(fp), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		if e, ok := errors.AsType[*bindery.Error](err); ok {
			return out, e
		}
		return out, bindery.Errorf(bindery.ErrUnreachable, bindery.Transient, "Check the address, and that the hub was started with --worker-listen.", "The hub at %s does not answer", bindery.Printable(m.Hub)).Because(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		var e bindery.Error
		if dec.Decode(&e) != nil || e.Kind == "" {
			return out, fmt.Errorf("the hub answered %s", resp.Status)
		}
		return out, &e
	}
	return out, dec.Decode(&out)
}

// hubTLS trusts the hub whose authority has a fingerprint, and nobody else.
func (m *Membership) hubTLS(fp string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: hubHost, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		return checkHub(s.PeerCertificates, fp)
	}}
	if cert := m.cert.Load(); cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return cfg
}

// checkHub verifies the chain that a hub showed against the fingerprint of its authority.
func checkHub(chain []*x509.Certificate, fp string) error {
	for _, ca := range chain {
		if subtle.ConstantTimeCompare([]byte(fingerprint(ca)), []byte(fp)) != 1 || !ca.IsCA {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(ca)
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: hubHost})
		return err
	}
	return bindery.Errorf(bindery.ErrNotAllowed, bindery.User, "Use a token of the hub that answers there; if it is one, somebody is in between.", "Another hub answers than the one that the token is of")
}

// take keeps what the hub has answered: key and certificate in one file, so that neither is without the other.
func (m *Membership) take(out joinAnswer, key *ecdsa.PrivateKey, fp string) error {
	ca, err := parseCert([]byte(out.Authority))
	if err != nil || fingerprint(ca) != fp {
		return bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Try again.", "The hub's answer is not of its authority")
	}
	leaf, err := parseCert([]byte(out.Certificate))
	if err != nil {
		return err
	}
	text, err := keyText(key)
	if err != nil {
		return err
	}
	err = errors.Join(replaceFile(m.file("ca.pem"), []byte(out.Authority)), replaceFile(m.file("identity.pem"), append(text, out.Certificate...)))
	if err != nil {
		return err
	}
	m.ca.Store(ca)
	m.cert.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf})
	return nil
}

// ServerTLS is how the worker serves: to the hub that it has joined, and to nobody else.
func (m *Membership) ServerTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		cert, ca := m.cert.Load(), m.ca.Load()
		if cert == nil || ca == nil {
			return nil, errors.New("not joined yet")
		}
		pool := x509.NewCertPool()
		pool.AddCert(ca)
		return &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
			VerifyConnection: func(s tls.ConnectionState) error { return s.PeerCertificates[0].VerifyHostname(hubHost) },
		}, nil
	}}
}
