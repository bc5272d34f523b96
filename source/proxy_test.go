package source_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/source"
	"github.com/bindery-hub/bindery/source/sourcetest"
)

func TestTLS(t *testing.T) {
	srv := sourcetest.StartTLS(t)
	r := srv.Repo("demo")
	commit := r.Commit("main", map[string]string{"a": "1"})
	s := start(t, func(c *source.Config) { c.CAFile = srv.CAFile })
	dir, _ := checkout(t, s, git(r.URL, "main"))
	if inRepo(t, dir, "rev-parse", "HEAD") != commit {
		t.Error("another commit is checked out")
	}
	_, err := start(t).Resolve(t.Context(), git(r.URL, "main")) // which does not know the authority
	wantError(t, err, bindery.ErrUnreachable, bindery.Transient)
}

// machineProxy is a proxy like the ones that machines are put behind: it knows all names, and leads to one server.
type machineProxy struct {
	to string

	mu    sync.Mutex
	asked []string
}

func (p *machineProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.Host)
	p.mu.Unlock()
	if r.Header.Get("Proxy-Authorization") != "Basic dTpw" {
		http.Error(w, "who are you", http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		r.URL.Host, r.RequestURI = p.to, ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return
	}
	far, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", p.to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(far, near) }()
	_, _ = io.Copy(near, far)
}

func TestMachineProxy(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			srv := sourcetest.Start(t)
			if scheme == "https" {
				srv = sourcetest.StartTLS(t)
			}
			commit := srv.Repo("demo").Commit("main", map[string]string{"a": "1"})
			at, err := url.Parse(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			p := &machineProxy{to: at.Host}
			up := httptest.NewServer(p)
			defer up.Close()
			s := start(t, func(c *source.Config) {
				c.CAFile, c.Policy = srv.CAFile, source.Policy{}
				c.Proxy = func(*url.URL) (*url.URL, error) {
					return url.Parse(strings.Replace(up.URL, "http://", "http://u:p@", 1))
				}
				c.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
					if host == "inside.example.com" {
						return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
					}
					return nil, errors.New("names are the proxy's business")
				}
			})
			got, err := s.Resolve(t.Context(), git(scheme+"://example.com/demo", "main"))
			if err != nil || got.Commit != commit {
				t.Errorf("Resolve: %+v, %v", got, err)
			}
			if _, err := s.Fetch(t.Context(), got, t.TempDir(), nil); err != nil {
				t.Errorf("Fetch: %v", err)
			}
			p.mu.Lock()
			asked := len(p.asked)
			p.mu.Unlock()
			if asked == 0 {
				t.Error("the machine's proxy was not asked")
			}
			for _, host := range []string{"inside.example.com", "192.168.1.1", "127.0.0.1"} {
				_, err := s.Resolve(t.Context(), git(scheme+"://"+host+"/demo", "main"))
				wantError(t, err, bindery.ErrNotAllowed, bindery.User)
			}
		})
	}
}
