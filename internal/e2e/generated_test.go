package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestGeneratedClient has openapi-python-client make a client of the document that the hub serves, and launches with it.
func TestGeneratedClient(t *testing.T) {
	python, err := filepath.Abs("../../bin/openapi-client/bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		t.Fatal("openapi-python-client is not installed; scripts/setup test does that")
	}
	h := theHub(t)
	r := sourcetest.Start(t).Repo("ann/generated")
	r.Commit("main", requirements(nil))
	dir := t.TempDir()
	resp, err := http.Get("http://" + h.listen + "/api/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	document, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(python, name), args...)
		cmd.Env = append(os.Environ(), "PATH="+python+":"+os.Getenv("PATH"), "PYTHONPATH="+dir, "NO_COLOR=1", "no_proxy=*")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	said := run("openapi-python-client", "generate", "--path", filepath.Join(dir, "openapi.json"), "--config", "generated.yaml", "--meta", "none",
		"--output-path", filepath.Join(dir, "generated_client"))
	if strings.Contains(said, "WARNING") {
		t.Errorf("parts of the document are not understood:\n%s", said)
	}
	var got struct{ Build, Session string }
	if out := run("python3", "generated.py", "http://"+h.listen, apiToken, r.URL); json.Unmarshal([]byte(out), &got) != nil || got.Session == "" {
		t.Errorf("the client says %s", out)
	}
}
