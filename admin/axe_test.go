package admin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/admin"
	"github.com/bindery-hub/bindery/internal/browsertest"
)

// A house is a hub that only stories are shown in.
type house struct{}

func (house) Operator(string) (name, print string, ok bool)    { return "", "", false }
func (house) Stands(string, string) bool                       { return false }
func (house) As(string) http.RoundTripper                      { return nowhere{} }
func (house) Visitor(*http.Request) (addr string, secure bool) { return "192.0.2.7", false }
func (house) Asset(name string) (string, error)                { return "/static/" + name, nil }

type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("nowhere") }

func stories(t *testing.T) *httptest.Server {
	t.Helper()
	s, err := admin.New(admin.Config{
		Hub: house{}, Secret: make([]byte, 16), Dev: true, Now: func() time.Time { return time.Date(2019, 3, 24, 14, 3, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/admin/", s)
	mux.Handle("/static/", http.StripPrefix("/static/", http.FileServer(http.Dir("../web/static"))))
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	return ts
}

// TestEveryPageInABrowser opens every page of the storybook in Chromium; testdata/pages.mjs says what it looks at.
func TestEveryPageInABrowser(t *testing.T) {
	if pages := browsertest.Storybook(t, stories(t).URL); len(pages) < 40 {
		t.Errorf("%d pages were looked at", len(pages))
	}
}
