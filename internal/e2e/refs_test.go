package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/bindery-hub/bindery/source/sourcetest"
)

// TestRefs launches one repository by everything that names a commit of it, and reads the file that tells which it was.
func TestRefs(t *testing.T) {
	h := theHub(t)
	srv := sourcetest.Start(t)
	part := srv.Repo("ann/part")
	inner := part.Commit("main", map[string]string{"inner.txt": "from the submodule"})

	repo := srv.Repo("ann/refs")
	first := repo.Commit("main", requirements(map[string]string{"ref.txt": "first"}))
	repo.Tag("v1", first)
	second := repo.Commit("main", map[string]string{"ref.txt": "second"})
	repo.Annotate("v2", second)
	repo.Commit("main", map[string]string{"ref.txt": "third"})
	repo.Git("update-ref", "refs/heads/feature/one", second)
	repo.Commit("feature/one", map[string]string{"ref.txt": "feature"})
	repo.Git("update-ref", "refs/heads/nested", first)
	repo.Submodule("nested", "part", "sub/part", part.URL+".git", inner)

	for _, tt := range []struct{ name, url, ref, file, want string }{
		{"default branch", repo.URL, "HEAD", "ref.txt", "third"},
		{"branch", repo.URL, "main", "ref.txt", "third"},
		{"with .git", repo.URL + ".git", "main", "ref.txt", "third"},
		{"branch with a slash", repo.URL, "feature/one", "ref.txt", "feature"},
		{"tag", repo.URL, "v1", "ref.txt", "first"},
		{"annotated tag", repo.URL + ".git", "v2", "ref.txt", "second"},
		{"full commit", repo.URL, first, "ref.txt", "first"},
		{"short commit", repo.URL, second[:8], "ref.txt", "second"},
		{"submodule", repo.URL, "nested", "sub/part/inner.txt", "from the submodule"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ready, _ := h.launch(t, tt.url, tt.ref)
			if got := content(t, ready, tt.file); got != tt.want {
				t.Errorf("%s at %s has %q, want %q", tt.file, tt.ref, got, tt.want)
			}
		})
	}
}

// content reads a file of a session by its Jupyter server.
func content(t testing.TB, ready said, path string) string {
	t.Helper()
	text, err := answers(ready, "api/contents/"+path+"?content=1")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Content string }
	if err := json.Unmarshal([]byte(text), &file); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return strings.TrimSpace(file.Content)
}
