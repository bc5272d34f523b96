package corpus_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/internal/corpus"
	"github.com/bindery-hub/bindery/plan"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite testdata/plans")
	flag.Parse()
	os.Exit(m.Run())
}

// golden is what testdata/plans has of each sample.
type golden struct {
	Plan  plan.Plan      `json:"plan"`
	Error *bindery.Error `json:"error,omitempty"`
}

func TestPlans(t *testing.T) {
	update := flag.Lookup("update").Value.String() == "true"
	root, err := corpus.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range corpus.Samples() {
		t.Run(s.Name, func(t *testing.T) {
			if s.Slow && s.Generated() && testing.Short() {
				t.Skip("writes much")
			}
			got := detect(t, s)
			if refused := s.Fails == bindery.ErrPlan; refused != (got.Error != nil) {
				t.Errorf("error %v, though the sample is said to fail by %q", got.Error, s.Fails)
			}
			if got.Error != nil && (!strings.Contains(got.Error.Msg, s.Says) || got.Error.Remedy == "" || got.Error.Fault != bindery.User) {
				t.Errorf("error %+v, want one that says %q", got.Error, s.Says)
			}
			var data bytes.Buffer
			enc := json.NewEncoder(&data)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(got); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(root, "testdata", "plans", s.Name+".json")
			if update {
				if err := os.WriteFile(file, data.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), data.String()); diff != "" {
				t.Errorf("the plan changed (go test ./internal/corpus -update):\n%s", diff)
			}
		})
	}
}

func detect(t *testing.T, s corpus.Sample) golden {
	t.Helper()
	dir := t.TempDir()
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	repo, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	var g golden
	if g.Plan, err = plan.Detect(repo.FS(), plan.Options{}); err != nil {
		if !errors.As(err, &g.Error) {
			t.Fatal(err)
		}
		return g
	}
	if _, err := g.Plan.EnvKey("g", repo.FS()); err != nil {
		t.Errorf("EnvKey: %v", err)
	}
	if s.Built {
		if info, err := repo.Stat("verify"); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("it has no executable ./verify: %v", err)
		}
	}
	return g
}

// TestEveryDirectoryIsListed finds samples that nobody would run, and plans of none.
func TestEveryDirectoryIsListed(t *testing.T) {
	root, err := corpus.Root()
	if err != nil {
		t.Fatal(err)
	}
	repos, err := os.ReadDir(filepath.Join(root, "testdata", "repos"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range repos {
		if s, err := corpus.Find(r.Name()); err != nil || s.Generated() {
			t.Errorf("testdata/repos/%s is not a sample", r.Name())
		}
	}
	plans, err := os.ReadDir(filepath.Join(root, "testdata", "plans"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range plans {
		if _, err := corpus.Find(strings.TrimSuffix(p.Name(), ".json")); err != nil {
			t.Errorf("testdata/plans/%s is of no sample", p.Name())
		}
	}
}

func TestGitIsTheSameTwice(t *testing.T) {
	for _, name := range []string{"start", "odd-names", "empty"} {
		s, err := corpus.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		one, err := s.WriteGit(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		two, err := s.WriteGit(t.Context(), dir)
		if err != nil || one != two || !bindery.IsCommit(one) {
			t.Errorf("%s: commits %s, %s: %v", name, one, two, err)
		}
		if name != "start" {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, "start")); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("start: mode %v, %v", info.Mode(), err)
		}
	}
}

// TestDocumentListsSamples compares docs/corpus.md with the samples, and with what is done with each.
func TestDocumentListsSamples(t *testing.T) {
	root, err := corpus.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "corpus.md"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z0-9.-]+)` ([bpe])\\b").FindAllStringSubmatch(string(text), -1) {
		said[m[1]] = true
		s, err := corpus.Find(m[1])
		want := "p"
		switch {
		case err != nil:
			t.Errorf("%s is no sample", m[1])
			continue
		case s.Built:
			want = "b"
		case s.Fails != "":
			want = "e"
		}
		if m[2] != want {
			t.Errorf("%s is marked %s, and is %s", m[1], m[2], want)
		}
	}
	for _, s := range corpus.Samples() {
		if !said[s.Name] && !strings.Contains(string(text), "`"+s.Name+"`") {
			t.Errorf("%s is not listed", s.Name)
		}
	}
}
