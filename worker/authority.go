package worker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// Names in certificates. A worker's may not pass for the hub's, nor for another worker's.
const (
	hubHost    = "hub.bindery"
	workerTail = ".worker.bindery"
)

// certLife is how long certificates are valid; they are renewed when a third of it has passed.
const certLife = 30 * 24 * time.Hour

// An Authority signs the certificates of a hub and of its workers.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer

	mu  sync.Mutex
	own *tls.Certificate // the hub's
}

// OpenAuthority reads the authority that is kept in dir, or makes one.
func OpenAuthority(dir string) (*Authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(dir); err != nil {
			return nil, fmt.Errorf("make the workers' certificate authority: %w", err)
		}
		certPEM, err = os.ReadFile(filepath.Join(dir, "ca.pem"))
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return &Authority{cert: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}, nil
}

func makeAuthority(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := template("Bindery workers of one hub", 20*365*24*time.Hour)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage, t.MaxPathLenZero = true, true, x509.KeyUsageCertSign, true
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	text, err := keyText(key)
	if err == nil {
		err = replaceFile(filepath.Join(dir, "ca.key"), text)
	}
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "ca.pem"), certText(der)) // last: with it the authority is whole
}

func template(name string, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // it never fails
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(life),
	}
}

func certText(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyText(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// replaceFile writes a file that only its owner reads, whole or not at all.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone
	}
	return err
}

func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// Fingerprint is the authority's SHA-256 in hexadecimal digits: whoever knows it cannot be led to another hub.
func (a *Authority) Fingerprint() string { return fingerprint(a.cert) }

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// sign makes a certificate for a name.
func (a *Authority) sign(host string, pub any) ([]byte, error) {
	t := template(host, certLife)
	t.DNSNames = []string{host}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return x509.CreateCertificate(rand.Reader, t, a.cert, pub, a.key)
}

// SignWorker makes the certificate of a worker from its request, and returns it with the authority's own, as PEM. The
// name is the one that is given; what the request says of names counts for nothing.
func (a *Authority) SignWorker(name string, csr []byte) (certPEM, caPEM []byte, err error) {
	if err := bindery.CheckWorkerName(name); err != nil {
		return nil, nil, err
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return nil, nil, bindery.Errorf(bindery.ErrInvalid, bindery.Ours, "Join with `bindery worker --hub`.", "The certificate request cannot be read").Because(err)
	}
	der, err := a.sign(name+workerTail, req.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	return certText(der), certText(a.cert.Raw), nil
}

// identity is the hub's own certificate, made anew when a third of its life has passed.
func (a *Authority) identity() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own != nil && !due(a.own.Leaf) {
		return a.own, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := a.sign(hubHost, key.Public())
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a.own = &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
	return a.own, nil
}

// due reports whether a certificate is to be renewed.
func due(c *x509.Certificate) bool {
	return time.Since(c.NotBefore) > c.NotAfter.Sub(c.NotBefore)/3
}

func (a *Authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// ServerTLS is how the hub listens for workers. A worker that has a certificate shows it; one that is to join has none.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.identity() },
	}
}

// clientTLS is how the hub connects to a worker: both show a certificate, and the worker's is of its name.
func (a *Authority) clientTLS(name string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: a.pool(), ServerName: name + workerTail,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.identity() },
	}
}

// Client makes the client of a worker that serves at a host and port under a name.
func (a *Authority) Client(name, address string) *Client {
	return newTLSClient(address, a.clientTLS(name))
}

// workerOf is the name of the worker whose certificate a connection showed; empty: it showed none.
func workerOf(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	for _, host := range state.PeerCertificates[0].DNSNames {
		if name, ok := cutTail(host); ok {
			return name
		}
	}
	return ""
}

func cutTail(host string) (string, bool) {
	n := len(host) - len(workerTail)
	if n <= 0 || host[n:] != workerTail {
		return "", false
	}
	return host[:n], true
}
