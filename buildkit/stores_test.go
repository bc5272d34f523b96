package buildkit

import (
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"
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
