package main

import (
	"bytes"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSimRun plays a short generated window: the JSON has every measure by the name that scripts rely on, the flags do
// what they say, and charts are drawn.
func TestSimRun(t *testing.T) {
	simulate := func(args ...string) map[string]any {
		t.Helper()
		status, out, complaints := try(t, append(strings.Fields("sim run --for 2h --scale 0.2 --slots 2 --json"), args...)...)
		if status != exitOK || complaints != "" {
			t.Fatalf("status %d: %s", status, complaints)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	at := func(in any, path string) any {
		t.Helper()
		for name := range strings.SplitSeq(path, ".") {
			object, _ := in.(map[string]any)
			value, ok := object[name]
			if !ok {
				t.Fatalf("%s: there is no %s", path, name)
			}
			in = value
		}
		return in
	}
	svg, img := filepath.Join(t.TempDir(), "day.svg"), filepath.Join(t.TempDir(), "day.PNG")
	got := simulate("--wipe", "2019-03-17T08:00Z", "--chart", svg)
	for _, policy := range []string{"fair", "fifo", "pool2019", "poolnow"} {
		r := at(got, "policies."+policy)
		for path := range strings.FieldsSeq(`
			specs.asked specs.served specs.possible specs.missed launches.asked launches.served launches.gave_up launches.waiting
			builds.started builds.finished builds.most_running builds.failed builds.killed builds.no_space builds.repeated builds.running seconds
			wait_seconds.attended.all.p50 wait_seconds.attended.small.p95 wait_seconds.attended.medium.p99 wait_seconds.attended.large.max
			slowdown.attended.all.p50 slowdown.attended.small.p95 slowdown.attended.medium.p99 slowdown.attended.large.max
			build_wait_seconds.attended.all.n build_slowdown.attended.all.p99 others.first_visitors.p99 others.after_first_hour.p99
			jain.mean jain.min jain.windows jain_requesters.mean starvation.seconds starvation.owner utilisation useful
			eta.coverage eta.samples eta.median_error eta.median_error_of_all eta.median_error_seconds
			eta.long eta.median_error_of_long eta.median_error_seconds_of_short series.step_seconds series.samples`) {
			at(r, path)
		}
		if served, asked := at(r, "specs.served").(float64), at(r, "specs.asked").(float64); served == 0 || served > asked {
			t.Errorf("%s serves %v of %v specs", policy, served, asked)
		}
	}
	if most := at(got, "policies.fair.builds.most_running"); most != 2.0 {
		t.Errorf("%v builds run at once in two slots", most)
	}
	text, err := os.ReadFile(svg)
	if err != nil || !bytes.HasPrefix(text, []byte("<svg")) || !bytes.Contains(text, []byte("</svg>")) {
		t.Errorf("%v, %.60q", err, text)
	}

	// Where images are there, and where one build takes as long as the window.
	quiet := simulate("--policy", "fair", "--chart", img)
	if all, quiet := at(got, "policies.fair.builds.started").(float64), at(quiet, "policies.fair.builds.started").(float64); quiet >= all {
		t.Errorf("%v builds are started where every image is gone, %v where they are there", all, quiet)
	}
	file, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	if _, err := png.Decode(file); err != nil {
		t.Error(err)
	}
	slow := simulate("--policy", "fair", "--wipe", "2019-03-17T08:00Z", "--cost", "gh/jupyterlab/jupyterlab-demo=2h")
	fast := simulate("--policy", "fair", "--wipe", "2019-03-17T08:00Z", "--cost", "gh/jupyterlab/jupyterlab-demo=1s")
	if slow, fast := at(slow, "policies.fair.launches.served").(float64), at(fast, "policies.fair.launches.served").(float64); slow >= fast {
		t.Errorf("%v launches are served where the demo takes two hours, %v where it takes a second", slow, fast)
	}
	status, out, _ := try(t, strings.Fields("sim run --for 3h --scale 0.1 --policy fifo,fair")...)
	if head, _, _ := strings.Cut(out, "specs served"); status != exitOK || !strings.Contains(head, "generated launches from 2019-03-17T08:00:00Z for 3 h: 8 slots, seed 1") || strings.Index(head, "fifo") > strings.Index(head, "fair") {
		t.Errorf("status %d: %s", status, head)
	}
}

func TestSimRunRefuses(t *testing.T) {
	for _, tt := range []struct {
		flags  string
		status int
		want   string
	}{
		{"--cost gh/a=12h", exitUsage, `--cost "gh/a=12h" is not like gh/owner/repository=12h`},
		{"--cost gh/a/b", exitUsage, `--cost "gh/a/b" is not like gh/owner/repository=12h`},
		{"--cost gh/a/b=soon", exitUsage, `--cost "soon" is not a duration like 90m, 24h or 7d`},
		{"--cost gh/no/body=1h", exitFailed, "Nobody asks for gh/no/body in this window"},
		{"--wipe yesterday", exitUsage, `--wipe "yesterday" is not a time like 2019-03-17T08:00Z`},
		{"--from noon", exitUsage, `--from "noon" is not a time like 2019-03-17T08:00Z`},
		{"--for 0h", exitUsage, `--for "0h" is not a duration like 90m, 24h or 7d`},
		{"--policy best", exitFailed, `There is no policy "best"`},
		{"--slots=-1", exitFailed, "A machine room of -1 slots"},
		{"--chart day.gif", exitUsage, "--chart draws SVG or PNG"},
		{"--chart /no/such/directory/day.svg", exitFailed, "The chart cannot be written"},
		{"--trace " + t.TempDir(), exitFailed, "The trace cannot be read: launches-2019-03.csv.gz"},
	} {
		status, out, complaints := try(t, append(strings.Fields("sim run --for 1h --scale 0.1"), strings.Fields(tt.flags)...)...)
		if status != tt.status || !strings.Contains(complaints, tt.want) || out != "" {
			t.Errorf("%s: status %d, want %d; %q", tt.flags, status, tt.status, complaints)
		}
	}
}
