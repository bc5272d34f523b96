package buildkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/plan"
)

func TestTrouble(t *testing.T) {
	for said, want := range map[string]string{
		"E: Temporary failure resolving 'deb.debian.org'":                                                "The server deb.debian.org, which",
		"error: dns error: failed to lookup address information":                                         "A server that",
		"error: Failed to fetch: `https://pypi.example/simple/six/`\n  Caused by: dns error":             "The server pypi.example, which",
		"fatal: unable to access 'https://u:p@git.example/r/': Could not resolve host: git.example":      "The server git.example, which",
		"curl: (7) Failed to connect to 192.0.2.1 port 443 after 3 ms: Connection refused":               "The server 192.0.2.1, which",
		"fatal: unable to look up gone.example (port 9418) (Name or service not known)":                  "The server gone.example, which",
		"dial tcp: lookup quay.example on 10.0.0.2:53: no such host":                                     "The server quay.example, which",
		`do request: Get "https://r.example/v2/": dial tcp [2001:db8::1]:443: connect: no route to host`: "The server [2001:db8::1], which",
		"ERROR: No matching distribution found for nothing==1":                                           "",
		"Because x was not found in the package registry and you require x==1":                           "",
		"python3: symbol lookup error: /x.so: undefined symbol: y":                                       "",
	} {
		got := ""
		if e := trouble(said); e != nil {
			got = e.Msg
		}
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%q: got %q, want %q", said, got, want)
		}
	}
}

// What a repository prints makes no disk full; a disk that is full does, even if there is room again when the step has ended.
func TestDiskFull(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		full       []bool // what the disk is each time that somebody looks
		want       bool
	}{
		{"somebody says so", "cp: write error: No space left on device", []bool{false, false}, false},
		{"it is", "cp: write error: No space left on device", []bool{true, true}, true},
		{"it was", "OSError: [Errno 28] No space left on device", []bool{true, false}, true},
		{"nobody says so", "cp: no such file", []bool{true, true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			looks := 0
			p := newProgress(func(bindery.Event) {}, "", false, func() bool { looks++; return tt.full[looks-1] })
			step := digest.FromString("a step")
			for _, piece := range []string{tt.said[:len(tt.said)-5], tt.said[len(tt.said)-5:] + "\n"} {
				p.take(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: step, Name: "Run postBuild"}}, Logs: []*client.VertexLog{{Vertex: step, Data: []byte(piece)}}})
			}
			if got := p.diskFull(tt.said); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What the engine itself says of the disk counts, though there is room again; what a Dockerfile or a registry words does not.
func TestRanOut(t *testing.T) {
	kernels := fmt.Errorf("copy: %w", unix.ENOSPC)
	worded := errors.New("GET https://registry.example/v2/: DENIED: no space left on device")
	for _, tt := range []struct {
		theirs bool
		err    error
		want   bool
	}{
		{true, kernels, true}, {true, grpcerrors.FromGRPC(grpcerrors.ToGRPC(t.Context(), kernels)), true}, {true, worded, false},
		{false, kernels, true}, {false, worded, true}, {false, errors.New("copy: /no space left on device: not found"), false},
	} {
		p := newProgress(func(bindery.Event) {}, "", tt.theirs, func() bool { return false })
		if got := p.ranOut(tt.err); got != tt.want {
			t.Errorf("theirs %v, %v: got %v", tt.theirs, tt.err, got)
		}
	}
}

// An error that BuildKit hides is said with the line of its step, where one instruction of the Dockerfile is what the step is
// named after.
func TestUncover(t *testing.T) {
	dir := t.TempDir()
	text := "# one\nFROM debian:bookworm\nrun --mount=from=base,target=/x one && \\\n  two\nRUN twice\nRUN twice\nRUN echo $X\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &solve{job: plan.Job{Dir: dir, Plan: plan.Plan{Docker: "Dockerfile"}}}
	began, ended := time.Unix(1, 0), time.Unix(2, 0)
	for step, want := range map[string]string{
		"[stage-1 2/4] RUN --mount=from=base,target=/x one &&   two": "Dockerfile, line 3: ",
		"[3/4] RUN twice":  "",
		"[4/4] RUN echo x": "",
	} {
		p := newProgress(func(bindery.Event) {}, "", true, func() bool { return false })
		p.source = s.source
		p.take(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: digest.FromString(step), Name: step, Started: &began, Completed: &ended, Error: "exit code: 3"}}})
		e, ok := errors.AsType[*bindery.Error](p.solveError(t.Context(), errors.New(releasedTwice)))
		if want += fmt.Sprintf("%q failed with exit code 3", step); !ok || e.Msg != want {
			t.Errorf("got %v, want %q", e, want)
		}
	}
}

// What a build of one system, as exported environments name it, has to do with another is said as the remedy.
func TestCondaBuilds(t *testing.T) {
	for spec, want := range map[string]string{"numpy=1.21.2=py39hfca59bb_0": "--no-builds", "numpy==1.21=0": "--no-builds", "numpy>=1,==1.21": "its channels have", "numpy=1.21": "its channels have"} {
		env := &plan.CondaEnvironment{File: "environment.yml", Specs: []string{spec}, Lines: map[string]int{spec: 4}}
		e := condaError(plan.Job{Plan: plan.Plan{Env: []plan.Install{{Tool: plan.ToolConda, Conda: env}}}}, "Install environment.yml", condaUser, fmt.Sprintf("error: nothing fits %q", spec))
		if e == nil || !strings.Contains(e.Remedy, want) || !strings.HasPrefix(e.Msg, "environment.yml, line 4: ") {
			t.Errorf("%s: got %#v, want the remedy %q", spec, e, want)
		}
	}
}

func TestMentions(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"requirements.txt": "six\n# of example.org\n--index-url https://me:secret@pypi.example.org/simple\nx @ git+ssh://git@host.example/x\n",
		"apt.txt":          "example.org\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/hosts", filepath.Join(dir, "link.txt")); err != nil {
		t.Fatal(err)
	}
	j := plan.Job{Dir: dir, Plan: plan.Plan{Reads: []string{"apt.txt", "gone.txt", "link.txt", "requirements.txt"}}}
	for host, want := range map[string]string{
		"pypi.example.org": "requirements.txt, line 3: ",
		"host.example":     "requirements.txt, line 4: ",
		"example.org":      "apt.txt, line 1: ",
		"PYPI.example.org": "requirements.txt, line 3: ",
		"ost.example":      "",
		"localhost":        "",
	} {
		if got := mentions(j, host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}
