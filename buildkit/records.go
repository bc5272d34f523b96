package buildkit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	bindery "github.com/bindery-hub/bindery"
)

// A record is an image as the engine knows it: what to say of it, the snapshot it is, and the lease that keeps that.
type record struct {
	Image    bindery.Image `json:"image"`
	Snapshot string        `json:"snapshot"`
	Lease    string        `json:"lease"`
}

// records are the images by name, on disk. The time of last use is kept in memory in between: it is not worth a
// write to the disk at every launch.
type records struct {
	db *bolt.DB

	mu   sync.Mutex
	used map[string]time.Time
}

func imagesBucket() []byte { return []byte("images") }

// droppedBucket has notes of images that were removed for want of room, by number.
func droppedBucket() []byte { return []byte("dropped") }

// mostDropped bounds how many are kept where nobody asks for them.
const mostDropped = 1000

func openRecords(path string, volatile bool) (*records, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: volatile})
	if err != nil {
		return nil, fmt.Errorf("image records: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(imagesBucket())
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(droppedBucket())
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image records: %w", err), db.Close())
	}
	return &records{db: db, used: map[string]time.Time{}}, nil
}

func (r *records) close() error { return errors.Join(r.flush(), r.db.Close()) }

func (r *records) get(name string) (record, error) {
	var rec record
	err := r.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(imagesBucket()).Get([]byte(name))
		if b == nil {
			return noImage(name)
		}
		return json.Unmarshal(b, &rec)
	})
	if err != nil {
		return record{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.used[name]; ok {
		rec.Image.Used = t
	}
	return rec, nil
}

func noImage(name string) error {
	return bindery.Errorf(bindery.ErrNotFound, bindery.User, "Build it again.", "There is no image %q here", bindery.Printable(name))
}

// put stores rec and returns the lease of the record that it replaces, if any.
func (r *records) put(rec record) (old string, err error) {
	b, err := json.Marshal(rec)
	if err != nil {
		return "", fmt.Errorf("image record: %w", err)
	}
	err = r.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(imagesBucket())
		var was record
		if prev := bucket.Get([]byte(rec.Image.Name)); prev != nil && json.Unmarshal(prev, &was) == nil {
			old = was.Lease
		}
		return bucket.Put([]byte(rec.Image.Name), b)
	})
	if err != nil {
		return "", fmt.Errorf("image record: %w", err)
	}
	if old == rec.Lease {
		old = ""
	}
	return old, nil
}

// remove forgets an image. why is noted with that, if it was for want of room.
func (r *records) remove(name string, why *bindery.Dropped) error {
	err := r.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(imagesBucket()).Delete([]byte(name)); err != nil || why == nil {
			return err
		}
		return note(tx.Bucket(droppedBucket()), *why)
	})
	if err != nil {
		return fmt.Errorf("image record: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.used, name)
	return nil
}

func note(notes *bolt.Bucket, d bindery.Dropped) error {
	n, err := notes.NextSequence()
	if err != nil {
		return err
	}
	d.Number = int64(n)
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if n > mostDropped {
		if err := notes.Delete(noteKey(n - mostDropped)); err != nil {
			return err
		}
	}
	return notes.Put(noteKey(n), b)
}

// noteKey sorts as its number does.
func noteKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// dropped returns the notes, the oldest first.
func (r *records) dropped() ([]bindery.Dropped, error) {
	list := []bindery.Dropped{}
	err := r.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(droppedBucket()).ForEach(func(_, b []byte) error {
			var d bindery.Dropped
			if err := json.Unmarshal(b, &d); err != nil {
				return err
			}
			list = append(list, d)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("notes of dropped images: %w", err)
	}
	return list, nil
}

// forgetDropped deletes the notes up to a number.
func (r *records) forgetDropped(last int64) error {
	err := r.db.Update(func(tx *bolt.Tx) error {
		c := tx.Bucket(droppedBucket()).Cursor()
		for k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k) <= uint64(last); k, _ = c.First() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("notes of dropped images: %w", err)
	}
	return nil
}

// all returns the records by name.
func (r *records) all() ([]record, error) {
	var list []record
	err := r.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(imagesBucket()).ForEach(func(_, b []byte) error {
			var rec record
			if err := json.Unmarshal(b, &rec); err != nil {
				return err
			}
			list = append(list, rec)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("image records: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		if t, ok := r.used[list[i].Image.Name]; ok {
			list[i].Image.Used = t
		}
	}
	slices.SortFunc(list, func(a, b record) int { return strings.Compare(a.Image.Name, b.Image.Name) })
	return list, nil
}

func (r *records) touch(name string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used[name] = now
}

// flush writes the times of use down.
func (r *records) flush() error {
	r.mu.Lock()
	used := r.used
	r.used = map[string]time.Time{}
	r.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	err := r.db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(imagesBucket())
		for name, t := range used {
			var rec record
			if b := bucket.Get([]byte(name)); b == nil || json.Unmarshal(b, &rec) != nil {
				continue
			}
			rec.Image.Used = t
			b, err := json.Marshal(rec)
			if err != nil {
				return err
			}
			if err := bucket.Put([]byte(name), b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("image records: %w", err)
	}
	return nil
}

// lastUse is when an image was last launched, or made.
func lastUse(r record) time.Time {
	if r.Image.Used.After(r.Image.Created) {
		return r.Image.Used
	}
	return r.Image.Created
}
