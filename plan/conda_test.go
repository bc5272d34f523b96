package plan_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

// environment is an environment.yml with these dependencies.
func environment(dependencies ...string) string {
	text := "channels: [nodefaults, lab]\ndependencies:\n"
	for _, d := range dependencies {
		text += "- '" + strings.ReplaceAll(d, "'", "''") + "'\n"
	}
	return text
}

func TestCondaPython(t *testing.T) {
	for _, tt := range []struct {
		specs  string // joined by ;
		python string // tried first, "" if there is none; of the environment where it is not the kernel's only
		soft   bool   // another one may be taken
		kernel bool
	}{
		{"", "3.10", true, false},
		{"numpy", "3.10", true, false},
		{"python", "3.10", true, false},
		{"python=3", "3.10", true, false},
		{"python=3.*", "3.10", true, false},
		{"python=3.9", "3.9", false, false},
		{"python = 3.9", "3.9", false, false},
		{"python==3.9.7", "3.9", false, false},
		{"python=3.9.*", "3.9", false, false},
		{"python=3.9=build", "3.9", false, false},
		{"python 3.9", "3.9", false, false},
		{"python 3.9.* *_cpython", "3.9", false, false},
		{"Python=3.9", "3.9", false, false},
		{"conda-forge::python=3.12", "3.12", false, false},
		{"python[version=3.12]", "3.12", false, false},
		{"python[version=\">=3.12,<3.13\"]", "3.12", false, false},
		{"python[version='>=3.8']", "3.10", true, false},
		{"python[version='3.12.*',build='h123_0']", "3.12", false, false},
		{"python[build=h123_0, version=3.12, md5=0]", "3.12", false, false},
		{"python 3.12.*[build=h123_0]", "3.12", false, false},
		{"python>=3.9", "3.10", true, false},
		{"python >=3.11", "3.14", true, false},
		{"python >= 3.11, < 3.13", "3.12", true, false},
		{"python>=3.11,<3.12.0a0", "3.11", false, false},
		{"python>=3.12.0rc1", "3.14", true, false},
		{"python<3.12.0b1", "3.10", true, false},
		{"python=3.11.0rc1", "3.11", false, false},
		{"python==3.11.0rc1=h123_0", "3.11", false, false},
		{"python 3.11.0rc1", "3.11", false, false},
		{"python!=3.11.0rc1", "3.10", true, false},
		{"python==3.11.4=h123_0", "3.11", false, false},
		{"python ==3.11.4 h123_0", "3.11", false, false},
		{"python=3.11.*=h123_0", "3.11", false, false},
		{"python=3.11 h123_0", "3.11", false, false},
		{"python = 3.11 = h123_0", "3.11", false, false},
		{"python>=3.11,<3.12=h123_0", "3.11", false, false},
		{"python >=3.11,<3.12 h123_0", "3.11", false, false},
		{"python >=3.11 , <3.12", "3.11", false, false},
		{"python==3.11.*", "3.11", false, false},
		{"python=3.1", "", false, false}, // not 3.10
		{"python=3.12|3.13.*", "3.13", true, false},
		{"python 3.8.* | >=3.12,<3.13", "3.12", true, false},
		{"python=3.11,!=3.11.3", "3.11", false, false},
		{"python *", "3.10", true, false},
		{"python=*=*_cpython", "3.10", true, false},
		{"python 3.*.1", "3.10", true, false}, // the solver's to judge
		{"conda-forge/linux-64::python==2.7.18=h123_0", "2.7", false, true},
		{"python==2.7.18=h123_0", "2.7", false, true},
		{"python>=3.6.0a1,<3.7", "3.6", false, true},
		{"python~=3.11", "3.14", true, false},
		{"python~=3.11.4", "3.11", false, false},
		{"python<3.10", "3.9", true, false},
		{"python!=3.10.*", "3.14", true, false},
		{"python=3.8|=3.11", "3.11", true, false},
		{"python>=3.9;python<3.11", "3.10", true, false},
		{"python>3.12.50", "3.14", true, false},
		{"python " + strings.Repeat("3.11|", 300) + "3.11", "3.10", true, false},
		{"python=2", "2.7", false, true},
		{"python=3.6", "3.6", false, true},
		{"python<3.8", "3.7", true, true},
		{"python-dateutil=2", "3.10", true, false},
	} {
		t.Run(tt.specs, func(t *testing.T) {
			var specs []string
			if tt.specs != "" {
				specs = strings.Split(tt.specs, ";")
			}
			got, err := plan.Detect(repo("environment.yml", environment(specs...)), plan.Options{})
			if tt.python == "" && err != nil {
				checkError(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			env := got.Env[0].Conda
			if env.Kernel != tt.kernel || (env.Python != "") != tt.soft || tt.soft && env.Python != tt.python {
				t.Errorf("%+v", env)
			}
			if !tt.kernel && got.Python != tt.python {
				t.Errorf("Python %s", got.Python)
			}
			if prefix := got.Variables["KERNEL_PYTHON_PREFIX"]; (prefix == plan.KernelPrefix) != tt.kernel {
				t.Errorf("KERNEL_PYTHON_PREFIX=%s", prefix)
			}
		})
	}
}

func TestEnvironmentFile(t *testing.T) {
	const text = `name: science
prefix: /home/ann/conda
channels:
- bioconda
- https://conda.example.org/lab
- bioconda
- file:///home/jovyan/channel
dependencies:
- python=3.11
- &np numpy >=1.20,<2  # a comment
- pip
- pip:
  - requests==2.32.3
  - "scipy"
  - |
    six
    # nothing
    attrs
- *np
- pip:
  - rich
variables:
  B: two words
  A: 1
platforms: [linux-64]
`
	got, err := plan.Detect(repo("environment.yml", text, "requirements.txt", "x", "channel/noarch/repodata.json", "{}"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []plan.Install{
		{Tool: plan.ToolConda, Files: []string{}, Includes: []string{"channel/noarch/repodata.json"}, Version: "3.11", Conda: &plan.CondaEnvironment{
			Local:       []string{"channel"},
			Channels:    []string{"bioconda", "https://conda.example.org/lab", "file:///home/jovyan/channel", "conda-forge"},
			Specs:       []string{"python=3.11", "numpy >=1.20,<2", "pip", "numpy >=1.20,<2"},
			Constraints: []string{"python >=3.9,<3.15"},
			Variables:   []plan.Variable{{Name: "A", Value: "1"}, {Name: "B", Value: "two words"}},
			Lines:       map[string]int{"python=3.11": 9, "numpy >=1.20,<2": 10, "pip": 11},
			File:        "environment.yml",
		}},
		{Tool: plan.ToolCondaPip, Files: []string{}, Lines: []string{"requests==2.32.3", "scipy", "six", "attrs", "rich"}, From: "environment.yml"},
	}
	if diff := cmp.Diff(want, got.Env, cmpopts.IgnoreFields(plan.Install{}, "Numbers")); diff != "" {
		t.Error(diff)
	}
	var said string
	for _, i := range got.Ignored {
		said += i.File + ": " + i.Text + "\n"
	}
	for _, want := range []string{"line 2: prefix has no effect", "line 25: platforms has no effect", "requirements.txt: "} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
}

func TestEnvironmentFileFaults(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no yaml":             {"dependencies:\n- a\n b: [", "line"},
		"a list":              {"- numpy\n", "line 1: there should be keys"},
		"a word":              {"numpy\n", "line 1: there should be keys"},
		"dependencies a word": {"\ndependencies: numpy\n", "line 2: dependencies should be a list"},
		"a list in a list":    {"dependencies:\n- [a]\n", "line 2: a dependency should be text"},
		"an empty dependency": {"dependencies:\n- a\n-\n", "line 3: a dependency should be text"},
		"pip a word":          {"dependencies:\n- pip: x\n", "line 2: pip should be a list"},
		"pip with a mapping":  {"dependencies:\n- pip:\n  - a: b\n", "line 3: a requirement should be text"},
		"pip with a control":  {"dependencies:\n- pip:\n  - \"a\\e[2J\"\n", "line 3: a requirement has a character"},
		"spec with a control": {"dependencies:\n- \"a\\tb\"\n", "line 2: a dependency has a character"},
		"channel with option": {"channels: ['--help']\n", "line 1: \"--help\" is not a channel"},
		"channel upwards":     {"channels: [a/../b]\n", "not a channel"},
		"channel above":       {"channels: ['file:///home/jovyan/../x']\n", "is not a directory of the repository"},
		"no local channel":    {"channels: [./x]\n", "there is no channel in the directory x"},
		"channel with a word": {"channels: ['ftp://x']\n", "not a channel"},
		"channels a mapping":  {"channels: {a: b}\n", "line 1: channels should be a list"},
		"no such python":      {"dependencies:\n- a\n- python=3.4\n", "line 3: there is no Python that fits \"python=3.4\""},
		"two pythons":         {"dependencies:\n- python=3.9\n- python=3.10\n", "line 2: there is no Python"},
		"a variable":          {"variables:\n  A-B: 1\n", "line 2: \"A-B\" is not the name of a variable"},
		"missing include":     {"dependencies:\n- pip:\n  - -r more.txt\n", "line 3: there is no more.txt"},
		"self alias":          {"dependencies: &a\n- *a\n", "line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := plan.Detect(repo("environment.yml", tt.text), plan.Options{})
			e, ok := errors.AsType[*bindery.Error](err)
			if !ok || !strings.Contains(e.Msg, tt.want) || !strings.HasPrefix(e.Msg, "environment.yml") {
				t.Errorf("got %v", err)
			}
			checkError(t, err)
		})
	}
}

// A channel in the repository is part of the environment: by its repodata, which has the hashes of its packages.
func TestLocalChannel(t *testing.T) {
	files := func(repodata, archive string) fstest.MapFS {
		return repo("binder/environment.yml", "channels: [./lab/]\n", "binder/lab/noarch/repodata.json", repodata, "binder/lab/noarch/x-1-0.conda", archive)
	}
	key := func(m fstest.MapFS) string {
		t.Helper()
		got, err := plan.Detect(m, plan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if c := got.Env[0].Conda; c.Channels[0] != "file:///home/jovyan/binder/lab" || c.Local[0] != "binder/lab" {
			t.Errorf("%+v", c)
		}
		k, err := got.EnvKey("g", m)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if key(files("a", "1")) == key(files("b", "1")) {
		t.Error("other repodata, the same environment")
	}
}

func TestCondaPip(t *testing.T) {
	pip := func(line string) string { return "dependencies:\n- pip:\n  - " + line + "\n" }
	for name, tt := range map[string]struct {
		line     string
		content  bool
		includes []string
	}{
		"name":            {"requests", false, nil},
		"included":        {"-r more.txt", false, []string{"binder/more.txt"}},
		"upwards":         {"-r ../requirements.txt", false, []string{"requirements.txt"}},
		"the usual name":  {"-r requirements.txt", false, []string{"binder/requirements.txt"}},
		"as constraints":  {"-c requirements.txt", false, []string{"binder/requirements.txt"}},
		"local":           {"-e .", true, nil},
		"included local":  {"-r local.txt", true, []string{"binder/local.txt"}},
		"url":             {"https://example.org/x.whl", false, nil},
		"version control": {"git+https://example.org/x", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			files := repo("binder/environment.yml", pip(tt.line), "binder/more.txt", "a", "binder/local.txt", "./x", "requirements.txt", "b", "binder/requirements.txt", "c")
			got, err := plan.Detect(files, plan.Options{})
			if err != nil {
				t.Fatal(err)
			}
			installs := got.Env[1:]
			if tt.content {
				installs = got.Content
			}
			if len(installs) != 1 || installs[0].From != "binder/environment.yml" {
				t.Fatalf("%+v", got)
			}
			if diff := cmp.Diff(tt.includes, installs[0].Includes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A requirements.txt is a file like others to a pip section: only the pip pack reads it by itself.
func TestCondaPipIncludesRequirements(t *testing.T) {
	for _, dir := range []string{"", "binder/"} {
		for _, option := range []string{"-r", "-c"} {
			files := repo(dir+"environment.yml", "dependencies: [python=3.11, pip, {pip: [six, \""+option+" requirements.txt\"]}]\n", dir+"requirements.txt", "numpy")
			key := func() string {
				t.Helper()
				got, err := plan.Detect(files, plan.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if in := got.Env[1]; !slices.Equal(in.Includes, []string{dir + "requirements.txt"}) || !slices.Contains(got.Reads, dir+"requirements.txt") || len(got.Ignored) > 0 {
					t.Errorf("%s in %q: %+v, reads %v, ignored %v", option, dir, in, got.Reads, got.Ignored)
				}
				k, err := got.EnvKey("g", files)
				if err != nil {
					t.Fatal(err)
				}
				return k
			}
			before := key()
			files[dir+"requirements.txt"].Data = []byte("scipy")
			if key() == before {
				t.Errorf("%s in %q: another requirements.txt, the same environment", option, dir)
			}
			files[dir+"requirements.txt"].Data = []byte("-e .")
			got, err := plan.Detect(files, plan.Options{})
			if err != nil || len(got.Content) != 1 || len(got.Ignored) > 0 {
				t.Errorf("%s in %q: a local line of it: %+v, %v", option, dir, got, err)
			}
		}
	}
}

func FuzzEnvironment(f *testing.F) {
	f.Add("name: a\nchannels:\n- b\ndependencies:\n- python>=3.9\n- pip:\n  - -r x\nvariables: {A: b}\n")
	f.Add("dependencies: &a [*a]")
	f.Add("dependencies: [{pip: [\"x\\ty\"]}]")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := plan.Detect(repo("environment.yml", text, "x", "y"), plan.Options{})
		checkError(t, err)
		if err == nil && (len(got.Env) == 0 || got.Env[0].Conda == nil) {
			t.Error("no environment")
		}
	})
}
