package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/bindery-hub/bindery"

// A listed package is what go list says of one.
type listed struct {
	Dir, ImportPath, Name              string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, TestImports, XTestImports []string
	CgoFiles                           []string
}

// name is the path inside the module: "" is the root.
func (p listed) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

var packages = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,Name,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,CgoFiles", module+"/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func list(t *testing.T) []listed {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

func inside(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// under reports whether path is one of roots or below one.
func under(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return path == r || strings.HasPrefix(path, r+"/") })
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		r, known := rules[p.name()]
		if !known {
			t.Errorf("package %q is not in the import table", p.name())
			continue
		}
		seen[p.name()] = true
		if r.why == "" {
			t.Errorf("the rule of %q gives no reason", p.name())
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo; the binary is built without", p.name())
		}
		for _, path := range p.Imports {
			if msg := refuse(r, path); msg != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, path, msg)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if msg := refuseTest(p.name(), r, path); msg != "" {
				t.Errorf("a test of %s imports %s: %s", p.ImportPath, path, msg)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		if !seen[name] {
			t.Errorf("the import table has a rule for %q, which does not exist", name)
		}
	}
}

func refuse(r rule, path string) string {
	switch dep, ours := inside(path); {
	case ours && dep == "", ours && slices.Contains(r.inside, dep), ours && slices.Contains(r.inside, "*"):
		return ""
	case ours:
		return "not an edge of the table"
	case standard(path) && under(path, r.noStd):
		return "kept out of this package"
	case standard(path), under(path, r.outside), r.kit && under(path, testOutside):
		return ""
	}
	return "not one of its outside modules"
}

// refuseTest is the rule for tests: the test modules and packages made for tests are free, and so is everything inside
// but adapters.
func refuseTest(name string, r rule, path string) string {
	dep, ours := inside(path)
	if ours {
		own := dep == name || slices.Contains(r.inside, dep) || slices.Contains(r.tests, dep) || slices.Contains(r.inside, "*")
		if slices.Contains(adapters, dep) && !own {
			return "an adapter that is not its own"
		}
		return ""
	}
	if standard(path) || under(path, testOutside) || under(path, r.outside) {
		return ""
	}
	return "not a module for tests"
}

func TestAdaptersAreImportedByTheWiringOnly(t *testing.T) {
	for _, p := range list(t) {
		for _, path := range p.Imports {
			dep, ours := inside(path)
			own := strings.HasPrefix(p.name(), dep+"/") // its test kit
			if ours && slices.Contains(adapters, dep) && p.name() != "cmd/bindery" && !own {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
	}
}

func TestImportChains(t *testing.T) {
	deps := map[string][]string{}
	for _, p := range list(t) {
		for _, path := range p.Imports {
			if dep, ours := inside(path); ours {
				deps[p.name()] = append(deps[p.name()], dep)
			}
		}
	}
	var longest func(string) []string
	longest = func(name string) []string {
		var best []string
		for _, dep := range deps[name] {
			if c := longest(dep); len(c) > len(best) {
				best = c
			}
		}
		return append([]string{name}, best...)
	}
	for _, p := range list(t) {
		if c := longest(p.name()); len(c) > longestChain {
			t.Errorf("%d packages import each other in a chain, %d may: %v", len(c), longestChain, c)
		}
	}
}

func TestNames(t *testing.T) {
	for _, p := range list(t) {
		if slices.Contains(badNames, filepath.Base(p.ImportPath)) || slices.Contains(badNames, p.Name) {
			t.Errorf("%s: a name without a subject", p.ImportPath)
		}
	}
}

// A source file, parsed.
type source struct {
	pkg  listed
	path string
	fset *token.FileSet
	ast  *ast.File
}

func (s source) test() bool {
	return strings.HasSuffix(s.path, "_test.go") || strings.HasSuffix(s.pkg.Name, "test") || strings.HasPrefix(s.pkg.name(), "internal/")
}

func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

func (s source) at(n ast.Node) string {
	return filepath.Join(s.pkg.name(), filepath.Base(s.path)) + ":" + s.fset.Position(n.Pos()).String()[len(s.path)+1:]
}

var sources = sync.OnceValues(func() ([]source, error) {
	all, err := packages()
	if err != nil {
		return nil, err
	}
	var files []source
	for _, p := range all {
		for _, f := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			s := source{pkg: p, path: filepath.Join(p.Dir, f), fset: token.NewFileSet()}
			if s.ast, err = parser.ParseFile(s.fset, s.path, nil, parser.ParseComments|parser.SkipObjectResolution); err != nil {
				return nil, err
			}
			files = append(files, s)
		}
	}
	return files, nil
})

func parse(t *testing.T) []source {
	t.Helper()
	files, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPackageComments(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range parse(t) {
		name := s.pkg.name()
		if _, ok := comments[name]; !ok {
			comments[name] = nil
		}
		if s.ast.Doc != nil {
			comments[name] = append(comments[name], s.ast.Doc.Text())
		}
	}
	for name, texts := range comments {
		if len(texts) != 1 {
			t.Errorf("package %q has %d package comments, not one", name, len(texts))
			continue
		}
		first, _, _ := strings.Cut(strings.ReplaceAll(texts[0], "\n", " "), ". ")
		want := "Package "
		if strings.HasPrefix(name, "cmd/") {
			want = "Command "
		}
		if !strings.HasPrefix(first, want) && !strings.HasPrefix(first, "Bindery ") {
			t.Errorf("the comment of package %q begins %q, not %q", name, first, want)
		}
		if strings.Contains(first, " and ") {
			t.Errorf("the comment of package %q says that it is two things: %q", name, first)
		}
	}
}

// sel returns "pkg.Name" for a selector on a plain identifier.
func sel(n ast.Node) string {
	if s, ok := n.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name + "." + s.Sel.Name
		}
	}
	return ""
}

func TestPurity(t *testing.T) {
	clock := []string{"time.Now", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.Sleep", "time.NewTimer", "time.NewTicker", "time.Tick"}
	for _, s := range parse(t) {
		if !rules[s.pkg.name()].pure || s.test() {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if name := sel(n); slices.Contains(clock, name) {
				t.Errorf("%s: %s in a package that is given the time", s.at(n), name)
			}
			if _, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a goroutine in a package that has none", s.at(n))
			}
			return true
		})
	}
}

// TestSleeps: a test that sleeps is slow when the machine is fast, and wrong when it is slow. Inside a synctest bubble
// time is not real.
func TestSleeps(t *testing.T) {
	for _, s := range parse(t) {
		if !s.test() || rules[s.pkg.name()].bubbles {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && sel(call.Fun) == "synctest.Test" {
				return false
			}
			if sel(n) == "time.Sleep" {
				t.Errorf("%s: time.Sleep outside a synctest bubble", s.at(n))
			}
			return true
		})
	}
}

func TestNoInitFunctions(t *testing.T) {
	for _, s := range parse(t) {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: an init function", s.at(f))
			}
		}
	}
}

func TestContexts(t *testing.T) {
	for _, s := range parse(t) {
		if s.test() || s.pkg.Name == "main" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if name := sel(n); name == "context.Background" || name == "context.TODO" {
				t.Errorf("%s: %s outside main; take a ctx, or use context.WithoutCancel", s.at(n), name)
			}
			return true
		})
	}
}

func TestShape(t *testing.T) {
	for _, s := range parse(t) {
		if s.test() {
			continue
		}
		if n := s.fset.Position(s.ast.FileEnd).Line; n > maxFile {
			t.Errorf("%s has %d lines; %d are too many", s.path, n, maxFile)
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.lines(f) > maxFunction {
				t.Errorf("%s: %s has %d lines; %d are too many", s.at(f), f.Name.Name, s.lines(f), maxFunction)
			}
		}
	}
}
