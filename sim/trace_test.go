package sim_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	bindery "github.com/bindery-hub/bindery"
	"github.com/bindery-hub/bindery/sim"
)

// record writes a directory of recorded launches: gzipped CSV files by name, without .csv.gz.
func record(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".csv.gz"), packed.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// launches are rows of one minute each.
func launches(rows ...string) string {
	return "unix_minute,spec_id,origin\n" + strings.Join(rows, "\n") + "\n"
}

func at(t time.Time, spec int) string { return fmt.Sprintf("%d,%d,0", t.Unix()/60, spec) }

const specRows = `spec_id,provider,spec,launches
1,GitHub,ipython/ipython-in-depth/master,10
2,GitLab,ann/tools/feature/x,5
3,Git,https%3A%2F%2Fhost%2Fr/main,2
4,GitHub,nobody/now/main,1
`

// TestReadTrace reads a window of a day from the records of three months.
func TestReadTrace(t *testing.T) {
	day := 24 * time.Hour
	from := time.Date(2019, 3, 1, 8, 0, 0, 0, time.UTC)
	dir := record(t, map[string]string{
		"launches-2019-01": launches(at(from.Add(-31*day), 3)), // so long ago that its image is gone
		"launches-2019-02": launches(at(from.Add(-20*day), 1), at(from.Add(-10*day), 4)),
		"launches-2019-03": launches(
			at(from.Add(-time.Minute), 2), at(from, 2), at(from.Add(time.Hour), 1), at(from.Add(time.Hour), 3), at(from.Add(time.Hour), 1),
			at(from.Add(day-time.Minute), 2), at(from.Add(day), 3),
		),
		"specs": specRows,
	})
	w, err := sim.ReadTrace(os.DirFS(dir), from, day)
	if err != nil {
		t.Fatal(err)
	}
	want := []sim.Spec{
		{Name: "gl/ann/tools/feature/x", Repo: "gl/ann/tools", Owner: "gl/ann", Known: true},
		{Name: "gh/ipython/ipython-in-depth/master", Repo: "gh/ipython/ipython-in-depth", Owner: "gh/ipython", Known: true},
		{Name: "git/https%3A%2F%2Fhost%2Fr/main", Repo: "git/https%3A%2F%2Fhost%2Fr/main", Owner: "git/https%3A%2F%2Fhost%2Fr"},
	}
	if diff := cmp.Diff(want, w.Specs); diff != "" {
		t.Errorf("specs (-want +got):\n%s", diff)
	}
	var got []string
	for i, l := range w.Launches {
		got = append(got, fmt.Sprint(l.At.Truncate(time.Minute), " ", w.Specs[l.Spec].Owner))
		if i > 0 && l.At-w.Launches[i-1].At < time.Second {
			t.Errorf("two launches of one minute come at once: %v, %v", w.Launches[i-1].At, l.At)
		}
	}
	slices.Sort(got[1:4]) // where in their minute they come is the reader's choice
	if diff := cmp.Diff([]string{"0s gl/ann", "1h0m0s gh/ipython", "1h0m0s gh/ipython", "1h0m0s git/https%3A%2F%2Fhost%2Fr", "23h59m0s gl/ann"}, got); diff != "" {
		t.Errorf("launches (-want +got):\n%s", diff)
	}
	if w.From != from || w.For != day || w.Name != "recorded launches" {
		t.Errorf("%s from %s for %s", w.Name, w.From, w.For)
	}
}

// TestReadBadTrace names the file, and the row where one is bad.
func TestReadBadTrace(t *testing.T) {
	from := time.Date(2019, 3, 10, 8, 0, 0, 0, time.UTC)
	good := launches(at(from, 1))
	for _, tt := range []struct {
		name  string
		files map[string]string
		plain bool // the launches are there, but not packed
		want  []string
	}{
		{"no month", map[string]string{"specs": specRows}, false, []string{"launches-2019-03.csv.gz", "no such file"}},
		{"no specs", map[string]string{"launches-2019-03": good}, false, []string{"specs.csv.gz", "no such file"}},
		{"nothing in the window", map[string]string{"launches-2019-03": launches(at(from.Add(-time.Hour), 1)), "specs": specRows}, false,
			[]string{"no launch between 2019-03-10T08:00:00Z and 2019-03-10T09:00:00Z"}},
		{"not a minute", map[string]string{"launches-2019-03": launches("2019-03-10,1,0"), "specs": specRows}, false, []string{"launches-2019-03.csv.gz", "row 2: ", "2019-03-10"}},
		{"not a spec", map[string]string{"launches-2019-03": launches(at(from, 1), fmt.Sprint(from.Unix()/60, ",one,0")), "specs": specRows}, false, []string{"launches-2019-03.csv.gz", "row 3: ", "one"}},
		{"one field", map[string]string{"launches-2019-03": "unix_minute\n1\n", "specs": specRows}, false, []string{"launches-2019-03.csv.gz", "row 1 has 1 fields"}},
		{"a row of another length", map[string]string{"launches-2019-03": launches(at(from, 1) + ",0"), "specs": specRows}, false, []string{"launches-2019-03.csv.gz", "wrong number of fields"}},
		{"not a number of a spec", map[string]string{"launches-2019-03": good, "specs": "spec_id,provider,spec\nx,GitHub,a/b/c\n"}, false, []string{"specs.csv.gz", "row 2: ", `"x"`}},
		{"a spec without a row", map[string]string{"launches-2019-03": launches(at(from, 9)), "specs": specRows}, false, []string{"specs.csv.gz", "spec 9 has no row"}},
		{"not packed", map[string]string{"specs": specRows}, true, []string{"launches-2019-03.csv.gz", "gzip: invalid header"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := record(t, tt.files)
			if tt.plain {
				if err := os.WriteFile(filepath.Join(dir, "launches-2019-03.csv.gz"), []byte(good), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := sim.ReadTrace(os.DirFS(dir), from, time.Hour)
			var e *bindery.Error
			if !errors.As(err, &e) || e.Kind != bindery.ErrInvalid || e.Fault != bindery.User || e.Remedy == "" {
				t.Fatalf("%#v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}
