package buildkit

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/bindery-hub/bindery/internal/corpus"
	"github.com/bindery-hub/bindery/plan"
)

func fullJob() plan.Job {
	return plan.Job{GitDir: "/x/.git", Plan: plan.Plan{
		Pack: plan.PackPython, Python: "3.11", Apt: []string{"cowsay", "fortune"}, PostBuild: "postBuild", Start: "start",
		Env:     []plan.Install{{Tool: "pip", Files: []string{"requirements.txt"}}},
		Content: []plan.Install{{Tool: "pip", Args: []string{"."}}},
	}}
}

// marshal returns the definition of job with its operations in order: BuildKit's own order is by a map.
func marshal(t *testing.T, job plan.Job) ([][]byte, []digest.Digest) {
	t.Helper()
	def, err := graph(job, root{llb.Image("base"), nil}).Marshal(t.Context(), llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	ops := slices.Clone(def.Def)
	slices.SortFunc(ops, bytes.Compare)
	var digests []digest.Digest
	for _, op := range ops {
		digests = append(digests, digest.FromBytes(op))
	}
	return ops, digests
}

func TestGraphIsAFunctionOfTheJob(t *testing.T) {
	_, first := marshal(t, fullJob())
	job := fullJob()
	job.Labels, job.Name = map[string]string{"a": "b"}, "another" // config only
	if _, second := marshal(t, job); cmp.Diff(first, second) != "" {
		t.Errorf("two graphs of one plan differ: %s", cmp.Diff(first, second))
	}
}

// Of every sample, the files as a whole are read by one copy, which is one layer, and by what has to run with all files in
// place. So a changed notebook runs no step where the plan has none of those.
func TestContentIsOneLayer(t *testing.T) {
	still := 0
	for _, s := range corpus.Samples() {
		if s.Generated() { // their plans are like others
			continue
		}
		dir := t.TempDir()
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
		p, err := plan.Detect(os.DirFS(dir), plan.Options{})
		if err != nil || p.Pack == plan.PackDockerfile {
			continue
		}
		ops, _ := marshal(t, plan.Job{Dir: dir, Plan: p})
		copies, steps := readers(t, ops)
		if copies != 1 {
			t.Errorf("%s: the files are copied %d times", s.Name, copies)
		}
		if runs := len(p.Content) > 0 || p.PostBuild != ""; runs != (steps > 0) {
			t.Errorf("%s: %d steps read all files; the plan has %d installs and postBuild %q", s.Name, steps, len(p.Content), p.PostBuild)
		}
		if steps == 0 {
			still++
		}
	}
	if still < 50 {
		t.Errorf("only %d samples run nothing for another notebook", still)
	}
	t.Logf("%d samples run nothing for another notebook", still)
}

// readers counts the copies and the steps that come after the whole of a repository's files.
func readers(t *testing.T, ops [][]byte) (copies, steps int) {
	t.Helper()
	all := map[string]*pb.Op{}
	for _, data := range ops {
		op := &pb.Op{}
		if err := op.UnmarshalVT(data); err != nil {
			t.Fatal(err)
		}
		all[digest.FromBytes(data).String()] = op
	}
	known := map[string]bool{}
	var reads func(id string) bool
	reads = func(id string) bool {
		if _, ok := known[id]; !ok {
			op := all[id]
			src := op.GetSource()
			known[id] = src != nil && src.Identifier == "local://"+localFiles && src.Attrs[pb.AttrIncludePatterns] == ""
			for _, in := range op.Inputs {
				known[id] = reads(in.Digest) || known[id]
			}
		}
		return known[id]
	}
	for id, op := range all {
		if reads(id) && op.GetFile() != nil {
			copies++
		}
		if reads(id) && op.GetExec() != nil {
			steps++
		}
	}
	return copies, steps
}

// Installs with prefixes of their own start where the first one does, and get none of each other's files.
func TestPrefixesAreBranches(t *testing.T) {
	job := fullJob()
	one := plan.Install{Tool: plan.ToolPip, Files: []string{"one.txt"}, Prefix: "/srv/one"}
	job.Plan.Env = append(job.Plan.Env, one, plan.Install{Tool: plan.ToolPip, Files: []string{"two.txt"}, Prefix: "/srv/two"})
	_, before := marshal(t, job)
	job.Plan.Env[2].Files = []string{"other.txt"}
	_, after := marshal(t, job)
	job.Plan.Env[0].Files = []string{"another.txt"}
	_, third := marshal(t, job)
	changed := func(a, b []digest.Digest) (n int) {
		for _, d := range b {
			if !slices.Contains(a, d) {
				n++
			}
		}
		return n
	}
	// A branch: load, copy, install, see what changed. After it: merge, two copies, a package, postBuild, the end.
	if n := changed(before, after); n < 8 || n > 11 {
		t.Errorf("another file of one branch changes %d operations", n)
	}
	if n := changed(after, third); n < 8 || n > 11 {
		t.Errorf("another file of the notebook environment changes %d operations", n)
	}
}

// uv is asked for the patches of Python that will do: of a mere 3.11 it takes the base's own.
func TestServerHasThePatch(t *testing.T) {
	job := fullJob()
	job.Plan.Patches = ">=3.11.4,<3.12"
	ops, _ := marshal(t, job)
	if !slices.ContainsFunc(ops, func(op []byte) bool {
		return bytes.Contains(op, []byte("/server.sh")) && bytes.Contains(op, []byte(job.Plan.Patches))
	}) {
		t.Error("the environment is made of any Python 3.11")
	}
}

func TestGraphKnowsNothingOfTheMachine(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://secret-proxy.example:3128")
	t.Setenv("PIP_INDEX_URL", "https://secret-index.example/simple")
	ops, _ := marshal(t, fullJob())
	for _, op := range ops {
		op = bytes.ReplaceAll(op, []byte("jupyter-rsession-proxy"), nil) // a package's name
		for _, word := range []string{"secret-", "PROXY", "proxy", "CERT", "CA_BUNDLE", "ca.pem"} {
			// The lock file and our scripts are operations too; they name none of these either.
			if i := bytes.Index(op, []byte(word)); i >= 0 {
				t.Errorf("%q is in the graph: ...%s...", word, op[max(0, i-40):min(len(op), i+40)])
			}
		}
	}
}

// npm's settings may name a program that takes packages out of Git, or a proxy: what they had a hand in is in no cache that
// others read.
func TestNodeCaches(t *testing.T) {
	for _, tt := range []struct {
		prefix   string
		includes []string
		shared   bool
	}{
		{"/home/jovyan/node_modules", []string{"package.json"}, true},
		{"/home/jovyan/node_modules", []string{"package.json", ".npmrc"}, false},
		{"/home/jovyan/binder/node_modules", []string{"binder/package.json", "binder/.npmrc"}, false},
		{"", []string{"package.json"}, false}, // all files are there, .gitconfig too
	} {
		job := fullJob()
		in := plan.Install{Tool: plan.ToolNPM, Files: []string{path.Join(path.Dir(tt.includes[0]), "package-lock.json")}, Includes: tt.includes, Prefix: tt.prefix, Args: []string{plan.NPMRebuild}}
		if tt.prefix == "" {
			job.Plan.Content = append(job.Plan.Content, in)
		} else {
			job.Plan.Env = append(job.Plan.Env, in)
		}
		ops, _ := marshal(t, job)
		steps := 0
		for _, data := range ops {
			op := &pb.Op{}
			if err := op.UnmarshalVT(data); err != nil {
				t.Fatal(err)
			}
			argv := op.GetExec().GetMeta().GetArgs()
			if !slices.Contains(argv, assetsMount+"/npm.sh") {
				continue
			}
			steps++
			want := tt.shared && slices.Contains(argv, "unpack")
			shared := slices.ContainsFunc(op.GetExec().Mounts, func(m *pb.Mount) bool { return m.CacheOpt.GetID() == sharedCache })
			if shared != want {
				t.Errorf("%q: %q has the cache that all share: %v", tt.includes, argv, shared)
			}
		}
		if steps != 2 {
			t.Errorf("%q: %d steps of npm's", tt.includes, steps)
		}
	}
}

func TestImageConfig(t *testing.T) {
	job := fullJob()
	job.Labels = map[string]string{"custom": "yes"}
	c := imageConfig(job, []string{"PATH=/opt/tool/bin:/usr/bin", "LANG=C", "TOOL=1"}).Config
	if c.User != "jovyan" || c.WorkingDir != "/home/jovyan" {
		t.Errorf("user %q in %q", c.User, c.WorkingDir)
	}
	want := "PATH=/home/jovyan/.local/bin:/home/jovyan/.local/bin:/srv/conda/envs/notebook/bin:/srv/conda/bin:/srv/npm/bin:/opt/tool/bin:/usr/bin"
	for _, kv := range []string{want, "LANG=en_US.UTF-8", "TOOL=1", "R2D_ENTRYPOINT=/home/jovyan/start", "PYTHONUNBUFFERED=1"} {
		if !slices.Contains(c.Env, kv) {
			t.Errorf("no %s in %q", kv, c.Env)
		}
	}
	if strings.Contains(strings.Join(c.Env, " "), "NB_UID") {
		t.Error("a build argument is in the image")
	}
	if c.Labels["repo2docker.ref"] != "None" || c.Labels["custom"] != "yes" {
		t.Errorf("labels %v", c.Labels)
	}
}

func TestArchives(t *testing.T) {
	tests := []struct{ name, list, sources, want string }{
		{"none", "", "", "deb http://deb.debian.org/debian bookworm main\n"},
		{"one line", "deb [arch=amd64 signed-by=/k] https://mirror.example/debian stable main contrib # ours\n", "", "deb https://mirror.example/debian bookworm main\n"},
		{"stanzas", "", "Types: deb\n# old\nURIs: http://m.example/d http://two.example\nSuites: trixie trixie-updates\nComponents: main\n\nTypes: deb\nURIs: http://s.example/d\nSuites: trixie-security\n", "deb http://m.example/d bookworm main\n"},
		{"another distribution", "deb http://archive.ubuntu.com/ubuntu noble main\n", "", "deb http://deb.debian.org/debian bookworm main\n"},
		{"a medium", "deb cdrom:[Debian]/ bookworm main\n", "", "deb http://deb.debian.org/debian bookworm main\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var a archives
			a.readLines(tt.list)
			a.readStanzas(tt.sources)
			if got := a.lines("bookworm"); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q first", got, tt.want)
			}
		})
	}
}

func TestAddMissing(t *testing.T) {
	bundle := "=/etc/ssl/certs/ca-certificates.crt"
	got := addMissing([]string{"A=1", "PIP_CERT=mine", "NIX_SSL_CERT_FILE" + bundle, "C" + bundle}, []string{"PIP_CERT=theirs", "B=2", "NIX_SSL_CERT_FILE=machine"})
	if want := []string{"A=1", "PIP_CERT=mine", "C" + bundle, "B=2", "NIX_SSL_CERT_FILE=machine"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func condaGraphJob() plan.Job {
	env := &plan.CondaEnvironment{Channels: []string{"conda-forge"}, Specs: []string{"python=3.11", "numpy"}, File: "environment.yml", Lines: map[string]int{"numpy": 4}}
	return plan.Job{Plan: plan.Plan{
		Pack: plan.PackConda, Python: "3.11",
		Env: []plan.Install{
			{Tool: plan.ToolConda, Version: "3.11", Conda: env},
			{Tool: plan.ToolCondaPip, Lines: []string{"six"}, From: "environment.yml"},
		},
	}}
}

// A comment above a line makes no other environment, a pip section no other conda environment.
func TestCondaGraph(t *testing.T) {
	ops, first := marshal(t, condaGraphJob())
	moved := condaGraphJob()
	moved.Plan.Env[0].Conda.Lines = map[string]int{"numpy": 5}
	if _, second := marshal(t, moved); cmp.Diff(first, second) != "" {
		t.Error("a comment above a dependency changes the graph")
	}
	another := condaGraphJob()
	another.Plan.Env[1].Lines = []string{"attrs"}
	_, third := marshal(t, another)
	news := 0
	for _, d := range third {
		if !slices.Contains(first, d) {
			news++
		}
	}
	if news > 4 { // the lines' own file, the step, the files on top of it, the end
		t.Errorf("another pip section changes %d steps", news)
	}
	solves := 0
	for _, op := range ops {
		if bytes.Contains(op, []byte(condaSecretID)) {
			solves++
		}
		if bytes.Contains(op, []byte(condaSecretID)) && bytes.Contains(op, []byte("/bin/bash")) && bytes.Contains(op, []byte("conda-pip.sh")) {
			t.Error("a step that runs packages sees the credentials of channels")
		}
	}
	if solves != 2 {
		t.Errorf("%d steps see the credentials of channels, want those that install the environment and the conda command", solves)
	}
}
