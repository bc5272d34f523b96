package archtest

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// cells returns the first n cells of every row of the tables in a document.
func cells(text string, n int) [][]string {
	var rows [][]string
	for line := range strings.Lines(text) {
		parts := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(parts) < n || strings.HasPrefix(line, "|-") {
			continue
		}
		row := make([]string, n)
		for i := range row {
			row[i] = strings.Trim(strings.TrimSpace(parts[i]), "`")
		}
		rows = append(rows, row)
	}
	return rows
}

// TestDependencies compares docs/dependencies.md with the direct requirements of go.mod.
func TestDependencies(t *testing.T) {
	want := map[string]string{}
	required := regexp.MustCompile(`(?m)^\t(?:require )?(\S+) (v\S+)$`) // without "// indirect"
	for _, m := range required.FindAllStringSubmatch(read(t, "go.mod"), -1) {
		want[m[1]] = m[2]
	}
	got := map[string]string{}
	for _, row := range cells(read(t, "docs/dependencies.md"), 3)[1:] {
		got[row[0]] = row[1]
		if row[2] == "" {
			t.Errorf("%s has no reason", row[0])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/dependencies.md differs from go.mod (-go.mod +document):\n%s", diff)
	}
}

// TestErrorKinds compares docs/errors.md with the kinds in errors.go.
func TestErrorKinds(t *testing.T) {
	var want []string
	for _, s := range parse(t) {
		if s.pkg.name() != "" || filepath.Base(s.path) != "errors.go" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
				if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Kind" {
					want = append(want, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
				}
			}
			return true
		})
	}
	faults := []string{string(bindery.User), string(bindery.Transient), string(bindery.Ours)}
	var got []string
	for _, row := range cells(read(t, "docs/errors.md"), 4)[1:] {
		got = append(got, row[0])
		if row[1] == "" || row[3] == "" || !slices.Contains(faults, row[2]) {
			t.Errorf("docs/errors.md: %v lacks a meaning, a fault or a remedy", row)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/errors.md differs from errors.go (-code +document):\n%s", diff)
	}
}

// TestDiagrams compares the state diagrams of docs/ARCHITECTURE.md with the tables in the code.
func TestDiagrams(t *testing.T) {
	diagrams := regexp.MustCompile("(?s)```mermaid\nstateDiagram-v2\n(.*?)```").FindAllStringSubmatch(read(t, "docs/ARCHITECTURE.md"), -1)
	if len(diagrams) != 3 {
		t.Fatalf("docs/ARCHITECTURE.md has %d state diagrams, want those of builds, sessions and generations", len(diagrams))
	}
	compare := func(what, diagram string, want []string) {
		t.Helper()
		var got []string
		for _, m := range regexp.MustCompile(`(?m)^ *(\w+) --> (\w+)`).FindAllStringSubmatch(diagram, -1) {
			got = append(got, m[1]+" "+m[2])
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the diagram of a %s differs from the code (-code +diagram):\n%s", what, diff)
		}
	}
	compare("build", diagrams[0][1], moves(bindery.BuildStates(), bindery.BuildMoves))
	compare("session", diagrams[1][1], moves(bindery.SessionStates(), bindery.SessionMoves))
	compare("generation", diagrams[2][1], moves(bindery.GenerationStates(), bindery.GenerationMoves))
}

func moves[S ~string](states []S, next func(S) []S) []string {
	var all []string
	for _, s := range states {
		for _, n := range next(s) {
			all = append(all, string(s)+" "+string(n))
		}
	}
	return all
}

// TestArchitectureIsShort: a page that is longer than a person reads is not a page.
func TestArchitectureIsShort(t *testing.T) {
	if n := strings.Count(read(t, "docs/ARCHITECTURE.md"), "\n"); n >= 300 {
		t.Errorf("docs/ARCHITECTURE.md has %d lines; under 300 are right", n)
	}
}

// TestLinks: every relative link of a document leads to a file.
func TestLinks(t *testing.T) {
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("../../docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs = append(docs, decisions...)
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, doc := range append(docs, "../../README.md") {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			}
		}
	}
}

// TestDecisions: each decision has the number of its file, and a line in the list of them.
func TestDecisions(t *testing.T) {
	files, err := filepath.Glob("../../docs/decisions/0*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	var want strings.Builder
	for _, file := range files {
		name := filepath.Base(file)
		title, _, _ := strings.Cut(read(t, "docs/decisions/"+name), "\n")
		number, words, ok := strings.Cut(strings.TrimPrefix(title, "# "), ". ")
		if !ok || number != strings.TrimLeft(name[:4], "0") {
			t.Errorf("docs/decisions/%s begins with %q", name, title)
		}
		want.WriteString("- [" + name[:4] + "](" + name + "): " + words + "\n")
	}
	_, list, _ := strings.Cut(read(t, "docs/decisions/README.md"), "\n- ")
	if diff := cmp.Diff(want.String(), "- "+list); diff != "" {
		t.Errorf("docs/decisions/README.md differs from the decisions (-decisions +list):\n%s", diff)
	}
}
