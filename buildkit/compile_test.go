package buildkit_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A site is a directory with modules, and a cache to compile them with.
type site struct {
	t          *testing.T
	dir, cache string
}

func newSite(t *testing.T, files ...string) site {
	return site{t, repo(t, files...), t.TempDir()}
}

// compile runs assets/compile.py over the site. before is Python that runs first; it is module.
func (s site) compile(before string) string {
	s.t.Helper()
	asset, err := filepath.Abs("assets/compile.py")
	if err != nil {
		s.t.Fatal(err)
	}
	const load = "import importlib.util, os, signal, sys\nspec = importlib.util.spec_from_file_location('it', sys.argv.pop(1))\n" +
		"it = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(it)\n"
	cmd := exec.CommandContext(s.t.Context(), "python3", "-B", "-S", "-s", "-W", "ignore", "-c", load+before+"\nit.main()\n", asset, "0", s.cache, s.dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PYTHONHASHSEED=0", "SOURCE_DATE_EPOCH=1600000000"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// files returns the files below dir whose names end in suffix, by path, without the version of Python in their names.
func (s site) files(dir, suffix string) map[string]string {
	s.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return err
		}
		data, err := os.ReadFile(path)
		name := strings.TrimPrefix(path, dir+"/")
		if module, _, ok := strings.Cut(name, ".cpython-"); ok {
			name = module
		}
		found[name] = string(data)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

const manyModules = "import os, sys, re\nNAMES = {'a', 'b', 'c', 'os', 'sys'}\ndef f(x, y=('a', 'b')):\n    return x in {'p', 'q', 'r'} and os.path\n"

// What Python imports is what was compiled; how many worked at it and in which order cannot be told from it.
func TestModulesAreCompiledAlike(t *testing.T) {
	s := newSite(t, "a.py", manyModules, "p/__init__.py", "", "p/b.py", "import re\n"+manyModules, "p/c.py", manyModules+"X = 1.5, '{'\n",
		"p/tests/d.py", "never = 1\n", "template.py", "class {{ name }}:\n")
	s.compile("os.sched_getaffinity = lambda _: {0, 1, 2}\nsys.intern('{')") // as Python does by itself now and then
	first := s.files(s.dir, ".pyc")
	if len(first) != 4 {
		t.Fatalf("%d modules are compiled, want 4", len(first))
	}
	out, err := exec.CommandContext(t.Context(), "python3", "-v", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import a, p.b, p.c", s.dir).CombinedOutput()
	if n := strings.Count(string(out), " matches "+s.dir); err != nil || n != 4 {
		t.Errorf("Python took %d of the compiled modules, want 4: %v", n, err)
	}
	s.cache = t.TempDir()
	s.compile("os.sched_getaffinity = lambda _: {0}\nsort = sorted\nit.sorted = lambda x, reverse: sort(x)")
	if diff := cmp.Diff(first, s.files(s.dir, ".pyc")); diff != "" {
		t.Errorf("other bytes in another order:\n%s", diff)
	}
}

// Pythons before 3.11 write sets in an order that depends on addresses where None is in them, however deep.
func TestSetsOrderedByAddressAreLeftOut(t *testing.T) {
	s := newSite(t, "plain.py", "f = lambda x: x in {'a', (1, 2)}\n", "none.py", "f = lambda x: x in {'a', None}\n",
		"deep.py", "f = lambda x: x in {(1, (2, None)), 'a'}\n", "dots.py", "f = lambda x: x in {(1, ...), 'a'}\n")
	s.compile("sys.version_info = (3, 10)")
	got := s.files(s.dir, ".pyc")
	if _, ok := got["__pycache__/plain"]; !ok || len(got) != 1 {
		t.Errorf("%d modules are compiled, want the plain one", len(got))
	}
}

// A module compiles once; then it comes from the cache, if its path and every byte of it are the same.
func TestCompiledModulesAreKept(t *testing.T) {
	s := newSite(t, "a.py", "x = 1\n", "b.py", "x = 1\n", "c.py", "x = 2\n")
	s.compile("")
	first := s.files(s.dir, ".pyc")
	for path := range s.files(s.cache, "") {
		if err := os.WriteFile(filepath.Join(s.cache, path), []byte("from the cache"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "c.py"), []byte("x = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.compile("")
	again := s.files(s.dir, ".pyc")
	if again["__pycache__/a"] != "from the cache" || again["__pycache__/b"] != "from the cache" {
		t.Error("what was compiled before was compiled again")
	}
	if got := again["__pycache__/c"]; got == "from the cache" || got == first["__pycache__/c"] {
		t.Error("another source got what an older one compiles to")
	}
	if n := len(s.files(s.cache, "")); n != 4 {
		t.Errorf("%d modules are kept, want 4", n)
	}
}

// Who starts before there is anything to compile is told when there is, or that there will be nothing.
func TestCompilingWaitsForAWord(t *testing.T) {
	s := newSite(t, "a.py", "x = 1\n")
	s.compile("sys.argv.insert(1, '--wait')")
	if n := len(s.files(s.dir, ".pyc")); n != 0 {
		t.Errorf("%d modules are compiled without a word", n)
	}
	s.compile(told("all"))
	if n := len(s.files(s.dir, ".pyc")); n != 1 {
		t.Errorf("%d modules are compiled after a word, want 1", n)
	}
}

// told is Python that has compile.py wait for a word, and gives it.
func told(word string) string {
	return "sys.argv.insert(1, '--wait')\nr, w = os.pipe()\nos.write(w, b'" + word + "')\nos.close(w)\nos.dup2(r, 0)"
}

// What packages list is compiled as it is without their lists; a list leads nowhere else.
func TestListedModulesAreCompiled(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "out.py")
	if err := os.WriteFile(outside, []byte("x = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := []string{"a/__init__.py", manyModules, "a/b,c.py", "x = 1\n", "a/tests/t.py", "x = 1\n", "a/data.txt", "x", "d.py", "x = 2\n", "e.py", "x = 3\n"}
	list := "a/__init__.py,sha256=x,3\n\"a/b,c.py\",,\na/tests/t.py,,\na/data.txt,,\na/gone.py,,\na/__init__.py,,\n" + outside + ",,\n../a/d.py,,\n\n"
	all, s := newSite(t, files...), newSite(t, append(files, "a-1.dist-info/RECORD", list, "d-1.dist-info/RECORD", "d.py,,\nd-1.dist-info/RECORD,,\n")...)
	all.compile(told("all"))
	s.compile(told("listed"))
	want, got := all.files(all.dir, ".pyc"), s.files(s.dir, ".pyc")
	delete(want, "__pycache__/e") // no package has it
	if len(want) != 3 || !slices.Equal(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))) {
		t.Errorf("compiled %q of lists, %q without", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(outside), "__pycache__")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a list led out of the directory: %v", err)
	}
}

// What packages bring leads neither out of their directory nor into the cache, and a module that no compiler survives
// costs no other module.
func TestCompilingHarmsNobody(t *testing.T) {
	s := newSite(t, "a.py", "x = 1\n", "crash.py", "x = 1\n", "z.py", "x = 1\n", "linked/m.py", "x = 1\n", "link/n.py", "x = 1\n", "outside/o.py", "x = 1\n")
	outside := t.TempDir()
	for from, to := range map[string]string{"linked/__pycache__": outside, "link/o.py": s.dir + "/outside/o.py"} {
		if err := os.Symlink(to, filepath.Join(s.dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(s.dir, "__pycache__")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	s.compile("")
	names := s.files(own, ".pyc")
	if len(names) != 3 {
		t.Fatalf("compiled %d modules, want 3", len(names))
	}
	// Again, with what a package might have brought under the name of a compiled module: a file of its own, a link.
	victim := filepath.Join(outside, "victim")
	matches, err := filepath.Glob(own + "/*.pyc")
	if err != nil || len(matches) != 3 {
		t.Fatal(err, matches)
	}
	for i, path := range matches {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			err = os.WriteFile(path, []byte("of the package"), 0o600)
		} else if i == 2 {
			err = os.Symlink(victim, path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.cache = t.TempDir()
	said := s.compile("real = compile\nit.compile = lambda s, p, *a, **k: os.kill(os.getpid(), signal.SIGSEGV) if 'crash' in p else real(s, p, *a, **k)")
	again := s.files(own, ".pyc")
	if again["a"] != names["a"] || again["z"] != names["z"] {
		t.Errorf("beside a module that crashes: %q\n%s", again, said)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
	if _, ok := s.files(s.dir+"/link", ".pyc")["__pycache__/o"]; ok {
		t.Error("a link was taken for a module")
	}
}
