package buildkit

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
)

// counting runs nothing, and knows how often it was asked to.
type counting struct {
	executor.Executor
	runs int
}

func (c *counting) Run(context.Context, string, executor.Mount, []executor.Mount, executor.ProcessInfo, chan<- struct{}) (resourcestypes.Recorder, error) {
	c.runs++
	return nil, nil
}

// TestStepWithNothingToDo begins no container for a step when the one before has left the file that says so, and looks for
// it nowhere but among the step's own files.
func TestStepWithNothingToDo(t *testing.T) {
	for name, tt := range map[string]struct {
		env  []string
		runs int
		left bool // whether the file is there afterwards
	}{
		"done":                    {env: []string{"A=b", unlessVariable + "=/srv/done"}, runs: 0, left: false},
		"another file":            {env: []string{unlessVariable + "=/srv/other"}, runs: 1, left: true},
		"outside":                 {env: []string{unlessVariable + "=/link/done"}, runs: 1, left: true},
		"above":                   {env: []string{unlessVariable + "=/../outside/done"}, runs: 1, left: true},
		"no path":                 {env: []string{unlessVariable + "=srv/done"}, runs: 1, left: true},
		"a step that always runs": {runs: 1, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			root, done, outside := filepath.Join(top, "root"), filepath.Join(top, "root", "srv", "done"), filepath.Join(top, "outside", "done")
			for _, file := range []string{done, outside} {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(filepath.Dir(outside), filepath.Join(root, "link")); err != nil {
				t.Fatal(err)
			}
			under := &counting{}
			x := &stepExecutor{Executor: under}
			started := make(chan struct{})
			_, err := x.Run(t.Context(), "", executor.Mount{Src: hostDir(root)}, nil, executor.ProcessInfo{Meta: executor.Meta{Env: tt.env}}, started)
			if err != nil || under.runs != tt.runs {
				t.Errorf("%d containers, want %d; %v", under.runs, tt.runs, err)
			}
			if tt.runs == 0 {
				<-started // BuildKit waits for it
			}
			if _, err := os.Stat(done); (err == nil) != tt.left {
				t.Errorf("the file is there: %v, want %v", err == nil, tt.left)
			}
			if _, err := os.Stat(outside); err != nil {
				t.Errorf("a file of the machine: %v", err)
			}
		})
	}
}
