package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/admin"
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

// TestEveryPageInABrowser opens every page of the storybook in Chromium; testdata/pages.mjs says what it looks at. The
// screenshots stay in artefacts/.
func TestEveryPageInABrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("there is no chromium; scripts/setup test installs it")
	}
	modules, err := filepath.Abs("../internal/e2e/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "axe-core")); err != nil {
		t.Fatal("axe-core is not installed; scripts/setup test does that")
	}
	pictures, err := filepath.Abs("../artefacts")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	ts := stories(t)
	cmd := exec.CommandContext(t.Context(), "node", "testdata/pages.mjs", ts.URL, modules, pictures)
	cmd.Env = append(os.Environ(), "CHROMIUM="+chromium)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var seen struct {
		Pages    int
		Most     int
		Problems []string
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range seen.Problems {
		t.Error(p)
	}
	t.Logf("%d pages, at most %d bytes each", seen.Pages, seen.Most)
	if seen.Pages < 40 {
		t.Errorf("%d pages were looked at", seen.Pages)
	}
}
