package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/api"
)

// benchHub is a program: a hub that builds nothing, over the directory that is its argument, until it is killed.
func benchHub() {
	ctx := context.Background()
	_, d, s, err := benchParts(ctx, os.Args[1], "g")
	if err == nil {
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
			go func() { _ = d.Run(ctx) }() // its end is the program's
			fmt.Println("http://" + l.Addr().String())
			err = http.Serve(l, s.Public())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// spawnHub runs benchHub, and returns a function that kills it as kill -9 does.
func spawnHub(t *testing.T, dir string) (flags []string, url string, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "benchhub", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSpace(line)
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	t.Cleanup(kill)
	return []string{"--hub", url, "--token", "t"}, url, kill
}

// crowd asks for builds without end, each from another address, until the test ends.
func crowd(t *testing.T, hub string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for i := range 8 {
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				req, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/build/git/https%%3A%%2F%%2Fexample.org%%2Fcrowd%d%%2Fslow%d/main?build_only=true", hub, i, n%200), nil)
				req.Header.Set("Accept", "text/event-stream")
				req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.7", i, n%200))
				select { // a crowd, not an attack: this machine has other work
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_, _ = bufio.NewReader(resp.Body).ReadString('\n')
					_ = resp.Body.Close()
				}
			}
			ended <- struct{}{}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range 8 {
			<-ended
		}
	})
}

// TestEveryKindOfRule sets a rule of each kind while a crowd asks for builds, kills the hub the moment that the command
// has returned, and looks at what the next hub does.
func TestEveryKindOfRule(t *testing.T) {
	dir := t.TempDir()
	flags, hub, kill := spawnHub(t, dir)
	for _, built := range []string{"x", "ann", "class1", "class2"} {
		expect(t, watch(t, hub, built+"/quick"), `"phase":"ready"`)
	}
	expect(t, watch(t, hub, "zoe/slow"), "Waiting for build to start...") // has the one slot
	crowd(t, hub)
	client, err := api.NewClient(api.ClientConfig{URL: hub, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	waits := watch(t, hub, "bob/slow")
	expect(t, waits, `"phase":"waiting"`)

	// Within a second under load, by what a visitor's stream says.
	began := time.Now()
	if _, err := client.AddRule(t.Context(), api.NewRule{Kind: "hold", Pattern: "^https://example.org/bob/.*/main", Reason: "r", Message: "held by expression"}); err != nil {
		t.Fatal(err)
	}
	expect(t, waits, "held by expression")
	t.Logf("a hold reached a visitor after %s", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > soon {
		t.Errorf("a hold took %s", took)
	}
	for _, args := range [][]string{
		{"ban", "add", "198.51.100.64/26", "--reason", "r", "--message", "banned by network"},
		{"ban", "add", "https://example.org/eve/*", "--reason", "r", "--message", "banned by owner"},
		{"hold", "add", "--launches", "https://example.org/ann/*", "--reason", "r", "--message", "held launches"},
		{"hold", "add", "--until-built", "https://example.org/huge/slow", "--reason", "r", "--message", "held until built"},
		{"quota", "add", "^https://example.org/class", "1", "--reason", "r"},
		{"quota", "add", "https://example.org/event/*", "300", "--reason", "r", "--from", time.Now().Add(time.Hour).Format(time.RFC3339), "--for", "3h", "--prebuild", "git/https%3A%2F%2Fexample.org%2Fevent%2Fquick/main"},
		{"weight", "add", "https://example.org/ann/*", "3", "--reason", "r"},
	} {
		must(t, flags, args...)
	}
	refused := map[string]struct{ from, text string }{
		"x/quick": {"198.51.100.70", "banned by network"}, "eve/quick": {"", "banned by owner"}, "ann/quick": {"", "held launches"},
		"bob/slow2": {"", "held by expression"}, "huge/slow": {"", "held until built"},
	}
	for repo, c := range refused {
		if took := expect(t, watchFrom(t, hub, repo, c.from), c.text); took > soon {
			t.Errorf("%s heard %q after %s", repo, c.text, took)
		}
	}
	if took := expect(t, watch(t, hub, "class2/quick"), "all places of what an operator's quota is about are taken"); took > soon {
		t.Errorf("a quota took %s", took)
	}
	kill()

	flags, hub, _ = spawnHub(t, dir)
	for _, verb := range []string{"ban", "hold", "quota", "weight"} {
		t.Log(must(t, flags, verb, "ls"))
	}
	if client, err = api.NewClient(api.ClientConfig{URL: hub, Token: "t"}); err != nil {
		t.Fatal(err)
	}
	sessions, err := client.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range sessions { // they outlive the hub, and the quota counts them
		if err := client.StopSession(t.Context(), x.ID, "the test goes on"); err != nil {
			t.Fatal(err)
		}
	}
	for repo, c := range refused {
		expect(t, watchFrom(t, hub, repo, c.from), c.text)
	}
	expect(t, watchFrom(t, hub, "x/quick", "198.51.100.130"), `"phase":"ready"`) // the same block of 256 addresses
	expect(t, watch(t, hub, "class1/quick"), `"phase":"ready"`)
	expect(t, watch(t, hub, "class2/quick"), "all places of what an operator's quota is about are taken")
	watch(t, hub, "ann/slow") // the weight counts for a build that waits
	eventually(t, "the weight of ann's builds is 3", func() bool {
		q, err := client.Queue(t.Context())
		return err == nil && slices.ContainsFunc(q.Shares, func(s bindery.Share) bool { return strings.HasSuffix(s.Name, "/ann") && s.Weight == 3 })
	})
	log := must(t, flags, "audit", "--limit", "0", "--jsonl", "--who", "ops", "--since", "1h")
	for _, did := range []string{"set ban", "set hold-launches", "set hold-until-built", "set quota", "set weight"} {
		if !strings.Contains(log, `"did":"`+did+`"`) {
			t.Errorf("the audit log has no %q:\n%s", did, log)
		}
	}
	eventually(t, "the event's image is built", func() bool {
		return strings.Contains(must(t, flags, "audit", "--what", "event/quick"), "prebuild")
	})
}
