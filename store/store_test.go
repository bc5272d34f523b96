package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/store"
	"github.com/bindery-hub/bindery/store/storetest"
)

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return open(t, filepath.Join(t.TempDir(), "with ? and % and space.db"))
	})
}

// TestLeases has two hubs on one file.
func TestLeases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	storetest.Leases(t, open(t, path), open(t, path))
}

// TestStatesInSchema compares the CHECK constraints with the states of the domain.
func TestStatesInSchema(t *testing.T) {
	text, err := os.ReadFile("migrations/0001_first.sql")
	if err != nil {
		t.Fatal(err)
	}
	var builds, sessions []string
	for _, s := range bindery.BuildStates() {
		builds = append(builds, string(s))
	}
	for _, s := range bindery.SessionStates() {
		sessions = append(sessions, string(s))
	}
	found := regexp.MustCompile(`CHECK \(state IN \(([^)]*)\)\)`).FindAllStringSubmatch(string(text), -1)
	if len(found) != 2 {
		t.Fatalf("%d CHECK constraints on states, want 2", len(found))
	}
	for i, want := range [][]string{builds, sessions} {
		got := strings.Split(strings.ReplaceAll(found[i][1], "'", ""), ", ")
		if !slices.Equal(got, want) {
			t.Errorf("the schema allows %v, the domain has %v", got, want)
		}
	}
	if text, err = os.ReadFile("migrations/0007_generations.sql"); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`CHECK \(state IN \(([^)]*)\)\)`).FindStringSubmatch(string(text))
	var generations []string
	for _, s := range bindery.GenerationStates() {
		generations = append(generations, "'"+string(s)+"'")
	}
	if m == nil || m[1] != strings.Join(generations, ", ") {
		t.Errorf("the schema allows %v, the domain has %v", m, generations)
	}
}

func TestPragmasOnEveryConnection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	for name, want := range map[string]string{"foreign_keys": "1", "synchronous": "2", "journal_mode": "wal", "busy_timeout": "10000"} {
		for i, got := range store.Pragma(t, db, name) {
			if got != want {
				t.Errorf("connection %d has %s = %s, want %s", i, name, got, want)
			}
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
}

func TestMigrateTwiceAndBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	for range 2 {
		db, err := store.Open(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec(`INSERT INTO migrations VALUES (999, 'later', 0), (998, 'late', 0)`); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Config{Path: path})
	if !errors.Is(err, bindery.ErrConflict) {
		t.Errorf("a newer schema: %v", err)
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_COMMIT"); path != "" {
		commitForEver(path)
	}
	os.Exit(m.Run())
}

// commitForEver prints the number of each build once it is acknowledged.
func commitForEver(path string) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{Path: path})
	if err != nil {
		panic(err)
	}
	l, err := db.Live(ctx, storetest.At)
	if err != nil {
		panic(err)
	}
	for n := len(l.Builds); ; n++ {
		id := fmt.Sprint("b", n)
		err := db.Commit(ctx, bindery.Changes{
			Builds: []bindery.Build{storetest.Build(id, id)},
			Tails:  []bindery.Tail{{Build: id, Events: []bindery.Event{{Seq: 1, Phase: bindery.PhaseWaiting, Message: id}}}},
		})
		if err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

// TestKilled kills a process that commits, over and over: what it said was committed is there, with all its rows.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	acknowledged := -1
	for round := range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_TEST_COMMIT="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			acknowledged = n
			if i == 5+round*7 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		db, err := store.Open(t.Context(), store.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		l, err := db.Live(t.Context(), storetest.At)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Builds) < acknowledged+1 {
			t.Fatalf("%d builds are there, %d were acknowledged", len(l.Builds), acknowledged+1)
		}
		for _, b := range l.Builds {
			if b.Seq != 1 {
				t.Fatalf("%s has half of its transaction", b.ID)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkCommit stores builds from their submission to their start, in groups as large as a busy hub makes them.
func BenchmarkCommit(b *testing.B) {
	for _, group := range []int{1, 50, 500} {
		b.Run(fmt.Sprint("group=", group), func(b *testing.B) {
			db := open(b, filepath.Join(b.TempDir(), "x.db"))
			n := 0
			begin := time.Now()
			for b.Loop() {
				var c bindery.Changes
				for range group {
					n++
					x := storetest.InState(storetest.Build(fmt.Sprint("b", n), fmt.Sprint("k", n)), bindery.BuildRunning)
					c.Builds = append(c.Builds, x)
					c.Tails = append(c.Tails, bindery.Tail{Build: x.ID, Events: []bindery.Event{{Seq: 1, Phase: bindery.PhaseWaiting, Message: "Waiting\n"}}})
				}
				if err := db.Commit(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/time.Since(begin).Seconds(), "builds/s")
		})
	}
}
