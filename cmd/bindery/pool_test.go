package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

const samplePools = "testdata/pools/pools.yaml"

// TestPoolFileTells: what the file declares is told when the hub begins and at each change; one that cannot be read once.
func TestPoolFileTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, writes := filepath.Join(t.TempDir(), "pools.yaml"), 0
		write := func(text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			writes++
			if err := os.Chtimes(path, time.Time{}, time.Unix(int64(writes), 0)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * poolFileEvery) // in a bubble
		}
		const pool = "pools:\n  build: {machine_type: m, count: {min: 1, max: %d}}\n"
		write(fmt.Sprintf(pool, 1))
		f := newPoolFile(path, slog.New(slog.DiscardHandler))
		var told []string
		f.tell = func(_ string, p pools, wrong error) {
			if wrong != nil {
				told = append(told, "wrong")
			} else {
				told = append(told, fmt.Sprint(p.Pools["build"].Count.Max))
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		go f.run(ctx)
		time.Sleep(time.Second) // so that it never looks at what is half written
		write(fmt.Sprintf(pool, 2))
		write("pools: [")
		write(fmt.Sprintf(pool, 3))
		stop()
		synctest.Wait()
		if want := []string{"1", "2", "wrong", "3"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestPoolCommands holds the commands for each pool and provider, and has a shell read them.
func TestPoolCommands(t *testing.T) {
	file, err := readPools(samplePools)
	if err != nil {
		t.Fatal(err)
	}
	for _, provider := range poolProviders() {
		for _, name := range file.names() {
			text, err := poolCommand(file.Cluster, name, file.Pools[name], provider)
			if err != nil {
				text = err.Error() + "\n"
			}
			golden(t, "pools/"+provider+"-"+name+".txt", text)
			check := exec.CommandContext(t.Context(), "sh", "-n")
			check.Stdin = strings.NewReader(text)
			if out, shErr := check.CombinedOutput(); err == nil && shErr != nil {
				t.Errorf("%s for %s: a shell cannot read it: %v\n%s", name, provider, shErr, out)
			}
		}
	}
}

// TestPoolCommandIsOneCommand has a shell say which words the command's program gets.
func TestPoolCommandIsOneCommand(t *testing.T) {
	dir := t.TempDir()
	for _, program := range []string{"gcloud", "az"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\nprintf '<%s>' \"$@\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file, err := readPools(samplePools)
	if err != nil {
		t.Fatal(err)
	}
	for provider, want := range map[string]string{
		"gke": "<container><node-pools><create><build><--project=binder-1><--cluster=prod>",
		"aks": "<aks><nodepool><add><--name><build><--resource-group><binder><--cluster-name><prod>",
	} {
		text, err := poolCommand(file.Cluster, "build", file.Pools["build"], provider)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", text)
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), want) || !strings.Contains(string(out), "bindery.dev/build=true:NoSchedule") {
			t.Errorf("%s: %s, %v", provider, out, err)
		}
	}
	for text, want := range map[string]string{"plain-1.2/x": "plain-1.2/x", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$(rm -rf /)": "'$(rm -rf /)'", "a;b": "'a;b'"} {
		if got := quote(text); got != want {
			t.Errorf("quote(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestPoolsAreStrict(t *testing.T) {
	const ok = "machine_type: m, count: {max: 1}"
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":           {"cluster: {name: x}", "declares no pools"},
		"unknown key":       {"pools: {a: {" + ok + ", disks: 3}}", `unknown key "disks"`},
		"pool's name":       {"pools: {A_b: {" + ok + "}}", "the name is not one of a node pool"},
		"an option":         {"pools: {--x: {" + ok + "}}", "the name is not one of a node pool"},
		"no machine":        {"pools: {a: {count: {max: 1}}}", "machine_type is missing"},
		"a command":         {"pools: {a: {machine_type: 'm; reboot', count: {max: 1}}}", "is not a type of machine"},
		"another option":    {"pools: {a: {machine_type: --x, count: {max: 1}}}", "is not a type of machine"},
		"project":           {"cluster: {project: '$(id)'}\npools: {a: {" + ok + "}}", "cluster.project"},
		"server":            {"cluster: {server: 'k3s'}\npools: {a: {" + ok + "}}", "cluster.server"},
		"range":             {"pools: {a: {machine_type: m, count: {min: 3, max: 2}}}", "is no range"},
		"no range":          {"pools: {a: {machine_type: m}}", "is no range"},
		"label's key":       {"pools: {a: {" + ok + ", labels: {'a b': c}}}", "is not the key of a label"},
		"label's value":     {"pools: {a: {" + ok + ", labels: {a: 'b c'}}}", "is not the value of a label"},
		"label with a line": {"pools: {a: {" + ok + ", labels: {a: \"b\\nEOF\"}}}", "is not the value of a label"},
		"taint":             {"pools: {a: {" + ok + ", taints: ['a=b']}}", "is not a taint"},
		"taint's effect":    {"pools: {a: {" + ok + ", taints: ['a=b:Never']}}", "is not a taint"},
		"disks":             {"pools: {a: {" + ok + ", local_disks: -1}}", "is not how many disks"},
		"boot disk":         {"pools: {a: {" + ok + ", boot_disk: 1G}}", "too small to start from"},
		"size":              {"pools: {a: {" + ok + ", minimums: {free: much}}}", "is not a size"},
		"two documents":     {"pools: {a: {" + ok + "}}\n---\npools: {}", "more than one document"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsePools("x.yaml", []byte(tt.text))
			if e := bindery.AsError(err); err == nil || e.Kind != bindery.ErrInvalid || e.Remedy == "" || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

// TestPoolCompare names each difference between the declaration and what workers report.
func TestPoolCompare(t *testing.T) {
	file, err := readPools(samplePools)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fit := bindery.WorkerView{Up: true, State: bindery.WorkerReady, Found: bindery.Preflight{
		At: at, Clock: at, CPUs: 8, Memory: 32 << 30, Network: []bindery.Reach{{What: "the index", OK: true}},
		Scratch: bindery.Scratch{Path: "/s", Disk: "nvme0n2", Boot: "sda", Separate: true, Free: 300 << 30, FreeInodes: 1 << 24, Inodes: 1 << 24, WriteRate: 1 << 30},
	}}
	fit.Name, fit.Pool, fit.Machine, fit.Labels = "good", "build", "n2-standard-8", map[string]string{"team": "binder"}
	core := fit
	core.Name, core.Pool, core.Machine, core.Labels = "core-1", "core", "", nil
	if diff := file.compare([]bindery.WorkerView{fit, core}); len(diff) != 0 {
		t.Errorf("as declared: %+v", diff)
	}
	boot := fit
	boot.Name, boot.Machine, boot.Labels = "boot", "n2-standard-4", map[string]string{"team": "other", poolLabel: "users", purposeLabel: "build"}
	boot.Found.Scratch.Disk, boot.Found.Scratch.Separate, boot.Found.CPUs = "sda", false, 4
	away := fit
	away.Name, away.Up = "silent", false
	lost := fit
	lost.Name, lost.Pool = "stray", "users"
	var b strings.Builder
	for _, d := range file.compare([]bindery.WorkerView{fit, boot, away, lost, fit, fit}) {
		b.WriteString(d.Pool + "|" + d.Worker + "|" + d.What + "|" + d.Found + "|" + d.Declared + "\n")
	}
	golden(t, "pools/compare.txt", b.String())

	big := core
	big.Name, big.Pool = "big", "big-build"
	labelled := fit
	labelled.Labels = boot.Labels
	want := []string{
		"pool big-build: that there are 2 local disks, the taints",
		"pool build: the size of the boot disk, the taints",
		"worker big: its machine type, the label bindery.dev/pool, the label bindery.dev/purpose",
		"worker core-1: its machine type, the label bindery.dev/pool",
		"worker good: the label bindery.dev/pool, the label bindery.dev/purpose",
	}
	if got := file.unseen([]bindery.WorkerView{big, core, fit, labelled, away}); !slices.Equal(got, want) {
		t.Errorf("not compared:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
