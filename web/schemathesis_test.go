package web_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/web"
)

// TestSchemathesis has schemathesis (PyPI) make requests of the OpenAPI document, those that it allows and those that it
// does not, and compare the answers with it. Where the program is not installed, TestDocumentDescribesEveryRoute has to
// do.
func TestSchemathesis(t *testing.T) {
	program, err := filepath.Abs("../bin/schemathesis/bin/schemathesis")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if program, err = exec.LookPath("schemathesis"); err != nil {
			t.Fatal("schemathesis is not installed; scripts/setup test does that")
		}
	}
	h := newHub()
	ts := serve(t, h, shelved(h, newShelf()), func(c *web.Config) { c.Tokens = []web.Token{{Hash: web.HashToken("a")}} })
	b, err := h.Submit(t.Context(), bindery.Ask{Source: repo, Class: bindery.Attended})
	if err != nil {
		t.Fatal(err)
	}
	h.finish(b.ID)
	// Every build that it asks for ends at once, or its launches would wait.
	go func() {
		for t.Context().Err() == nil {
			h.mu.Lock()
			var queued []string
			for id, b := range h.builds {
				if b.State == bindery.BuildQueued {
					queued = append(queued, id)
				}
			}
			next := h.changed
			h.mu.Unlock()
			for _, id := range queued {
				h.finish(id)
			}
			if queued == nil {
				select {
				case <-next:
				case <-t.Context().Done():
				}
			}
		}
	}()
	cmd := exec.CommandContext(t.Context(), program, "run", ts.URL+"/api/v1/openapi.json", "-H", "Authorization: Bearer a",
		"--max-examples=40", "--seed=1", "--phases=examples,coverage,fuzzing", "--no-color", "--request-timeout=10", "--exclude-checks=ignored_auth,positive_data_acceptance")
	cmd.Dir = t.TempDir() // it keeps what it found
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%.3000s", out)
}
