package buildkit_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/bindery-hub/bindery/buildkit"
	"github.com/bindery-hub/bindery/internal/pythons"
	"github.com/bindery-hub/bindery/internal/scratch"
)

// sharedEngine opens the shared engine when the first test asks for it.
var sharedEngine = sync.OnceValues(openShared)

// All are set by openShared.
var (
	closeShared  func() error
	sharedCgroup string         // of all its steps
	sharedTrust  buildkit.Trust // with Python interpreters, a package index and a conda channel that serve tests
)

// sharedCaps bound all steps of the shared engine together.
var sharedCaps = buildkit.Caps{Memory: 6 << 30, PIDs: 3000}

// theRun is where this run keeps everything.
var theRun = sync.OnceValues(func() (*scratch.Dir, error) {
	run, err := scratch.New("buildkit", sweepCgroups)
	if err == nil {
		err = buildkit.TempIn(run.Path) // so that it goes with the rest when the run is killed
	}
	return run, err
})

// mkdir makes a directory in it, on a real file system: overlays do not stack on overlays or tmpfs.
func mkdir(name string) (string, error) {
	run, err := theRun()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(run.Path, name+"-")
}

// cgroupOf names a cgroup of a test's own, for the run that its directory is in.
func cgroupOf(dir string) string {
	return "/" + cgroupsOf(filepath.Dir(dir)) + filepath.Base(dir)
}

func cgroupsOf(run string) string { return "bindery-test-" + filepath.Base(run) + "-" }

// sweepCgroups ends what steps of a killed run still do.
func sweepCgroups(run string) {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupsOf(run) + "*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/" + cgroupsOf(run) + "*")
	for _, top := range append(tops, unified...) {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error { // one that is gone needs no sweeping
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			pids, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, pid := range strings.Fields(string(pids)) {
				if n, err := strconv.Atoi(pid); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
			_ = os.Remove(dir) // one whose processes are still ending stays, empty
		}
	}
}

func openShared() (*buildkit.Engine, error) {
	dir, err := mkdir("shared")
	if err != nil {
		return nil, err
	}
	runtime, err := findRunc()
	if err != nil {
		return nil, err
	}
	// Interpreters that no Debian has come by uv's real way, from a list and archives of our own.
	mirror := httptest.NewServer(pythons.New(filepath.Join(cacheDir(), "pythons")))
	trust := machineTrust()
	_, packages, stopIndex := serveIndex("only-here", publicIndex())
	trust.Env = append(trust.Env, "UV_DEFAULT_INDEX="+packages, "PIP_INDEX_URL="+packages, "UV_PYTHON_DOWNLOADS_JSON_URL="+mirror.URL+"/list.json")
	sharedCgroup = cgroupOf(dir)
	c := buildkit.Config{Dir: dir, BaseDir: filepath.Join(cacheDir(), "bases"), Runtime: runtime, Volatile: true, Trust: trust, CgroupParent: sharedCgroup, Caps: sharedCaps}
	channel, stopChannel := serveChannel()
	c.Trust.Conda = map[string]string{"conda-forge": channel + "/forge"}
	sharedTrust = c.Trust
	c.CondaCredentials = filepath.Join(dir, "conda-credentials.json")
	if err := os.WriteFile(c.CondaCredentials, []byte(`{"127.0.0.1": {"BearerToken": "let-me-in"}}`), 0o600); err != nil {
		return nil, err
	}
	e, err := buildkit.Open(context.Background(), c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	closeShared = func() error {
		stopChannel()
		defer mirror.Close()
		defer stopIndex()
		cancel()
		if err := <-ran; err != nil {
			return err
		}
		return e.Close()
	}
	return e, nil
}

func removeRun() error {
	run, err := theRun()
	if err != nil {
		return err
	}
	return run.Remove()
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(hostVariable); dir != "" {
		if err := hostEngine(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	buildkit.Quiet(slog.New(slog.DiscardHandler))
	docker, err := os.MkdirTemp("", "docker-config-") // the machine's own credentials are none of the tests' business
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("DOCKER_CONFIG", docker)
	code := m.Run()
	_ = os.RemoveAll(docker)
	if closeShared != nil {
		if err := closeShared(); err != nil {
			fmt.Fprintln(os.Stderr, "close the shared engine:", err)
			code = 1
		}
	}
	if err := removeRun(); err != nil {
		fmt.Fprintln(os.Stderr, "remove what the tests left:", err)
		code = 1
	}
	os.Exit(code)
}
