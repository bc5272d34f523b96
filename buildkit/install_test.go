package buildkit_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// loadInstall makes assets/install.py a module called it.
const loadInstall = `
import importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("it", sys.argv[1])
it = importlib.util.module_from_spec(spec)
spec.loader.exec_module(it)
it.say = lambda text: None
`

// python runs a script over assets/install.py in dir, and returns what it prints as JSON.
func python(t *testing.T, dir, script string, args ...string) any {
	t.Helper()
	asset, err := filepath.Abs("assets/install.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-B", "-I", "-c", loadInstall + script, asset}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v\n%s", err, e.Stderr)
		}
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return got
}

// As npm ci has it, a .npmrc decides whether scripts run; packages are taken without any of them, whatever it says, and with
// the cache that the step has.
func TestNodeScriptsAreThoseThatSettingsAllow(t *testing.T) {
	script, err := filepath.Abs("assets/npm.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		settings, what string
		runs           bool
	}{
		{"", "prepare", true},
		{"ignore-scripts=true", "prepare", false},
		{"ignore-scripts=false\ncache=" + t.TempDir() + "\nscript-shell=/bin/false", "unpack", false},
	} {
		home := t.TempDir()
		for name, text := range map[string]string{
			"package.json":      `{"name":"x","version":"1.0.0","scripts":{"prepare":"echo >ran"}}`,
			"package-lock.json": `{"name":"x","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"x","version":"1.0.0"}}}`,
			".npmrc":            tt.settings,
		} {
			if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", script, ".", tt.what)
		cmd.Env = append(os.Environ(), "HOME="+home, "UV_CACHE_DIR="+home+"/cache", "TMPDIR="+home+"/tmp")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", tt.settings, err, out)
		}
		if _, err := os.Stat(filepath.Join(home, "ran")); (err == nil) != tt.runs {
			t.Errorf("%q: %s ran a script: %v, want %v", tt.settings, tt.what, err == nil, tt.runs)
		}
		if _, err := os.Stat(filepath.Join(home, "cache", "npm")); tt.what == "unpack" && err != nil {
			t.Error("packages went into another cache")
		}
	}
}

// What the installers see of each line, with an index configured and without; lines keep their numbers.
func TestRequirementFilesAreRewritten(t *testing.T) {
	const script = `
files = it.Files("copies", sys.argv[2])
with open(files.copy("requirements.txt")) as f:
    print(json.dumps(f.read().replace(os.getcwd(), "/repo").split("\n")))
`
	for line, want := range map[string][2]string{ // with an index, and without
		"six":                               {"six", "six"},
		"-i https://pypi.python.org/simple": {"", "--index-url https://pypi.org/simple"},
		"--index-url=http://pypi.python.org/pypi":                    {"", "--index-url https://pypi.org/simple"},
		"-i https://pypi.org/simple/ # ours":                         {"", "--index-url https://pypi.org/simple"},
		"--pypi-url https://h.example/x":                             {"--index-url https://h.example/x", "--index-url https://h.example/x"},
		"-i https://test.pypi.org/simple":                            {"--index-url https://test.pypi.org/simple", "--index-url https://test.pypi.org/simple"},
		"--extra-index-url https://pypi.io/pypi":                     {"--extra-index-url http://ours/simple", "--extra-index-url https://pypi.org/simple"},
		"-f sub":                                                     {"--find-links /repo/sub", "--find-links /repo/sub"},
		"--find-links https://h.example/w":                           {"--find-links https://h.example/w", "--find-links https://h.example/w"},
		"-rsub/more.txt":                                             {"--requirement copies/sub/more.txt", "--requirement copies/sub/more.txt"},
		"--constraint sub/more.txt # x":                              {"--constraint copies/sub/more.txt", "--constraint copies/sub/more.txt"},
		"-r https://h.example/r.txt":                                 {"-r https://h.example/r.txt", "-r https://h.example/r.txt"},
		"-e ./sub":                                                   {"-e ./sub", "-e ./sub"},
		"git+git://github.com/o/r.git@v1#egg=r":                      {"git+https://github.com/o/r.git@v1#egg=r", "git+https://github.com/o/r.git@v1#egg=r"},
		"x @ git+git://h.example/r":                                  {"x @ git+git://h.example/r", "x @ git+git://h.example/r"},
		"-i \\\n  https://pypi.org/simple":                           {"\n", "--index-url https://pypi.org/simple\n"},
		"--unknown -i https://pypi.org/simple":                       {"--unknown -i https://pypi.org/simple", "--unknown -i https://pypi.org/simple"},
		"-f 'sub":                                                    {"-f 'sub", "-f 'sub"},
		"-i https://pypi.org/simple six":                             {"", "--index-url https://pypi.org/simple"},
		"-r sub/more.txt -c none.txt --pre":                          {"--requirement copies/sub/more.txt", "--requirement copies/sub/more.txt"},
		"-i https://h.example/x -e 'git+git://github.com/o/r#egg=r'": {"--editable git+https://github.com/o/r#egg=r", "--editable git+https://github.com/o/r#egg=r"},
		"--find sub":                                                 {"--find-links /repo/sub", "--find-links /repo/sub"},
		`--extra "https://pypi.python.org/simple"`:                   {"--extra-index-url http://ours/simple", "--extra-index-url https://pypi.org/simple"},
	} {
		dir := repo(t, "requirements.txt", "first\n"+line+"\nlast", "sub/more.txt", "# -r ../requirements.txt\n-r ../requirements.txt\n")
		for i, index := range []string{"http://ours/simple", ""} {
			all := []string{"first"}
			all = append(append(all, strings.Split(want[i], "\n")...), "last")
			var got []string
			for _, l := range python(t, dir, script, index).([]any) {
				got = append(got, l.(string))
			}
			if diff := cmp.Diff(all, got); diff != "" {
				t.Errorf("%q with index %q: %s", line, index, diff)
			}
		}
	}
}

// A line with several options becomes several, of which those that have no room are at the end, with the number of their
// line.
func TestSeveralOptionsOnALine(t *testing.T) {
	const script = `
files = it.Files("copies", sys.argv[2])
with open(files.copy("requirements.txt")) as f:
    text = f.read().replace(os.getcwd(), "/repo").split("\n")
print(json.dumps([" | ".join(text), [files.number("requirements.txt", i + 1) for i in range(len(text))], files.own_index, files.pre]))
`
	for _, tt := range []struct {
		lines, index, want string
		numbers            []any
		ownIndex, pre      bool
	}{
		{"-i https://pypi.python.org/simple --trusted-host pypi.python.org", "http://ours/simple", "six | --trusted-host pypi.python.org | ", []any{1., 2., 3.}, false, false},
		{"-i https://pypi.python.org/simple --trusted-host pypi.python.org", "", "six | --index-url https://pypi.org/simple |  |  | --trusted-host pypi.python.org", []any{1., 2., 3., 4., 2.}, false, false},
		{"--index-url https://pypi.org/simple --extra-index-url https://h.example/s", "http://ours/simple", "six | --extra-index-url https://h.example/s | ", []any{1., 2., 3.}, false, false},
		{"--index-url https://pypi.org/simple --extra-index-url https://h.example/s", "", "six | --index-url https://pypi.org/simple |  |  | --extra-index-url https://h.example/s", []any{1., 2., 3., 4., 2.}, false, false},
		{"-i https://h.example/s --extra-index-url=https://pypi.org/simple --pre", "http://ours/simple", "six | --index-url https://h.example/s |  |  | --extra-index-url http://ours/simple | --pre", []any{1., 2., 3., 4., 2., 2.}, true, true},
		{"-i https://h.example/s -i https://pypi.org/simple", "http://ours/simple", "six |  | ", []any{1., 2., 3.}, false, false},
		{"-i https://h.example/s \\\n --find-links ./sub -f none", "http://ours/simple", "six | --index-url https://h.example/s |  |  |  | --find-links /repo/sub", []any{1., 2., 3., 4., 5., 2.}, true, false},
		{"-i https://h.example/s \\\n --pre\n-f sub --pre\n# \\", "", "six | --index-url https://h.example/s |  | --pre | # \\ |  |  | --pre | --find-links /repo/sub", []any{1., 2., 3., 4., 5., 6., 7., 2., 4.}, true, true},
	} {
		dir := repo(t, "requirements.txt", "six\n"+tt.lines+"\n", "sub/x", "", "copies/x", "")
		if diff := cmp.Diff([]any{tt.want, tt.numbers, tt.ownIndex, tt.pre}, python(t, dir, script, tt.index)); diff != "" {
			t.Errorf("%q with index %q: %s", tt.lines, tt.index, diff)
		}
	}
}

// What PyPI says of its answers is said to uv of PyPI alone, and of no index that somebody has named.
func TestAnswersOfPyPIAreKept(t *testing.T) {
	const script = `
files = it.Files("copies", sys.argv[2])
files.copy("requirements.txt")
os.environ["NB_PYTHON_PREFIX"] = "/prefix"
print(json.dumps(os.path.basename(it.uv("all", files, [])[1].get("UV_CONFIG_FILE", ""))))
`
	for _, tt := range []struct{ line, index, want string }{
		{"six", "", "pypi.toml"},
		{"-i https://pypi.org/simple", "", "pypi.toml"},
		{"-i https://h.example/simple", "", ""},
		{"six", "http://ours/simple", ""},
	} {
		if got := python(t, repo(t, "requirements.txt", tt.line), script, tt.index); got != tt.want {
			t.Errorf("%q with index %q: configured by %q, want %q", tt.line, tt.index, got, tt.want)
		}
	}
}

// What the step for wheels has finished is not begun again, and nothing tells of it in the image.
func TestNothingIsLeftToInstall(t *testing.T) {
	const script = `
print(json.dumps([it.install("all", os.getcwd(), "copies", ["--requirement=none.txt"]), os.listdir(".")]))
`
	want := []any{0.0, []any{"copies"}}
	if diff := cmp.Diff(want, python(t, repo(t, ".bindery-done", "", "copies/x", ""), script)); diff != "" {
		t.Error(diff)
	}
}

// What uv and pip say becomes one sentence with its place.
func TestComplaintsNameTheirLine(t *testing.T) {
	const script = `
files = it.Files("copies", "")
files.copy("requirements.txt")
print(json.dumps(it.explain(sys.argv[2], files, "3.11")))
`
	dir := repo(t, "requirements.txt", "six\nTensor_Flow==1.15 # x\n-e git+https://h/o/r#egg=mine\n", "copies/x", "")
	for said, want := range map[string]any{
		"Because tensor-flow==1.15.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require":                            "requirements.txt, line 2: tensor-flow==1.15.0: it has no build for Python 3.11.",
		"Because tensor-flow was not found in the package registry and you require it":                                                        "requirements.txt, line 2: tensor-flow: the index has no such package.",
		"Because there is no version of six==99 and you require six==99":                                                                      "requirements.txt, line 1: six==99: the index has no such version.",
		"ERROR: No matching distribution found for six==99":                                                                                   "requirements.txt, line 1: six==99: the index has no such version for Python 3.11.",
		"  × Failed to build `mine @ git+https://h/o/r`":                                                                                      "requirements.txt, line 3: mine: it has no build for Python 3.11, and could not be built from its source.",
		"Failed to build `other==1.0`":                                                                                                        "A package that others need: other==1.0: it has no build for Python 3.11, and could not be built from its source.",
		"WARNING: Ignoring version 0.1 of six since it has invalid metadata:\nBecause six==0.1 has invalid metadata and you require six==0.1": "requirements.txt, line 1: six==0.1: neither uv nor pip can read what it needs.",
		"it went wrong": nil,
	} {
		if diff := cmp.Diff(want, python(t, dir, script, said)); diff != "" {
			t.Errorf("%q: %s", said, diff)
		}
	}
}
