package metrics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bindery-hub/bindery/metrics"
)

// TestPrometheus has Debian's Prometheus scrape a Recorder, evaluate the rules, and answer what the dashboards ask.
func TestPrometheus(t *testing.T) {
	rm := newRoom(t, 1)
	rm.quiet(time.Minute)
	rm.visit("attended", 0.5)
	hub := httptest.NewServer(rm.rec)
	defer hub.Close()
	base := startPrometheus(t, hub.Listener.Addr().String())
	wait(t, "every rule to be evaluated without an error", func() error {
		var rules struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, LastError, LastEvaluation string }
				}
			}
		}
		if err := get(t.Context(), base+"/api/v1/rules", &rules); err != nil {
			return err
		}
		if len(rules.Data.Groups) != 1 || len(rules.Data.Groups[0].Rules) != len(alertNames()) {
			return fmt.Errorf("the rules are %+v", rules)
		}
		for _, r := range rules.Data.Groups[0].Rules {
			if r.Health != "ok" {
				return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
		return nil
	})
	query := func(expr string) (n int, err error) {
		var ans struct {
			Status, Error string
			Data          struct{ Result []any }
		}
		err = get(t.Context(), base+"/api/v1/query?query="+url.QueryEscape(expr), &ans)
		if err == nil && ans.Status != "success" {
			err = fmt.Errorf("%s", ans.Error)
		}
		return len(ans.Data.Result), err
	}
	wait(t, "the series to be scraped", func() error {
		if n, err := query("bindery_slots"); n != 1 || err != nil {
			return fmt.Errorf("%d: %w", n, err)
		}
		return nil
	})
	boards, _ := fs.Glob(metrics.Dashboards(), "dashboards/*.json") // the pattern is right
	for _, file := range boards {
		text, err := fs.ReadFile(metrics.Dashboards(), file)
		if err != nil {
			t.Fatal(err)
		}
		for _, expr := range checkBoard(t, filepath.Base(file), text) {
			if _, err := query(expr); err != nil {
				t.Errorf("%s: %s: %v", file, expr, err)
			}
		}
	}
}

// startPrometheus starts one that scrapes target every second, and returns its address.
func startPrometheus(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\nscrape_configs: [{job_name: bindery, static_configs: [{targets: ['%s']}]}]\n", target)
	for name, text := range map[string][]byte{"alerts.yml": metrics.Alerts(), "prometheus.yml": []byte(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // Prometheus listens there now
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../bin/prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("Prometheus (scripts/setup test installs it): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it was told to end
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s", text)
		}
		_ = log.Close() // read already
	})
	return "http://" + addr
}

// wait looks until there is nothing to complain about any more.
func wait(t *testing.T, what string, look func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
