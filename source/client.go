package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// RoundTrip makes one request on the way that git's traffic goes too: names looked up by us, addresses checked and
// pinned, through the machine's proxy where there is one.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	up, err := g.upstream(r.Context(), r.URL)
	if err != nil {
		return nil, err
	}
	if up == nil {
		return g.http.RoundTrip(r)
	}
	chained := g.http.Clone()
	chained.Proxy, chained.DialContext, chained.DisableKeepAlives = http.ProxyURL(up), (&net.Dialer{Timeout: dialTimeout}).DialContext, true
	return chained.RoundTrip(r)
}

// trust makes the TLS configuration of our own requests.
func trust(caFile string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificates to trust: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s", caFile)
	}
	return cfg, nil
}

const (
	askTimeout = 20 * time.Second // of one question to an API
	maxAnswer  = 32 << 20         // bytes of one answer
	maxHops    = 5                // redirects of one request
)

// An ask is one question to a web API.
type ask struct {
	method string // default: GET
	url    string
	header http.Header
	body   io.Reader
}

// A reply is an API's answer, its end included.
type reply struct {
	status int
	header http.Header
	body   []byte
	at     *url.URL // where redirects led to
}

// client follows redirects, each of which the guard checks like the first address. Credentials stay with the host
// that they are for, and nobody leads us from https back to http.
func (g *guard) client() *http.Client {
	return &http.Client{Transport: g, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		last := via[len(via)-1].URL
		switch {
		case len(via) > maxHops:
			return errors.New("too many redirects")
		case r.URL.Scheme != "https" && (r.URL.Scheme != "http" || last.Scheme == "https"):
			return fmt.Errorf("a redirect leads from %s to %s", last.Scheme, r.URL.Scheme)
		}
		if r.URL.Host != via[0].URL.Host {
			r.Header.Del("Authorization")
			r.Header.Del(dataverseKey)
		}
		return nil
	}}
}

// start asks and returns the answer with its body still to be read.
func (g *guard) start(ctx context.Context, q ask) (*http.Response, error) {
	method := q.method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, q.url, q.body)
	if err != nil {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Correct the address.", "%q is not an address", bindery.Printable(q.url)).Because(err)
	}
	for k, v := range q.header {
		r.Header[k] = v
	}
	r.Header.Set("User-Agent", "Bindery")
	resp, err := g.client().Do(r)
	if err == nil {
		return resp, nil
	}
	if e, ok := errors.AsType[*bindery.Error](err); ok {
		return nil, e // the guard's own words
	}
	if r.Context().Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, ended(ctx)
	}
	return nil, unreachable("The server %s did not answer as it should", bindery.Printable(r.URL.Host)).Because(err)
}

// ask asks a question whose answer is small.
func (g *guard) ask(ctx context.Context, q ask) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := g.start(ctx, q)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(body) > maxAnswer {
		return reply{}, unreachable("The answer of %s broke off or has no end", bindery.Printable(resp.Request.URL.Host)).Because(err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: body, at: resp.Request.URL}, nil
}

// read decodes an answer. One that is not what its API promises is the server's fault, not the visitor's.
func (r reply) read(v any) error {
	if err := json.Unmarshal(r.body, v); err != nil {
		return unreachable("The server %s gave an answer that cannot be read", bindery.Printable(r.at.Host)).Because(err)
	}
	return nil
}

// refused explains a status that is not a success, of a question about what.
func (r reply) refused(what string) error {
	host := bindery.Printable(r.at.Host)
	switch {
	case r.status == http.StatusNotFound || r.status == http.StatusGone || r.status == http.StatusUnprocessableEntity:
		return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check the link.", "%s does not have %s", host, what)
	case r.status == http.StatusUnauthorized || r.status == http.StatusForbidden:
		return bindery.Errorf(bindery.ErrRepoNotFound, bindery.User, "Check the link. If it is private or under embargo, publish it, or use another copy.",
			"%s does not show %s to everybody", host, what)
	case r.status == http.StatusTooManyRequests:
		return unreachable("%s takes no more questions for now", host)
	}
	return unreachable("%s answered with status %d", host, r.status)
}
