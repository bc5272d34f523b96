package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	bindery "github.com/bindery-hub/bindery"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bindery": main, "benchhub": benchHub})
}

func TestScripts(t *testing.T) {
	repos, err := filepath.Abs("../../testdata/repos")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "any": func(ts *testscript.TestScript, _ bool, args []string) {
			_ = ts.Exec(args[0], args[1:]...) // either way
		}},
		Setup: func(env *testscript.Env) error {
			env.Setenv("REPOS", repos)
			env.Setenv("ESC", "\x1b")
			env.Setenv("BINDERY_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			return nil
		},
	})
}

// status runs a command and wants it to end so: status 2 bindery run.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command")
	}
	got := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("status %d, want %s", got, args[0])
	}
}

// golden compares got with a file of testdata, and rewrites that with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// try runs the program in this process.
func try(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	getenv := func(string) string { return "" }
	status = run(t.Context(), args, getenv, strings.NewReader(""), &out, &complaints)
	return status, out.String(), complaints.String()
}

func TestHelp(t *testing.T) {
	for _, command := range []string{
		"", "run", "build", "plan", "sessions", "sessions ls", "sessions stop", "sessions logs", "serve", "launch", "queue", "builds", "builds ls", "builds show", "builds cancel", "builds retry", "builds logs", "builds timeline",
		"ban", "ban add", "ban ls", "ban rm", "hold", "hold add", "quota", "quota add", "weight", "weight add", "audit", "worker", "sim", "sim run", "doctor", "version", "workers", "workers ls", "workers show", "workers drain", "workers rm", "workers token", "pool", "pool command", "pool check",
		"generation", "generation ls", "generation plan", "generation start", "generation status", "generation pause", "generation resume", "generation rollback", "generation invalidate",
		"images", "images ls", "images rm", "images prune",
		"top", "events", "events export", "metrics", "metrics alerts", "metrics dashboards",
	} {
		t.Run(strings.ReplaceAll(command, " ", "-"), func(t *testing.T) {
			status, out, complaints := try(t, append(strings.Fields(command), "--help")...)
			if status != exitOK || complaints != "" {
				t.Errorf("status %d, standard error %q", status, complaints)
			}
			golden(t, "help/bindery"+strings.ReplaceAll("-"+command, " ", "-")+".txt", out)
		})
	}
}

func TestErrorsHaveARemedyBelow(t *testing.T) {
	var out bytes.Buffer
	err := bindery.Errorf(bindery.ErrNotReady, bindery.Ours, "Do this.\nThen that.", "It is \x1b[31mbroken").Because(errors.New("no\x07 luck"))
	printError(&out, fmt.Errorf("start: %w", err))
	want := "bindery: start: It is broken: no luck\n  Do this.\n  Then that.\n"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStatus(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), nil, exitOK},
		{t.Context(), errors.New("broken"), exitFailed},
		{t.Context(), usagef("wrong"), exitUsage},
		{t.Context(), statusError(42), 42},
		{over, context.Canceled, exitInterrupted},
		{over, bindery.Errorf(bindery.ErrCancelled, bindery.User, "", "stopped"), exitInterrupted},
		{over, errors.New("broken"), exitFailed},
		{t.Context(), context.Canceled, exitFailed},
	} {
		a := &app{stderr: new(bytes.Buffer)}
		if got := a.status(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%v: status %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestWithoutRoot runs the program as nobody.
func TestWithoutRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	repo, err := filepath.Abs("../../testdata/repos/requirements")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", repo}, {"build", repo}, {"serve"}, {"worker"}, {"run", "/root/secret"}} {
		status, _, complaints := asNobody(t, args...)
		if status != exitFailed || !strings.Contains(complaints, "root") || !strings.Contains(complaints, "\n  Builds and sessions") {
			t.Errorf("%s: status %d, standard error:\n%s", args, status, complaints)
		}
	}
	status, out, _ := asNobody(t, "doctor", "--offline", "--json")
	var checks []bindery.Check
	if err := json.Unmarshal([]byte(out), &checks); err != nil || status != exitFailed {
		t.Fatalf("doctor: status %d, %v:\n%s", status, err, out)
	}
	if k := checks[0]; k.Name != "root" || k.OK || k.Remedy == "" || k.Level != required {
		t.Errorf("doctor's first check: %+v", k)
	}
}

func asNobody(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	// The test's own directory is closed to nobody; what the kernel holds of the program is not.
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Args[0] = "bindery" // the name by which testscript.Main knows that it is to be the program
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &complaints, "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "BINDERY_STATE_DIR=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaints.String()
}
