package scratch_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/bindery-hub/bindery/internal/scratch"
)

// name makes this binary a run with that name, which keeps its directory until it is killed.
const name = "BINDERY_TEST_SCRATCH"

func TestMain(m *testing.M) {
	if name := os.Getenv(name); name != "" {
		if err := run(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func run(name string) error {
	d, err := scratch.New(name, nil)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		at := filepath.Join(d.Path, "mounted")
		if err := errors.Join(os.Mkdir(at, 0o755), syscall.Mount("tmpfs", at, "tmpfs", 0, ""), os.WriteFile(filepath.Join(at, "file"), nil, 0o600)); err != nil {
			return err
		}
	}
	fmt.Println(d.Path)
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	return err
}

// What a killed run left is removed by the next, with its mounts; what a living run has is let alone.
func TestNew(t *testing.T) {
	name := fmt.Sprintf("scratch%d", os.Getpid())
	killed, kill := start(t, name)
	living, _ := start(t, name)
	kill()

	var cleared []string
	d, err := scratch.New(name, func(dir string) { cleared = append(cleared, dir) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cleared, []string{killed}) {
		t.Errorf("cleared %q, want %s alone", cleared, killed)
	}
	if _, err := os.Stat(killed); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s of a killed run is still there: %v", killed, err)
	}
	if _, err := os.Stat(living); err != nil {
		t.Errorf("a living run lost its directory: %v", err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was removed and is still there: %v", d.Path, err)
	}
}

// Runs that begin at the same moment sweep away nothing of each other.
func TestNewAtOnce(t *testing.T) {
	name := fmt.Sprintf("scratch%d-once", os.Getpid())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				d, err := scratch.New(name, nil)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = os.Stat(d.Path)
				if err := errors.Join(err, d.Remove()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// start begins a run in a process of its own and returns its directory.
func start(t *testing.T, as string) (dir string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), name+"="+as)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		kill()
		d, err := scratch.New(as, nil) // sweeps
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	})
	line := bufio.NewScanner(out)
	if !line.Scan() {
		t.Fatal("the run ended before it had a directory")
	}
	return line.Text(), kill
}
