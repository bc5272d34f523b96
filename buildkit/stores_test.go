package buildkit

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	bindery "github.com/bindery-hub/bindery"
)

// With Config.Volatile, what is known of layers waits for the disk no more than they do.
func TestMetadataWaitsForNoDisk(t *testing.T) {
	for _, volatile := range []bool{true, false} {
		md, err := openMetadata(filepath.Join(t.TempDir(), "metadata.db"), volatile)
		if err != nil {
			t.Fatal(err)
		}
		err = md.DB().Update(func(tx *bolt.Tx) error {
			if tx.DB().NoSync != volatile {
				t.Errorf("volatile %v: the database has it the other way", volatile)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := md.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDroppedAreNoted keeps note of images that went for want of room, until whoever asks knows, and of the last ones
// where nobody asks.
func TestDroppedAreNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.db")
	open := func() *records {
		r, err := openRecords(path, true)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	notes := func(first, last int64) {
		t.Helper()
		got, err := r.dropped()
		if err != nil || int64(len(got)) != last-first+1 {
			t.Fatalf("%d notes, want %d to %d: %v", len(got), first, last, err)
		}
		for i, d := range got {
			if n := first + int64(i); d.Number != n || d.Image != fmt.Sprint("i", n) {
				t.Fatalf("note %d is %+v", n, d)
			}
		}
	}
	drop := func(n int) {
		t.Helper()
		img := bindery.Image{Name: fmt.Sprint("i", n)}
		_, err := r.put(record{Image: img})
		if err == nil {
			err = r.remove(img.Name, &bindery.Dropped{Image: img.Name})
		}
		if _, gone := r.get(img.Name); err != nil || !errors.Is(gone, bindery.ErrNotFound) {
			t.Fatalf("%v, %v", err, gone)
		}
	}
	notes(1, 0)
	for n := range 300 {
		drop(n + 1)
	}
	if err := r.remove("i1", nil); err != nil { // by somebody, who knows
		t.Fatal(err)
	}
	notes(1, 300)
	if err := r.forgetDropped(256); err != nil {
		t.Fatal(err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = open()
	notes(257, 300)
	if err := r.forgetDropped(300); err != nil {
		t.Fatal(err)
	}
	notes(301, 300)
	for n := range mostDropped + 1 {
		drop(301 + n)
	}
	notes(302, 301+mostDropped)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
}
