package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// A hub is one state directory, with the processes that work on it.
type hub struct {
	dir      string // the state directory
	id       string // six hex digits that its bridge, control groups and run directory are named after
	subnet   netip.Prefix
	config   string // path of its configuration file
	listen   string
	base     string // path that it is below
	sessions string // where sessions are served
	log      string // path
	serve    *exec.Cmd
	ended    chan struct{} // closed when serve has ended
}

// apiToken opens the native API of every hub of these tests.
const apiToken = "the-token-of-the-end-to-end-tests"

// hubConfig is the configuration of every hub of these tests. Its limits are for the conformance tables: requests of
// this machine itself are not counted, and no other test names such repositories.
const hubConfig = `state_dir: %s
listen: %s
session_listen: %s
allow_source: [127.0.0.0/8, 'file:%s']
network: {subnet: %s, allow: [%s/32]}
conda: {channels: {conda-forge: '%s/conda-forge'}}
python: {downloads: '%s/list.json'}
sessions: {memory: 1G}
slots: 2
canary: {every: 0s}
image_prefix: r.io/p/bh-
allow_origin: '*'
api_tokens: [%x]
trusted_proxies: [127.0.0.2/32]
rate_limit: {requests: 3, window: 30m}
ban_networks: {198.51.100.0/24: a bad place}
specs:
  git:
    banned_specs: ['.*%%2Fbanned']
    spec_config: [{pattern: '.*%%2Ffull', config: {quota: 1}}]
`

// hubAt is the hub of a state directory, as far as its name tells.
func hubAt(dir string) *hub {
	sum := sha256.Sum256([]byte(dir))
	return &hub{dir: dir, id: hex.EncodeToString(sum[:3]), config: dir + ".yaml", log: dir + ".log"}
}

// newHub lays out a state directory, with the base that an earlier run bootstrapped when there is one.
func newHub(dir string) (*hub, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h := hubAt(dir)
	var err error
	if h.subnet, err = freeSubnet(rand.IntN(16)); err != nil {
		return nil, err
	}
	if h.listen, err = freeAddr(); err != nil {
		return nil, err
	}
	if h.sessions, err = freeAddr(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(hubConfig, h.dir, h.listen, h.sessions, shared.dir, h.subnet, shared.far.addr, shared.far.url, shared.far.url, sha256.Sum256([]byte(apiToken)))
	if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return h, h.seed()
}

// freeSubnet returns a part of 10.234.0.0/16 that no bridge of this machine has, looking from the nth on.
func freeSubnet(n int) (netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Prefix{}, err
	}
	for i := range 16 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 234, byte((n + i) % 16 * 16), 0}), 20)
		taken := slices.ContainsFunc(addrs, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Overlaps(subnet)
		})
		if !taken {
			return subnet, nil
		}
	}
	return netip.Prefix{}, errors.New("10.234.0.0/16 is full of other hubs' bridges")
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (h *hub) bases() string { return filepath.Join(h.dir, "worker", "bases") }

func keptBases() string { return filepath.Join(cacheDir(), "bases") }

// seed puts the bootstrapped bases of an earlier run into the state directory; keep saves them for the next one.
func (h *hub) seed() error { return linkBases(keptBases(), h.bases()) }

func (h *hub) keep() error { return linkBases(h.bases(), keptBases()) }

// linkBases adds the finished bases of one directory to another, by hard links where it can. What is hidden is unfinished.
func linkBases(from, to string) error {
	finished, err := filepath.Glob(filepath.Join(from, "[^.]*"))
	if err != nil || len(finished) == 0 {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, base := range finished {
		dest, fresh := filepath.Join(to, filepath.Base(base)), filepath.Join(to, ".link-"+filepath.Base(base))
		if _, err := os.Stat(dest); err == nil {
			continue
		}
		if err := exec.Command("cp", "-a", "-l", base, fresh).Run(); err != nil { // another file system, perhaps
			if err := errors.Join(os.RemoveAll(fresh), exec.Command("cp", "-a", base, fresh).Run()); err != nil {
				return fmt.Errorf("copy %s: %w", base, err)
			}
		}
		if err := os.Rename(fresh, dest); err != nil {
			return err
		}
	}
	return nil
}

// command returns a bindery command on this state directory, not yet started.
func (h *hub) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, shared.bin, args...)
	cmd.Env = append(os.Environ(), "BINDERY_CONFIG="+h.config, "HOME="+h.dir)
	cmd.Dir = filepath.Dir(h.dir)
	return cmd
}

// A ran command and what it said.
type ran struct {
	code           int
	stdout, stderr string
}

// run runs a bindery command to its end.
func (h *hub) run(t testing.TB, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := h.command(ctx, args...)
	return finish(t, cmd)
}

func finish(t testing.TB, cmd *exec.Cmd) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a detached worker may hold the pipes
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return ran{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// start starts `bindery serve` unless it runs, and waits until it is healthy.
func (h *hub) start(t testing.TB) {
	t.Helper()
	if h.running() {
		return
	}
	out, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// Not the test's context: the hub outlives the test that starts it.
	h.serve = h.command(context.WithoutCancel(t.Context()), "serve")
	h.serve.Stdout, h.serve.Stderr = out, out
	h.serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.serve.Start(); err != nil {
		t.Fatal(err)
	}
	h.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in its log
	}(h.serve, h.ended)
	eventually(t, 3*time.Minute, "the hub answers /health with 200; its log:\n"+h.log, func() bool {
		if !h.running() {
			t.Fatalf("the hub ended at start:\n%s", h.tail())
		}
		resp, err := http.Get("http://" + h.listen + h.base + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (h *hub) running() bool {
	if h.serve == nil {
		return false
	}
	select {
	case <-h.ended:
		return false
	default:
		return true
	}
}

// tail is the end of the hub's and the worker's logs.
func (h *hub) tail() string {
	var all strings.Builder
	for _, file := range []string{h.log, filepath.Join(h.dir, "worker.log")} {
		text, _ := os.ReadFile(file) // a log that is not there says nothing
		if len(text) > 6000 {
			text = text[len(text)-6000:]
		}
		fmt.Fprintf(&all, "--- %s\n%s\n", file, text)
	}
	return all.String()
}

// kill9 kills the hub without a warning and waits until it is gone.
func (h *hub) kill9(t testing.TB) {
	t.Helper()
	if err := h.serve.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-h.ended
}

// killWorker kills the worker without a warning and waits until it is gone.
func (h *hub) killWorker(t testing.TB) {
	t.Helper()
	pids := h.workers()
	if len(pids) != 1 {
		t.Fatalf("%d workers run, want 1: %v", len(pids), pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the killed worker is gone", func() bool { return !slices.Contains(h.workers(), pids[0]) })
}

// workers are the worker processes of this state directory, oldest namespace's view; the detached child alone counts.
func (h *hub) workers() []int {
	var pids []int
	for _, p := range processes() {
		if p.exe == shared.bin && len(p.args) > 1 && slices.Contains(p.args, "worker") && slices.Contains(p.args, h.dir) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// destroy removes the state directory and everything that belongs to it; only the bases are kept, for the next run.
func (h *hub) destroy() {
	h.retire()
	if err := os.RemoveAll(h.dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: remove a state directory:", err)
	}
}

// retire ends everything that belongs to the state directory.
func (h *hub) retire() {
	if h.running() {
		_ = h.serve.Process.Signal(syscall.SIGTERM)
		select {
		case <-h.ended:
		case <-time.After(20 * time.Second):
			_ = h.serve.Process.Kill()
			<-h.ended
		}
	}
	if err := h.keep(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: keep the bases:", err)
	}
	h.sweep()
}

// client is the API client of the hub, by its unix socket.
func (h *hub) client(t testing.TB) *api.Client {
	t.Helper()
	c, err := api.NewClient(api.ClientConfig{Socket: filepath.Join(h.dir, "hub.sock")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// worker is what the worker says of itself.
func (h *hub) worker(t testing.TB) bindery.WorkerStatus {
	t.Helper()
	var d net.Dialer
	hc := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", filepath.Join(h.dir, "worker.sock"))
		},
	}}
	resp, err := hc.Get("http://worker/v1/status")
	if err != nil {
		t.Fatalf("status of the worker: %v", err)
	}
	defer resp.Body.Close()
	var s bindery.WorkerStatus
	decode(t, resp.Body, &s)
	return s
}

func decode(t testing.TB, r io.Reader, into any) {
	t.Helper()
	text, err := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// list returns the ids of the sessions that have not ended.
func (h *hub) list(t testing.TB) []string {
	t.Helper()
	all, err := h.client(t).Sessions(context.WithoutCancel(t.Context())) // in cleanups too
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range all {
		if s.State != bindery.SessionEnded {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
