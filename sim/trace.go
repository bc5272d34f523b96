package sim

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	bindery "github.com/bindery-hub/bindery"
)

// known is how long before a window a spec was last launched at most, for its image to be there when the window begins.
const known = 30 * 24 * time.Hour

// ReadTrace reads a window of recorded launches from a directory that holds launches-YYYY-MM.csv.gz (unix_minute,
// spec_id, origin) and specs.csv.gz (spec_id, provider, spec, launches). Launches that were recorded up to a month
// before the window decide which specs have an image when it begins.
func ReadTrace(dir fs.FS, from time.Time, length time.Duration) (*Workload, error) {
	from = from.UTC()
	end := from.Add(length)
	w := &Workload{Name: "recorded launches", From: from, For: length}
	ids := map[int]int{} // of the trace -> of the workload
	before := map[int]bool{}
	last := int64(-1)
	within := 0
	first := from.Add(-known)
	for month := time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC); month.Before(end); month = month.AddDate(0, 1, 0) {
		name := "launches-" + month.Format("2006-01") + ".csv.gz"
		err := eachLaunch(dir, name, func(minute int64, spec int) {
			at := time.Unix(minute*60, 0)
			switch {
			case at.Before(first) || !at.Before(end):
				return
			case at.Before(from):
				before[spec] = true
				return
			}
			id, ok := ids[spec]
			if !ok {
				id = len(ids)
				ids[spec] = id
			}
			// The record knows minutes only: those of one minute are spread over it, in their order.
			if within++; minute != last {
				last, within = minute, 0
			}
			w.Launches = append(w.Launches, Launch{At: at.Sub(from) + spread(within), Spec: id})
		})
		if errors.Is(err, fs.ErrNotExist) && !month.AddDate(0, 1, 0).After(from) {
			continue // the months before the window are a help only
		}
		if err != nil {
			return nil, traceError(name, err)
		}
	}
	if len(w.Launches) == 0 {
		return nil, bindery.Errorf(bindery.ErrInvalid, bindery.User, "Give --from and --for a time that the trace covers.",
			"The trace has no launch between %s and %s", from.Format(time.RFC3339), end.Format(time.RFC3339))
	}
	w.sort()
	if err := readSpecs(dir, w, ids, before); err != nil {
		return nil, traceError("specs.csv.gz", err)
	}
	return w, nil
}

// spread is where in its minute the nth launch of one is put: steps of the golden ratio leave no two together.
func spread(n int) time.Duration {
	const golden = 0.6180339887498949
	x := 0.5 + golden*float64(n)
	return time.Duration((x - float64(int(x))) * float64(time.Minute))
}

func traceError(name string, err error) error {
	return bindery.Errorf(bindery.ErrInvalid, bindery.User,
		"A trace directory holds launches-YYYY-MM.csv.gz for each month of the window, besides specs.csv.gz.",
		"The trace cannot be read: %s", name).Because(err)
}

func eachLaunch(dir fs.FS, name string, take func(minute int64, spec int)) error {
	return eachRow(dir, name, 2, func(row []string) error {
		minute, err := strconv.ParseInt(row[0], 10, 64)
		if err != nil {
			return err
		}
		spec, err := strconv.Atoi(row[1])
		if err != nil {
			return err
		}
		take(minute, spec)
		return nil
	})
}

func readSpecs(dir fs.FS, w *Workload, ids map[int]int, before map[int]bool) error {
	w.Specs = make([]Spec, len(ids))
	err := eachRow(dir, "specs.csv.gz", 3, func(row []string) error {
		n, err := strconv.Atoi(row[0])
		if err != nil {
			return err
		}
		if id, ok := ids[n]; ok {
			w.Specs[id] = parseSpec(row[1], row[2])
			w.Specs[id].Known = before[n]
		}
		return nil
	})
	if err != nil {
		return err
	}
	for n, id := range ids {
		if w.Specs[id].Name == "" {
			return fmt.Errorf("spec %d has no row", n)
		}
	}
	return nil
}

// prefix returns the short name of a provider, as in links.
func prefix(provider string) string {
	switch strings.ToLower(provider) {
	case "github":
		return "gh"
	case "gitlab":
		return "gl"
	}
	return strings.ToLower(provider)
}

// parseSpec takes owner/repo/ref apart; a ref may contain slashes.
func parseSpec(provider, spec string) Spec {
	p := prefix(provider)
	owner, rest, _ := strings.Cut(spec, "/")
	repo, _, _ := strings.Cut(rest, "/")
	return Spec{Name: p + "/" + spec, Owner: p + "/" + owner, Repo: p + "/" + owner + "/" + repo}
}

// eachRow reads a gzipped CSV file with a header; a row has at least least fields.
func eachRow(dir fs.FS, name string, least int, take func(row []string) error) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return err
	}
	r := csv.NewReader(z)
	r.ReuseRecord = true
	for n := 0; ; n++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(row) < least {
			return fmt.Errorf("row %d has %d fields", n+1, len(row))
		}
		if n == 0 {
			continue
		}
		if err := take(row); err != nil {
			return fmt.Errorf("row %d: %w", n+1, err)
		}
	}
}
