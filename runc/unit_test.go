package runc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/bridge"
	"github.com/bindery-hub/bindery/runc"

	"net/netip"
)

// launchAndHang starts one session in the machine that the environment describes, says so, and waits to be killed.
func launchAndHang() {
	parts := strings.Split(os.Getenv("RUNC_TEST_LAUNCHER"), ":")
	dir := parts[0]
	n, err := bridge.New(bridge.Config{Name: "bndrunc7", Subnet: netip.MustParsePrefix("10.232.7.0/24"), Dir: filepath.Join(dir, "net"), RunDir: filepath.Join(dir, "pins")})
	if err != nil {
		panic(err)
	}
	l, err := runc.New(runc.Config{
		Dir: filepath.Join(dir, "sessions"), Runtime: parts[1], CgroupParent: cgroupParent(7), Network: ports{n}, Nameserver: n.Gateway().String(),
		Images: &images{lower: parts[2], dir: filepath.Join(dir, "snapshots"), config: bindery.ImageConfig{User: "1000", Entrypoint: []string{"/guest"}, Cmd: []string{"serve", "8888"}}},
		Shim:   []string{"/proc/self/exe", "session-shim"},
	})
	if err != nil {
		panic(err)
	}
	r, err := l.Start(context.Background(), bindery.Launch{ID: "orphan", Image: "i", Port: 8888})
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
	select {}
}

func httpGet(url string) (*http.Response, error) {
	res, err := http.Get(url)
	if err == nil {
		res.Body.Close()
	}
	return res, err
}

func TestLookUp(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("broken\nroot:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:\nhuge:x:4294967295:0::/:\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nann:x:1001:\nwheel:x:10:bob,ann\naudio:x:11:bob\n"), 0o644))
	type got struct {
		UID, GID uint32
		Groups   []uint32
		Home     string
	}
	for user, want := range map[string]got{
		"":           {0, 0, nil, "/root"},
		"ann":        {1000, 1001, []uint32{10}, "/home/ann"},
		"1000":       {1000, 1001, []uint32{10}, "/home/ann"},
		"ann:wheel":  {1000, 10, nil, "/home/ann"},
		"1234":       {1234, 0, nil, "/"},
		"1234:77":    {1234, 77, nil, "/"},
		"1000:audio": {1000, 11, nil, "/home/ann"},
	} {
		var g got
		var err error
		g.UID, g.GID, g.Groups, g.Home, err = runc.LookUp(dir, user)
		if diff := cmp.Diff(want, g); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", user, err, diff)
		}
	}
	for _, user := range []string{"bob", "ann:nogroup", "huge", "-1", "4294967295", "../x"} {
		if _, _, _, _, err := runc.LookUp(dir, user); err == nil {
			t.Errorf("%q: no error", user)
		}
	}
}

// The image's files are a stranger's.
func TestLookUpStaysInside(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(secret, []byte("ann:x:4242:4242::/secret:\n"), 0o644))
	for name, make := range map[string]func(path string) error{
		"absolute link": func(p string) error { return os.Symlink(secret, p) },
		"relative link": func(p string) error { return os.Symlink(strings.Repeat("../", 20)+secret, p) },
		"pipe":          func(p string) error { return unix.Mkfifo(p, 0o644) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o755) },
		"device":        func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
	} {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
		if err := make(filepath.Join(dir, "etc/passwd")); err != nil {
			t.Logf("%s cannot be made here: %v", name, err)
			continue
		}
		if uid, _, _, _, err := runc.LookUp(dir, "ann"); err == nil {
			t.Errorf("%s: found user %d", name, uid)
		}
		if uid, gid, _, home, err := runc.LookUp(dir, "1000"); err != nil || uid != 1000 || gid != 0 || home != "/" {
			t.Errorf("%s: a number gives %d, %d, %s, %v", name, uid, gid, home, err)
		}
	}
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Dir(secret), filepath.Join(dir, "etc")))
	if uid, _, _, _, err := runc.LookUp(dir, "ann"); err == nil {
		t.Errorf("etc as a link: found user %d", uid)
	}
}

// TestArchitectures: programs of 32 bits run, those for x32 do not.
func TestArchitectures(t *testing.T) {
	got := runc.Architectures()
	if runtime.GOARCH == "amd64" && !slices.Equal(got, []specs.Arch{specs.ArchX86_64, specs.ArchX86}) {
		t.Errorf("the filter is for %v", got)
	}
}

func TestKeepLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var in strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&in, "%05d\n", i)
	}
	runc.KeepLog(strings.NewReader(in.String()), path, 8192)
	text, err := os.ReadFile(path)
	must(t, err)
	head, rest, _ := strings.Cut(string(text), "\n")
	var cut int
	if _, err := fmt.Sscanf(head, "[bindery: the first %d bytes of this log were dropped]", &cut); err != nil {
		t.Fatalf("first line %q: %v", head, err)
	}
	if len(text) > 8192+100 || cut+len(rest) != in.Len() || rest != in.String()[cut:] {
		t.Errorf("%d bytes of log, %d dropped, %d kept of %d", len(text), cut, len(rest), in.Len())
	}
	runc.KeepLog(strings.NewReader("more\n"), path, 8192)
	if more, _ := os.ReadFile(path); string(more) != string(text)+"more\n" {
		t.Error("a second keeper does not go on where the first ended")
	}
	must(t, os.Remove(path))
	runc.KeepLog(strings.NewReader(strings.Repeat("x", 50_000)), path, 8192)
	if st, err := os.Stat(path); err != nil || st.Size() > 8192+100 {
		t.Errorf("a line without an end: %v, %v", st.Size(), err)
	}
	must(t, os.Remove(path))
	runc.KeepLog(strings.NewReader("short\n"), path, 8192)
	if text, _ := os.ReadFile(path); string(text) != "short\n" {
		t.Errorf("short log: %q", text)
	}
}

func TestEnvironment(t *testing.T) {
	got := runc.Environment([]string{"A=1", "B=2"}, []string{"A=3", "no", "=x", "C=a\x00b"}, []string{"D=4=5"})
	if diff := cmp.Diff([]string{"A=3", "B=2", "D=4=5"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRuntimeChecks(t *testing.T) {
	for _, tt := range []struct {
		text                    string
		present, filter, recent bool
	}{
		{"runc version 1.5.2\nspec: 1.3.0\nlibseccomp: 2.5.4\n", true, true, true},
		{"runc version 1.1.5+ds1\nlibseccomp: 2.5.4\n", true, true, false},
		{"runc version 1.3.3\n", true, false, true},
		{"runc version 1.0.3\nlibseccomp: 2\n", false, true, false},
		{"crun version 1.8\n", false, false, false},
	} {
		for i, c := range runc.RuntimeChecks("/r", tt.text) {
			want := []bool{tt.present, tt.filter, tt.recent}[i]
			if c.OK != want || !c.OK && c.Remedy == "" {
				t.Errorf("%q: %+v, want OK %v", tt.text, c, want)
			}
		}
	}
	for v, want := range map[string]bool{"5.10.0-x": true, "6.1": true, "5.9": false, "4.19": false, "x": false} {
		if runc.AtLeast(v, 5, 10) != want {
			t.Errorf("AtLeast(%s) = %v", v, !want)
		}
	}
}

func TestChecksHere(t *testing.T) {
	m := newMachine(t, 16, nil)
	for _, c := range m.Checks(t.Context()) {
		if !c.OK && c.Level == "required" || !c.OK && c.Remedy == "" {
			t.Errorf("%+v", c)
		}
	}
}
