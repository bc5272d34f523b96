package source

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // Git's own sum
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// forgetTimes takes out of a checkout's index what Git noted of the files on this machine's disk: when they were written, by
// whom, and where. It would differ from checkout to checkout, and it is of no use in an image, where the files are others:
// Git looks at their contents once and notes it anew.
func (j *job) forgetTimes(t tree) error {
	root, err := os.OpenRoot(j.real)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(filepath.Join(t.git, "index"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) { // of an empty commit
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil || !forgetStat(data, len(t.commit)/2) {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return err
}

// forgetStat zeroes in an index of Git what an entry has from stat, and mends the sum at the end. An index that it does not
// know stays as it is.
func forgetStat(index []byte, sum int) bool {
	const head, stat, least = 12, 40, 62 // bytes
	if len(index) < head+sum || !bytes.HasPrefix(index, []byte("DIRC")) {
		return false
	}
	version, entries := binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
	body := index[:len(index)-sum]
	if version != 2 && version != 3 {
		return false
	}
	var at []int
	for next := head; entries > 0; entries-- {
		name := next + stat + sum + 2
		if next+least > len(body) || name > len(body) {
			return false
		}
		if version == 3 && body[name-2]&0x40 != 0 { // more flags
			name += 2
		}
		end := bytes.IndexByte(body[min(name, len(body)):], 0)
		if end < 0 {
			return false
		}
		at = append(at, next)
		next += (name + end - next + 8) &^ 7
	}
	for _, e := range at {
		clear(body[e : e+24])      // times, device, inode
		clear(body[e+28 : e+stat]) // owner, group, size; the mode between them is the file's own
	}
	if sum == sha256.Size {
		s := sha256.Sum256(body)
		copy(index[len(body):], s[:])
		return true
	}
	s := sha1.Sum(body) //nolint:gosec // as above
	copy(index[len(body):], s[:])
	return true
}
