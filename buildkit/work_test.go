package buildkit

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	bindery "github.com/bindery-hub/bindery"
)

// cgroups is a tree of control groups whose processor time the test sets.
type cgroups struct {
	t    *testing.T
	root string
	file func(cgroup string, had time.Duration) (name, text string)
}

func (c cgroups) set(cgroup string, had time.Duration) {
	c.t.Helper()
	name, text := c.file(cgroup, had)
	path := filepath.Join(c.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// versions are both kinds of control groups, with files as Linux has them.
func versions(t *testing.T) map[string]cgroups {
	return map[string]cgroups{
		"1": {t, t.TempDir(), func(cgroup string, had time.Duration) (string, string) {
			return filepath.Join("cpuacct", cgroup, "cpuacct.usage"), strconv.FormatInt(int64(had), 10) + "\n"
		}},
		"2": {t, t.TempDir(), func(cgroup string, had time.Duration) (string, string) {
			us := strconv.FormatInt(had.Microseconds(), 10)
			return filepath.Join(cgroup, "cpu.stat"), "usage_usec " + us + "\nuser_usec 7\nsystem_usec 5\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
		}},
	}
}

// TestProcessorTime reads both versions, and says so when there is nothing to read.
func TestProcessorTime(t *testing.T) {
	for version, c := range versions(t) {
		c.set("/ours/builds/buildkit/x", 1234567*time.Microsecond)
		if got, err := processorTime(c.root, "/ours/builds/buildkit/x"); got != 1234567*time.Microsecond || err != nil {
			t.Errorf("version %s: %v, %v", version, got, err)
		}
		for _, none := range []string{"", "/ours/builds/buildkit/y"} {
			if got, err := processorTime(c.root, none); err == nil {
				t.Errorf("version %s has %v for %q", version, got, none)
			}
		}
	}
	for name, text := range map[string]string{"cpuacct/odd/cpuacct.usage": "much\n", "odd/cpu.stat": "user_usec 7\n"} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := processorTime(root, "/odd"); err == nil {
			t.Errorf("%s with %q is %v", name, text, got)
		}
	}
}

// TestLook tells of a silent build when one of its own steps computes; of one that waits, when any step does.
func TestLook(t *testing.T) {
	for version, c := range versions(t) {
		t.Run(version, func(t *testing.T) {
			said := 0
			p := newProgress(func(bindery.Event) { said++ }, "/builds", false, nil)
			p.all.root = c.root
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			began, step := at, digest.FromString("a step")
			vertex := &client.Vertex{Digest: step, Name: "Run postBuild", Started: &began}
			other := &client.Vertex{Digest: digest.FromString("another"), Name: "Copy the repository", Started: &began}
			log := &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: step, Data: []byte("a line\n")}}}
			var own, all time.Duration
			look := func(ofOwn, ofAll time.Duration, before ...*client.SolveStatus) int {
				t.Helper()
				for _, s := range before {
					p.take(s)
				}
				own, all, at, said = own+ofOwn, all+ofAll, at.Add(30*time.Second), 0
				c.set("/builds", all)
				c.set("/builds/buildkit/x", own)
				p.look(at)
				return said
			}
			want := func(what string, got, want int) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %d events, want %d", what, got, want)
				}
			}
			want("nothing has begun", look(0, time.Second), 0)
			want("the step has begun and said so", look(0, time.Second, &client.SolveStatus{Vertexes: []*client.Vertex{vertex, other}}), 0)
			want("it waits, others compute", look(0, time.Second), 1)
			want("it waits, nobody computes", look(0, time.Millisecond), 0)
			p.take(&client.SolveStatus{Statuses: []*client.VertexStatus{{ID: "x", Vertex: step, Name: inContainer}}})
			p.vertices[step].meter.root = c.root
			want("its container is seen first", look(time.Second, time.Second), 0)
			want("it computes", look(61*time.Millisecond, 61*time.Millisecond), 1)
			want("it does nothing, others compute", look(59*time.Millisecond, time.Minute), 0)
			want("it computes and prints", look(time.Second, time.Second, log), 0)
			want("it computes again", look(time.Second, time.Second), 1)
			ended := *vertex
			ended.Completed = &at
			p.take(&client.SolveStatus{Vertexes: []*client.Vertex{&ended}})
			look(0, 0)
			want("it has ended, what is no command goes on", look(time.Second, time.Second), 0)
		})
	}
}
